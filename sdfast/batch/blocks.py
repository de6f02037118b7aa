"""The bytes of a batch file, or of a pipe while somebody writes into it."""

import os
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from io import FileIO
from pathlib import Path
from queue import Empty, Queue
from stat import S_ISDIR, S_ISREG

from sdfast.errors import UsageError
from sdfast.wording import quoted

_BLOCK = 2**16
_MOMENT = 0.02
"""Seconds."""
AS_IT_IS = getattr(os, "O_BINARY", 0)
"""How Windows is told to hand over a file's bytes as they are."""


@contextmanager
def opened(name: str, stop: threading.Event) -> Generator[Iterator[bytes]]:
    """The blocks of a file or, for `-`, of stdin; an empty one where no more has come.

    Raises UsageError for what cannot be read.
    """
    try:
        read_only = os.O_RDONLY | AS_IT_IS
        file = os.dup(0) if name == "-" else os.open(Path(name).expanduser(), read_only)
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {quoted(name)}") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"{quoted(name)} cannot be read: {_why(error)}") from error
    try:
        kind = os.fstat(file).st_mode
        if S_ISDIR(kind):
            raise UsageError(f"{quoted(name)} is a folder", "a file of prompts, or -")
        read = _blocks(file, name) if name != "-" and S_ISREG(kind) else _arriving(file, name, stop)
        with closing(read):
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


def _blocks(file: int, name: str) -> Generator[bytes]:
    try:
        while block := os.read(file, _BLOCK):
            yield block
    except OSError as error:
        raise UsageError(f"{quoted(name)} cannot be read: {_why(error)}") from error


def _arriving(file: int, name: str, stop: threading.Event) -> Generator[bytes]:
    """A thread waits for them: Windows cannot ask of a pipe whether there is something to read."""
    arrived: Queue[bytes | Exception] = Queue(1)
    over = threading.Event()
    own = os.fdopen(os.dup(file), "rb", buffering=0)  # it may outlive the caller's
    try:
        threading.Thread(target=_wait_for, args=(own, arrived, over), daemon=True).start()
        while not stop.is_set():
            try:
                block = arrived.get(timeout=_MOMENT)
            except Empty:
                yield b""
                continue
            if isinstance(block, Exception):
                raise UsageError(f"{quoted(name)} cannot be read: {_why(block)}") from block
            if not block:
                return
            yield block
    finally:
        over.set()
        with suppress(Empty):  # lets go of a thread that has one more
            arrived.get_nowait()


def _wait_for(file: FileIO, arrived: Queue[bytes | Exception], over: threading.Event) -> None:
    """Put the blocks as they come, and an empty one or an error at the end."""
    with file:
        block: bytes | Exception | None = b"more"
        while isinstance(block, bytes) and block and not over.is_set():
            try:
                while (block := file.read(_BLOCK)) is None:  # a pipe that does not wait by itself
                    if over.wait(_MOMENT):
                        return
            except Exception as error:
                block = error
            arrived.put(block)


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def can_be_read_twice(name: str) -> bool:
    """Whether it is a file, and no pipe."""
    try:
        return name != "-" and Path(name).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):
        return False
