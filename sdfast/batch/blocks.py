"""The bytes of a batch file, or of a pipe while somebody writes into it."""

import os
import select
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG

from sdfast.errors import UsageError
from sdfast.wording import quoted

_BLOCK = 2**16
_MOMENT = 0.02
"""Seconds."""


@contextmanager
def opened(name: str, stop: threading.Event) -> Generator[Iterator[bytes]]:
    """The blocks of a file or, for `-`, of stdin; an empty one where no more has come.

    Raises UsageError for what cannot be read.
    """
    try:
        file = os.dup(0) if name == "-" else os.open(Path(name).expanduser(), os.O_RDONLY)
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {quoted(name)}") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"{quoted(name)} cannot be read: {_why(error)}") from error
    try:
        if name != "-" and S_ISREG(os.fstat(file).st_mode):
            yield _blocks(file, name)
        else:
            yield _arriving(file, name, stop)
    finally:
        os.close(file)


def _blocks(file: int, name: str) -> Iterator[bytes]:
    try:
        while block := os.read(file, _BLOCK):
            yield block
    except OSError as error:
        raise UsageError(f"{quoted(name)} cannot be read: {_why(error)}") from error


def _arriving(file: int, name: str, stop: threading.Event) -> Iterator[bytes]:
    try:
        while not stop.is_set():
            ready, _, _ = select.select([file], [], [], _MOMENT)
            if not ready:
                yield b""
            elif block := os.read(file, _BLOCK):
                yield block
            else:
                return
    except (OSError, ValueError) as error:
        raise UsageError(f"{quoted(name)} cannot be read: {_why(error)}") from error


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def can_be_read_twice(name: str) -> bool:
    """Whether it is a file, and no pipe."""
    try:
        return name != "-" and Path(name).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):
        return False
