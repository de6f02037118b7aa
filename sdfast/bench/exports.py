"""A run of the comparison as JSON, CSV or Markdown, with all it takes to repeat it."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sdfast.bench.accuracy import Measured
from sdfast.bench.best import best_of
from sdfast.bench.files import cell, circumstances, csv_of, markdown
from sdfast.bench.report import failures, numbers, tables
from sdfast.job import Record


@dataclass(frozen=True, slots=True)
class Run:
    """Everything measured, and on what."""

    problems: dict[str, dict[str, object]]
    """What each problem is, by its name: seeds, prompts, guidance."""
    found: Sequence[Measured]


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
    where = circumstances()
    about = {name: json.dumps(said, ensure_ascii=False) for name, said in run.problems.items()}
    return csv_of([{**_record(one), "about": about[one.problem], **where} for one in run.found])


def as_markdown(run: Run) -> str:
    """The tables of all rows, under what they were measured with."""
    where = "".join(f"- {key} {said}\n" for key, said in circumstances().items())
    posed = "".join(
        f"- {name}: `{json.dumps(said, ensure_ascii=False)}`\n"
        for name, said in run.problems.items()
    )
    parts = [f"# Accuracy\n\n{where}{posed}", *map(markdown, tables(run.found, run.found))]
    if failed := failures(run.found):
        parts.append("## Failures\n\n" + "".join(f"- {cell(line)}\n" for line in failed))
    return "\n".join(parts)


TEXTS: dict[str, Callable[[Run], str]] = {
    "json": as_json,
    "markdown": as_markdown,
    "csv": as_csv,
}
