"""Files that are there whole or not at all."""

import errno
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from sdfast.errors import FullError, UsageError

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says of a full disk, and of a full share of it."""


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


def write_whole(path: Path, data: bytes) -> None:
    """A whole file in place of what was there, or none; a link stays and leads to it.

    What is no regular file, such as a pipe or /dev/stdout, is written into. Raises UsageError if
    it cannot be.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        place = Path(os.path.realpath(path))
        draft = draft_beside(place)
        with drafted(data, draft):
            draft.replace(place)
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error
