"""The bytes of a batch file, or of a pipe while somebody writes into it."""

import os
import select
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISDIR, S_ISREG

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
        kind = os.fstat(file).st_mode
        if S_ISDIR(kind):
            raise UsageError(f"{quoted(name)} is a folder", "a file of prompts, or -")
        read = _blocks(file, name) if name != "-" and S_ISREG(kind) else _arriving(file, name, stop)
        yield _text(read, name)
    finally:
        os.close(file)


def _text(blocks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """The blocks, unless the first one is none of a text in UTF-8."""
    begins = True
    for block in blocks:
        if begins and b"\0" in block:
            raise UsageError(f"{quoted(name)} is no text in UTF-8")
        begins = begins and not block
        yield block


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
