"""A run of the comparison as JSON, CSV or Markdown, with all it takes to repeat it."""

import csv
import io
import json
import math
import os
import platform
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sdfast import __version__
from sdfast.bench.accuracy import Measured
from sdfast.bench.best import best_of
from sdfast.bench.report import Table, failures, numbers, tables
from sdfast.errors import UsageError
from sdfast.naming import unwritable

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """Everything measured, and on what."""

    problems: dict[str, dict[str, object]]
    """What each problem is, by its name: seeds, prompts, guidance."""
    found: Sequence[Measured]


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
    }


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            named = (line.partition(":")[2].strip() for line in file if "model name" in line)
            return next(named, platform.machine())
    except OSError:
        return platform.processor() or platform.machine()


def as_json(run: Run) -> str:
    """One object: circumstances, problems, every measurement, and the best of both sides."""
    whole = {
        "circumstances": circumstances(),
        "problems": run.problems,
        "measured": [_record(one) for one in run.found],
        "best": [
            {
                "problem": one.problem,
                "budget": one.budget,
                "measure": one.measure,
                "sdfast": one.ours.row,
                "peer": one.peer.row,
                **dict(zip(("sdfast_error", "peer_error"), one.values, strict=True)),
                "ratio": one.ratio if math.isfinite(one.ratio) else None,
            }
            for one in best_of(run.found)
        ],
    }
    return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _record(one: Measured) -> Record:
    return {
        "problem": one.problem,
        "family": one.family,
        "row": one.row,
        "end": one.end,
        "budget": one.budget,
        "calls": one.calls,
        **numbers(one.test),
        **{f"training_{key}": number for key, number in numbers(one.training).items()},
        "failure": one.failure or None,
    }


def as_csv(run: Run) -> str:
    """A line for every measurement; problem, seeds, versions and machine stand on each."""
    file = io.StringIO()
    where = circumstances()
    about = {name: json.dumps(said, ensure_ascii=False) for name, said in run.problems.items()}
    records = [{**_record(one), "about": about[one.problem], **where} for one in run.found]
    writer = csv.DictWriter(file, list(records[0]) if records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return file.getvalue()


def as_markdown(run: Run) -> str:
    """The tables of all rows, under what they were measured with."""
    where = "".join(f"- {key} {said}\n" for key, said in circumstances().items())
    posed = "".join(
        f"- {name}: `{json.dumps(said, ensure_ascii=False)}`\n"
        for name, said in run.problems.items()
    )
    parts = [f"# Accuracy\n\n{where}{posed}", *map(_markdown, tables(run.found, run.found))]
    if failed := failures(run.found):
        parts.append("## Failures\n\n" + "".join(f"- {_cell(line)}\n" for line in failed))
    return "\n".join(parts)


def _markdown(table: Table) -> str:
    rules = ("---" if i in table.left else "---:" for i in range(len(table.heads)))
    return f"## {_cell(table.title)}\n\n" + "".join(
        f"| {' | '.join(map(_cell, line))} |\n" for line in _lines(table, tuple(rules))
    )


def _lines(table: Table, rules: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield table.heads
    yield rules
    yield from table.lines


def _cell(words: str) -> str:
    return words.replace("|", "\\|")


TEXTS: dict[str, Callable[[Run], str]] = {
    "json": as_json,
    "markdown": as_markdown,
    "csv": as_csv,
}


def check_place(place: str) -> Path:
    """The path of a file to be written later. Raises UsageError if it could not be."""
    path = Path(place)
    if not path.name or path.is_dir():
        raise UsageError(f"`{place}` is a folder, not a file's name")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder `{path.parent}` to write `{path.name}` into")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise unwritable(path, PermissionError(13, "permission denied"))
    return path


def write_whole(path: Path, data: bytes) -> None:
    """A whole file in place of what was there, or none. Raises UsageError if it cannot be."""
    draft = path.with_name(f".sdfast-{secrets.token_hex(8)}.tmp")
    try:
        try:
            with draft.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error
