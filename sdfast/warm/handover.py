"""Handing a whole call to the worker's front, which has imported all that the call would have to.

A call is its words, its environment, its folder, its umask and its three streams. The front runs it
in a process of its own (`sdfast.cli.front`) and says how it ended; until then ctrl-C and ctrl-Z are
passed on, and to leave is to end it. A call that cannot be handed over unnoticed runs by itself.
Wakes little: this is all that a call of a shell's loop imports.

    ready    `r`, from the process that would run the call: a front that hangs is given nothing
    call     length of what follows, 8 bytes, beside stdin, stdout, stderr and the folder
             counts, surroundings, words and environment, NUL after each
    taken    `y` and the process's number, 4 bytes; or hung up
    go       `g`; only now anything is done
    ctrl-C   `c` from the caller
    end      the exit code, one byte
"""

import contextlib
import os
import signal
import socket
import sys

from sdfast.warm.neighbours import is_ours, namespace

TYPE_CHECKING = False  # to import typing for it would be waited for
if TYPE_CHECKING:
    from collections.abc import Callable

READY, TAKEN, GO, INTERRUPT = b"r", b"y", b"g", b"c"
_PATIENCE = 3.0
_INTERRUPTED, _KILLED = 130, 137
"""What shells say of a program that SIGINT or SIGKILL ended."""
_DECIDE = ("PYTHON", "LC_", "LANG", "LD_", "DYLD_", "MALLOC_", "GLIBC_", "TYPER_")
"""How variables begin that are read when a program starts, or is imported."""
ONES_OWN = ("/dev/", "/proc/")
"""Paths that mean another thing to each process."""


def surroundings() -> list[str]:
    """What must be the same in two processes for the one to stand in for the other.

    Everything else is told along with the call.
    """
    import resource

    kinds = [kind for name, kind in vars(resource).items() if name.startswith("RLIMIT_")]
    limits = [resource.getrlimit(kind) for kind in kinds]
    read = sorted(item for item in os.environ.items() if item[0].startswith(_DECIDE))
    root = os.stat("/")  # noqa: PTH116  (pathlib would be waited for)
    packages = [p for p in sys.path if p.endswith(("site-packages", "dist-packages"))]
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    same = (
        *(sys.version, sys.prefix, __file__, getattr(sys, "_xoptions", {}), sys.warnoptions),
        *(sys.flags.optimize, sys.flags.dev_mode, sys.flags.isolated, *_encodings()),
        *(read, limits, cores, os.getegid(), sorted(os.getgroups()), os.nice(0)),
        *(_rights(), root.st_dev, root.st_ino, *map(namespace, ("mnt", "net", "pid", "user"))),
        [(p, os.stat(p).st_mtime_ns) for p in packages if os.path.isdir(p)],  # noqa: PTH112, PTH116
    )
    return [repr(one) for one in same]


def _encodings() -> tuple[str, ...]:
    """What texts are read and written in, however that came to be: UTF-8 has three ways."""
    streams = [stream for stream in (sys.stdin, sys.stdout) if stream is not None]
    spoken = [word for stream in streams for word in (stream.encoding, stream.errors or "")]
    return (sys.getfilesystemencoding(), *spoken)


def _rights() -> list[str]:
    """What Linux lets this process do beyond its user's and groups' rights, or not do."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            return [line for line in file if line.startswith(("Cap", "NoNewPrivs", "Seccomp:"))]
    except OSError:
        return []


def front_path() -> str | None:
    """The front's socket, or None where there can be none."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    path = f"{runtime}/sdfast/front.sock"
    if sys.platform == "linux" and len(os.fsencode(path)) < 96 and _is_private(runtime):
        return path
    from sdfast.errors import UsageError
    from sdfast.warm.place import find_place

    try:
        return str(find_place().front)
    except UsageError:
        return None


def _is_private(folder: str) -> bool:
    """Whether it is a folder that only its user, who is this one, can enter: as XDG wants it."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return (found.st_mode, found.st_uid) == (0o40700, os.geteuid())


def hand_over(words: list[str]) -> int | None:
    """Let the front run the command in these words; its exit code, or None if it has not begun."""
    if not _can_be_given(words):
        return None
    path = front_path()
    if path is None or not os.path.exists(path):  # noqa: PTH110
        return None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            try:
                connection.settimeout(_PATIENCE)
                connection.connect(path)
                runner = _taken(connection, words)
                if runner is None:
                    return None
                connection.sendall(GO)
            except OSError:
                return None
            connection.settimeout(None)
            _pass_on(connection, runner)
            return _waited(connection)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED


def _can_be_given(words: list[str]) -> bool:
    """Whether the call's streams and paths mean the same to another process.

    A terminal's input is read by who stands before it, and the front stands before none.
    """
    if None in (sys.__stdin__, sys.__stdout__, sys.__stderr__):  # closed
        return False
    if any(map(_names_ones_own, words[1:])):
        return False
    if "-" in words and os.isatty(0):
        return False
    return not any(_stops_writers(stream) for stream in (1, 2) if os.isatty(stream))


def _names_ones_own(word: str) -> bool:
    """Whether a path in a word, be it after its flag, begins with one of those."""
    found = [at for mark in ONES_OWN if (at := word.find(mark)) >= 0]
    return any(at == 0 or word[at - 1] in "=@" or (at == 2 and word[0] == "-") for at in found)


def _stops_writers(terminal: int) -> bool:
    """Whether a terminal stops who writes there from the background (`stty tostop`)."""
    import termios

    return bool(termios.tcgetattr(terminal)[3] & termios.TOSTOP)


def _taken(connection: socket.socket, words: list[str]) -> int | None:
    """The process that will run the call once it is told to go; None if there is none."""
    if not is_ours(connection) or connection.recv(1) != READY:
        return None
    call = packed(surroundings(), words)
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        socket.send_fds(connection, [len(call).to_bytes(8, "big")], [0, 1, 2, folder])
        connection.sendall(call)
    finally:
        os.close(folder)
    said = b""
    while len(said) < 5:
        if not (more := connection.recv(5 - len(said))):
            return None
        said += more
    return int.from_bytes(said[1:], "big") if said[:1] == TAKEN else None


def _pass_on(connection: socket.socket, runner: int) -> None:
    """Have the call interrupted, stopped and woken as this process is."""

    def interrupt(*_: object) -> None:
        with contextlib.suppress(OSError):  # it may have ended just now
            connection.send(INTERRUPT)

    def stop(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(runner, signal.SIGSTOP)
            _handle(signal.SIGTERM, end)
            _handle(signal.SIGHUP, end)
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)  # from here on somebody has woken this process
            signal.signal(signal.SIGTSTP, stop)
            os.kill(runner, signal.SIGCONT)

    def end(number: int, *_: object) -> None:
        """Wake it first: it sees that this process is gone, and ends, too."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(runner, signal.SIGCONT)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    _handle(signal.SIGINT, interrupt)
    _handle(signal.SIGTSTP, stop)


def _handle(number: int, handler: "Callable[..., None]") -> None:
    """Have a signal handled, unless whoever started this process wants it ignored."""
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, handler)


def _waited(connection: socket.socket) -> int:
    """How the call ended."""
    try:
        code = connection.recv(1)
    except OSError:
        code = b""
    if not code:
        print("error: the process that ran this call was killed", file=sys.stderr)
    return code[0] if code else _KILLED


def packed(same: list[str], words: list[str]) -> bytes:
    """A call of this process, as bytes."""
    umask = os.umask(0o077)
    os.umask(umask)
    variables = [part for item in os.environ.items() for part in item]
    head = f"{len(same)} {len(words)} {umask}"
    return b"".join(os.fsencode(part) + b"\0" for part in (head, *same, *words, *variables))
