"""The best of ours beside the best of theirs, chosen on some noises and judged on others."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from sdfast.bench.accuracy import Measured, Score

Measure = Literal["rms", "median"]
MEASURES: tuple[Measure, ...] = ("rms", "median")
CHOOSE_BY: dict[Measure, str] = {"rms": "robust", "median": "median"}


class Best(NamedTuple):
    """Two families' best rows at one number of calls, by one measure."""

    problem: str
    budget: int
    measure: Measure
    ours: Measured
    peer: Measured

    @property
    def values(self) -> tuple[float, float]:
        """What ours and theirs reach on the noises to judge by."""
        return value(self.ours.test, self.measure), value(self.peer.test, self.measure)

    @property
    def ratio(self) -> float:
        """How far ours ends from the converged picture, for theirs at 1."""
        ours, peer = self.values
        return ours / peer if peer else float("inf")


def least(found: Sequence[Measured], measure: Measure) -> Measured:
    """The one nearest to the converged picture on the noises to judge by."""
    return min(found, key=lambda one: value(one.test, measure))


def value(score: Score | None, measure: str) -> float:
    """One number of a score; infinite where there is none."""
    return getattr(score, measure) if score is not None else float("inf")


def best_of(found: Sequence[Measured], ours: str = "sdfast") -> list[Best]:
    """For each problem, number of calls and measure, the best of ours and the best of the others.

    Each is the row that does best on the training noises; a comparison that lacks a side is left
    out. A row for the RMS is chosen by a mean of lower power, since one picture that goes astray
    among hundreds settles an RMS, and tells nothing of the next hundred.
    """
    cells = dict.fromkeys((one.problem, one.budget) for one in found)
    best: list[Best] = []
    for problem, budget in cells:
        here = [one for one in found if (one.problem, one.budget) == (problem, budget)]
        for measure in MEASURES:
            mine = _chosen((one for one in here if one.family == ours), measure)
            theirs = _chosen((one for one in here if one.family != ours), measure)
            if mine and theirs:
                best.append(Best(problem, budget, measure, mine, theirs))
    return best


def _chosen(found: Iterable[Measured], measure: Measure) -> Measured | None:
    """The row that does best on the training noises, of those that walked at all."""
    walked = [one for one in found if one.test and one.training]
    return min(walked, key=lambda one: value(one.training, CHOOSE_BY[measure]), default=None)
