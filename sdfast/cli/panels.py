"""Help whose options stand in groups, by what they are about."""

from typing import Any

from typer.core import TyperCommand

_PANELS = {
    "The sheet": "--x --y --columns --cells --no-labels --font",
    "The jobs": "--format --limit --shard --manifest --retry-failed --fail-fast",
    "What is measured": "--accuracy --sweep --runs --warmup --vs --cold --no-start --calls "
    "--problem",
    "The picture": "--prompts --seed --count --negative --guidance --guidance-interval "
    "--clip-skip --size --from",
    "From a picture": "--init --mask --strength",
    "The sampler": "--preset --steps --sampler --order --method --spacing --set --save",
    "The model": "--model --lora --embedding --vae --no-safety --offline",
    "Where it runs": "--device --dtype --vram --compile --batch-size --gpus --ray "
    "--cpus-per-worker --idle",
    "What is written": "--out --exists --no-metadata --export-json --export-markdown --export-csv "
    "--plot --about --force",
    "What is said": "--json --show --quiet --verbose --no-color --debug --dry-run --help",
}
"""The groups in their order, and the flags of each, of all commands."""


class Panelled(TyperCommand):
    """A command that lists its options under the names of their groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups = {name: flags.split() for name, flags in _PANELS.items()}
        listed: dict[str, list[tuple[str, str]]] = {"Arguments": [], **{n: [] for n in groups}}
        listed["Options"] = []
        for param in self.get_params(ctx):
            said = param.get_help_record(ctx)
            if said is not None:
                places = (n for n, flags in groups.items() if {*param.opts} & {*flags})
                plain = "Arguments" if param.param_type_name == "argument" else "Options"
                listed[next(places, plain)].append(said)
        for name, rows in listed.items():
            if rows:
                with formatter.section(name):
                    formatter.write_dl(rows)
