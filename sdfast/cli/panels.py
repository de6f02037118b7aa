"""Help whose options stand in groups, by what they are about."""

from typing import Any

from typer.core import TyperCommand

_PANELS = {
    "The sheet": "--x --y --columns --cells --no-labels --font",
    "The jobs": "--format --limit --shard --manifest --retry-failed --fail-fast",
    "What is measured": "--accuracy --sweep --runs --warmup --vs --cold --no-start --calls "
    "--problem",
    "The picture": "--prompts --seed --count --variation-seed --variation-strength "
    "--negative --guidance --guidance-interval --guidance-rescale --rng --clip-skip --size --hires "
    "--from",
    "From a picture": "--init --mask --strength",
    "The sampler": "--preset --steps --sampler --order --method --spacing --set --save",
    "The model": "--model --lora --embedding --vae --no-safety --offline",
    "Where it runs": "--device --dtype --vram --compile --batch-size --gpus --ray "
    "--cpus-per-worker --idle",
    "What is written": "--out --exists --no-metadata --export-json --export-markdown --export-csv "
    "--plot --about --force",
    "What is said": "--json --show --quiet --verbose --no-color --debug --dry-run --help",
}
"""The groups and, of all commands, the flags of each, in the order in which they are listed."""


class Panelled(TyperCommand):
    """A command that lists its options under the names of their groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        left = {
            name: (param, said)
            for param in self.get_params(ctx)
            if (said := param.get_help_record(ctx)) is not None
            for name in [max(param.opts, key=len)]
        }
        arguments = [
            left.pop(name)[1]
            for name, (param, _) in [*left.items()]
            if param.param_type_name == "argument"
        ]
        panels = {
            panel: [left.pop(flag)[1] for flag in flags.split() if flag in left]
            for panel, flags in _PANELS.items()
        }
        options = [said for _, said in left.values()]
        for panel, rows in {"Arguments": arguments, **panels, "Options": options}.items():
            if rows:
                with formatter.section(panel):
                    formatter.write_dl(rows)
