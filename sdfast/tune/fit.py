"""Fits a walk's weights to one model, along given times.

A multistep walk's next place is a weighted sum of where it stands and of what the network said
lately. Theory gives the weights that are right for any network; this module asks which are right
for this one. It walks some noises to the end with very many calls, and then, step by step, finds
the weights that bring a short walk nearest to those long ones, by least squares held near the
theory. Each step is fitted on the short walk's own places, so that it learns to mend what the steps
before it got wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from sdfast.sampler import FROM_PAST, MOST_CORRECTION, Sampler
from sdfast.solver.predict import Network, Prediction, Target, read
from sdfast.solver.schedule import Node, NoiseSchedule
from sdfast.solver.spacing import Grid, grid
from sdfast.solver.step import Mixture, mixture
from sdfast.solver.table import mix
from sdfast.solver.walk import plan

LONG = 120
"""Calls of a walk that is taken for the truth."""

TRUTH = Sampler(order=3, steps=LONG, spacing="rho", rho=2, final="sigma_min")
"""It misses a thousandth of what a short walk misses."""

NEARNESS = 0.1
"""How strongly weights are held near the theory, as a share of the error that is to be mended."""


class Lesson(NamedTuple):
    """Noises that walk together: a network, guided as it will be, and [pictures, ...] noise."""

    network: Network
    noise: Tensor


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


def bare(asked: tuple[float, ...]) -> Sampler:
    """The walk along these times as theory weighs it."""
    return Sampler(order=2, timesteps=asked, spacing="rho", final="sigma_min")


def weighed(plain: Sampler, weights: Sequence[Sequence[float]], schedule: NoiseSchedule) -> Sampler:
    """The sampler with weights written as corrections of its theory."""
    rows = plan(plain, schedule)
    corrections = tuple(
        tuple(_bounded(w - t) for w, t in zip(mine, _theory(row.go, len(mine)), strict=True))
        for mine, row in zip(weights, rows, strict=True)
    )
    return Sampler.model_validate(plain.model_dump() | {"corrections": corrections})


def _bounded(correction: float) -> float:
    """To six places, and no larger than a preset may have it."""
    return round(min(max(correction, -MOST_CORRECTION), MOST_CORRECTION), 6)


def _theory(go: Mixture, length: int) -> list[float]:
    """A step's own weights, with zeros for the estimates it does not use."""
    carry, weights, _ = go
    return [carry, *[0.0] * (length - 1 - len(weights)), *weights]


def truth(lesson: Lesson, schedule: NoiseSchedule, said: Prediction) -> Truth:
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


class _Stage(NamedTuple):
    """A walk at one of its nodes, each lesson's for itself."""

    places: tuple[Tensor, ...]
    known: tuple[tuple[Tensor, ...], ...]
    """What the network said lately, here included."""


class Fit(NamedTuple):
    """A walk that was fitted, and each lesson's pictures' squared errors at its end."""

    weights: tuple[tuple[float, ...], ...]
    off: tuple[Tensor, ...]
    stages: tuple[_Stage, ...]


def fit(
    truths: Sequence[Truth],
    chosen: Sequence[Tensor],
    schedule: NoiseSchedule,
    said: Prediction,
    plain: Sampler,
    before: Fit | None = None,
    kept: int = 0,
) -> Fit:
    """The weights of each step of the plain walk, fitted on the chosen pictures.

    `before` is a fit whose times are the same but for those from the `kept`-th on: the network is
    not asked again where it was asked already.
    """
    rows, nodes = plan(plain, schedule), grid(schedule, plain)
    stages = [*before.stages[:kept]] if before else []
    begin = max(0, len(stages) - 1)
    weights = [*before.weights[:begin]] if before else []
    places = tuple(t.lesson.noise for t in truths)
    off: tuple[Tensor, ...] = ()
    for i, row in enumerate(rows[begin:], begin):
        if i == len(stages):
            stages.append(_asked(truths, places, stages[-1:], row.node, said))
        stage = stages[i]
        grams = [
            _gram([x, *known, t.at(nodes[i + 1])])
            for t, x, known in zip(truths, *stage, strict=True)
        ]
        theory = torch.tensor(_theory(row.go, min(i + 1, FROM_PAST) + 1), dtype=torch.float64)
        used = torch.cat([gram[mask] for gram, mask in zip(grams, chosen, strict=True)])
        found = _least_squares(used, theory)
        weights.append(tuple(float(w) for w in found.numpy()))
        carry, *rest = weights[-1]
        go = Mixture(carry, tuple(rest))
        places = tuple(mix(x, go, known) for x, known in zip(*stage, strict=True))
        off = tuple(_squares(gram, found) for gram in grams)
    return Fit(tuple(weights), off, tuple(stages))


def _asked(
    truths: Sequence[Truth],
    places: tuple[Tensor, ...],
    past: Sequence[_Stage],
    node: Node,
    said: Prediction,
) -> _Stage:
    """The walk at its next node, once the network has been asked there."""
    known = past[0].known if past else ((),) * len(truths)
    here = (
        read(t.lesson.network(x, node.t), x, node, said, Target.IMAGE)
        for t, x in zip(truths, places, strict=True)
    )
    return _Stage(places, tuple((*k, new)[-FROM_PAST:] for k, new in zip(known, here, strict=True)))


def _gram(parts: Sequence[Tensor]) -> Tensor:
    """Each picture's mean products of all the parts, [pictures, parts, parts], in float64."""
    flat = torch.stack([part.flatten(1) for part in parts], 1).cpu().double()
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
