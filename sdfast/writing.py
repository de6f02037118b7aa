"""Files that are there whole or not at all."""

import errno
import os
import secrets
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from sdfast.errors import FullError, UsageError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says of a full disk, of a full share of it, and of a file past its limit."""
_OPENED = ("/dev/fd/", "/proc/")
"""Names of what a process has opened already."""


def unwritable(path: Path, error: Exception) -> UsageError:
    """The error for a place where the system lets nothing be written."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    full = isinstance(error, OSError) and error.errno in FULL
    kind = FullError if full else UsageError
    return kind(f"cannot write `{path}`: {reason[:1].lower()}{reason[1:]}")


@contextmanager
def drafted(data: bytes, draft: Path) -> Generator[None]:
    """In here the data is on disk under a name of its own, from which it can be moved or linked.

    Afterwards that name is gone, whatever happened. Raises OSError.
    """
    try:
        with draft.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield
    finally:
        draft.unlink(missing_ok=True)


def draft_beside(path: Path) -> Path:
    """A name in the same folder that nobody else has."""
    return path.with_name(f".sdfast-{secrets.token_hex(8)}.tmp")


def check_folder(folder: Path) -> None:
    """Raise UsageError if no file can be made there, nor the folder itself where it is missing."""
    there = next(p for p in (folder, *folder.parents) if p.exists())
    if not there.is_dir():
        raise unwritable(folder, NotADirectoryError(20, f"`{there}` is not a folder"))
    if not os.access(there, os.W_OK | os.X_OK):
        raise unwritable(folder, PermissionError(13, "permission denied"))


def is_void(path: Path) -> bool:
    """Whether it is an empty file, which a kill leaves where `took` holds names before it fills
    them."""
    with suppress(OSError, ValueError):
        found = path.lstat()
        return stat.S_ISREG(found.st_mode) and not found.st_size
    return False


def took(draft: Path, name: Path) -> bool:
    """Whether the draft could have the name, in one step that nobody can come between."""
    try:
        name.hardlink_to(draft)
    except FileExistsError:
        return False
    except OSError:  # FAT and some network drives have no links: hold the name, then fill it
        try:
            name.touch(exist_ok=False)
        except FileExistsError:
            return False
        try:
            draft.replace(name)
        except BaseException:
            name.unlink(missing_ok=True)
            raise
    return True


def write_whole(path: Path, data: bytes) -> None:
    """A whole file in place of what was there, or none; a link stays and leads to it.

    What is no regular file, such as a pipe, is written into, and so is what stdout or stderr lead
    to. Raises UsageError if it cannot be.
    """
    try:
        if (stream := _own_stream(path)) is not None:
            stream.flush()
            stream.buffer.write(data)
            stream.flush()
        elif path.exists() and (not path.is_file() or str(path).startswith(_OPENED)):
            with path.open("ab") as file:
                file.write(data)
        else:
            place = Path(os.path.realpath(path))
            if place.is_symlink():
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            draft = draft_beside(place)
            with drafted(data, draft):
                draft.replace(place)
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error


def _own_stream(path: Path) -> TextIO | None:
    """The stream of this process that is open for just that file."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            if os.path.samestat(path.stat(), os.fstat(stream.fileno())):
                return stream
    return None
