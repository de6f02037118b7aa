"""A problem as many-sided as images whose every answer can be computed: mixtures of Gaussians.

Eight groups of sixteen dimensions, turned into each other. Each group is a tree of three levels
with 128 leaves, every leaf a Gaussian with a spectrum like an image's, so that there is something
to decide or to refine at every noise level between 14.6 and 0.03. A prompt reweighs the branches of
all levels: guidance acts from the first step to the last. What a perfect network would say is known
in closed form, and where its ODE leads to is found to six digits by Runge-Kutta.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from sdfast.solver import NoiseSchedule

SCHEDULE = NoiseSchedule.scaled_linear()
GROUPS, DIMENSIONS, TREE = 8, 16, (4, 4, 8)
LEAVES = math.prod(TREE)
SIZE = GROUPS * DIMENSIONS


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
        precisions = 1 / (self.variances + ratio**2)
        y = (z @ self.turn).view(-1, GROUPS, DIMENSIONS).transpose(0, 1)
        pulls = self.means * precisions
        constant = (self.means * pulls - precisions.log()).sum(-1).unsqueeze(1)
        log_density = y @ pulls.mT - 0.5 * (y.square() @ precisions.mT + constant)

        def estimate(log_weights: Tensor | float) -> Tensor:
            share = (log_density + log_weights).softmax(-1)
            off = y * (share @ precisions) - share @ pulls
            return ratio * off.transpose(0, 1).flatten(1) @ self.turn.T

        if self.guidance is None:
            return estimate(0.0)
        return torch.lerp(estimate(0.0), estimate(self.prompted), self.guidance)


def problem(guidance: float | None) -> Problem:
    """The same problem every time; only the guidance is chosen."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def tree(*leaf: int) -> list[Tensor]:
        """One normal draw for each branch, level by level, shaped to be summed over leaves."""
        depths = range(1, len(TREE) + 1)
        return [normal(GROUPS, *TREE[:d], *(1 for _ in TREE[d:]), *leaf) for d in depths]

    turn = torch.linalg.qr(normal(SIZE, SIZE))[0]
    radii = (2.0, 1.6, 1.2)
    branches = [
        radius * draw / draw.norm(dim=-1, keepdim=True)
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
    odds = 0.3 * reduce(torch.add, tree()).reshape(GROUPS, 1, LEAVES)
    prompted = (odds - 6.0 * (torch.arange(LEAVES) % 4 != 0)).log_softmax(-1)
    return Problem(turn, means - means.mean(1, keepdim=True), variances, prompted, guidance)


def noises(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, SIZE, generator=generator, dtype=torch.float64)


class Answer(NamedTuple):
    """Where noises lead to, at the end of training and without any noise."""

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
    return (got - wanted).square().mean(-1).sqrt()
