"""The walk from noise to image.

Everything known beforehand stands in the plan; here tensors meet those floats. Each round is one
network call and one or two sums.
"""

from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from operator import index
from typing import Any, cast

import torch
from torch import Tensor

from sdfast.sampler import Sampler
from sdfast.solver import classics
from sdfast.solver.adaptive import adaptive
from sdfast.solver.draw import Draw, Generators, drawn_alone
from sdfast.solver.plans import midpoint, multistep, singlestep
from sdfast.solver.predict import Network, Prediction, Target, read, thresholded
from sdfast.solver.schedule import Node, NoiseSchedule
from sdfast.solver.spacing import Grid, grid
from sdfast.solver.table import Plan, Standing, follow

Predict = Callable[[Tensor, Node], Tensor]

TARGETS = {
    "dpm++": Target.IMAGE,
    "sde-dpm++": Target.IMAGE,
    "ddpm": Target.IMAGE,
    "lcm": Target.IMAGE,
}
"""What a solver integrates; the others integrate the noise."""


def target_of(sampler: Sampler) -> Target:
    """What a sampler integrates: estimates of the image or of the noise."""
    return TARGETS.get(sampler.solver, Target.NOISE)


def plan(sampler: Sampler, schedule: NoiseSchedule, begin: int = 0) -> Plan:
    """The sampler's walk on this schedule, row by row, from its node `begin` on.

    Raises ValueError where the schedule has no such nodes, and for an adaptive sampler, whose walk
    is not known beforehand.
    """
    if sampler.method == "adaptive":
        raise ValueError("an adaptive walk has no plan")
    if sampler.solver == "rk45":
        if begin:
            raise ValueError("rk45 begins at the beginning")
        return classics.rk45(schedule, sampler.steps)
    nodes = grid(schedule, sampler)
    if not 0 <= begin < sampler.steps:
        raise ValueError(f"a walk of {sampler.steps} steps cannot begin at step {begin}")
    return written(nodes[begin:], sampler, schedule)


_plan_once = cast("Callable[[Sampler, NoiseSchedule, int], Plan]", lru_cache(32)(plan))
"""A plan takes longer to make than to follow: a GPU would wait for it before each picture."""


def written(nodes: Grid, sampler: Sampler, schedule: NoiseSchedule) -> Plan:
    """The walk along these nodes. Corrections are for the whole walk, and left out of a shorter."""
    if sampler.corrections and len(nodes) <= sampler.steps:
        sampler = sampler.model_copy(update={"corrections": None})
    target = target_of(sampler)
    match sampler.solver, sampler.method:
        case "pndm", _:
            return classics.plms(nodes, target)
        case "heun", _:
            return classics.heun(nodes, target)
        case "lms", _:
            return classics.lms(nodes)
        case "lcm", _:
            return classics.lcm(nodes)
        case _, "midpoint":
            return midpoint(nodes, sampler, target, schedule)
        case _, "singlestep" | "fast":
            return singlestep(nodes, sampler, target)
        case _:
            return multistep(nodes, sampler, target)


def walk(x: Tensor, rows: Plan, predict: Predict, draw: Draw) -> Iterator[Tensor]:
    """Yield where the walk stands after each network call; the last one is the image."""
    mixtures = [mixture for row in rows for mixture in (row.settle, row.go) if mixture]
    past: deque[Tensor] = deque(maxlen=max(len(mixture.weights) for mixture in mixtures))
    standing = Standing(x, x, x)
    for row in rows:
        past.append(predict(standing.x, row.node))
        standing = follow(row, standing, past, draw)
        yield standing.x


def _reader(network: Network, sampler: Sampler, prediction: str) -> Predict:
    """The network as the walk asks it: what the solver integrates, at a node."""
    said, target = Prediction(prediction), target_of(sampler)

    def predict(x: Tensor, node: Node) -> Tensor:
        output = cast("Any", network)(x, node.t)
        if not isinstance(output, Tensor):
            raise TypeError(f"the network must say a tensor, not {type(output).__name__}")
        if output.shape != x.shape:
            shapes = f"{tuple(output.shape)} where x is {tuple(x.shape)}"
            raise ValueError(f"the network's output is {shapes}")
        return read(output.to(x.dtype), x, node, said, target)

    quantile = sampler.thresholding
    if quantile is None:
        return predict
    return lambda x, node: thresholded(predict(x, node), quantile)


def trajectory(
    network: Network,
    noise: Tensor,
    sampler: Sampler,
    schedule: NoiseSchedule,
    prediction: str = "epsilon",
    generator: Generators = None,
    begin: int = 0,
) -> Iterator[Tensor]:
    """`solve`, one network call at a time: yields where the walk stands after each.

    An adaptive walk must be of one picture.
    """
    predict = _reader(network, sampler, prediction)
    if sampler.method == "adaptive":
        if begin:
            raise ValueError("an adaptive walk begins at the beginning")
        return adaptive(noise, sampler, schedule, predict, target_of(sampler))
    draw = drawn_alone(noise, generator) if sampler.noisy else partial(torch.zeros_like, noise)
    return walk(noise, _plan_once(sampler, schedule, begin), predict, draw)


def solve(
    network: Network,
    noise: Tensor,
    sampler: Sampler,
    schedule: NoiseSchedule,
    *,
    prediction: str = "epsilon",
    generator: Generators = None,
    begin: int = 0,
) -> Tensor:
    """The image that the network's probability-flow ODE leads to from the noise.

    network     asked as `network(x, t)`: x in variance-preserving scale, of the shape and dtype of
                `noise`, not to be written to; t a float on the schedule's clock ([0, 999] for
                Stable Diffusion), fractions allowed. Its answer has the shape of x, perhaps less
                precision, and may be written over by the next. It is called exactly
                `sampler.calls` times, and less often where the walk begins in the middle. An
                adaptive sampler asks as often as each picture needs, and for one picture at a time:
                a network that has a condition for each of a batch must be asked for one picture a
                `solve`
    noise       unit Gaussian, float32 or float64, any shape, any device; both are kept. The first
                dimension counts pictures
    prediction  what the network says: "epsilon", "v_prediction", "sample" or "score"
    generator   where a stochastic sampler draws from: one for each picture, or one for all, of
                which each picture gets a child of its own. A picture's noise does not depend on its
                batch mates
    begin       walk from this step on only; `noise` is then a picture as noisy as that step finds
                it, `noised(image, noise, schedule.at(t))`

    Gradients flow through all calls: without a need for them, call it in `torch.inference_mode()`,
    and with the network in `eval()`.

    Implements DPM-Solver (arXiv 2206.00927), DPM-Solver++ and its SDE (arXiv 2211.01095), the
    corrector of UniPC (arXiv 2302.04867), and what came before them (`solver/classics.py`). Raises
    ValueError for an unknown prediction, an output of another shape, or nodes the schedule has not,
    TypeError for arguments of other kinds, and FloatingPointError if the result is not finite.
    """
    _check(noise, sampler, schedule)
    begin = index(begin)
    if not noise.numel():
        return noise.clone()
    by_picture = sampler.noisy or sampler.method == "adaptive" or sampler.thresholding is not None
    if by_picture and not noise.ndim:
        raise ValueError("the first dimension counts pictures, and a number alone has none")

    def image(x: Tensor) -> Tensor:
        return _last(trajectory(network, x, sampler, schedule, prediction, generator, begin))

    if sampler.method == "adaptive":
        return torch.cat([image(one) for one in torch.split(noise, 1)])
    return image(noise)


def _check(x: Any, sampler: Any, schedule: Any) -> None:
    """Raise TypeError for what no walk can begin with."""
    if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.float64):
        raise TypeError("a walk begins with a tensor of float32 or float64")
    if not isinstance(sampler, Sampler):
        kind = type(sampler).__name__
        raise TypeError(f"the sampler must be a Sampler, as a preset's `.sampler`, not a {kind}")
    if not isinstance(schedule, NoiseSchedule):
        raise TypeError(f"the schedule must be a NoiseSchedule, not a {type(schedule).__name__}")


def _last(steps: Iterator[Tensor]) -> Tensor:
    """Where a walk ends. Raises FloatingPointError if that is not finite."""
    (x,) = deque(steps, maxlen=1)
    if not torch.isfinite(x).all():
        raise FloatingPointError("the walk ended in numbers that are not finite")
    return x


def noised(image: Tensor, noise: Tensor, node: Node) -> Tensor:
    """The image under as much noise as the node has: alpha image + sigma noise, of one shape."""
    return node.alpha * image + node.sigma * noise


def invert(
    network: Network,
    image: Tensor,
    sampler: Sampler,
    schedule: NoiseSchedule,
    *,
    prediction: str = "epsilon",
) -> Tensor:
    """The noise that `solve` would lead from to the image: the same ODE, walked the other way.

    The image is what `solve` gives with the sampler's `final`; of one without any noise only its
    own part of the cleanest node is known, and the walk begins with that. Arguments are those of
    `solve`. Raises ValueError for samplers that draw noise or choose their own steps, and as
    `solve`.
    """
    _check(image, sampler, schedule)
    adaptive = sampler.method == "adaptive"
    if sampler.noisy or adaptive or sampler.solver == "rk45":
        which = f"an adaptive {sampler.solver}" if adaptive else sampler.solver
        raise ValueError(f"{which} cannot be walked backwards")
    asked = grid(schedule, sampler.model_copy(update={"final": "sigma_min"}))
    plain = sampler.model_copy(update={"corrections": None})
    nodes = tuple({node.lam: node for node in reversed(asked)}.values())
    if len(nodes) < 2:
        raise ValueError("a walk backwards needs two times at least")
    rows = written(nodes, plain, schedule)
    predict = _reader(network, sampler, prediction)
    start = image if sampler.final == "sigma_min" else schedule.end.alpha * image
    return _last(walk(start, rows, predict, partial(torch.zeros_like, image)))
