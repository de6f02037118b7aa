"""Who paints: a worker that holds the model already, or this process.

The job, the events and all that is said of them are the same. Only the way to the first step
differs: a worker needs no torch here and no loading.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from sdfast.cli import remarks
from sdfast.errors import UsageError
from sdfast.warm.handover import ONES_OWN

if TYPE_CHECKING:
    from sdfast.cli.how import HowHere
    from sdfast.config import Config
    from sdfast.job import Job
    from sdfast.models.source import Source
    from sdfast.warm.client import Queued


class Wanted(NamedTuple):
    """How some jobs are to be painted, as the flags and the config file have it."""

    how: HowHere
    keep_warm: float | None
    """Seconds a worker shall wait for the next picture; None leaves none behind."""
    unchecked: bool = False
    """The safety checker that a model has is not to be asked."""
    together: int | None = 1
    """Pictures in one walk; None is as many as there is room for, in a worker one."""
    ones_own_file: bool = False
    """A picture to begin from is named by what means another file to each process."""

    @property
    def own(self) -> str:
        """What no worker does, such as a flag, so that this process must paint; else empty."""
        own = {
            "--compile": self.how.compiled,
            "--vram": self.how.vram != "auto",
            "--no-safety": self.unchecked,
            "--batch-size": self.together is not None and self.together > 1,
            "a file in /dev or /proc": self.ones_own_file,
        }
        return next((what for what, is_wanted in own.items() if is_wanted), "")


def wanted_of(
    how: HowHere,
    config: Config,
    jobs: Sequence[Job],
    models: Iterable[Source],
    together: int | None,
) -> Wanted:
    """What is wanted for these jobs, of these models."""
    return Wanted(
        how,
        config.keep_warm,
        unchecked=how.no_safety and any(model.checker is not None for model in models),
        together=together and min(together, len(jobs)),
        ones_own_file=any(_means_another_to_each(job) for job in jobs),
    )


def _means_another_to_each(job: Job) -> bool:
    """Whether a file that the job begins from is another one to each process, as /dev/stdin is."""
    return any(file.startswith(ONES_OWN) for file in (job.init, job.mask) if file)


class Compiler(NamedTuple):
    """Compiles before a picture is begun, so that its steps are not what one waits for."""

    calls: Callable[[Job], object]
    """What a complete job's calls look like: jobs that agree in it share what is compiled."""
    prepare: Callable[[Job, int], None]
    """For so many of them in one walk."""


@dataclass(frozen=True, slots=True)
class Painter:
    """Where pictures are painted, and what it took to come there."""

    device: str
    dtype: str
    load: float
    """Seconds."""
    about: str
    ask: Callable[[Sequence[Job]], AbstractContextManager[Queued]]
    """The events of complete jobs, painted together; a worker paints one at a time.

    A worker that is lost on the way is a GoneError."""
    together: Callable[[Job], int] = lambda job: 1
    """How many pictures like a complete job's it paints in one walk."""
    remark: str = ""
    """What is worth knowing of the model, and only seen once it is loaded."""
    compiler: Compiler | None = None
    """Where something has to be compiled."""
    is_worker: bool = False


def hire(found: Source, wanted: Wanted) -> Painter:
    """A worker that holds the model, or this process with the model loaded."""
    return _by_worker(found, wanted) or by_ourselves(found, wanted)


def _by_worker(found: Source, wanted: Wanted) -> Painter | None:
    """The worker, if one holds just this model. What is amiss is told only to who wants to know."""
    explain = wanted.how.explain
    if wanted.own:
        explain(f"not asking for a worker: {wanted.own} is for this process")
        return None
    from sdfast.warm import client
    from sdfast.warm.place import find_place

    try:
        place = find_place()
        held = client.greeting(place)
        unlike = held.unlike(found, wanted.how.device, wanted.how.dtype)
    except client.AbsentError:
        return None
    except (client.GoneError, UsageError, OSError) as why_not:
        explain(f"not asking the worker: {why_not}")
        return None
    if unlike:
        explain(f"not asking the worker: {unlike}")
        return None
    return Painter(
        device=held.device,
        dtype=held.dtype,
        load=0.0,
        about=f"kept warm by worker {held.pid}, from {held.folder}",
        ask=lambda jobs: client.ask(place, held, *jobs),
        is_worker=True,
    )


def by_ourselves(found: Source, wanted: Wanted) -> Painter:
    """The model, loaded into this process."""
    begun, how = time.perf_counter(), wanted.how
    from sdfast.conditioning import calls_of, prepare
    from sdfast.engine import generate_together
    from sdfast.models import load_model

    model = load_model(
        found,
        device=how.device,
        dtype=how.dtype,
        vram=how.vram,
        compiled=how.compiled,
        safety=not wanted.unchecked,
    )
    load = time.perf_counter() - begun
    from sdfast.models.room import Room
    from sdfast.warm.client import Queued

    room = Room(model, wanted.together)

    @contextmanager
    def ask(jobs: Sequence[Job]) -> Generator[Queued]:
        with room.watched(jobs[0], len(jobs)):
            yield Queued(0, generate_together(model, jobs))

    compiler = Compiler(partial(calls_of, model), partial(prepare, model))
    return Painter(
        device=str(model.device),
        dtype=model.dtype_name,
        load=load,
        about=f"loaded from {found.path} in {load:.2f} s",
        ask=ask,
        together=room.holds,
        remark=remarks.trained_smaller(found, model.prediction),
        compiler=compiler if how.compiled else None,
    )


def leave_worker(painter: Painter, found: Source, wanted: Wanted) -> None:
    """Leave a worker behind for the next picture, if that is wanted and there is none.

    Never fails. None is left for what no worker could have painted.
    """
    if wanted.keep_warm is None or painter.is_worker or wanted.own or not found.is_bare:
        return
    from sdfast.warm.control import Order, leave_behind
    from sdfast.warm.place import find_place

    how = wanted.how
    order = Order(found, how.device, how.dtype, wanted.keep_warm)
    try:
        if leave_behind(find_place(), order):
            how.explain(
                "left a worker behind for the next picture; `sdfast warm status` tells of it"
            )
    except (UsageError, OSError) as error:
        how.explain(f"left no worker behind: {error}")
