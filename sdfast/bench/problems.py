"""A problem as many-sided as images whose every answer can be computed: mixtures of Gaussians.

Eight groups of sixteen dimensions, turned into each other. Each group is a tree of three levels
with 128 leaves, every leaf a Gaussian with a spectrum like an image's, so that there is something
to decide or to refine at every noise level between 14.6 and 0.03. A prompt reweighs the branches of
all levels: guidance acts from the first step to the last. What a perfect network would say is known
in closed form, and where its ODE leads to is found to six digits by Runge-Kutta.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdfast.errors import UsageError
from sdfast.solver import NoiseSchedule
from sdfast.wording import quoted

SCHEDULE = NoiseSchedule.scaled_linear()
GROUPS, DIMENSIONS, TREE = 8, 16, (4, 4, 8)
LEAVES = math.prod(TREE)
SIZE = GROUPS * DIMENSIONS
PROMPTS = 4
"""How many prompts there are, 0 to 3; each owns every fourth leaf."""

TEST, TRAINING = 1, 2
"""The seeds of the noises to judge by and of those to choose by."""
COUNT = 96
"""Noises to judge by, unless told otherwise."""
CHOOSING = 8 / 3
"""Noises to choose by for each of those: 256 for 96."""


@dataclass(frozen=True)
class Problem:
    """Images of a known distribution, of anything or of a prompt followed with guidance.

    Images are seen as z = x / alpha, under noise of sigma / alpha.
    """

    turn: Tensor
    """(SIZE, SIZE), a rotation: no dimension of an image belongs to one group alone."""
    means: Tensor
    """(GROUPS, LEAVES, DIMENSIONS), as are the variances."""
    variances: Tensor
    prompted: Tensor
    """(GROUPS, 1, LEAVES), how likely each leaf is given the prompt, as a log."""
    guidance: float | None

    def network(self, x: Tensor, t: float) -> Tensor:
        """The noise in x, as a perfect network of Stable Diffusion's conventions says it."""
        node = SCHEDULE.at(t)
        return self.noise(x / node.alpha, node.noise_ratio)

    def noise(self, z: Tensor, ratio: float) -> Tensor:
        density = self._leaves(z, ratio)
        y, precisions, pulls = density.y, density.precisions, density.pulls

        def estimate(log_weights: Tensor | float) -> Tensor:
            share = (density.log + log_weights).softmax(-1)
            off = y * (share @ precisions) - share @ pulls
            return ratio * off.transpose(0, 1).flatten(1) @ self.turn.T

        if self.guidance is None:
            return estimate(0.0)
        return torch.lerp(estimate(0.0), estimate(self.prompted), self.guidance)

    def leaf(self, z: Tensor) -> Tensor:
        """(n, GROUPS), the leaf that each group of an image without noise belongs to."""
        return self._leaves(z.double(), SCHEDULE.end.noise_ratio).log.argmax(-1).T

    def _leaves(self, z: Tensor, ratio: float) -> "_Density":
        precisions = 1 / (self.variances + ratio**2)
        y = (z @ self.turn).view(-1, GROUPS, DIMENSIONS).transpose(0, 1)
        pulls = self.means * precisions
        constant = (self.means * pulls - precisions.log()).sum(-1).unsqueeze(1)
        log = y @ pulls.mT - 0.5 * (y.square() @ precisions.mT + constant)
        return _Density(y, precisions, pulls, log)


class _Density(NamedTuple):
    """How well each leaf explains each sample's groups."""

    y: Tensor
    """(GROUPS, n, DIMENSIONS), the samples group by group."""
    precisions: Tensor
    pulls: Tensor
    log: Tensor
    """(GROUPS, n, LEAVES), up to a number of the sample's own."""


def problem(guidance: float | None, prompt: int = 0) -> Problem:
    """The same problem every time; only the guidance and the prompt are chosen."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def tree(*leaf: int) -> list[Tensor]:
        """One normal draw for each branch, level by level, shaped to be summed over leaves."""
        depths = range(1, len(TREE) + 1)
        return [normal(GROUPS, *TREE[:d], *(1 for _ in TREE[d:]), *leaf) for d in depths]

    linalg: Any = torch.linalg
    turn: Tensor = linalg.qr(normal(SIZE, SIZE))[0]
    radii = (2.0, 1.6, 1.2)
    branches: list[Tensor] = [
        radius * draw / linalg.vector_norm(draw, dim=-1, keepdim=True)
        for radius, draw in zip(radii, tree(DIMENSIONS), strict=True)
    ]
    means = reduce(torch.add, branches).reshape(GROUPS, LEAVES, DIMENSIONS)
    # leaves disagree about which directions are broad
    spectrum = 0.3 * torch.arange(1, DIMENSIONS + 1, dtype=torch.float64) ** -0.4
    orders = [torch.randperm(DIMENSIONS, generator=generator) for _ in range(GROUPS * TREE[0])]
    spectra = spectrum[torch.stack(orders)].view(GROUPS, TREE[0], DIMENSIONS)
    spectra = spectra.repeat_interleave(LEAVES // TREE[0], 1)
    variances = (spectra * torch.exp(0.15 * normal(GROUPS, LEAVES, DIMENSIONS))) ** 2
    # a prompt owns every fourth leaf, so that prompts interleave down to the finest level
    *_, draws = (tree() for _ in range(prompt + 1))
    odds = 0.3 * reduce(torch.add, draws).reshape(GROUPS, 1, LEAVES)
    foreign = torch.arange(LEAVES) % PROMPTS != prompt
    prompted = (odds - 6.0 * foreign).log_softmax(-1)
    return Problem(turn, means - means.mean(1, keepdim=True), variances, prompted, guidance)


def named(name: str) -> Problem:
    """The problem of a name: `uncond`, `cfg7.5` (guidance 7.5), `cfg7.5:2` (of prompt 2).

    Raises UsageError for a name that says neither.
    """
    if name == "uncond":
        return problem(None)
    said = re.fullmatch(rf"cfg(\d{{1,2}}(?:\.\d{{1,3}})?)(?::([0-{PROMPTS - 1}]))?", name)
    if said is None:
        raise UsageError(
            f"there is no problem {quoted(name)}",
            "known are `uncond`, `cfg7.5` and the like, and `cfg7.5:3` for a prompt of 0 to 3",
        )
    return problem(float(said[1]), int(said[2] or 0))


def noises(count: int, seed: int = TEST) -> Tensor:
    """(count, SIZE) unit Gaussian; fewer are the first of more."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, SIZE, generator=generator, dtype=torch.float64)


class Answer(NamedTuple):
    """Where noises lead to, as z = x / alpha: at the end of training and without any noise."""

    sigma_min: Tensor
    zero: Tensor


def converged(problem: Problem, noise: Tensor, nodes: int = 150) -> Answer:
    """The ODE's solution to 1e-6: Runge-Kutta of fourth order in the log of the noise ratio.

    Twice the nodes change it by less; a test of its own holds that.
    """
    most, least, none = SCHEDULE.start.noise_ratio, SCHEDULE.end.noise_ratio, 1e-4

    def slope(u: float, z: Tensor) -> Tensor:
        return problem.noise(z, math.exp(u)) * math.exp(u)

    z = noise / SCHEDULE.start.alpha
    at_min = _runge_kutta(slope, z, math.log(most), math.log(least), nodes)
    near_zero = _runge_kutta(slope, at_min, math.log(least), math.log(none), nodes // 5)
    return Answer(at_min, near_zero - none * problem.noise(near_zero, none))


@cache
def answered(name: str, count: int, seed: int) -> tuple[Problem, Tensor, Answer]:
    """A named problem, that many noises and where they lead to; worked out once a process."""
    posed, noise = named(name), noises(count, seed)
    return posed, noise, converged(posed, noise)


def _runge_kutta(
    slope: Callable[[float, Tensor], Tensor], z: Tensor, start: float, end: float, nodes: int
) -> Tensor:
    h = (end - start) / nodes
    for u in (start + i * h for i in range(nodes)):
        k1 = slope(u, z)
        k2 = slope(u + h / 2, z + h / 2 * k1)
        k3 = slope(u + h / 2, z + h / 2 * k2)
        k4 = slope(u + h, z + h * k3)
        z = z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return z


def errors(got: Tensor, wanted: Tensor) -> Tensor:
    """Each sample's root mean square error."""
    return (got - wanted).flatten(1).square().mean(-1).sqrt()
