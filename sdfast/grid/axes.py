"""What varies on a sheet: across, down, and so the job of every picture.

An axis is said by a flag, or is there because several prompts or several seeds are.
"""

import re
from collections.abc import Callable, Sequence
from itertools import product
from math import ceil, prod, sqrt
from typing import Any, NamedTuple

from sdfast.errors import UsageError
from sdfast.job import FILES, KEYS, Job, Record
from sdfast.sheet import LONGEST, MOST, Sheet
from sdfast.sweeps import Sweep, read_sweep
from sdfast.wording import from_home, shortened

AXES = ("preset", "replace", *(k for k in KEYS if k not in ("timesteps", "corrections")))
"""What a sheet's side can be: a preset, a word of the prompts, and what in a job is one value."""

_TEXTS = ("preset", "replace", "prompt", "negative", "model", *FILES)
_SPEAKING = ("preset", "replace", "prompt", "sampler", "model")
"""Keys whose values need no name beside them."""
_IN_A_ROW = 8
"""Pictures that stand in one row if only one thing varies."""


class Sides(NamedTuple):
    """A sheet's axes."""

    across: Sweep | None
    down: Sweep | None

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(side.key for side in self if side)


def find_sides(
    x: str | None, y: str | None, prompts: Sequence[str], seeds: Sequence[int], given: Record
) -> Sides:
    """The axes that these flags, prompts and seeds mean; `given` is what has a value elsewhere.

    Raises UsageError if nothing varies, more than two things do, or one is said twice.
    """
    across = None if x is None else read_sweep(x, "--x", AXES, _TEXTS)
    down = None if y is None else read_sweep(y, "--y", AXES, _TEXTS)
    said = Sides(across, down).keys
    given = given | {"prompt": prompts or None, "seed": seeds or None}
    for key in said:
        if said.count(key) > 1 or given.get(key) is not None:
            raise UsageError(f"{key} is given twice", f"--x {key}=... alone is enough")
    for side in filter(None, (across, down)):
        needed = side.values[:1] if side.key == "replace" else side.values
        if "" in needed and side.key not in ("negative", *FILES):
            raise UsageError(f"{side.key} needs a word where nothing stands in quotes")
    rest = [Sweep(k, tuple(v)) for k, v in (("seed", seeds), ("prompt", prompts)) if len(v) > 1]
    if len(said) + len(rest) > 2:
        among = ", ".join((*said, *(side.key for side in rest)))
        raise UsageError(f"a sheet has two sides, and three things vary: {among}")
    for side in rest:  # prompts stand before rows if seeds can stand over columns
        across, down = (side, down) if across is None else (across, side)
    if across is None and down is None:
        raise UsageError(
            "nothing varies on this sheet",
            "--x steps=10,20, --y preset=fast,default, several prompts or several seeds",
        )
    return Sides(across, down)


def lay_out(sides: Sides, columns: int | None, made: Callable[[Record], Job]) -> Sheet:
    """The sheet of these sides, the job of each picture `made` from the values it has.

    Raises UsageError if there are too many, or for values that cannot be, saying for which picture.
    """
    across, down = sides
    values = [[(side.key, v) for v in side.values] for side in (down, across) if side]
    if (count := prod(map(len, values))) > MOST:
        raise UsageError(f"a sheet has at most {MOST} pictures, not {count}")
    cells = [dict(pairs) for pairs in product(*values)]
    if columns is not None and (across is None or down is not None):
        raise UsageError("--columns breaks up a sheet of one axis across", "give --x alone")
    jobs = tuple(_made(cell, made) for cell in cells)
    tops, lefts = (tuple(_labels(side)) if side else () for side in (across, down))
    width = 1 if across is None else columns or _columns(len(tops), alone=down is None)
    return Sheet(jobs, min(width, len(jobs)), sides.keys, tops, lefts)


def _columns(pictures: int, *, alone: bool) -> int:
    return ceil(sqrt(pictures)) if alone and pictures > _IN_A_ROW else pictures


def _made(cell: Record, made: Callable[[Record], Job]) -> Job:
    try:
        return made(cell)
    except UsageError as error:
        where = ", ".join(shortened(_label(key, value)) for key, value in cell.items())
        raise UsageError(f"{where}: {error}", error.hint) from error


def _labels(side: Sweep) -> list[str]:
    """A label for each value; of paths as much as tells them apart."""
    values = side.values
    if side.key in ("preset", "model", *FILES):
        parts = [re.split(r"[/\\]", from_home(f"{value}").rstrip("/\\")) for value in values]
        for kept in range(1, max(map(len, parts)) + 1):
            values = tuple("/".join(path[-kept:]) for path in parts)
            if len(set(values)) == len(values):
                break
    if side.key == "replace":
        return [_label("replace", value or f"no {values[0]}") for value in values]
    return [_label(side.key, value) for value in values]


def _label(key: str, value: Any) -> str:
    text = f"{value}".lower() if isinstance(value, bool) else f"{value}"
    if not text:
        return f"no {key}"
    return shortened(text if key in _SPEAKING else f"{key.replace('_', ' ')} {text}", LONGEST)


def replaced(record: Record, words: Sequence[str], word: str) -> Record:
    """The record with a word in place of the first of `words` in its prompts.

    Raises UsageError if no prompt has that one.
    """
    was = words[0]
    texts = {k: record[k] for k in ("prompt", "negative") if was in record.get(k, "")}
    if not texts:
        raise UsageError(f"`{was}`, the first word of replace, does not stand in the prompt")
    return record | {key: text.replace(was, word) for key, text in texts.items()}
