"""A timing as JSON in hyperfine's shape, CSV or Markdown, with all it takes to repeat it."""

import json
import statistics
from collections.abc import Callable

from sdfast.bench.files import csv_of, markdown
from sdfast.bench.timing.entries import shown
from sdfast.bench.timing.report import Result, Sheet, duels, lines, tables
from sdfast.bench.timing.spread import Spread, spread
from sdfast.job import Record


def as_json(sheet: Sheet) -> str:
    """One object; what reads hyperfine's exports reads `results`, in seconds unless named ms."""
    whole = {
        "results": [_record(result) for result in sheet.results],
        "ratios": [
            {
                "ours": duel.ours.entry.label,
                "theirs": duel.theirs.entry.label,
                "of": "process" if sheet.cold else "picture",
                "times_as_fast": _spread(duel.whole),
                "step_times_as_fast": None if duel.step is None else _spread(duel.step),
            }
            for duel in duels(sheet)
        ],
        "compared": [
            {
                "ours": one.ours.label,
                "theirs": one.theirs.label,
                "latents_cosine": one.cosine if one.cosine == one.cosine else None,
                "pixels_apart": one.pixels,
            }
            for one in sheet.compared
        ],
        "notes": [*lines(sheet)],
        "environment": sheet.about,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _spread(one: Spread) -> Record:
    return {**one._asdict(), "iqr": one.iqr}


def _record(result: Result) -> Record:
    walls = result.walls
    phases = result.phases
    own: Record = {
        "command": result.entry.label,
        "mean": statistics.fmean(walls),
        "stddev": statistics.stdev(walls) if len(walls) > 1 else None,
        "median": statistics.median(walls),
        "user": statistics.fmean(lap.user for lap in result.laps),
        "system": statistics.fmean(lap.system for lap in result.laps),
        "min": min(walls),
        "max": max(walls),
        "times": walls,
        "exit_codes": [0 for _ in walls],
        "parameters": _parameters(result),
        "iqr": spread(walls).iqr,
        "memory_bytes": result.peak,
        "load": result.start and result.start.load,
        "first": result.start and result.start.first,
    }
    if phases:
        own["step_ms"] = {key: 1000 * value for key, value in _spread(spread(result.steps)).items()}
        own["steps_ms"] = [[1000 * step for step in one.steps] for one in phases]
        own["phases"] = {
            "encode": [one.encode for one in phases],
            "walk": [sum(one.steps) for one in phases],
            "network": [sum(one.network) for one in phases]
            if all(p.network for p in phases)
            else None,
            "decode": [one.decode for one in phases],
            "write": [one.write for one in phases],
        }
        own["overhead"] = result.overhead
    return own


def _parameters(result: Result) -> dict[str, str]:
    """The job, every value as text, as hyperfine has it; a file by its name, not its folder."""
    job = {key: shown(key, value) for key, value in result.entry.job.record.items()}
    known = {
        "by": result.entry.family,
        **job,
        "batch-size": result.entry.batch,
        "dtype": result.dtype,
        "device": result.device,
    }
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in known.items()
    }


def as_csv(sheet: Sheet) -> str:
    """A line for every row, in hyperfine's columns and some more; the machine stands on each."""
    where = {"os" if key == "system" else key: said for key, said in sheet.about.items()}
    return csv_of([_flat(result) | where for result in sheet.results])


_COLUMNS = ("command", "mean", "stddev", "median", "user", "system", "min", "max", "iqr")


def _flat(result: Result) -> Record:
    whole = _record(result)
    parts: Record = whole.get("phases", {})
    return {
        **{key: whole[key] for key in _COLUMNS},
        **{f"step_{key}_ms": whole.get("step_ms", {}).get(key) for key in ("median", "iqr")},
        **{
            key: statistics.median(parts[key]) if parts.get(key) else None
            for key in ("encode", "walk", "network", "decode", "write")
        },
        **{key: whole[key] for key in ("load", "first", "memory_bytes")},
        "dtype": result.dtype,
        "device": result.device,
    }


def as_markdown(sheet: Sheet) -> str:
    """The tables, under the command and the machine."""
    where = "".join(f"- {key} {said}\n" for key, said in sheet.about.items() if key != "invocation")
    said = "".join(f"- {line}\n" for line in lines(sheet))
    parts = [
        f"# Timing\n\n    {sheet.about['invocation']}\n\n{where}",
        *map(markdown, tables(sheet)),
    ]
    return "\n".join([*parts, said] if said else parts)


TEXTS: dict[str, Callable[[Sheet], str]] = {
    "json": as_json,
    "markdown": as_markdown,
    "csv": as_csv,
}
