"""Starting, stopping and looking at the worker."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import IO, NamedTuple

from sdfast.errors import DeviceError
from sdfast.models.source import Source
from sdfast.warm import wire
from sdfast.warm.client import AbsentError, GoneError, greeting
from sdfast.warm.greeting import Greeting, read_greeting
from sdfast.warm.place import Place, holder

_GRACE = 10.0
"""Seconds a worker has to end when it is told to."""
_PAUSE = 0.05
"""Seconds between two looks."""

IDLE = 600.0
"""Seconds that a worker stays without a picture, unless told otherwise."""


class Order(NamedTuple):
    """What a worker shall hold, on what, and after how many idle seconds it shall leave."""

    found: Source
    device: str
    dtype: str
    idle: float | None
    """None leaves it to a worker that is there already."""


class Started(NamedTuple):
    greeting: Greeting
    replaced: str
    """Why the worker before was not the one ordered; empty if there was none."""
    was_there: bool


def start(place: Place, order: Order) -> Started:
    """A worker as ordered, ready: the one that is there, or a new one in its place.

    Raises what loading raises.
    """
    why = ""
    while True:
        try:
            if (running := _settled(place)) is not None:
                unlike = running.unlike(order.found, order.device, order.dtype)
                if not unlike and order.idle not in (None, running.idle):
                    unlike = f"it was to leave after {running.idle:g} s without a picture"
                if not unlike:
                    return Started(running, why, was_there=True)
                why = unlike
        except GoneError as gone:
            why = str(gone)
        stop(place)
        if (begun := _begun(place, order)) is not None:
            return Started(begun, why, was_there=False)


def _settled(place: Place) -> Greeting | None:
    """What the worker holds, once it has loaded; None if there is none.

    Raises GoneError for one that does not make sense.
    """
    while holder(place) is not None:
        try:
            return greeting(place)
        except AbsentError:
            time.sleep(_PAUSE)
    return None


def _begun(place: Place, order: Order) -> Greeting | None:
    """A new worker, ready; None if another was begun at the same moment."""
    with _spawned(place, order, subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            record = wire.read_frame(process.stdout.read).record
            if record.get("is") == "taken":
                return None
            if record.get("is") == "error":
                raise wire.heard_error(record)
            begun = read_greeting(record)
        except (EOFError, wire.GarbledError) as error:
            process.kill()
            raise DeviceError(
                f"the worker ended before it had loaded `{order.found.name}`",
                f"{place.log} may tell why",
            ) from error
        except BaseException:  # interrupted, for one: nobody will ask it anything
            process.kill()
            raise
        process.returncode = 0  # it lives on, and nobody here waits for it
        return begun


def leave_behind(place: Place, order: Order) -> bool:
    """Begin a worker and go on; whether one was begun. None is if one lives or loads already."""
    if holder(place) is not None:
        return False
    _spawned(place, order, subprocess.DEVNULL).returncode = 0
    return True


def _spawned(place: Place, order: Order, report: int) -> subprocess.Popen[bytes]:
    """The worker's process: out of this terminal's reach, its words in the log.

    -P keeps Python from importing what lies about in the folder one happens to be in.
    """
    settled = (order.found.name, order.device, order.dtype, str(order.idle or IDLE))
    with _log(place) as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "sdfast.warm", *settled],
            stdin=subprocess.DEVNULL,
            stdout=report,
            stderr=log,
            start_new_session=True,
        )


def _log(place: Place) -> IO[str]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    return os.fdopen(os.open(place.log, flags, 0o600), "a")


def stop(place: Place) -> int | None:
    """End the worker, be it painting, and wait until it is gone; its process, if there was one."""
    if (pid := holder(place)) is None:
        return None
    end = time.monotonic() + _GRACE
    while (there := holder(place)) is not None and (not pid or there in (pid, 0)):
        pid = there or pid  # one that has just come has not written its number yet
        with contextlib.suppress(ProcessLookupError):
            if pid:
                os.kill(pid, signal.SIGKILL if time.monotonic() > end else signal.SIGTERM)
        time.sleep(_PAUSE)
    return pid


class Seen(NamedTuple):
    """What can be seen of a worker from outside."""

    pid: int
    greeting: Greeting | None
    """None if it has not answered."""
    silent: str = ""
    """Why it has not."""


def look(place: Place) -> Seen | None:
    """The worker there is, or None."""
    if (pid := holder(place)) is None:
        return None
    try:
        return Seen(pid, greeting(place))
    except AbsentError:
        return Seen(pid, None, "it is loading its model")
    except GoneError as gone:
        return Seen(pid, None, str(gone))
