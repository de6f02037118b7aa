"""How far each sampler ends from the converged picture, at each number of network calls.

A problem is posed: noises, the network that leads them somewhere, and where exactly it would lead
them. Each row of the comparison then walks from the same noises with as many calls as it may make,
counted where they are made, and is held against the exact end of its own kind. Posed problems and
measurements come out as events; what becomes of them is not this module's concern.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sdfast.bench.problems import Answer, errors
from sdfast.errors import one_line
from sdfast.solver import NoiseSchedule
from sdfast.solver.predict import Network

End = Literal["zero", "sigma_min"]

Walk = Callable[[Network, Tensor], Tensor]
"""From unit noise to z = x / alpha where the walk ends."""


class Case(NamedTuple):
    """Noises that one network leads to known ends."""

    network: Network
    noise: Tensor
    answer: Answer


@dataclass(frozen=True, slots=True)
class Posed:
    """A problem with its answers: cases to judge a row by and, if any, others to choose it by."""

    name: str
    schedule: NoiseSchedule
    prediction: str
    test: tuple[Case, ...]
    training: tuple[Case, ...]
    elsewhere: Callable[[Tensor, Tensor], Tensor]
    """Of (got, wanted): which samples ended in another picture than they should."""
    about: dict[str, object]
    """What an export should say of it: seeds, prompts, guidance."""


@dataclass(frozen=True, slots=True)
class Settling:
    """Converged answers are being worked out, so many of all."""

    problem: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Row:
    """A way to walk, at any number of calls that it can be made to fit."""

    name: str
    family: str
    """Whose it is: `sdfast` or `diffusers`."""
    end: End
    walk: Callable[[int, Posed], Walk | None]
    """The walk of the most calls up to a number; None if there is none."""


class Score(NamedTuple):
    """The errors of some samples; each sample's own is its root mean square."""

    rms: float
    median: float
    elsewhere: float
    """The share of samples that ended in another picture."""
    robust: float
    """Between RMS and median: the mean of errors to the power of 1.5."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One row at one number of calls on one problem."""

    problem: str
    family: str
    row: str
    end: End
    budget: int
    """How many calls it was allowed."""
    calls: int
    """How many it made, counted at the network."""
    test: Score | None = None
    training: Score | None = None
    failure: str = ""
    """Why there is no score; without a reason, no walk of this row is that short."""


Event = Settling | Posed | Measured


def measure(
    poses: Iterable[Iterator[Settling | Posed]], rows: Sequence[Row], budgets: Sequence[int]
) -> Iterator[Event]:
    """Pose each problem and yield a measurement for every row and every number of calls."""
    for pose in poses:
        for event in pose:
            yield event
            if isinstance(event, Posed):
                for row in rows:
                    yield from (measured(row, event, budget) for budget in budgets)


def measured(row: Row, posed: Posed, budget: int) -> Measured:
    """The row on the problem with at most so many calls. What it raises is its failure."""
    calls, scores, failure = 0, list[Score | None](), ""
    try:
        for cases in (posed.test, posed.training):
            score, made = _walked(row, posed, cases, budget)
            scores.append(score)
            calls = max(calls, made)
    except Exception as error:  # a peer raises whatever it likes
        failure = one_line(error)
        scores = [None, None]
    test, training = scores
    return Measured(
        posed.name, row.family, row.name, row.end, budget, calls, test, training, failure
    )


def _walked(row: Row, posed: Posed, cases: Sequence[Case], budget: int) -> tuple[Score | None, int]:
    """How near the row comes on these cases, and the most calls it made on one of them."""
    missed, astray, most = list[Tensor](), list[Tensor](), 0
    for case in cases:
        if (walk := row.walk(budget, posed)) is None:
            return None, 0
        network = _Counting(case.network)
        got = walk(network, case.noise)
        if lost := int((~got.flatten(1).isfinite().all(1)).sum()):
            raise FloatingPointError(f"{lost} of {len(got)} samples are not finite")
        wanted = case.answer.zero if row.end == "zero" else case.answer.sigma_min
        missed.append(errors(got, wanted))
        astray.append(posed.elsewhere(got, wanted))
        most = max(most, network.calls)
    return (score(torch.cat(missed), torch.cat(astray)) if missed else None), most


def score(missed: Tensor, astray: Tensor) -> Score:
    """The errors and strayings of samples in four numbers."""
    rms = missed.square().mean().sqrt()
    robust = missed.pow(1.5).mean().pow(2 / 3)
    strayed = astray.cpu().double().mean()
    return Score(float(rms), float(missed.median()), float(strayed), float(robust))


class _Counting:
    """A network that counts how often it is asked."""

    def __init__(self, network: Network) -> None:
        self.network, self.calls = network, 0

    def __call__(self, x: Tensor, t: float) -> Tensor:
        self.calls += 1
        return self.network(x, t)
