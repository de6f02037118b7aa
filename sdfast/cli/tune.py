"""`sdfast tune`: a preset fitted to a model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdfast.cli import flags
from sdfast.cli.complaint import counted, say
from sdfast.cli.model import find_model
from sdfast.errors import ModelError, UsageError

if TYPE_CHECKING:
    from sdfast.tune import Gained, Tried


def tune(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="The preset to write. [MODEL-STEPS]"),
    ] = None,
    model: flags.ModelName = None,
    steps: Annotated[
        Any,
        typer.Option(
            "-s", "--steps", parser=flags.number, metavar="N", help="Steps, one network call each."
        ),
    ] = 10,
    guidance: flags.Guidance = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help="Six or more, one a line: two of three are fitted on, the third is to judge by.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a preset of that name.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing from the Hub.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Draw no progress.")] = False,
    device: flags.Device = "auto",
    dtype: flags.Dtype = "auto",
) -> None:
    from sdfast.config import load_config
    from sdfast.job import read_job, sampler_record
    from sdfast.models.find import lasting_target
    from sdfast.naming import slug
    from sdfast.presets import check_free, save_preset

    job = read_job({"prompt": "any", "seed": 0, "steps": steps, "guidance": guidance})
    if job.sampler.steps > 100:
        raise UsageError(f"a walk of {job.sampler.steps} steps has nothing to gain by tuning")
    config = load_config()
    found = find_model(
        model or config.model, config, say, offline=offline, safety=False, draw=not quiet
    )
    assert found is not None
    asked = lasting_target(found.name, config.aliases)
    name = name or f"{slug(Path(asked).name)}-{job.sampler.steps}"
    check_free(name, replace=force)
    seen, unseen = _split(Path(prompts)) if prompts is not None else (None, None)

    from sdfast.models import load_model
    from sdfast.tune.model import SEEN, UNSEEN, tune_model

    seen, unseen = seen or SEEN, unseen or UNSEEN
    loaded = load_model(found, device=device, dtype=dtype, safety=False)
    events = tune_model(loaded, job.sampler.steps, job.guidance, seen, unseen)
    try:
        gained = _last(events, draw=not quiet and sys.stderr.isatty())
    except FloatingPointError as error:
        raise ModelError(f"`{asked}`: {error}", "--dtype fp32 may help") from error
    for line in _told(gained):
        say(line)
    if not gained.better:
        raise UsageError(
            f"tuning gained nothing on {len(unseen)} prompts it had not seen; no preset was written"
        )
    record = {"model": asked, "guidance": gained.guidance}
    about = (
        f"{job.sampler.steps} steps fitted to {asked} on {len(seen)} prompts; on {len(unseen)} "
        f"others {gained.tuned[0] / gained.default[0]:.2f} of the error of "
        f"`default` with as many steps, {gained.tuned[0] / gained.doubled[0]:.2f} with twice"
    )
    print(save_preset(name, sampler_record(gained.sampler) | record, about, replace=force))


def _split(path: Path) -> tuple[list[str], list[str]]:
    """A file's prompts, every third put aside. Raises UsageError."""
    from sdfast.prompt_texts import read_lines

    lines = read_lines(path)
    seen = [line for i, line in enumerate(lines) if i % 3 < 2]
    if len(seen) < 4:
        found = counted(len(lines), "prompt")
        raise UsageError(f"`{path}` has {found}; tuning needs 6 or more")
    return seen, lines[2::3]


def _last(events: Iterator[Tried | Gained], *, draw: bool) -> Gained:
    """The gain, with a bar while it is worked out."""
    from rich.progress import BarColumn

    from sdfast import bars
    from sdfast.tune import Gained

    with bars.bar(BarColumn(), bars.left(), disable=not draw) as bar:
        task = bar.add_task("walking the long way", total=None)
        for event in events:
            if isinstance(event, Gained):
                return event
            bar.update(
                task,
                description=f"error {event.error:.4f}",
                completed=event.done,
                total=event.total,
            )
    raise AssertionError("tuning ends with what it gained")


def _told(gained: Gained) -> list[str]:
    """The figures, a line each."""
    rows = {
        f"tuned, {gained.sampler.steps} steps": gained.tuned,
        f"default, {gained.sampler.steps} steps": gained.default,
        f"default, {2 * gained.sampler.steps} steps": gained.doubled,
    }
    return [
        "error on prompts not fitted on, rms and median:",
        *(f"  {name:<20} {rms:.4f}  {median:.4f}" for name, (rms, median) in rows.items()),
    ]
