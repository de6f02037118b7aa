"""Prompts from words of the command line, from stdin and from files."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from sdfast.errors import UsageError

_MOST_TEXT = 5_000_000
"""Characters of prompts that are read at once."""


def read_prompts(words: Iterable[str]) -> Iterator[str]:
    """The prompts themselves: `-` is one a line from stdin, `@file` the whole of a file."""
    for word in words:
        if word == "-":
            yield from _lines(sys.stdin)
        elif word.startswith("@"):
            yield _whole_file(Path(word[1:]))
        else:
            yield word


def _lines(stream: TextIO) -> Iterator[str]:
    """The prompts of a stream; empty lines and those that begin with a `#` are none."""
    try:
        yield from _telling(_text(stream, "stdin", "`sdfast batch` takes any number of prompts"))
    except UnicodeDecodeError as error:
        raise UsageError("what came on stdin is not UTF-8 text") from error


def _telling(text: str) -> Iterator[str]:
    lines = map(str.strip, text.split("\n"))
    return (line for line in lines if line[:1] not in ("", "#"))


def _whole_file(path: Path) -> str:
    try:
        with path.expanduser().open(encoding="utf-8") as file:
            return _text(file, f"`{path}`").strip()
    except (FileNotFoundError, RuntimeError) as error:
        raise UsageError(f"there is no file `{path}` to read a prompt from") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"`{path}` is not UTF-8 text") from error
    except OSError as error:
        raise UsageError(f"`{path}` cannot be read: {error.strerror}") from error


def _text(stream: TextIO, name: str, hint: str = "") -> str:
    """All that a stream holds, without the mark that some editors begin a text with."""
    text = stream.read(_MOST_TEXT + 1)
    if len(text) > _MOST_TEXT:
        raise UsageError(f"{name} holds more than {_MOST_TEXT} characters", hint)
    return text.removeprefix("\ufeff")


def read_lines(path: Path) -> list[str]:
    """A file's prompts, one a line. Raises UsageError if there are none."""
    lines = [*_telling(_whole_file(path))]
    if not lines:
        raise UsageError(f"`{path}` holds no prompt")
    return lines
