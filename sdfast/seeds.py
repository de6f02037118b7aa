"""Seeds as they are asked for: one, some, or a row of them."""

import re
from itertools import chain

from sdfast.errors import UsageError
from sdfast.job import SEEDS
from sdfast.wording import quoted

_MOST_SEEDS = 100_000


def list_seeds(text: str | None, count: object, otherwise: int) -> list[int]:
    """`42`, `1,5,9`, `1..8` or `1..9..4`; with a count, that many from the first on."""
    return [*chain.from_iterable(seed_ranges(text, count, otherwise))]


def seed_ranges(text: str | None, count: object, otherwise: int) -> list[range]:
    """As `list_seeds`, those in a row together."""
    if isinstance(count, str) and re.fullmatch(r"\s*[0-9]{1,9}\s*", count):
        count = int(count)
    if count is not None and not (type(count) is int and 1 <= count <= _MOST_SEEDS):
        raise UsageError(f"`n` must be a whole number from 1 to {_MOST_SEEDS}, not {quoted(count)}")
    rows = [range(otherwise, otherwise + 1)] if text is None else _rows(text)
    if count is not None:
        if sum(map(len, rows)) > 1:
            raise UsageError("give several seeds or a count, not both", "--seed 1..8")
        first = rows[0][0]
        rows = [range(first, first + count)]
    for seed in (end for row in rows for end in (row[0], row[-1])):
        if not 0 <= seed < SEEDS:
            raise UsageError(f"a seed must be from 0 to {SEEDS - 1}, not {quoted(seed)}")
    return rows


_ROW = r"([0-9]{1,20})(?:\.\.([0-9]{1,20})(?:\.\.([1-9][0-9]{0,9}))?)?"
"""A seed, or the first and the last of a row, and perhaps how far apart."""


def _rows(text: str) -> list[range]:
    rows: list[range] = []
    for part in text.split(","):
        match = re.fullmatch(_ROW, part.strip())
        if match is None:
            forms = "--seed 42, 1,5,9, 1..8 or 1..9..4; without it a new one is drawn"
            raise UsageError(f"`{text[:60]}` is no seed", forms)
        low, high = int(match[1]), int(match[2] or match[1])
        if not low <= high < low + _MOST_SEEDS:
            raise UsageError(f"`{part.strip()}` must rise, over at most {_MOST_SEEDS} seeds")
        rows.append(range(low, high + 1, int(match[3] or 1)))
    if sum(map(len, rows)) > _MOST_SEEDS:
        raise UsageError(f"{quoted(text)} is more than {_MOST_SEEDS} seeds")
    return rows
