"""`sdfast gen`: from words to pictures."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdfast.cli import flags
from sdfast.cli.model import find_model
from sdfast.cli.output import Output, policy

if TYPE_CHECKING:
    from sdfast.config import Config
    from sdfast.events import Event
    from sdfast.job import Job, Sampler
    from sdfast.models.folder import Source


def gen(
    prompts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROMPT...",
            show_default=False,
            help="One or more; `-` reads one a line from stdin, `@file` is a whole file.",
        ),
    ] = None,
    negative: flags.Negative = None,
    preset: flags.PresetName = None,
    steps: flags.Steps = None,
    guidance: flags.Guidance = None,
    sampler: flags.SamplerName = None,
    order: flags.Order = None,
    method: flags.Method = None,
    spacing: flags.Spacing = None,
    seed: Annotated[
        str | None,
        typer.Option("--seed", metavar="42|1,5,9|1..8", help="[a new one each time]"),
    ] = None,
    count: Annotated[
        Any,
        typer.Option(
            "-n",
            "--count",
            parser=flags.number,
            metavar="N",
            help="Pictures a prompt: seed, seed + 1, ...",
        ),
    ] = None,
    size: flags.Size = None,
    model: flags.ModelName = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="IMAGE.png", help="Begin with that picture's recipe."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE|FOLDER/|TEMPLATE|-",
            help="Where to write; `-` is stdout. [{slug}-{seed}.png]",
        ),
    ] = None,
    exists: Annotated[
        str,
        typer.Option("--exists", metavar="WHAT", help="rename, skip, overwrite or error."),
    ] = "rename",
    no_metadata: Annotated[
        bool, typer.Option("--no-metadata", help="Write no recipe into the PNG.")
    ] = False,
    save: Annotated[
        str | None,
        typer.Option("--save", metavar="NAME", help="Keep these flags as a preset, too."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON line per picture on stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Say what is decided, and why.")
    ] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="As NO_COLOR=1.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the jobs as JSON lines; load nothing.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never ask the network.")] = False,
    device: flags.Device = "auto",
    dtype: flags.Dtype = "auto",
) -> None:
    from sdfast.config import load_config
    from sdfast.job import layered
    from sdfast.jobs import make_jobs, read_prompts, resolve
    from sdfast.presets import save_preset

    given = {
        "negative": negative,
        "steps": steps,
        "guidance": guidance,
        "sampler": sampler,
        "order": order,
        "method": method,
        "spacing": spacing,
        "size": size,
        "model": model,
    }
    config = load_config()
    asked = resolve(given, preset, source, config)
    jobs = make_jobs(asked.record, list(read_prompts(prompts or [])), seed, count)
    output = Output(
        out=out or config.out,
        preset=preset or config.preset or "default",
        exists=policy(exists),
        metadata=not no_metadata,
        as_json=as_json,
        say=(lambda text: None) if quiet or dry_run else _note,
        count=len(jobs),
    )
    output.check(jobs[0])
    if asked.not_followed:
        output.say(f"note: of that picture's recipe, not followed: {', '.join(asked.not_followed)}")
    _remark_on_steps(jobs[0].sampler, output.say)
    name = jobs[0].model
    if asked.model_from_picture and name is not None:
        found = _find_as_painted(name, config)
    else:
        found = find_model(name, config, output.say, offline=offline, fetch=not dry_run)
    if save is not None:
        kept = {k: v for k, v in asked.record.items() if k != "model"}
        save_preset(save, layered(kept, {"model": model}))
    if dry_run:
        for job in jobs:
            print(json.dumps((found.complete(job) if found else job).record, ensure_ascii=False))
        return
    assert found is not None
    _paint(jobs, found, output, device, dtype, draw=not quiet, colour=not no_color, explain=verbose)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _remark_on_steps(sampler: Sampler, say: Callable[[str], None]) -> None:
    if sampler.solver not in ("dpm++", "dpm") or sampler.method == "adaptive":
        return
    if sampler.steps < 10:
        say(f"note: {sampler.steps} steps is few; DPM-Solver wants 10 to 25")
    if sampler.steps > 25:
        say(f"note: {sampler.steps} steps is many; from 25 on DPM-Solver gains next to nothing")


def _find_as_painted(name: str, config: Config) -> Source:
    """The model that a picture names. Nothing is fetched on a picture's word."""
    from sdfast.errors import ModelError
    from sdfast.models.find import find

    try:
        return find(name, config.aliases, offline=True)
    except ModelError as error:
        raise ModelError(
            f"that picture was painted with `{name}`: {error}",
            "-m NAME|FOLDER says where it is, or names another",
        ) from error


def _paint(
    jobs: list[Job],
    found: Source,
    output: Output,
    device: str,
    dtype: str,
    *,
    draw: bool,
    colour: bool,
    explain: bool,
) -> None:
    places = output.places([found.complete(job) for job in jobs])
    begun = time.perf_counter()
    from sdfast.engine import generate
    from sdfast.events import Encoded, Finished
    from sdfast.models import load_model

    model = load_model(found, device=device, dtype=dtype)
    load = time.perf_counter() - begun
    first = model.complete(jobs[0])
    output.say(headline(model.name, model.dtype_name, str(model.device), first))
    if explain:
        output.say(f"loaded from {found.folder} in {load:.2f} s")
        output.say("job: " + json.dumps(first.record, ensure_ascii=False))
    if strange := found.strange_words(job.prompt for job in jobs):
        listed = ", ".join(f'"{word}"' for word in strange)
        are = "is" if len(strange) == 1 else "are"
        output.say(f"note: {found.name} knows {found.things} things; {listed} {are} not among them")
    watch = _watcher(colour) if draw and sys.stderr.isatty() else iter
    for job, place in zip(jobs, places, strict=True):
        if not output.ready(model.complete(job), place):
            continue
        encoded, *_, painted = watch(generate(model, job))
        assert isinstance(encoded, Encoded)
        assert isinstance(painted, Finished)
        if encoded.dropped:
            output.say(f"note: too long for the model, which did not read: {encoded.dropped}")
        output.write(painted, place, load, model)


def _watcher(colour: bool) -> Callable[[Iterator[Event]], Iterator[Event]]:
    """The progress bar, on stderr."""
    from rich.console import Console

    from sdfast.screen import watch

    console = Console(stderr=True, no_color=True if not colour else None)
    return lambda events: watch(events, console)


def headline(name: str, dtype: str, device: str, job: Job) -> str:
    """What is about to happen, in one line."""
    from sdfast.job import schedule_name

    kind, spacing = schedule_name(job.sampler)
    width, height = job.size or (0, 0)
    adaptive = job.sampler.method == "adaptive"
    walk = kind if adaptive else f"{kind} {spacing}, {job.sampler.steps} steps"
    return f"{name} {dtype} on {device}, {walk}, guidance {job.guidance:g}, {width}x{height}"
