"""A batch from its first line to its last: what is missing is painted, written and recorded."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import assert_never

from sdfast.batch.crew import Crew, Lost
from sdfast.batch.events import BatchEvent, BrokeOff, Failed, Kept, Noted, Painted, Picture
from sdfast.batch.lines import Broken
from sdfast.batch.manifest import Known, Manifest
from sdfast.batch.pictures import Pictures
from sdfast.batch.shards import WHOLE, Shard
from sdfast.batch.sources import Sources
from sdfast.batch.studio import Answer, Order
from sdfast.batch.tasks import Task
from sdfast.batch.window import Ready, Window
from sdfast.errors import RemoteError, SdfastError, UsageError
from sdfast.events import judged
from sdfast.job import Record
from sdfast.naming import Exists, exists_already

_PATIENCE = 0.1
"""Seconds between two looks at what has arrived and whether to stop, while hands are busy."""
_MOST_LOST = 3
"""Workers that one job may cost."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a run does, and when it ends."""

    shard: Shard = WHOLE
    limit: int | None = None
    """Pictures to paint in this run."""
    fail_fast: bool = False
    retry_failed: bool = False


@dataclass(frozen=True, slots=True)
class Books:
    """What a run knows, and where it writes."""

    manifest: Manifest
    known: Known
    pictures: Pictures
    sources: Sources


def missing(
    tasks: Iterator[Task | Broken | None],
    known: Known,
    pictures: Pictures,
    sources: Sources,
    rules: Rules,
) -> Iterator[Ready | Kept | Failed | None]:
    """The jobs whose pictures are not there; of the others, what has become of them."""
    for task in tasks:
        match task:
            case None:
                yield None
            case Broken(number, error, key):
                if rules.shard.has(number):
                    before = key in known.failed and not rules.retry_failed
                    yield Failed(key, number, error, before=before)
            case Task(key, _, number, index):
                if not rules.shard.has(index):
                    continue
                if key in known.done:
                    yield Kept(key, number)
                elif key in known.failed and not rules.retry_failed:
                    yield Failed(key, number, _BEFORE, before=True)
                else:
                    yield _looked_for(task, pictures, sources)
            case _:
                assert_never(task)


_BEFORE = SdfastError("failed before", "--retry-failed tries again")


def _looked_for(task: Task, pictures: Pictures, sources: Sources) -> Ready | Kept | Failed:
    try:
        job = sources.complete(task.job)
        place = pictures.place(task, job)
        if own := pictures.found(task, place):  # written by a run that was killed a moment later
            return Kept(task.key, task.number, own)
        if pictures.naming.exists in (Exists.SKIP, Exists.ERROR) and pictures.taken(task, place):
            if pictures.naming.exists is Exists.SKIP:
                return Kept(task.key, task.number, place, own=False)
            raise exists_already(place)
    except RemoteError:
        raise
    except SdfastError as error:
        return Failed(task.key, task.number, error, before=False)
    return Ready(task, job, place)


def run(
    tasks: Iterator[Task | Broken | None], books: Books, crew: Crew, rules: Rules, stop: Event
) -> Iterator[BatchEvent]:
    """Paint what is missing. Once `stop` is set, what is in hand is finished and nothing begun."""
    source = missing(tasks, books.known, books.pictures, books.sources, rules)
    shift = _Shift(Window(source), books, crew, rules, stop)
    try:
        for event in shift.events():
            yield event
            if isinstance(event, Failed) and not event.before and rules.fail_fast:
                shift.ends_here()
    except _PlaceError as error:
        yield BrokeOff(error.error)
    except RemoteError as error:
        yield BrokeOff(error)


class _PlaceError(Exception):
    """Nothing more can be written."""

    def __init__(self, error: SdfastError) -> None:
        super().__init__(str(error))
        self.error = error


class _Shift:
    """One run's work: who has what in hand, and what is still to be given out."""

    def __init__(self, window: Window, books: Books, crew: Crew, rules: Rules, stop: Event) -> None:
        self._window, self._books, self._crew, self._stop = window, books, crew, stop
        self._left = rules.limit
        self._ended = False
        self._given: dict[int, list[Ready]] = {}
        self._weights: dict[int, object] = {}
        self._most: dict[int, int] = {}

    def events(self) -> Iterator[BatchEvent]:
        while True:
            if not self._over:
                for event in self._window.fill(patient=not self._given):
                    if self._over:  # what was being read may be half a line
                        break
                    yield from self._recorded(event)
                self._give()
            if not self._given and (self._over or not len(self._window)):
                if self._over or self._window.ended:
                    return
                continue
            for hand, answer in self._crew.ready(_PATIENCE):
                yield from self._settled(hand, answer)

    def ends_here(self) -> None:
        """Begin nothing more."""
        self._ended = True

    @property
    def _over(self) -> bool:
        return self._stop.is_set() or self._ended or self._left == 0

    def _give(self) -> None:
        """Work for every hand that has none."""
        for hand in self._crew.idle:
            if self._over:
                return
            share = -(-len(self._window) // self._crew.hands)  # the last ones are for all
            most = min(share, self._most.get(hand, self._crew.most))
            if self._left is not None:
                most = min(most, self._left)
            if some := self._window.take(self._weights.get(hand), most):
                self._given[hand] = some
                self._weights[hand] = some[0].job.weights
                self._crew.give(hand, [Order(r.task.key, r.job) for r in some])
                if self._left is not None:
                    self._left -= len(some)

    def _settled(self, hand: int, answer: Answer | Lost) -> Iterator[BatchEvent]:
        """Write down what has become of the work a hand was given, if it had any."""
        given = self._given.pop(hand, [])
        if isinstance(answer, Lost):
            yield Noted(f"{answer.why}; another takes over")
            again = [replace(ready, attempts=ready.attempts + 1) for ready in given]
            self._take_back([ready for ready in again if ready.attempts < _MOST_LOST])
            error = SdfastError(f"{answer.why}, {_MOST_LOST} times", "is memory too small?")
            for ready in again:
                if ready.attempts >= _MOST_LOST:
                    yield from self._recorded(Failed(*_who(ready), error, before=False))
            return
        if answer.most < self._most.get(hand, self._crew.most):
            yield Noted(f"memory is short: from now on {answer.most} at a time")
        self._most[hand] = answer.most
        self._take_back(given[len(answer.outcomes) :])
        for ready, outcome in zip(given, answer.outcomes, strict=False):
            if isinstance(outcome, Picture):
                yield self._written(ready, outcome)
            else:
                yield from self._recorded(Failed(*_who(ready), outcome, before=False))

    def _take_back(self, unpainted: list[Ready]) -> None:
        """Jobs that were given out and are still to be painted."""
        self._window.put_back(unpainted)
        if self._left is not None:
            self._left += len(unpainted)

    def _written(self, ready: Ready, picture: Picture) -> BatchEvent:
        """The picture under its name, and in the manifest; else why it cannot be written."""
        task, pictures, manifest = ready.task, self._books.pictures, self._books.manifest
        begun = time.perf_counter()
        try:
            manifest.check()
            path = pictures.write(picture.file, task, ready.place)
        except UsageError as error:
            if pictures.store.is_lost(error):
                raise _PlaceError(error) from error
            failed = Failed(*_who(ready), error, before=False)
            self._add(_failed_record(failed))
            return failed
        if path is None:  # somebody else has taken the name meanwhile, and shall keep it
            kept = Kept(task.key, task.number, ready.place, own=False)
            self._add(_kept_record(kept, pictures))
            return kept
        times, job = picture.times, picture.job
        spent = {"load": picture.load, "encode": times.encode, "walk": sum(times.steps)}
        spent |= {"decode": times.decode, "write": time.perf_counter() - begun}
        self._add(
            {
                "status": "done",
                "key": task.key.hex(),
                "path": pictures.store.recorded(path),
                "line": task.number,
                "seed": job.seed,
                "model": job.model,
                "seconds": {name: round(value, 6) for name, value in spent.items()},
                **judged(picture.unsafe),
            }
        )
        shown = pictures.store.shown(path)
        return Painted(task.key, task.number, shown, spent["write"], picture)

    def _recorded(self, event: BatchEvent) -> Iterator[BatchEvent]:
        """An event that is in the manifest before it is told.

        A job that fails after an interrupt may have been broken off: the next run tries it again.
        """
        match event:
            case Failed(before=False) if self._stop.is_set():
                event = Noted(f"line {event.number}: {event.error}; the next run tries it again")
            case Failed(before=False):
                self._add(_failed_record(event))
            case Kept(path=Path()):
                self._add(_kept_record(event, self._books.pictures))
            case _:
                pass
        yield event

    def _add(self, record: Record) -> None:
        try:
            self._books.manifest.add(record)
        except UsageError as error:
            raise _PlaceError(error) from error


def _who(ready: Ready) -> tuple[bytes, int]:
    return ready.task.key, ready.task.number


def _failed_record(failed: Failed) -> Record:
    said = {"error": str(failed.error), "hint": failed.error.hint}
    return {"status": "failed", "key": failed.key.hex(), "line": failed.number, **said}


def _kept_record(kept: Kept, pictures: Pictures) -> Record:
    assert kept.path is not None
    status = "done" if kept.own else "kept"
    path = pictures.store.recorded(kept.path)
    return {"status": status, "key": kept.key.hex(), "path": path, "line": kept.number}
