"""Which jobs are painted next, and together.

Of the jobs that wait, those of the loaded model go first, so that it is loaded once and not once a
job; jobs that walk the same way share each network call. Otherwise they go in their order. Only so
many wait at a time, however long the file is, and only so many go before the first of them, however
many of the loaded model a pipe brings.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sdfast.batch.events import BatchEvent
from sdfast.batch.tasks import Task
from sdfast.job import Job

ROOM = 2048


@dataclass(frozen=True, slots=True)
class Ready:
    """A job that is to be painted, with what it left to the model filled in."""

    task: Task
    job: Job
    place: Path
    attempts: int = 0
    """How often a worker was lost while painting it."""

    @property
    def way(self) -> tuple[object, ...]:
        """What jobs must agree in to be painted together."""
        return self.job.weights, self.job.way


class Window:
    """The jobs that wait."""

    def __init__(self, source: Iterator[Ready | BatchEvent | None], room: int = ROOM) -> None:
        self._source = source
        self._room = room
        self._waiting: list[Ready] = []
        self._overtaken = 0
        """How many have gone before the first that waits."""
        self.ended = False

    def __len__(self) -> int:
        return len(self._waiting)

    def fill(self, *, patient: bool) -> Iterator[BatchEvent]:
        """Take in jobs until there is no more room, and pass on what happened to the others.

        Where no more has come for now, a patient one waits for the first.
        """
        while not self.ended and len(self._waiting) < self._room:
            try:
                item = next(self._source)
            except StopIteration:
                self.ended = True
                return
            if isinstance(item, Ready):
                self._waiting.append(item)
            elif item is not None:
                yield item
            elif self._waiting or not patient:
                return

    def take(self, weights: object, most: int) -> list[Ready]:
        """The next jobs to be painted in one walk; a job that has lost a worker goes alone."""
        if not self._waiting:
            return []
        eldest = self._waiting[0]
        first = next((r for r in self._waiting if r.job.weights == weights), eldest)
        if self._overtaken >= self._room:
            first = eldest
        chosen = [first] if first.attempts or most <= 1 else self._alike(first.way, most)
        self._overtaken = 0 if chosen[0] is eldest else self._overtaken + len(chosen)
        taken = {*map(id, chosen)}
        self._waiting = [ready for ready in self._waiting if id(ready) not in taken]
        return chosen

    def _alike(self, way: object, most: int) -> list[Ready]:
        alike = (r for r in self._waiting if not r.attempts and r.way == way)
        return list(islice(alike, most))

    def put_back(self, taken: list[Ready]) -> None:
        """Let jobs wait again, in their places."""
        self._waiting = sorted([*taken, *self._waiting], key=lambda ready: ready.task.index)
        self._overtaken = max(self._overtaken - len(taken), 0)
