"""Work in a process of its own, so that it shares no import, no thread and no allocator."""

import os
import pickle
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdfast.bench.timing.entries import Entry
from sdfast.errors import DeviceError, SdfastError, one_line
from sdfast.spawning import spawned

if TYPE_CHECKING:  # at run time this would wake torch, before the work can time that
    from sdfast.bench.timing.turn import Lap, Painted

_LEAVES_WITHIN = 3.0
"""Seconds that a process may take to notice that nobody asks any more."""

Work = Callable[[Entry, str, Iterator[Any]], Iterator[Any]]
"""What is answered, given a row, a device and what is asked."""


class Process:
    """A process that works on a row, and the line to it."""

    def __init__(self, work: Work, entry: Entry, device: str) -> None:
        self._line, theirs = Pipe()
        self._process = spawned(_answer, theirs, work, entry, device)
        theirs.close()
        self._label = entry.label

    def ask(self, what: object) -> None:
        with suppress(OSError):  # that it was killed is found out as it is heard
            self._line.send(what)

    def heard(self) -> Any:
        """The next answer. Raises what the work raises, and DeviceError if it was killed."""
        try:
            said = pickle.loads(self._line.recv_bytes())
        except (EOFError, OSError) as error:
            self._process.join()
            raise DeviceError(
                f"the process of {self._label} was ended", "is memory too small?"
            ) from error
        if isinstance(said, Exception):
            raise said
        return said

    def close(self) -> None:
        """End the process, which has a moment to leave by itself."""
        self._line.close()
        self._process.join(_LEAVES_WITHIN)  # killed, it would leave semaphores behind
        self._process.kill()
        self._process.join()


def _answer(line: "Connection[Any, Any]", work: Work, entry: Entry, device: str) -> None:
    """Send what the work answers until it ends, or nobody is there to hear it."""
    os.dup2(2, 1)  # where tables are printed, and a pipeline of somebody else's may speak
    os.environ["HF_HUB_OFFLINE"] = "1"
    with suppress(ConnectionError):
        for said in _told(work(entry, device, _asked(line)), entry.label):
            line.send_bytes(pickle.dumps(said))


def _asked(line: "Connection[Any, Any]") -> Iterator[Any]:
    """What is asked, until nobody is there to ask."""
    with suppress(EOFError, OSError):
        while True:
            yield line.recv()


def _told(answers: Iterator[Any], label: str) -> Iterator[Any]:
    """The answers and, if there is one, the error that they end in."""
    try:
        yield from answers
    except SdfastError as error:
        yield error
    except Exception as error:  # what a pipeline of somebody else's may raise
        problem = RuntimeError(f"{label}: {type(error).__name__}: {one_line(error, 300)}")
        problem.add_note(traceback.format_exc())  # which --debug shows
        yield problem


class Apart:
    """A side that another process has loaded, and that paints when it is asked to."""

    def __init__(self, entry: Entry, device: str) -> None:
        """Raises what loading raises."""
        self._process = Process(_paint, entry, device)
        self.dtype, self.device = self._process.heard()

    def lap(self, entry: Entry, place: Path) -> "tuple[Lap, Painted]":
        """A turn of a row, timed where it is painted."""
        self._process.ask((entry, place))
        return self._process.heard()

    def close(self) -> None:
        self._process.close()


def _paint(entry: Entry, device: str, asked: Iterator[Any]) -> Iterator[Any]:
    from sdfast.bench.timing.sides import load_side

    side = load_side(entry, device)
    yield side.dtype, side.device
    for row, place in asked:
        yield side.lap(row, place)
