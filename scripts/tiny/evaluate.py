"""How often a picture shows what was asked for, per sampler and number of calls.

Prompts in wordings that no training used ask a model for a thing, a background and a count. Each
row of the table walks from the same noise under the same prompts; an outsider (`judge.py`) says
what it sees, and the distance to the converged picture says what the sampler left undone.

scripts/tiny/evaluate                     the model's targets
scripts/tiny/evaluate --rows headline     the article's: DPM-Solver++ beside what it replaces
scripts/tiny/evaluate --rows fast@10,fast@8,a1111,pndm@50
"""

import argparse
import json
import shlex
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from asking import Asked, ask
from backdrops import COLOURS, SCENES
from judge import NAMES, WEIGHTS, Judge, Said, load_judge
from sdfast import load_model, load_preset
from sdfast.errors import PresetError, SdfastError
from sdfast.job import DEFAULT, Record, Sampler, read_sampler, sampler_record
from sdfast.layering import layered
from sdfast.models.find import find
from studio import Studio, taught

SAMPLERS: dict[str, Record] = {
    "dpm++": sampler_record(DEFAULT),
    "dpm++karras": layered(sampler_record(DEFAULT), {"spacing": "karras"}),
    "pndm": {"sampler": "PNDM"},
    "ddim": {"sampler": "DDIM"},
    "rk45": {"sampler": "rk45", "final": "sigma_min"},
    "ddpm": {"sampler": "ddpm"},
    "converged": sampler_record(DEFAULT) | {"order": 3},
}
"""What a row may be besides a preset: each sampler as its authors walk it, and the walk whose end
the others are near or far from."""

CALLS = (10, 15, 20, 25, 50)
AT_ALL_CALLS = ("dpm++karras", "dpm++", "ddim", "rk45", "ddpm")
SETS: dict[str, tuple[str, ...]] = {
    "targets": ("default@20", "fast@10"),
    "headline": (
        "dpm++karras@25",
        "dpm++@25",
        "pndm@50",
        *(f"{name}@{n}" for name in AT_ALL_CALLS for n in CALLS),
    ),
}
"""Rows that belong together, by a name for --rows."""


def row_names(text: str) -> list[str]:
    """`targets,pndm@50` as single rows, each once. Raises PresetError for an unknown one."""
    rows = [row for part in text.split(",") for row in SETS.get(part, (part,))]
    for row in rows:
        name, _, steps = row.partition("@")
        if name not in SAMPLERS:
            load_preset(name)
        if steps and not steps.isdecimal():
            raise PresetError(f"a row is a sampler or preset and its steps, as `fast@10`: `{row}`")
    return list(dict.fromkeys(rows))


def sampler_of(row: str) -> Sampler:
    """The sampler of a row. Raises JobError if there is none such."""
    name, _, steps = row.partition("@")
    record = SAMPLERS.get(name) or sampler_record(load_preset(name).sampler)
    return read_sampler(layered(record, {"steps": int(steps)} if steps else {}))


class Row(NamedTuple):
    """A line of the table: what the judge found, and how far from converged it is."""

    name: str
    calls: int
    pictures: Tensor
    said: list[Said]
    seconds: float
    """Per picture."""


class Failed(NamedTuple):
    """A line that could not be had, and why."""

    name: str
    why: str


def paint_row(name: str, studio: Studio, judge: Judge) -> Row | Failed:
    """The row's pictures and what the judge says of them."""
    total, begun = len(studio.noise), time.perf_counter()
    painted: list[Tensor] = []
    try:
        sampler = sampler_of(name)
        for batch in studio.paint(sampler):
            painted.append(batch)
            print(f"\r{name}: {sum(map(len, painted))} of {total} ", end="", file=sys.stderr)
    except (SdfastError, ValueError, FloatingPointError) as error:
        print(f"\r{name}: {error}", file=sys.stderr)
        return Failed(name, str(error))
    seconds = time.perf_counter() - begun
    print(f"in {seconds:.0f} s", file=sys.stderr)
    pictures = torch.cat(painted)
    said = judge.say((pictures / 127.5 - 1).to(studio.model.device))
    return Row(name, sampler.calls, pictures, said, seconds / total)


Hit = Callable[[Asked, Said], bool | None]
"""Whether a picture shows it; None where it was not asked for."""

SHOWN: dict[str, Hit] = {
    "thing": lambda a, s: s.names(a.things),
    "colour": lambda a, s: s.background == a.background if a.background in COLOURS else None,
    "scene": lambda a, s: s.background == a.background if a.background in SCENES else None,
    "count": lambda a, s: s.count == a.count if a.count else None,
    "both": lambda a, s: s.names(a.things) and s.count == "pair" if len(a.things) > 1 else None,
}
SHOWN["all"] = lambda a, s: all(SHOWN[k](a, s) is not False for k in SHOWN if k != "all")


def share(asked: Sequence[Asked], said: Sequence[Said], hit: Hit) -> float | None:
    """How often, in percent, of the pictures that were asked for it; None if none was."""
    hits = [h for a, s in zip(asked, said, strict=True) if (h := hit(a, s)) is not None]
    return 100 * sum(hits) / len(hits) if hits else None


def tally(asked: Sequence[Asked], said: Sequence[Said], of: Callable[[Asked], str]) -> Any:
    """Pictures with the right thing, and pictures asked for, by `of`."""
    counted = Counter(map(of, asked))
    right = Counter(of(a) for a, s in zip(asked, said, strict=True) if s.names(a.things))
    return {key: [right[key], n] for key, n in sorted(counted.items())}


def measured(row: Row | Failed, asked: Sequence[Asked], target: Row | None) -> dict[str, Any]:
    """A row as numbers with names; a failed one says why."""
    if isinstance(row, Failed):
        return {"row": row.name, "failed": row.why}
    found: dict[str, Any] = {"row": row.name, "calls": row.calls}
    found |= {what: share(asked, row.said, hit) for what, hit in SHOWN.items()}
    if target:
        off = (row.pictures - target.pictures).square().mean((1, 2, 3)).sqrt().tolist()
        found["off"] = statistics.median(off)
        found["off rms"] = statistics.fmean(x * x for x in off) ** 0.5
    found["s"] = row.seconds
    found["wordings"] = tally(asked, row.said, lambda a: a.wording)
    found["things"] = tally(asked, row.said, lambda a: " + ".join(NAMES[t] for t in a.things))
    return found


DIGITS = {"calls": 0, "s": 2} | dict.fromkeys((*SHOWN, "off", "off rms"), 1)


def _laid_out(lines: Sequence[Sequence[str]]) -> str:
    """Cells as a Markdown table with its columns in line; the first line is the head."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]
    padded = [
        [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        for line in (lines[0], rule, *lines[1:])
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each row, and why if it failed; columns that nobody asked for are left out."""
    columns = ["calls", *SHOWN, "off", "off rms", "s"]
    columns = [c for c in columns if any(r.get(c) is not None for r in rows)]
    lines = [["", *columns]]
    for row in rows:
        cells = [f"{row[c]:.{DIGITS[c]}f}" if row.get(c) is not None else "-" for c in columns]
        lines.append([row["row"], *cells])
    failures = [f"{r['row']} could not be painted: {r['failed']}" for r in rows if "failed" in r]
    return "\n".join([_laid_out(lines), *(["", *failures] if failures else [])])


def by(what: str, rows: Sequence[dict[str, Any]]) -> str:
    """How often the thing is right, in percent: a line for each wording or each thing."""
    rows = [row for row in rows if "failed" not in row]
    keys = list(dict.fromkeys(key for row in rows for key in row[what]))
    lines = [[what, "prompts", *(row["row"] for row in rows)]]
    for key in keys:
        shares = [f"{100 * right / n:.0f}" for right, n in (row[what][key] for row in rows)]
        lines.append([key, str(rows[0][what][key][1]), *shares])
    return _laid_out(lines)


LEGEND = """\
Percent of pictures that show what was asked for, by a judge trained on rendered pictures only:
thing (of a pair, both), colour or scene of the background, count; `both`: two things, and two seen;
`all`: everything that was asked for. s: seconds a picture, painted {batch} at a time."""
DISTANCE = """
off: distance to the converged picture (same noise, {converged} steps of order 3) in levels of 255,
the median over the pictures and the RMS."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny", help="tiny, or the folder of an exported one")
    parser.add_argument(
        "--rows", default="targets", help="targets, headline, preset, sampler@steps"
    )
    parser.add_argument("--count", type=int, default=500, help="prompts (default: 500)")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts and of the first noise")
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--judge", type=Path, default=WEIGHTS, help="the judge's weights")
    parser.add_argument(
        "--converged", type=int, default=100, help="steps of the converged walk; 0 leaves it out"
    )
    parser.add_argument("--by", choices=("wordings", "things"), help="also print things right by")
    parser.add_argument("--json", type=Path, help="write every number, by wording and by thing too")
    parser.add_argument("--markdown", type=Path, help="write the table and the command")
    given = parser.parse_args()

    try:
        rows = row_names(given.rows)
        lesson, steps = taught(find(given.model).path)
        model = load_model(given.model, device=given.device)
    except SdfastError as error:
        parser.error(str(error))
    asked = ask(given.count, lesson, given.seed)
    judge = load_judge(given.judge, model.device)
    studio = Studio.of(model, asked, given.seed, given.batch)

    target = paint_row(f"converged@{given.converged}", studio, judge) if given.converged else None
    if isinstance(target, Failed):
        parser.error(f"the converged pictures: {target.why}")
    painted = (paint_row(name, studio, judge) for name in rows)
    found = [measured(row, asked, target) for row in painted]
    if target:
        found.append(measured(target, asked, target))

    command = shlex.join(["scripts/tiny/evaluate", *sys.argv[1:]])
    about = {"command": command, "model": given.model, "steps": steps, "prompts": len(asked)}
    about |= {"things": lesson.things, "scenes": lesson.scenes, "groups": lesson.groups > 0}
    legend = (LEGEND + DISTANCE * bool(target)).format(**vars(given))
    tables = [table(found), *([by(given.by, found)] if given.by else [])]
    print("\n\n".join(tables))
    if given.json:
        given.json.write_text(json.dumps({**about, "rows": found}, indent=1) + "\n")
    if given.markdown:
        given.markdown.write_text("\n\n".join([f"    {command}", *tables, legend]) + "\n")
    return int(any("failed" in row for row in found))


if __name__ == "__main__":
    sys.exit(main())
