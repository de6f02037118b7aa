"""Finds the times that a model is best asked at, and fits the weights of a walk along them.

First the times follow a curve of two shapes; then each is moved by itself, between its neighbours,
for as long as that helps. Times are judged on noises that the weights were not fitted on.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from sdfast.sampler import Sampler
from sdfast.solver.predict import Prediction
from sdfast.solver.schedule import NoiseSchedule
from sdfast.tune.fit import Fit, Lesson, Truth, bare, fit, truth, weighed

STARTS, ENDS = (0.6, 0.8, 1.0, 1.4, 2.0), (0.8, 1.0, 1.3, 1.7)
"""The shapes tried first: a start below 1 makes the first strides long, and above 1 short; an end
above 1 makes the last ones short."""

_FIRST, _LAST = 0.12, 0.04
"""How far a time is moved, as a share of the way to its neighbour: at first, and at the least."""
_EACH, _MOST = 10, 250
"""So many moves are tried for each time, and no more than that in all."""
_WORTH = 0.998
"""A move is made where it leaves less than this of the error; less could be chance."""


class Tried(NamedTuple):
    """Times have been tried, so many of all."""

    done: int
    total: int
    error: float
    """What they missed on noises that they were not fitted on."""


class Fitted(NamedTuple):
    """The best times, fitted on everything."""

    sampler: Sampler


class Judged(NamedTuple):
    """Times, what they miss on unseen noises, and the two fits that showed it."""

    times: tuple[float, ...]
    error: float
    fits: tuple[Fit, ...]


_SHAPES = len(STARTS) * len(ENDS) + 4
"""Those tried first, and four around the best of them."""
_NOTHING = Judged((), math.inf, ())


def count_moves(steps: int) -> int:
    """How many moves of single times are tried after the shapes, at the most."""
    return min(_EACH * steps, _MOST)


def shaped(schedule: NoiseSchedule, steps: int, start: float, end: float) -> tuple[float, ...]:
    """t = last + (first - last) (1 - (i/n)^start)^end: `rho` with a second shape."""
    span = schedule.first - schedule.last
    return tuple(
        round(schedule.last + span * (1 - (i / steps) ** start) ** end, 4) for i in range(steps)
    )


def tune(
    lessons: Sequence[Lesson], schedule: NoiseSchedule, prediction: str, steps: int
) -> Iterator[Tried | Fitted]:
    """Fit a sampler of so many steps to what the lessons' networks do; tells each trial.

    Costs some 120 + 49 n + 10 n^2 calls for each noise, where the n steps are 25 at most; the
    lessons' pictures are the more the better, two dozen are enough. Raises ValueError for fewer
    than four.
    """
    pictures = sum(len(lesson.noise) for lesson in lessons)
    if pictures < 4:
        raise ValueError(f"tuning needs at least 4 noises, not {pictures}")
    said = Prediction(prediction)
    trials = _Trials([truth(lesson, schedule, said) for lesson in lessons], schedule, said)
    errors: dict[tuple[float, float], float] = {}

    def tried(shape: tuple[float, float]) -> Tried:
        judged = trials.judge(shaped(schedule, steps, *shape))
        trials.takes(judged)
        errors[shape] = judged.error
        return trials.told(judged)

    yield from map(tried, product(STARTS, ENDS))
    start, end = min(errors, key=errors.__getitem__)
    around = (start - 0.1, end), (start + 0.1, end), (start, end / 1.12), (start, end * 1.12)
    yield from map(tried, around)
    yield from map(trials.told, trials.moves())
    yield Fitted(trials.fitted())


@dataclass
class _Trials:
    """Times tried on the lessons' noises, of which each half judges what the other has fitted."""

    truths: Sequence[Truth]
    schedule: NoiseSchedule
    said: Prediction
    done: int = 0
    best: Judged = _NOTHING
    halves: list[list[Tensor]] = field(init=False)

    def __post_init__(self) -> None:
        self.halves = [
            [torch.arange(len(t.lesson.noise)) % 2 == half for t in self.truths] for half in (0, 1)
        ]

    def told(self, judged: Judged) -> Tried:
        return Tried(self.done, _SHAPES + count_moves(len(judged.times)), judged.error)

    def judge(self, times: tuple[float, ...], like: Judged | None = None, kept: int = 0) -> Judged:
        """Fit along these times; `like` has the same but for those from the `kept`-th on.

        The error is the mean of errors to the power of 1.5: the square listens to the few that went
        elsewhere only, and they are too few to tell one from another.
        """
        self.done += 1
        plain = bare(times)
        before = like.fits if like else (None, None)
        fits = tuple(
            fit(self.truths, chosen, self.schedule, self.said, plain, one, kept)
            for chosen, one in zip(self.halves, before, strict=True)
        )
        unseen = [
            off[~mask]
            for chosen, one in zip(self.halves, fits, strict=True)
            for off, mask in zip(one.off, chosen, strict=True)
        ]
        return Judged(times, float(torch.cat(unseen).pow(0.75).mean() ** (2 / 3)), fits)

    def takes(self, judged: Judged, worth: float = 1.0) -> bool:
        """Whether it leaves less than this of the least error so far, and now is the best."""
        better = judged.error < worth * self.best.error
        if better:
            self.best = judged
        return better

    def moves(self) -> Iterator[Judged]:
        """The best times with one of them moved, again and again; less far where none helps."""
        share, ways = _FIRST, [1] * len(self.best.times)
        last = self.done + count_moves(len(ways))
        while share >= _LAST:
            before = self.best
            for i in range(1, len(ways)):
                for way in (ways[i], -ways[i]):
                    if self.done == last:
                        return
                    yield (moved := self._moved(i, share * way))
                    if self.takes(moved, _WORTH):
                        ways[i] = way
                        break
            if self.best is before:
                share /= 2

    def _moved(self, i: int, share: float) -> Judged:
        """The best with its i-th time moved by a share of the way to the one before or after."""
        times = self.best.times
        after = times[i + 1] if i + 1 < len(times) else self.schedule.last
        way = times[i - 1] - times[i] if share > 0 else times[i] - after
        moved = (*times[:i], round(times[i] + share * way, 4), *times[i + 1 :])
        return self.judge(moved, self.best, i)

    def fitted(self) -> Sampler:
        """A walk along the best times, its weights fitted on every noise."""
        everything = [torch.ones(len(t.lesson.noise), dtype=torch.bool) for t in self.truths]
        plain = bare(self.best.times)
        best = fit(self.truths, everything, self.schedule, self.said, plain)
        return weighed(plain, best.weights, self.schedule)
