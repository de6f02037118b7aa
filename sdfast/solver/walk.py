"""The walk from noise to image.

Everything known beforehand stands in the plan; here tensors meet those floats. Each round is one
network call and one or two sums.
"""

from collections import deque
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sdfast.job import Sampler
from sdfast.solver.plans import HERE, PLANS, Plan
from sdfast.solver.predict import Prediction, Target, read
from sdfast.solver.schedule import Node, NoiseSchedule
from sdfast.solver.spacing import grid
from sdfast.solver.step import Mixture

Network = Callable[[Tensor, float], Tensor]
"""x in variance-preserving scale and a time on the schedule's clock; one call is one NFE."""

Predict = Callable[[Tensor, Node], Tensor]

TARGETS = {
    "dpm++": Target.IMAGE,
    "dpm": Target.NOISE,
    "ddim": Target.NOISE,
    "pndm": Target.NOISE,
}


def plan(sampler: Sampler, schedule: NoiseSchedule) -> Plan:
    """The sampler's walk on this schedule, row by row."""
    nodes = grid(schedule, sampler)
    make = PLANS.get(sampler.solver) or PLANS[sampler.method]
    return make(nodes, sampler, TARGETS[sampler.solver])


def walk(x: Tensor, rows: Plan, predict: Predict) -> Iterator[Tensor]:
    """Yield where the walk stands after each network call; the last one is the image."""
    mixtures = [mixture for row in rows for mixture in (row.settle, row.go) if mixture]
    past: deque[Tensor] = deque(maxlen=max(len(mixture.weights) for mixture in mixtures))
    anchor = x
    for row in rows:
        past.append(predict(x, row.node))
        if row.settle is not None:
            anchor = x if row.settle is HERE else _mix(anchor, row.settle, past)
        x = _mix(anchor, row.go, past)
        yield x


def _mix(anchor: Tensor, mixture: Mixture, past: deque[Tensor]) -> Tensor:
    x = anchor * mixture.carry
    for weight, estimate in zip(reversed(mixture.weights), reversed(past), strict=False):
        x.add_(estimate, alpha=weight)
    return x


def trajectory(
    network: Network,
    noise: Tensor,
    sampler: Sampler,
    schedule: NoiseSchedule,
    prediction: str = "epsilon",
) -> Iterator[Tensor]:
    """`solve`, one network call at a time: yields where the walk stands after each."""
    said, target = Prediction(prediction), TARGETS[sampler.solver]

    def predict(x: Tensor, node: Node) -> Tensor:
        return read(network(x, node.t), x, node, said, target)

    return walk(noise, plan(sampler, schedule), predict)


def solve(
    network: Network,
    noise: Tensor,
    sampler: Sampler,
    schedule: NoiseSchedule,
    *,
    prediction: str = "epsilon",
    generator: torch.Generator | None = None,
) -> Tensor:
    """The image that the network's probability-flow ODE leads to from the noise.

    network     asked as `network(x, t)`: x in variance-preserving scale, of the shape and dtype of
                `noise`; t a float on the schedule's clock ([0, 999] for Stable Diffusion),
                fractions allowed. It is called exactly `sampler.calls` times
    noise       unit Gaussian, float32 or float64, any shape, any device; both are kept
    prediction  what the network says: "epsilon", "v_prediction", "sample" or "score"
    generator   where a stochastic sampler draws from; the samplers there are so far draw nothing

    Implements DPM-Solver (arXiv 2206.00927), DPM-Solver++ (arXiv 2211.01095) and the corrector of
    UniPC (arXiv 2302.04867). Raises ValueError for an unknown prediction and FloatingPointError if
    the result is not finite.
    """
    del generator
    (x,) = deque(trajectory(network, noise, sampler, schedule, prediction), maxlen=1)
    if not torch.isfinite(x).all():
        raise FloatingPointError("the walk ended in numbers that are not finite")
    return x
