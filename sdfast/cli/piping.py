"""Pictures to begin from that come through pipes."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from sdfast.errors import UsageError

_MOST = 2**28
"""Bytes of a picture."""


def on_disk(
    given: Mapping[str, Any], context: typer.Context, *, taken: bool, dry: bool
) -> dict[str, Any]:
    """The flags, pictures that come through pipes put into files which go when the command ends.

    `-` is stdin, and `taken` whether something else is read from it. A picture is looked at more
    than once, also by a worker, and a pipe can be read once. Raises UsageError.
    """
    from sdfast.job import BEGINNINGS

    named = {key: str(given[key]) for key in BEGINNINGS if given.get(key) is not None}
    piped = {key: place for key, place in named.items() if _is_pipe(place)}
    if not piped:
        return dict(given)
    from tempfile import TemporaryDirectory

    from sdfast.canvas import PIPED

    if dry:
        raise UsageError("a dry run tells of files, and reads no pipe", "a file for the picture")
    if taken + [*piped.values()].count("-") > 1:
        raise UsageError("stdin holds prompts, a recipe or a picture, one of them", "name a file")
    folder = Path(context.with_resource(TemporaryDirectory(prefix="sdfast-")))
    found = dict(given)
    for key, place in piped.items():
        data = _read(place)
        if not 0 < len(data) <= _MOST:
            much = f"more than {_MOST // 2**20} MiB" if data else "nothing"
            raise UsageError(f"{much} came through the pipe of --{key}")
        file = folder / f"{PIPED}{key}"
        file.write_bytes(data)
        found[key] = str(file)
    return found


def _is_pipe(place: str) -> bool:
    try:
        return place == "-" or Path(place).is_fifo()
    except (OSError, ValueError):
        return False


def _read(place: str) -> bytes:
    if place == "-":
        return sys.stdin.buffer.read(_MOST + 1)
    try:
        with Path(place).open("rb") as pipe:
            return pipe.read(_MOST + 1)
    except OSError as error:
        raise UsageError(f"`{place}` cannot be read: {str(error.strerror).lower()}") from error
