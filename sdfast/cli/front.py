"""The front: it runs calls of `sdfast gen` for those who have imported nothing yet.

A worker starts it and takes it along when it ends. Everything that a call wakes has been imported
here, once; each call then runs in a fork, with its own words, environment, folder and streams, and
is the same `sdfast gen` from there on. This process has no torch and no threads, so that it can
fork; the pictures are painted by the worker.
"""

import atexit
import contextlib
import fcntl
import gc
import importlib
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from typing import Any, NamedTuple, NoReturn

from sdfast.errors import INTERRUPTED
from sdfast.warm.greeting import this_code
from sdfast.warm.handover import GO, INTERRUPT, READY, TAKEN, surroundings
from sdfast.warm.neighbours import is_ours
from sdfast.warm.place import find_place

_AHEAD = (
    *("sdfast.cli.gen", "sdfast.cli.painting", "sdfast.cli.telling", "sdfast.config"),
    *("sdfast.events", "sdfast.job", "sdfast.jobs", "sdfast.models.dressed", "sdfast.models.find"),
    *("sdfast.image_files", "sdfast.presets", "sdfast.prompt_texts", "sdfast.recipes"),
    "sdfast.screen",
    *("sdfast.warm.client", "sdfast.warm.control"),
    *("PIL.Image", "PIL.PngImagePlugin", "rich.progress", "typer.main"),
)
"""What a call that a worker paints for wakes."""
_PATIENCE = 5.0
_LONGEST = 2**24


class _Call(NamedTuple):
    """Somebody's call, as `warm.handover` packs it."""

    same: list[str]
    words: list[str]
    umask: int
    environment: dict[str, str]
    streams: list[int]


def main() -> None:
    """Run calls until stdin ends, which is the worker's other end of a pipe."""
    os.umask(0o077)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    same, code = surroundings(), this_code()
    for name in _AHEAD:
        importlib.import_module(name)
    path = find_place().front
    os.chdir("/")  # else the folder it was begun in could not be unmounted
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        draft = path.with_name(f"front-{os.getpid()}.sock")
        listener.bind(str(draft))
        draft.chmod(0o600)
        listener.listen(256)
        draft.replace(path)
        gc.collect()
        gc.freeze()
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            with contextlib.suppress(OSError), listener.accept()[0] as connection:
                if os.fork() == 0:
                    _alone(listener, connection, same, code)


def _alone(
    listener: socket.socket, connection: socket.socket, same: list[str], code: str
) -> NoReturn:
    """Run one call in this process, which is made for it and ends here whatever happens."""
    ended = 1
    try:
        listener.close()
        if _is_taken(connection, same, code):
            try:
                ended = _run(connection)
            except KeyboardInterrupt:  # a second one, while the first was dealt with
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                ended = INTERRUPTED
            finish: Any = atexit
            finish._run_exitfuncs()
            connection.sendall(bytes([ended & 255]))
    finally:
        os._exit(ended & 255)


def _is_taken(connection: socket.socket, same: list[str], code: str) -> bool:
    """Whether there is a call that can be run here; this process then is as the one that called."""
    try:
        connection.settimeout(_PATIENCE)
        if not is_ours(connection):
            return False
        connection.sendall(READY)
        call = _received(connection)
        # files that have changed since they were imported are another program
        if call is None or call.same != same or this_code.__wrapped__() != code:
            return False
        _become(call)
        _wake_at(connection)
        connection.sendall(TAKEN + os.getpid().to_bytes(4, "big"))
        return connection.recv(1) == GO
    except Exception:
        return False


def _wake_at(connection: socket.socket) -> None:
    """Have the system wake this process, should it be stopped, when the caller is gone.

    Nobody else would wake it for a caller that was killed while both were stopped.
    """
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(connection, fcntl.F_SETSIG, signal.SIGCONT)
        fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(connection, fcntl.F_GETFL)
        fcntl.fcntl(connection, fcntl.F_SETFL, flags | os.O_ASYNC)


def _received(connection: socket.socket) -> _Call | None:
    begun, streams, _, _ = socket.recv_fds(connection, 8, 4)
    while len(begun) < 8:
        begun += _some(connection, 8 - len(begun))
    length = int.from_bytes(begun, "big")
    if len(streams) != 4 or length > _LONGEST:
        return None
    packed = bytearray()
    while len(packed) < length:
        packed += _some(connection, length - len(packed))
    head, *parts = map(os.fsdecode, bytes(packed).split(b"\0")[:-1])
    alike, words, umask = map(int, head.split())
    rest = parts[alike + words :]
    environment = dict(zip(rest[::2], rest[1::2], strict=True))
    return _Call(parts[:alike], parts[alike:][:words], umask, environment, list(streams))


def _some(connection: socket.socket, most: int) -> bytes:
    if not (said := connection.recv(min(most, 2**16))):
        raise EOFError
    return said


def _become(call: _Call) -> None:
    """Be the process that has called."""
    *streams, folder = call.streams
    os.fchdir(folder)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for own in call.streams:
        os.close(own)
    os.umask(call.umask)
    os.environ.clear()
    os.environ.update(call.environment)
    time.tzset()
    sys.argv = call.words
    errors = sys.stdin.errors
    sys.stdin = _stream(0, "r", sys.stdin.encoding, errors)
    sys.stdout = _stream(1, "w", sys.stdout.encoding, errors)
    sys.stderr = _stream(2, "w", sys.stderr.encoding, "backslashreplace")
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _stream(number: int, mode: str, encoding: str, errors: str | None) -> Any:
    """A standard stream as Python opens it: by lines for people and for what went wrong."""
    lines = number == 2 or (mode == "w" and os.isatty(number))
    return open(number, mode, 1 if lines else -1, encoding, errors, "\n", closefd=False)


def _listen(connection: socket.socket) -> None:
    """Pass ctrl-C on; end when the caller has, and leave the terminal in order."""
    painter = threading.main_thread().ident
    assert painter is not None
    while said := _heard(connection):
        if INTERRUPT in said:
            signal.pthread_kill(painter, signal.SIGINT)
    signal.pthread_kill(painter, signal.SIGTERM)
    time.sleep(_PATIENCE)
    os._exit(1)


def _heard(connection: socket.socket) -> bytes:
    try:
        select.select([connection], [], [])  # who waits in recv is not woken as `_wake_at` has it
        return connection.recv(16)
    except OSError:
        return b""


def _run(connection: socket.socket) -> int:
    """The command line; its exit code."""
    from sdfast.cli import main as run

    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Thread(target=_listen, args=(connection,), daemon=True).start()
        run()
        ended: object = 0
    except SystemExit as ending:
        ended = ending.code
    except KeyboardInterrupt:
        with contextlib.suppress(Exception):
            print("interrupted", file=sys.stderr)
        ended = INTERRUPTED
    except BaseException:
        with contextlib.suppress(Exception):
            traceback.print_exc()
        ended = 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            ended = ended or 120  # as Python has it
    return ended if isinstance(ended, int) else int(ended is not None)
