"""The worker: it loads a model, lets in who comes, and paints one picture after the other.

The main thread paints. Another opens the door: it tells each visitor what is held here and takes
its job into the line, which is served in the order of coming. A visitor that hangs up is noticed
when the next event is told to it, and its walk is dropped there.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from sdfast import __version__
from sdfast.errors import DeviceError, SdfastError
from sdfast.job import Job, read_job
from sdfast.warm import wire
from sdfast.warm.greeting import Greeting, circumstances, holding, stamp, this_code
from sdfast.warm.neighbours import is_ours
from sdfast.warm.place import Place, find_place, take_lock
from sdfast.writing import unwritable

if TYPE_CHECKING:
    from sdfast.events import Event

_MOST_WAITING = 256
"""Visitors in the line."""
_MOST_AT_THE_DOOR = 32
"""Visitors that have not said yet what they want."""
_PATIENCE = 5.0
"""Seconds a visitor has to say it."""
_DEAF = 20.0
"""Seconds after which one that does not listen is given up, as one stopped with ctrl-Z."""
_LOOKS_EVERY = 2.0
"""Seconds after which it looks whether it can still be found."""
_LONGEST_LOG = 2**20
"""Bytes."""

Paint = Callable[[Job], Iterator["Event"]]
"""The engine with the model that is held."""


class Visitor(NamedTuple):
    connection: socket.socket
    job: Job


@dataclass(slots=True)
class Shop:
    """What the two threads share: what is held, who waits, and what has been done."""

    greeting: Greeting
    line: Queue[Visitor] = field(default_factory=lambda: Queue(_MOST_WAITING))
    door: threading.Lock = field(default_factory=threading.Lock)
    painted: int = 0
    rested: float = field(default_factory=time.monotonic)
    """When the last picture was done."""

    def greet(self) -> bytes:
        """The greeting as it is at this moment; whoever has been told to wait is counted."""
        with self.door:
            waiting = self.line.unfinished_tasks
        resting = 0.0 if waiting else time.monotonic() - self.rested
        left = max(self.greeting.idle - resting, 0.0)
        now = replace(self.greeting, left=left, painted=self.painted, waiting=waiting)
        return wire.packed(now.record)


def work(load: Callable[[], tuple[Paint, Greeting]]) -> None:
    """Be this user's worker, with what there is to hold; stdout tells how the start went."""
    this_code()  # kept: what is changed from now on is another program
    os.umask(0o077)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    place = find_place()
    try:
        if take_lock(place) is None:
            _report(wire.packed({"is": "taken"}))
            return
        with contextlib.suppress(OSError):
            os.ftruncate(sys.stderr.fileno(), 0)
        _log(f"worker {os.getpid()} of sdfast {__version__} loads")
        with _front():
            _work(load, place)
    except SdfastError as error:
        _log(f"error: {error}")
        _report(wire.told_error(error))
    except SystemExit:
        _log("left, as it was told to")
        unready = DeviceError("the worker was told to stop before it had loaded its model")
        _report(wire.told_error(unready))  # to nobody once it has
        raise


def _work(load: Callable[[], tuple[Paint, Greeting]], place: Place) -> None:
    paint, held = load()
    with _listening(place) as (listener, is_found):
        shop = Shop(held)
        threading.Thread(target=_keep_the_door, args=(listener, shop), daemon=True).start()
        _log(f"ready with {held.model}, {held.dtype} on {held.device}")
        _report(shop.greet())
        os.chdir("/")
        for visitor in _visitors(shop, is_found):
            shop.painted += _serve(visitor, paint)
        _log("left, as nobody came" if is_found() else "left, as its files were removed")


@contextmanager
def _front() -> Generator[None]:
    """In here there is a front, where calls are run that need not import anything; see `handover`.

    It ends when there is nobody at the other end of its stdin any more, however this process ends.
    Raises DeviceError where no process can begin.
    """
    if not hasattr(os, "fork"):
        yield
        return
    command = [sys.executable, "-P", "-c", "from sdfast.cli.front import main; main()"]
    nobody = subprocess.DEVNULL
    try:
        begun = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=nobody)
    except OSError as error:
        raise DeviceError(f"the worker's front cannot begin: {error.strerror}") from error
    with begun as front:
        try:
            yield
        finally:
            front.kill()  # calls that it runs are processes of their own, and go on


def _leave(*_: object) -> NoReturn:
    """End at once, and let nothing interrupt the tidying up."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


def _report(frame: bytes) -> None:
    """Tell whoever has started this, if they still listen, and say no more there."""
    with contextlib.suppress(OSError):
        sys.stdout.buffer.write(frame)
        sys.stdout.flush()
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def load(name: str, device: str, dtype: str, idle: float) -> tuple[Paint, Greeting]:
    from sdfast.config import load_config
    from sdfast.models.find import find

    found = find(name, load_config().aliases, offline=True)
    files, around = stamp(found), circumstances()  # before torch binds threads to cores
    from sdfast.engine import generate
    from sdfast.models import load_model

    model = load_model(found, device=device, dtype=dtype)
    held = holding(
        found,
        files,
        around,
        wanted=(device, dtype),
        given=(str(model.device), model.dtype_name),
        idle=idle,
    )
    return partial(generate, model), held


@contextmanager
def _listening(place: Place) -> Generator[tuple[socket.socket, Callable[[], bool]]]:
    """The socket, from when it can be entered to when it is gone; whether it is still found there.

    Somebody may have removed it, or the lock, and another worker may have come in its place.
    Raises UsageError where it cannot be.
    """
    path, lock = place.socket, _identity(place.lock)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            path.unlink(missing_ok=True)  # the lock is ours, so it was a dead worker's
            listener.bind(str(path))
            ours = _identity(path)
            path.chmod(0o600)
            listener.listen(_MOST_WAITING)
        except OSError as error:
            raise unwritable(path, error) from error
        try:
            yield listener, lambda: (_identity(path), _identity(place.lock)) == (ours, lock)
        finally:
            if _identity(path) == ours:
                path.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _keep_the_door(listener: socket.socket, shop: Shop) -> None:
    """Let in who comes, each in a thread of its own until it has said what it wants."""
    room = threading.BoundedSemaphore(_MOST_AT_THE_DOOR)
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # closed, or no more files can be opened: a moment later it may go again
            if listener.fileno() < 0:
                return
            time.sleep(0.1)
            continue
        if not room.acquire(blocking=False):
            connection.close()
            continue
        try:
            threading.Thread(target=_welcome, args=(connection, shop, room), daemon=True).start()
        except RuntimeError:  # the system lets nobody begin a thread just now
            room.release()
            connection.close()


def _welcome(connection: socket.socket, shop: Shop, room: threading.BoundedSemaphore) -> None:
    """Greet a visitor and take its job into the line."""
    try:
        if not is_ours(connection):
            connection.close()
            return
        connection.settimeout(_PATIENCE)
        connection.sendall(shop.greet())
        job = read_job(wire.receive(connection, _PATIENCE).record["job"])
        connection.settimeout(_DEAF)
        with shop.door:
            connection.sendall(wire.packed({"is": "queued", "ahead": shop.line.unfinished_tasks}))
            shop.line.put_nowait(Visitor(connection, job))
    except SdfastError as error:
        _dismiss(connection, wire.told_error(error))
    except Exception:  # hung up, silent, too late or talking nonsense: nobody to paint for
        connection.close()
    finally:
        room.release()


def _dismiss(connection: socket.socket, frame: bytes) -> None:
    with contextlib.suppress(OSError), connection:
        connection.sendall(frame)


def _visitors(shop: Shop, is_found: Callable[[], bool]) -> Iterator[Visitor]:
    """Who is next, until nobody has come for long enough, or can come."""
    while (left := shop.rested + shop.greeting.idle - time.monotonic()) > 0:
        if shop.line.empty() and not is_found():
            return
        with contextlib.suppress(Empty):
            yield shop.line.get(timeout=min(left, _LOOKS_EVERY))
            shop.rested = time.monotonic()
            shop.line.task_done()


def _serve(visitor: Visitor, paint: Paint) -> bool:
    """Paint the visitor's picture, telling each event; whether it was finished."""
    with visitor.connection as connection:
        try:
            for event in paint(visitor.job):
                connection.sendall(wire.told(event))
        except SdfastError as error:
            _log(f"{type(error).__name__}: {error}")
            _dismiss(connection, wire.told_error(error))
        except OSError as error:
            _log(f"a client has left: {error}")
        except Exception:  # a bug of ours: the client will meet it, too, and show it
            _log(traceback.format_exc())
        else:
            return True
    return False


def _log(text: str) -> None:
    with contextlib.suppress(OSError):
        log = sys.stderr.fileno()
        if os.fstat(log).st_size > _LONGEST_LOG:
            os.ftruncate(log, 0)
        print(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {text}", file=sys.stderr, flush=True)
