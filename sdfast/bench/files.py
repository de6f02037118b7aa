"""What every kind of bench writes down alike: tables, files, and the machine it was measured on."""

import csv
import io
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from sdfast import __version__
from sdfast.errors import UsageError
from sdfast.job import Record
from sdfast.writing import unwritable


class Table(NamedTuple):
    """Words in rows and columns; those of `left` are names, the rest numbers."""

    title: str
    heads: tuple[str, ...]
    lines: list[tuple[str, ...]]
    left: tuple[int, ...]


def circumstances() -> dict[str, str]:
    """The versions and the machine of this process."""
    import torch

    return {
        "sdfast": __version__,
        **{name: version(name) for name in ("torch", "diffusers")},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
        **_gpu(torch),
    }


def _gpu(torch: Any) -> dict[str, str]:
    """The first CUDA device and the library it is driven by; nothing where there is none."""
    if not torch.cuda.is_available():
        return {}
    return {"gpu": torch.cuda.get_device_name(0), "cuda": str(torch.version.cuda)}


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            named = (line.partition(":")[2].strip() for line in file if "model name" in line)
            return next(named, platform.machine())
    except OSError:
        return platform.processor() or platform.machine()


def markdown(table: Table) -> str:
    """The table under its title."""
    rules = ["---" if i in table.left else "---:" for i in range(len(table.heads))]
    lines = (table.heads, rules, *table.lines)
    return f"## {cell(table.title)}\n\n" + "".join(
        f"| {' | '.join(map(cell, line))} |\n" for line in lines
    )


def cell(words: str) -> str:
    """Words as they stand in a cell or a title."""
    return words.replace("|", "\\|")


def csv_of(records: Sequence[Record]) -> str:
    """A line for each of some records that have the same keys."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(records[0]) if records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return file.getvalue()


def check_place(place: str) -> Path:
    """The path of a file to be written later. Raises UsageError if it could not be."""
    path = Path(place)
    if not path.name or path.is_dir():
        raise UsageError(f"`{place}` is a folder, not a file's name")
    if path.exists() and not path.is_file():  # a pipe or a device
        return path
    real = Path(os.path.realpath(path))
    if real.is_symlink():
        raise UsageError(f"`{place}` leads to itself")
    if not real.parent.is_dir():
        raise UsageError(f"there is no folder `{real.parent}` to write `{real.name}` into")
    if not os.access(real.parent, os.W_OK | os.X_OK):
        raise unwritable(path, PermissionError(13, "permission denied"))
    return path
