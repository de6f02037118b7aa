"""Painting the jobs of `gen`, and what is seen meanwhile."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from sdfast.cli import remarks
from sdfast.cli.output import Output
from sdfast.cli.painter import Compiler, Painter, Wanted, by_ourselves, hire, leave_worker
from sdfast.cli.streams import json_line
from sdfast.errors import OutOfMemoryError

if TYPE_CHECKING:
    from pathlib import Path

    from sdfast.cli.how import HowHere
    from sdfast.events import Event, Finished
    from sdfast.job import Job
    from sdfast.models.source import Source
    from sdfast.warm.client import Queued


def paint(jobs: list[Job], found: Source, output: Output, wanted: Wanted) -> None:
    """Paint the jobs of one model and write their pictures."""
    jobs = [found.complete(job) for job in jobs]
    places = output.places(jobs)
    output.check_room(jobs, places)
    kept = [output.keeps(place) for place in places]  # or tells of one that must not be there
    if all(kept):
        for job, place in zip(jobs, places, strict=True):
            output.ready(place, job.record)
        return
    painter = hire(found, wanted)
    wanted.how.say(headline(found.name, painter.dtype, painter.device, jobs[0]))
    tell(painter, found, jobs, wanted.how)
    groups = _groups(output, jobs, places, painter.together)
    for walk in walks(jobs, groups, painter, found, wanted, numbered(jobs)):
        output.write(walk.painted, [places[i] for i in walk.which], walk.painter)
        painter = walk.painter
    leave_worker(painter, found, wanted)


def numbered(
    jobs: Sequence[Job], named: Callable[[int], str] | None = None
) -> Callable[[Job], str]:
    """What the bar calls each job's picture: its seed, or as its place is named; of several, which
    one it is, too."""
    names: dict[Job, str] = {}
    for place, job in enumerate(jobs):
        which = f"{place + 1} of {len(jobs)}: " * (len(jobs) > 1)
        names.setdefault(job, which + (f"seed {job.seed}" if named is None else named(place)))
    return names.__getitem__


def tell(painter: Painter, found: Source, jobs: list[Job], how: HowHere) -> None:
    """What is worth knowing of complete jobs before they are painted."""
    how.explain(painter.about)
    how.explain("job: " + json_line(jobs[0].record))
    of_painter = painter.remark if jobs[0].size == found.size else ""
    for remark in filter(None, (of_painter, *remarks.of_jobs(found, jobs).values())):
        how.say(f"note: {remark}")


class Walk(NamedTuple):
    """Pictures that were painted together."""

    painted: list[Finished]
    which: list[int]
    """The numbers of their jobs."""
    painter: Painter


def walks(
    jobs: Sequence[Job],
    groups: Iterable[list[int]],
    painter: Painter,
    found: Source,
    wanted: Wanted,
    named: Callable[[Job], str],
) -> Iterator[Walk]:
    """Paint groups of complete jobs, told by their numbers, each in one walk.

    A worker that is lost on the way is replaced by this process. `named` is what the bar calls a
    job's picture.
    """
    from sdfast.warm.client import GoneError

    how = wanted.how
    drawn = how.draw and sys.stderr.isatty()
    show = _watcher(how.colour, named) if drawn else _unseen
    prepared: set[object] = set()
    for some in groups:
        asked = [jobs[i] for i in some]
        with _hinting_at_batch_size(asked):
            if painter.compiler is not None:
                _prepare(painter.compiler, asked, prepared, how)
            try:
                painted = _painted(painter, asked, show)
            except GoneError as gone:
                how.say(f"note: the worker is lost ({gone}); painting without it")
                painter = by_ourselves(found, wanted)
                painted = _painted(painter, asked, show)
        yield Walk(painted, some, painter)


def _groups(
    output: Output, jobs: Sequence[Job], places: Sequence[Path], most: Callable[[Job], int]
) -> Iterator[list[int]]:
    """Jobs that are painted together; one whose picture is there already is told in its turn."""
    some: list[int] = []
    for i, (job, place) in enumerate(zip(jobs, places, strict=True)):
        if some and (len(some) >= most(job) or output.keeps(place)):
            yield some
            some = []
        if output.ready(place, job.record):
            some.append(i)
    if some:
        yield some


@contextmanager
def _hinting_at_batch_size(jobs: list[Job]) -> Generator[None]:
    """In here, several pictures that find no memory are said to be too many."""
    try:
        yield
    except OutOfMemoryError as error:
        if len(jobs) == 1:
            raise
        hint = "a smaller --batch-size or --size takes less"
        raise OutOfMemoryError(str(error), hint) from error


def _prepare(compiler: Compiler, jobs: list[Job], prepared: set[object], how: HowHere) -> None:
    """Compile what the jobs will call together and none before them has."""
    kinds: dict[object, list[Job]] = {}
    for one in (one for job in jobs for one in job.passes):
        kinds.setdefault(compiler.calls(one), []).append(one)
    for calls, alike in kinds.items():
        if (kind := (calls, len(alike))) not in prepared:
            prepared.add(kind)
            with _compiling(alike[0], how):
                compiler.prepare(alike[0], len(alike))


@contextmanager
def _compiling(job: Job, how: HowHere) -> Generator[None]:
    """Say that this takes a while, and on a terminal for how long it has been."""
    width, height = job.size or (0, 0)
    text = f"compiling for {width}x{height}: minutes the first time, seconds in later runs"
    if not (how.draw and sys.stderr.isatty()):
        how.say(text)
        yield
        return
    from sdfast.bars import on_stderr
    from sdfast.screen import waiting

    with waiting(text, on_stderr(colour=how.colour)):
        yield


def _painted(
    painter: Painter, jobs: list[Job], show: Callable[[Queued], Iterable[Event]]
) -> list[Finished]:
    from sdfast.events import Finished

    with painter.ask(jobs) as queued:
        return [event for event in show(queued) if isinstance(event, Finished)]


def _unseen(queued: Queued) -> Iterator[Event]:
    return queued.events


def _watcher(colour: bool, named: Callable[[Job], str]) -> Callable[[Queued], Iterator[Event]]:
    """The progress bar, on stderr; before it, how many pictures a worker paints first."""
    from sdfast.bars import on_stderr
    from sdfast.screen import watch

    console = on_stderr(colour=colour)

    def show(queued: Queued) -> Iterator[Event]:
        events = queued.events
        if queued.ahead:
            ahead = "one picture" if queued.ahead == 1 else f"{queued.ahead} pictures"
            with console.status(f"waiting: the worker paints {ahead} before"):
                events = chain([next(events)], events)
        return watch(events, console, named)

    return show


def headline(name: str, dtype: str, device: str, job: Job) -> str:
    """What is about to happen, in one line."""
    from sdfast.schedule_names import schedule_name

    kind, spacing = schedule_name(job.sampler)
    width, height = job.size or (0, 0)
    adaptive = job.sampler.method == "adaptive"
    walk = kind if adaptive else f"{kind} {spacing}, {job.sampler.steps} steps"
    line = f"{name} {dtype} on {device}, {walk}, guidance {job.guidance:g}, {width}x{height}"
    return f"{line} {_over(job)}" if job.begins_from_picture else line


def _over(job: Job) -> str:
    from sdfast.canvas import file_size

    last = "step" if job.walked == 1 else f"{job.walked} steps"
    if job.init is None:
        begun = "one of {}x{}".format(*job.passes[0].size or (0, 0))
    else:
        own = "{}x{}".format(*file_size(job.init))
        begun = f"{os.path.basename(job.init)} ({own})"  # noqa: PTH119
    return f"over {begun} in the last {last}"
