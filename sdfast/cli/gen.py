"""`sdfast gen`: from words to pictures."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdfast.cli import flags, remarks
from sdfast.cli.model import find_model
from sdfast.cli.output import Output, policy
from sdfast.cli.painter import Painter, Wanted, by_ourselves, by_worker, leave_worker

if TYPE_CHECKING:
    from sdfast.config import Config
    from sdfast.events import Event, Finished
    from sdfast.job import Job, Sampler
    from sdfast.models.source import Source
    from sdfast.warm.client import Turn


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
    guidance_interval: flags.GuidanceInterval = None,
    clip_skip: flags.ClipSkip = None,
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
    init: flags.Init = None,
    mask: flags.Mask = None,
    strength: flags.Strength = None,
    model: flags.ModelName = None,
    lora: flags.Lora = None,
    embedding: flags.Embedding = None,
    vae: flags.Vae = None,
    no_safety: flags.NoSafety = False,
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
    vram: flags.Vram = "auto",
    compiled: flags.Compile = False,
) -> None:
    from sdfast.config import load_config
    from sdfast.job import layered
    from sdfast.jobs import make_jobs, read_prompts, resolve
    from sdfast.models.dressed import dressed
    from sdfast.presets import save_preset

    given = {
        "negative": negative,
        "steps": steps,
        "guidance": guidance,
        "guidance_interval": guidance_interval,
        "clip_skip": clip_skip,
        "sampler": sampler,
        "order": order,
        "method": method,
        "spacing": spacing,
        "size": size,
        "init": init,
        "mask": mask,
        "strength": strength,
        "model": model,
        "lora": tuple(lora) if lora else None,
        "embedding": tuple(embedding) if embedding else None,
        "vae": vae,
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
        found = find_model(
            name,
            config,
            output.say,
            offline=offline,
            fetch=not dry_run,
            draw=not quiet,
            colour=not no_color,
        )
    if save is not None:
        kept = {k: v for k, v in asked.record.items() if k != "model"}
        save_preset(save, layered(kept, {"model": model}))
    if found is not None:
        found = dressed(found, jobs[0])
    if dry_run:
        for job in jobs:
            print(json.dumps((found.complete(job) if found else job).record, ensure_ascii=False))
        return
    assert found is not None
    unchecked = no_safety and found.checker is not None
    wanted = Wanted(device, dtype, config.keep_warm, vram, compiled, unchecked)
    if not no_safety and (remark := remarks.unchecked(found)):
        output.say(f"note: {remark}")
    _paint(jobs, found, output, wanted, draw=not quiet, colour=not no_color, explain=verbose)


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
    wanted: Wanted,
    *,
    draw: bool,
    colour: bool,
    explain: bool,
) -> None:
    from sdfast.warm.client import GoneError

    say = output.say
    explained: Callable[[str], None] = say if explain else lambda text: None
    jobs = [found.complete(job) for job in jobs]
    places = output.places(jobs)
    worker = by_worker(found, wanted, explained)
    painter = worker or by_ourselves(found, wanted)
    say(headline(found.name, painter.dtype, painter.device, jobs[0]))
    explained(painter.about)
    explained("job: " + json.dumps(jobs[0].record, ensure_ascii=False))
    for remark in filter(None, (remarks.strange_words(found, jobs), remarks.not_followed(jobs))):
        say(f"note: {remark}")
    show = _watcher(colour) if draw and sys.stderr.isatty() else _unseen
    prepared: set[object] = set()
    for job, place in zip(jobs, places, strict=True):
        if not output.ready(job, place):
            continue
        if painter.prepare is not None and _shape(job) not in prepared:
            prepared.add(_shape(job))
            with _compiling(job, say, draw=draw, colour=colour):
                painter.prepare(job)
        try:
            painted = _painted(painter, job, show)
        except GoneError as gone:
            say(f"note: the worker is lost ({gone}); painting without it")
            painter = by_ourselves(found, wanted)
            painted = _painted(painter, job, show)
        output.write(painted, place, painter)
    if wanted.keep_warm is not None and painter is not worker and found.is_bare:
        leave_worker(found, wanted, explained)


def _shape(job: Job) -> object:
    """What a compiled network is compiled for."""
    return job.size, job.guidance == 1, job.guidance_interval is None


@contextmanager
def _compiling(
    job: Job, say: Callable[[str], None], *, draw: bool, colour: bool
) -> Generator[None]:
    """Say that this takes a while, and on a terminal for how long it has been."""
    width, height = job.size or (0, 0)
    text = f"compiling for {width}x{height}: minutes the first time, seconds in later runs"
    if not (draw and sys.stderr.isatty()):
        say(text)
        yield
        return
    from rich.console import Console

    from sdfast.screen import waiting

    with waiting(text, Console(stderr=True, no_color=True if not colour else None)):
        yield


def _painted(painter: Painter, job: Job, show: Callable[[Turn], Iterable[Event]]) -> Finished:
    from sdfast.events import Finished

    with painter.ask(job) as turn:
        *_, painted = show(turn)
    assert isinstance(painted, Finished)
    return painted


def _unseen(turn: Turn) -> Iterator[Event]:
    return turn.events


def _watcher(colour: bool) -> Callable[[Turn], Iterator[Event]]:
    """The progress bar, on stderr; before it, how many pictures a worker paints first."""
    from rich.console import Console

    from sdfast.screen import watch

    console = Console(stderr=True, no_color=True if not colour else None)

    def show(turn: Turn) -> Iterator[Event]:
        events = turn.events
        if turn.ahead:
            ahead = "one picture" if turn.ahead == 1 else f"{turn.ahead} pictures"
            with console.status(f"waiting: the worker paints {ahead} before"):
                events = chain([next(events)], events)
        return watch(events, console)

    return show


def headline(name: str, dtype: str, device: str, job: Job) -> str:
    """What is about to happen, in one line."""
    from sdfast.job import schedule_name

    kind, spacing = schedule_name(job.sampler)
    width, height = job.size or (0, 0)
    adaptive = job.sampler.method == "adaptive"
    walk = kind if adaptive else f"{kind} {spacing}, {job.sampler.steps} steps"
    line = f"{name} {dtype} on {device}, {walk}, guidance {job.guidance:g}, {width}x{height}"
    return line if job.init is None else f"{line} {_over(job)}"


def _over(job: Job) -> str:
    from sdfast.canvas import file_size

    assert job.init is not None
    own = "{}x{}".format(*file_size(job.init))
    return f"over {os.path.basename(job.init)} ({own}) in the last {job.walked} steps"  # noqa: PTH119
