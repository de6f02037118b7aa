"""The standard streams of a call: paths as the bytes they are, and notes that can go unheard."""

import codecs
import io
import json
import os
import sys
from typing import Any


def json_line(record: object) -> str:
    """A record as JSON; what would move a terminal's cursor or turn its text is spelled out."""
    text = json.dumps(record, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def set_up_streams() -> None:
    """Make stdout and stderr what every command expects of them."""
    codecs.register_error("sdfast", _spelled)
    if sys.platform == "win32" and not os.environ.get("PYTHONIOENCODING"):
        _pipe_in_utf8()
    stdout: Any = sys.stdout
    if isinstance(stdout, io.TextIOWrapper):
        stdout.reconfigure(errors="sdfast")
    stderr: Any = sys.stderr
    if isinstance(stderr, io.TextIOWrapper):
        sys.stderr = _Notes(stderr)


def _pipe_in_utf8() -> None:
    """Have pipes and files carry what they do on other systems, and not the old code page."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.isatty():
            stream.reconfigure(encoding="utf-8")


def _spelled(error: UnicodeError) -> tuple[bytes | str, int]:
    """A path as the bytes it is, and letters that cannot be written as their numbers."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)


class _Notes(io.TextIOWrapper):
    """Stderr, line by line. That it is full, or that nobody reads it any more, stops nothing."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream  # which would close what it writes to, were it let go
        raw = _Unheard(getattr(stream.buffer, "raw", stream.buffer))
        buffered = io.BufferedWriter(raw)
        super().__init__(buffered, stream.encoding, "replace", line_buffering=True)


class _Unheard(io.RawIOBase):
    """What writes for another and takes no notice of its failing."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw.isatty()

    def write(self, data: Any, /) -> int:
        try:
            return self._raw.write(data) or len(memoryview(data))  # None if it would have to wait
        except OSError:
            return len(memoryview(data))
