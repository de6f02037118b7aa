"""What some measurements say together: their middle, how far they lie apart, whether to believe it.

The spread is the interquartile range (IQR): within it lies the middle half of the measurements.
Two sides are compared round by round, so that what slows the machine for a while slows both.
"""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

WIDE = 0.1
"""An IQR beyond this share of the median is too wide to believe."""
_BUSY = 0.1
"""A share of the processors in others' hands beyond which a timing is not of us alone."""
_IDLE = 0.7
"""A share of the threads' time below which somebody else must have had the rest of it."""
_FEW = 3


class Spread(NamedTuple):
    """The middle of some numbers, the quartiles around it, and the ends."""

    median: float
    low: float
    high: float
    least: float
    most: float

    @property
    def iqr(self) -> float:
        return self.high - self.low


def spread(values: Sequence[float]) -> Spread:
    """The spread of one number or more."""
    if len(values) == 1:
        return Spread(*[values[0]] * 5)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high, min(values), max(values))


def ratios(theirs: Sequence[float], ours: Sequence[float]) -> Spread:
    """How many times as fast as theirs ours are, by the rounds that both have finished."""
    return spread([a / b for a, b in zip(theirs, ours, strict=False)])


class Effort(NamedTuple):
    """What a row's runs took of the machine, in seconds."""

    walls: Sequence[float]
    own: float
    """Processor time of what was timed."""
    others: float | None
    """Processor time of everything else meanwhile, where the system tells."""
    cores: int
    threads: int | None
    """How many were to be kept at work; None on a GPU, where processors may rest."""


def doubts(effort: Effort) -> list[str]:
    """Why not to believe the timings; empty if there is no reason."""
    whole, said = sum(effort.walls), list[str]()
    if len(effort.walls) < _FEW:
        runs = "1 run is" if len(effort.walls) == 1 else f"{len(effort.walls)} runs are"
        said.append(f"{runs} too few to show the spread; -r 5 would")
    seen = spread(effort.walls)
    if seen.iqr > WIDE * seen.median:
        said.append(f"the IQR is {seen.iqr / seen.median:.0%} of the median")
    if effort.others is not None and effort.others > _BUSY * effort.cores * whole:
        share = effort.others / (effort.cores * whole)
        said.append(f"other programs held {share:.0%} of the processors meanwhile")
    elif effort.others is None and effort.threads and effort.own < _IDLE * effort.threads * whole:
        said.append(
            f"{effort.threads} threads got {effort.own / whole:.2f} s of processor a second"
        )
    return said
