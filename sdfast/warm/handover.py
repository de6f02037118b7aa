"""Handing a whole call to the worker's front, which has imported all that the call would have to.

A call is its words, its environment, its folder, its umask and its three streams. The front runs it
in a process of its own (`sdfast.cli.front`) and says how it ended; until then ctrl-C is passed on,
and to leave is to end it. What cannot be handed over in a way that nobody notices is not: then the
call runs by itself. Wakes little: this is all that a call of a shell's loop imports.

    call     length of what follows, 8 bytes, beside stdin, stdout, stderr and the folder
             surroundings, umask, words and environment, NUL after each, a line of counts before
    answer   `y`, or hung up
    ctrl-C   `c` from the caller
    end      the exit code, one byte
"""

import os
import signal
import socket
import sys

TAKEN, INTERRUPT = b"y", b"c"
_PATIENCE = 3.0
_KILLED = 137
"""What shells say of a program that SIGKILL ended."""
_READ_AT_START = ("PYTHON", "LC_", "LANG")
"""Variables that an interpreter reads when it starts, by how they begin."""


def surroundings() -> list[str]:
    """What must be the same in two processes for the one to stand in for the other.

    Everything else is told along with the call.
    """
    import resource

    kinds = [kind for name, kind in vars(resource).items() if name.startswith("RLIMIT_")]
    limits = [resource.getrlimit(kind) for kind in kinds]
    read = sorted(item for item in os.environ.items() if item[0].startswith(_READ_AT_START))
    root = os.stat("/")  # noqa: PTH116  (pathlib would be waited for)
    same = (
        *(sys.version, sys.prefix, __file__, getattr(sys, "_xoptions", {}), sys.warnoptions),
        *(sys.flags.optimize, sys.flags.dev_mode, sys.flags.utf8_mode, sys.flags.isolated),
        *(read, limits, os.getegid(), sorted(os.getgroups()), os.nice(0)),
        *(root.st_dev, root.st_ino, _namespace()),
    )
    return [repr(one) for one in same]


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/mnt")  # noqa: PTH115
    except OSError:
        return ""


def front_path() -> str | None:
    """The front's socket, or None where there can be none."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    path = f"{runtime}/sdfast/front.sock"
    if sys.platform == "linux" and len(os.fsencode(path)) < 100 and os.access(runtime, os.W_OK):
        return path
    from sdfast.errors import UsageError
    from sdfast.warm.place import find_place

    try:
        return str(find_place().front)
    except UsageError:
        return None


def hand_over(words: list[str]) -> int | None:
    """Let the front run the command in these words; its exit code, or None if it has not begun."""
    path = front_path()
    if None in (sys.stdin, sys.stdout, sys.stderr):  # one that is closed cannot be handed over
        return None
    if path is None or not os.path.exists(path):  # noqa: PTH110
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            if not _taken(connection, path, words):
                return None
        except OSError:
            return None
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        return _waited(connection)


def _taken(connection: socket.socket, path: str, words: list[str]) -> bool:
    connection.settimeout(_PATIENCE)
    connection.connect(path)
    if not _is_ours(connection):
        return False
    call = packed(surroundings(), words)
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        socket.send_fds(connection, [len(call).to_bytes(8, "big")], [0, 1, 2, folder])
        connection.sendall(call)
        return connection.recv(1) == TAKEN
    finally:
        os.close(folder)


def _waited(connection: socket.socket) -> int:
    """How the call ended."""
    connection.settimeout(None)

    def pass_on(*_: object) -> None:
        connection.send(INTERRUPT)

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, pass_on)
    try:
        code = connection.recv(1)
    except OSError:
        code = b""
    return code[0] if code else _KILLED


def packed(same: list[str], words: list[str]) -> bytes:
    """A call of this process, as bytes."""
    umask = os.umask(0o077)
    os.umask(umask)
    variables = [part for item in os.environ.items() for part in item]
    head = f"{len(same)} {len(words)} {umask}"
    return b"".join(os.fsencode(part) + b"\0" for part in (head, *same, *words, *variables))


def _is_ours(connection: socket.socket) -> bool:
    """As `place.is_ours`, which would bring more along."""
    asked = getattr(socket, "SO_PEERCRED", None)
    if asked is None:
        return True
    told = connection.getsockopt(socket.SOL_SOCKET, asked, 12)
    return int.from_bytes(told[4:8], sys.byteorder) == os.geteuid()
