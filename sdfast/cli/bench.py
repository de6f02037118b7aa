"""`sdfast bench`: how long pictures take, or how near samplers come, side by side."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path

from sdfast.cli.questions import OfErrors, OfTimings, with_question


@with_question
def bench(question: OfTimings | OfErrors) -> None:
    from sdfast.cli.tables import places

    if isinstance(question, OfErrors):
        from sdfast.cli.accuracy import accuracy

        accuracy(question, places(question.exports))
    else:
        from sdfast.cli.timing import timing

        timing(question, places(question.exports), command_line(sys.argv[1:]))


_FILES = ("--export-json", "--export-markdown", "--export-csv", "--plot")


def command_line(words: list[str]) -> str:
    """What was typed, without where the exports go, and of paths the last part only."""
    import shlex

    kept = ["sdfast"]
    for before, word in zip(["", *words], words, strict=False):
        if before in _FILES or word.split("=")[0] in _FILES:
            continue
        name = _file_name(word)
        if name == word:  # or paths among other words
            name = re.sub(r"[^,=]*/[^,=]*", lambda found: _file_name(found[0]), word)
        kept.append(name)
    return shlex.join(kept)


def _file_name(path: str) -> str:
    """The last part of a path that is there; a scale or a token may stand behind it."""
    with suppress(OSError):  # too long to be asked for
        if "/" in path and (Path(path).exists() or Path(path.rpartition(":")[0]).is_file()):
            return Path(path).name
    return path
