"""The standard streams of a call: paths as the bytes they are, and notes that can go unheard."""

import codecs
import io
import sys
from typing import Any, TextIO


def set_up_streams() -> None:
    """Make stdout and stderr what every command expects of them."""
    codecs.register_error("sdfast", _spelled)
    stdout: Any = sys.stdout
    if isinstance(stdout, io.TextIOWrapper):
        stdout.reconfigure(errors="sdfast")
    if sys.stderr is not None:
        sys.stderr = _Notes(sys.stderr)


def _spelled(error: UnicodeError) -> tuple[bytes | str, int]:
    """A path as the bytes it is, and letters that cannot be written as their numbers."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)


class _Notes(io.TextIOWrapper):
    """Stderr, line by line. That it is full, or that nobody reads it any more, stops nothing."""

    def __init__(self, stream: TextIO) -> None:
        raw = _Unheard(stream.fileno(), "wb", closefd=False)
        buffered = io.BufferedWriter(raw)
        super().__init__(buffered, stream.encoding, "replace", line_buffering=True)


class _Unheard(io.FileIO):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(memoryview(data))
