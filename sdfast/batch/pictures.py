"""What a batch's pictures are called, and which of them are there.

A picture has the name that `gen` would give it. Where another picture has that name, the job's key
is added: so a name depends on no counting, and a run after a crash finds what the one before it has
written but not yet recorded. No picture that a batch has made is ever overwritten, but for its own
that has been cut short, and its own black one where the safety checker that made it black is not
asked any more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sdfast.batch.store import Store
from sdfast.batch.tasks import Task
from sdfast.exif import KEY, NSFW
from sdfast.job import Job
from sdfast.naming import Exists, destination, exists_already, fields


@dataclass(frozen=True, slots=True)
class Naming:
    """What was said about where pictures go."""

    store: Store
    template: str | None
    tag: str
    """Begins the names of drafts, so that the next run knows them as its own."""
    exists: Exists
    preset: str
    count: int
    """How many there will be, as far as one can tell."""
    black: bool = True
    """Whether pictures that a safety checker has made black are to stay."""

    def ending(self) -> str:
        """What all names end in. Raises UsageError for a template that can name no picture."""
        return Pictures(self, datetime.now(), {}).place(_SOME, _SOME.job).suffix

    def pictures(self, begun: datetime, cut: Mapping[bytes, str]) -> "Pictures":
        """The pictures of a batch that was begun then; `cut` is as `Known` has it."""
        return Pictures(self, begun, cut)


_SOME = Task(bytes(16), Job(prompt="any", seed=0), 1, 1)


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of a batch, there or still to come."""

    naming: Naming
    begun: datetime
    cut: Mapping[bytes, str]

    @property
    def store(self) -> Store:
        return self.naming.store

    def place(self, task: Task, job: Job) -> Path:
        """Where a picture goes whose model and size are known."""
        preset = task.preset or self.naming.preset
        words = fields(job, self.begun, preset, task.index, self.naming.count)
        return destination(self.naming.template, words)

    def _names(self, task: Task, place: Path) -> tuple[Path, ...]:
        """The names that a picture may have, the likeliest first."""
        if self.naming.exists in (Exists.SKIP, Exists.ERROR):
            return (place,)
        return place, place.with_stem(f"{place.stem}-{task.key.hex()[:16]}")

    def found(self, task: Task, place: Path) -> Path | None:
        """The job's own picture, if it is there, whole."""
        names, black = self._names(task, place), self.naming.black
        return next((name for name in names if self._is_own(task, name, black=black)), None)

    def taken(self, task: Task, place: Path) -> bool:
        """Whether the name is another picture's."""
        return self.store.taken(place) and not self._may_go(task, place)

    def _is_own(self, task: Task, name: Path, *, black: bool = True) -> bool:
        seen = self.store.look(name)
        return seen is not None and seen.of(black=black) == task.key

    def _is_anothers(self, task: Task, name: Path) -> bool:
        seen = self.store.look(name)
        return seen is not None and seen.of(black=True) not in (None, task.key)

    def _may_go(self, task: Task, name: Path) -> bool:
        """Whether it is the job's own picture, and black, or what is left of it."""
        if not self.naming.black and self._is_own(task, name):
            return True
        if self.cut.get(task.key) != self.store.recorded(name):
            return False
        seen = self.store.look(name)
        return seen is not None and not seen.whole

    def write(self, data: bytes, task: Task, place: Path) -> Path | None:
        """Write a file; where it went, or None if another has the name and shall keep it.

        Raises UsageError if it cannot be written.
        """
        exists = self.naming.exists
        over = exists is Exists.OVERWRITE
        draft = f".{self.naming.tag}+{task.key.hex()}.tmp"
        for name in self._names(task, place):
            if over and self._is_anothers(task, name):
                continue
            kept = self.store.keep(data, name, draft, over=over or self._may_go(task, name))
            if kept or self._is_own(task, name):  # or somebody painted it meanwhile
                return name
        if exists is Exists.SKIP:
            return None
        raise exists_already(place)


def texts(recipe: Mapping[str, str], key: bytes, unsafe: bool | None = None) -> dict[str, str]:
    """A picture's texts: its recipe, the key of its job and, if it is black, that it is."""
    return {**recipe, KEY: key.hex(), **({NSFW: "true"} if unsafe else {})}
