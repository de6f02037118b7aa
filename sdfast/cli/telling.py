"""What is said of a batch: results on stdout, everything else on stderr."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from sdfast.cli import remarks
from sdfast.cli.complaint import counted, say_error
from sdfast.cli.streams import json_line
from sdfast.errors import SdfastError

if TYPE_CHECKING:
    from sdfast.batch.events import BatchEvent, Failed, Painted
    from sdfast.batch.manifest import Known
    from sdfast.batch.sources import Sources
    from sdfast.cli.how import How

_MOST_ALIKE = 3
"""Times that one complaint is made; a model that is missing may be missed by thousands of jobs."""
_MOST_KINDS = 100
"""Complaints that are told apart."""


def named(file: str) -> str:
    """A file of jobs, as it is spoken of."""
    return "stdin" if file == "-" else file


class Telling:
    """Counts and tells what happens to the jobs of one run."""

    def __init__(self, file: str, how: How, *, as_json: bool, retried: bool = False) -> None:
        self._file = named(file)
        self._how, self._as_json = how, as_json
        self._retried = retried
        """What has failed before was tried again."""
        self.say = how.say
        self._results = sys.stdout
        self._manifest = Path()
        self._total = 0
        self._sources: Sources | None = None
        self._complaints: Counter[str] = Counter()
        self._remarked: set[str] = set()
        self._begun = time.perf_counter()
        self.painted = self.kept = self.failed = 0
        self.broke_off: SdfastError | None = None

    def _print(self, result: str) -> None:
        print(result, file=self._results, flush=True)

    def begin(self, manifest: Path, known: Known, sources: Sources, total: int) -> None:
        """What is known before the first job."""
        self._manifest, self._sources, self._total = manifest, sources, total
        before = len(known.done)
        if before:
            self.say(f"resuming {manifest}, which tells of {counted(before, 'picture')}")

    def tell(self, event: BatchEvent) -> None:
        """What has happened to a job."""
        from sdfast.batch.events import BrokeOff, Failed, Kept, Noted, Painted

        match event:
            case Painted():
                self.painted += 1
                self._print(self._line(event) if self._as_json else event.path)
                self._remark(event)
                if text := remarks.blackened(event.picture.unsafe, event.picture.job.seed):
                    self.say(f"note: {self._file}:{event.number}: {text}")
            case Kept():
                self.kept += 1
            case Failed():
                self.failed += 1
                self._complain(event)
            case Noted(text):
                self.say(f"note: {text}")
            case BrokeOff(error):
                self.broke_off = error
            case _:
                assert_never(event)

    def _remark(self, done: Painted) -> None:
        """What is worth knowing of a picture; of each kind the first in a run."""
        picture = done.picture
        source = self._sources.source(picture.job) if self._sources else None
        told = {
            **remarks.of_jobs(source, [picture.job]),
            "half": remarks.decoded_again(picture.decoded_again),
            "tiles": remarks.in_tiles(picture.tiles),
        }
        for kind, text in told.items():
            if text and kind not in self._remarked:
                self._remarked.add(kind)
                self.say(f"note: {self._file}:{done.number}: {text}")

    def _line(self, done: Painted) -> str:
        from sdfast.cli.output import line_of

        line = {"path": done.path, "key": done.key.hex(), "line": done.number}
        return json_line(line | line_of(done.picture, done.picture, done.write))

    def _complain(self, failed: Failed) -> None:
        error, place = failed.error, f"{self._file}:{failed.number}"
        if self._as_json and not failed.before:
            said = {"error": str(error), "hint": error.hint, "exit_code": error.exit_code}
            line = {"key": failed.key.hex(), "line": failed.number, **said}
            self._print(json_line(line))
        alike = str(error)
        if alike not in self._complaints and len(self._complaints) >= _MOST_KINDS:
            alike = "errors of other kinds"
        self._complaints[alike] += 1
        if self._complaints[alike] <= _MOST_ALIKE:
            say_error(f"{place}: {error}", error.hint)

    def end(self) -> None:
        """What has come of it all."""
        from sdfast.batch.events import GOES_ON

        for complaint, times in self._complaints.items():
            if times > _MOST_ALIKE:
                say_error(f"{times - _MOST_ALIKE} more: {complaint}")
        spent = time.perf_counter() - self._begun
        pace = f", {spent / self.painted:.2f} s a picture" if self.painted and self._total else ""
        self.say(f"{self.painted} painted{pace}; {self.kept} there before, {self.failed} failed")
        if self.broke_off is not None:
            say_error(str(self.broke_off), GOES_ON)
        elif self.failed:
            jobs = "1 job has" if self.failed == 1 else f"{self.failed} jobs have"
            hint = "" if self._retried else "--retry-failed tries again"
            say_error(f"{jobs} failed; {self._manifest} says why", hint)

    def drawn(self, events: Iterable[BatchEvent], limit: int | None) -> Iterator[BatchEvent]:
        """The events, with a bar on a terminal."""
        if self._how.quiet or not sys.stderr.isatty():
            yield from events
            return
        from sdfast.cli.batch_bar import draw

        yield from draw(events, self._total or None, limit, colour=self._how.colour)
