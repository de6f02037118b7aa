"""Fits a sampler's steps and weights to one model.

A multistep walk's next place is a weighted sum of where it stands and of what the network said
lately. Theory gives the weights that are right for any network; this module asks which are right
for this one. It walks some noises to the end with very many calls, and then, step by step, finds
the weights that bring a short walk nearest to those long ones, by least squares held near the
theory. Each step is fitted on the short walk's own places, so that it learns to mend what the steps
before it got wrong. Where to ask is found by trying: the times follow a curve of two shapes, and
the shapes are judged on noises that the weights were not fitted on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from sdfast.sampler import FROM_PAST, Sampler
from sdfast.solver.predict import Prediction, Target, read
from sdfast.solver.schedule import Node, NoiseSchedule
from sdfast.solver.spacing import Grid, grid
from sdfast.solver.step import Mixture, mixture
from sdfast.solver.table import mix
from sdfast.solver.walk import Network, plan

LONG = 120
"""Calls of a walk that is taken for the truth."""

TRUTH = Sampler(order=3, steps=LONG, spacing="rho", rho=2, final="sigma_min")
"""It misses a thousandth of what a short walk misses."""

NEARNESS = 0.1
"""How strongly weights are held near the theory, as a share of the error that is to be mended."""

STARTS, ENDS = (0.6, 0.8, 1.0, 1.4, 2.0), (0.8, 1.0, 1.3, 1.7)
"""The shapes tried first: a start below 1 makes the first strides long, and above 1 short; an end
above 1 makes the last ones short."""


class Lesson(NamedTuple):
    """Noises that walk together: a network, guided as it will be, and [pictures, ...] noise."""

    network: Network
    noise: Tensor


class Tried(NamedTuple):
    """One shape of the steps has been tried."""

    done: int
    total: int
    error: float
    """What it missed on noises that it was not fitted on."""


class Fitted(NamedTuple):
    """The best shape, fitted on everything."""

    sampler: Sampler


@dataclass(frozen=True, slots=True)
class Truth:
    """A lesson's long walk, with what is needed to look between its nodes."""

    lesson: Lesson
    nodes: Grid
    places: tuple[Tensor, ...]
    said: tuple[Tensor, ...]

    def at(self, node: Node) -> Tensor:
        """Where the long walk comes by, by its own solver's step from the node before."""
        before = max(i for i, n in enumerate(self.nodes) if n.t >= node.t)
        here = self.nodes[before]
        if here.t == node.t or before == len(self.said):
            return self.places[before]
        known = range(max(0, before - 2), before + 1)
        go = mixture(here, [self.nodes[i] for i in known], node, Target.IMAGE)
        return mix(self.places[before], go, [self.said[i] for i in known])


def times(schedule: NoiseSchedule, steps: int, start: float, end: float) -> tuple[float, ...]:
    """t = last + (first - last) (1 - (i/n)^start)^end: `rho` with a second shape."""
    span = schedule.first - schedule.last
    return tuple(
        round(schedule.last + span * (1 - (i / steps) ** start) ** end, 4) for i in range(steps)
    )


def tune(
    lessons: Sequence[Lesson], schedule: NoiseSchedule, prediction: str, steps: int
) -> Iterator[Tried | Fitted]:
    """Fit a sampler of so many steps to what the lessons' networks do; tells each shape tried.

    Costs LONG + 49 * steps calls for each noise; the lessons' pictures are the more the better, two
    dozen are enough. Raises ValueError for
    fewer than four.
    """
    pictures = sum(len(lesson.noise) for lesson in lessons)
    if pictures < 4:
        raise ValueError(f"tuning needs at least 4 noises, not {pictures}")
    said = Prediction(prediction)
    truths = [_walked(lesson, schedule, said) for lesson in lessons]
    first = list(product(STARTS, ENDS))
    total = len(first) + 4
    errors: dict[tuple[float, float], float] = {}
    for start, end in first:
        yield _tried(errors, (start, end), total, truths, schedule, said, steps)
    start, end = min(errors, key=errors.__getitem__)
    for near in ((start - 0.1, end), (start + 0.1, end), (start, end / 1.12), (start, end * 1.12)):
        yield _tried(errors, near, total, truths, schedule, said, steps)
    best = min(errors, key=errors.__getitem__)
    everything = [torch.ones(len(t.lesson.noise), dtype=torch.bool) for t in truths]
    bare = _bare(times(schedule, steps, *best))
    weights, _ = _fit(truths, everything, schedule, said, bare)
    yield Fitted(_with(bare, weights, schedule))


def _tried(
    errors: dict[tuple[float, float], float],
    shape: tuple[float, float],
    total: int,
    truths: Sequence[Truth],
    schedule: NoiseSchedule,
    said: Prediction,
    steps: int,
) -> Tried:
    """Each half of the noises judges what the other was fitted on.

    The mean of errors to the power of 1.5: the square listens to the few that went elsewhere only,
    and they are too few to tell one shape from another.
    """
    bare = _bare(times(schedule, steps, *shape))
    unseen: list[Tensor] = []
    for half in (0, 1):
        chosen = [torch.arange(len(t.lesson.noise)) % 2 == half for t in truths]
        _, off = _fit(truths, chosen, schedule, said, bare)
        unseen += [e[~mask] for e, mask in zip(off, chosen, strict=True)]
    errors[shape] = float(torch.cat(unseen).pow(0.75).mean() ** (2 / 3))
    return Tried(len(errors), total, errors[shape])


def _bare(asked: tuple[float, ...]) -> Sampler:
    return Sampler(order=2, timesteps=asked, spacing="rho", final="sigma_min")


def _with(bare: Sampler, weights: Sequence[Sequence[float]], schedule: NoiseSchedule) -> Sampler:
    """The sampler with weights written as corrections of its theory."""
    rows = plan(bare, schedule)
    corrections = tuple(
        tuple(round(w - t, 6) for w, t in zip(mine, _theory(row.go, len(mine)), strict=True))
        for mine, row in zip(weights, rows, strict=True)
    )
    return Sampler.model_validate(bare.model_dump() | {"corrections": corrections})


def _theory(go: Mixture, length: int) -> list[float]:
    """A step's own weights, with zeros for the estimates it does not use."""
    carry, weights, _ = go
    return [carry, *[0.0] * (length - 1 - len(weights)), *weights]


def _walked(lesson: Lesson, schedule: NoiseSchedule, said: Prediction) -> Truth:
    """The long walk. Raises FloatingPointError if it ends in numbers that are not finite."""
    nodes = grid(schedule, TRUTH)
    places, estimates = [lesson.noise], list[Tensor]()
    for row in plan(TRUTH, schedule):
        x = places[-1]
        estimates.append(read(lesson.network(x, row.node.t), x, row.node, said, Target.IMAGE))
        places.append(mix(x, row.go, estimates))
    if not bool(places[-1].isfinite().all()):
        raise FloatingPointError("the long walk ended in numbers that are not finite")
    return Truth(lesson, nodes, tuple(places), tuple(estimates))


def _fit(
    truths: Sequence[Truth],
    chosen: Sequence[Tensor],
    schedule: NoiseSchedule,
    said: Prediction,
    bare: Sampler,
) -> tuple[list[list[float]], list[Tensor]]:
    """Each step's weights, fitted on the chosen pictures; and every picture's squared error."""
    rows, nodes = plan(bare, schedule), grid(schedule, bare)
    places = [t.lesson.noise for t in truths]
    estimates: list[list[Tensor]] = [[] for _ in truths]
    weights: list[list[float]] = []
    off: list[Tensor] = []
    for i, row in enumerate(rows):
        grams: list[Tensor] = []
        for truth, x, known in zip(truths, places, estimates, strict=True):
            known.append(read(truth.lesson.network(x, row.node.t), x, row.node, said, Target.IMAGE))
            del known[:-FROM_PAST]
            grams.append(_gram([x, *known, truth.at(nodes[i + 1])]))
        theory = torch.tensor(_theory(row.go, min(i + 1, FROM_PAST) + 1), dtype=torch.float64)
        grams = [gram.cpu() for gram in grams]
        used = torch.cat([gram[mask] for gram, mask in zip(grams, chosen, strict=True)])
        fitted = _least_squares(used, theory)
        carry, *rest = weighed = [float(w) for w in fitted.numpy()]
        weights.append(weighed)
        go = Mixture(carry, tuple(rest))
        places = [mix(x, go, known) for x, known in zip(places, estimates, strict=True)]
        off = [_squares(gram, fitted) for gram in grams]
    return weights, off


def _gram(parts: Sequence[Tensor]) -> Tensor:
    """Each picture's mean products of all the parts, [pictures, parts, parts], in float64."""
    flat = torch.stack([part.flatten(1) for part in parts], 1).double()
    return flat @ flat.mT / flat.shape[-1]


def _squares(gram: Tensor, weights: Tensor) -> Tensor:
    """Each picture's mean squared error of the weighted parts against the last part."""
    v = torch.cat([weights, weights.new_tensor([-1.0])])
    return (v @ gram @ v).clamp_min(0)


def _least_squares(gram: Tensor, theory: Tensor) -> Tensor:
    """Weights near the theory; a picture that went elsewhere counts by its distance, not squared.

    Huber's loss by reweighting, with the pictures' median error as its scale.
    """
    known, wanted = gram[:, :-1, :-1], gram[:, :-1, -1]
    weights, eye = theory, torch.eye(len(theory), dtype=theory.dtype)
    for _ in range(8):
        error = _squares(gram, weights).sqrt()
        middle = error.median().clamp_min(1e-9)
        trust = 1.5 * middle / error.clamp_min(1.5 * middle)
        a = (trust[:, None, None] * known).mean(0) + NEARNESS * middle**2 * eye
        b = (trust[:, None] * (wanted - known @ theory)).mean(0)
        weights = theory + cast("Any", torch.linalg).solve(a, b)
    return weights
