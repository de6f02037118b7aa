"""A side in a process of its own, so that it shares no import, no thread and no allocator."""

import pickle
import traceback
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sdfast.bench.timing.entries import Entry
from sdfast.bench.timing.turn import Lap, Painted
from sdfast.errors import DeviceError, SdfastError, one_line
from sdfast.spawning import spawned

_LEAVES_WITHIN = 3.0
"""Seconds that a process may take to notice that nobody asks any more."""


class Apart:
    """A side that another process has loaded, and that paints when it is asked to."""

    def __init__(self, entry: Entry, device: str) -> None:
        """Raises what loading raises."""
        self._line, theirs = Pipe()
        self._process = spawned(_serve, theirs, entry, device)
        theirs.close()
        self._label = entry.label
        self.dtype, self.device = self._heard()

    def lap(self, entry: Entry, place: Path) -> tuple[Lap, Painted]:
        """A turn of a row, timed where it is painted."""
        self._line.send((entry, place))
        return self._heard()

    def _heard(self) -> Any:
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
        """End the process, at once if it is in the middle of something."""
        self._line.close()
        self._process.join(_LEAVES_WITHIN)  # killed, it would leave semaphores behind
        self._process.kill()
        self._process.join()


def _serve(line: "Connection[Any, tuple[Entry, Path]]", entry: Entry, device: str) -> None:
    """Load, and paint what comes until nobody is there to ask."""
    from sdfast.bench.timing.sides import load_side

    try:
        side = load_side(entry, device)
        line.send_bytes(pickle.dumps((side.dtype, side.device)))
        while True:
            asked, place = line.recv()
            line.send_bytes(pickle.dumps(side.lap(asked, place)))
    except EOFError:
        return
    except SdfastError as error:
        line.send_bytes(pickle.dumps(error))
    except Exception as error:  # what a pipeline of somebody else's may raise
        said = one_line(error, 300)
        problem = RuntimeError(f"{entry.label}: {type(error).__name__}: {said}")
        problem.add_note(traceback.format_exc())  # which --debug shows
        line.send_bytes(pickle.dumps(problem))
