"""Where the worker is found: a folder that only its user can enter.

The lock tells the truth about who lives: the worker holds it from its first moment to its last, and
the system lets go of it however the worker ends. A socket without a held lock is a leftover.
"""

import contextlib
import hashlib
import os
import socket
import stat
import time
import warnings
from pathlib import Path
from typing import NamedTuple

from sdfast.errors import UsageError
from sdfast.warm.neighbours import namespace
from sdfast.writing import unwritable

_LONGEST = 103
"""Bytes of a socket's path; the system has room for 108, macOS for 104, with a NUL at the end."""


class Place(NamedTuple):
    """The worker's files."""

    folder: Path

    @property
    def socket(self) -> Path:
        return self.folder / "warm.sock"

    @property
    def front(self) -> Path:
        return self.folder / "front.sock"

    @property
    def lock(self) -> Path:
        return self.folder / "warm.lock"

    @property
    def log(self) -> Path:
        return self.folder / "warm.log"


def find_place() -> Place:
    """Where this user's worker is, or would be.

    Raises UsageError where there are no Unix sockets, and for a folder that somebody else could
    reach into.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise UsageError("a worker needs Unix sockets, which Python does not have on this system")
    place = Place(_runtime_folder())
    if len(os.fsencode(place.front)) + len("-4194304") > _LONGEST:
        name = hashlib.sha256(os.fsencode(place.folder)).hexdigest()[:12]
        place = Place(Path(f"/tmp/sdfast-{os.geteuid()}-{name}"))
    _make_private(place.folder)
    return place


def _runtime_folder() -> Path:
    from platformdirs import user_runtime_path

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a login without XDG_RUNTIME_DIR, which is no fault
        try:
            return user_runtime_path("sdfast").absolute()
        except OSError as error:
            raise _unsafe("the runtime folder", str(error)) from error


def _make_private(folder: Path) -> None:
    """Make the folder, and its missing parents, so that only this user can enter."""
    try:
        for path in (*reversed(folder.parents), folder):
            with contextlib.suppress(FileExistsError):
                if not path.exists():
                    path.mkdir(mode=0o700)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise _unsafe(f"`{folder}`", "it is not a folder")
        if found.st_uid != os.geteuid():
            raise _unsafe(f"`{folder}`", "it belongs to somebody else")
        if found.st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise _unsafe(f"`{folder}`", str(error.strerror or error).lower()) from error


def _unsafe(what: str, why: str) -> UsageError:
    return UsageError(
        f"{what} cannot hold a worker's socket: {why}",
        "XDG_RUNTIME_DIR names another place, a folder of yours with mode 0700",
    )


def take_lock(place: Place, patience: float = 1.0) -> int | None:
    """The lock, held until this process ends, with its number written there; None if it is taken.

    Patient for a moment, as somebody may only be looking. Raises UsageError where it cannot be.
    """
    try:
        return _locked(place.lock, patience)
    except OSError as error:
        raise unwritable(place.lock, error) from error


def _locked(path: Path, patience: float) -> int | None:
    import fcntl

    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                os.close(file)
                return None
            time.sleep(0.02)
        else:
            os.ftruncate(file, 0)
            os.write(file, f"{os.getpid()} {namespace('pid')}\n".encode())
            return file


def holder(place: Place) -> int | None:
    """The process that holds the lock: a worker, be it ready or still loading. 0 if unnamed yet.

    Raises UsageError for one of another container, whose number is another process's here.
    """
    import fcntl

    try:
        file = os.open(place.lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        number, _, numbered_in = os.read(file, 64).decode(errors="replace").strip().partition(" ")
        if not number.isdigit():
            return 0
        if numbered_in not in ("", namespace("pid")):
            raise UsageError("the worker runs in another container", "stop it there") from None
        return int(number)
    else:
        return None
    finally:
        os.close(file)
