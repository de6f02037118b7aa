"""The one step: an exact integral of the polynomial through what the network said.

From an anchor at node `here`, the probability-flow ODE has the solution (arXiv 2211.01095, eq. 9)

    x(there) = carry * x(here) + own(there) * integral of exp(u - u(there)) * estimate(u) du

Put the polynomial through the known estimates in place of `estimate` and the integral is a weighted
sum of them. (Of a line through two its value half a step on is taken for all of it: of the same
order, and what DPM-Solver++(2M) does.) The weights come from scalars only, so they are Python
floats. Where the estimates lie is not this module's concern: behind (multistep), ahead (singlestep)
or at the end of the step (the corrector of UniPC, arXiv 2302.04867), they all take part alike.

DPM-Solver++ integrates the image, DPM-Solver (arXiv 2206.00927) the noise. They are one formula:
exchange alpha with sigma and turn lam around.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sdfast.solver.predict import Target
from sdfast.solver.schedule import Node

_X, _W = np.polynomial.legendre.leggauss(24)


class Mixture(NamedTuple):
    """A step in numbers: `carry * anchor + sum(weight * estimate) + noise * z`.

    The newest estimate comes last; z is unit Gaussian.
    """

    carry: float
    weights: tuple[float, ...]
    noise: float = 0.0


class View(NamedTuple):
    """A node as seen from the integrated half: its `own` share, the `other`, and their log."""

    own: float
    other: float
    u: float


def view(node: Node, target: Target) -> View:
    """The node as a solver sees it that integrates the image, or the noise."""
    if target is Target.IMAGE:
        return View(node.alpha, node.sigma, node.lam)
    return View(node.sigma, node.alpha, -node.lam)


def mixture(
    here: Node,
    known: Sequence[Node],
    there: Node,
    target: Target,
    *,
    reference: bool = False,
    line: bool = False,
    eta: float = 0.0,
) -> Mixture:
    """The step from `here` to `there`, given estimates at the `known` nodes.

    The order is the number of estimates. One makes DDIM (arXiv 2010.02502), and as the only one it
    may end where no noise is left. Two take the midpoint weight of DPM-Solver++(2M), three the
    exact integral; with `line` two take that of the straight line, too, which diffusers and
    k-diffusion call solver type `heun`. `reference` halves the second difference's weight at three
    estimates, as the authors' code and diffusers do; that step is of second order only.

    With `eta` the step loses more of its noise than the ODE would and draws it anew: on the image
    SDE-DPM-Solver++ (arXiv 2211.01095, appendix), on the noise DDIM's eta (arXiv 2010.02502,
    eq. 16). At eta 1 and first order both are DDPM.
    """
    a, b = view(here, target), view(there, target)
    h = b.u - a.u
    on_image = target is Target.IMAGE
    rate = 1 + eta if on_image else 1.0
    carry = b.other / a.other * (math.exp(-eta * h) if on_image and eta else 1.0)
    noise = _fresh(there.sigma, abs(h), eta, on_image=on_image)
    kept = math.sqrt(b.own**2 - noise**2) if not on_image else b.own
    plain = kept - carry * a.own
    if len(known) == 1:
        return Mixture(carry, (plain,), noise)

    offsets = [view(node, target).u - a.u for node in known]
    if len(known) == 2 and not line:
        return Mixture(carry, _midpoint(offsets, plain, h), noise)
    weights = _exact(offsets, h, rate) * b.own
    if reference and len(known) == 3:
        weights = weights - 0.5 * b.own * _moment(2, h, rate) * _bend(offsets)
    return Mixture(carry, tuple(weights.tolist()), noise)


def _fresh(sigma: float, h: float, eta: float, *, on_image: bool) -> float:
    """How much new noise a step of length h draws on its way to `sigma`."""
    if not (eta and sigma):
        return 0.0
    if on_image:
        return sigma * math.sqrt(-math.expm1(-2 * eta * h))
    return min(1.0, eta * math.sqrt(-math.expm1(-2 * h))) * sigma


def _midpoint(offsets: Sequence[float], plain: float, h: float) -> tuple[float, ...]:
    """The estimate half a step on, by the straight line through two."""
    first, second = offsets
    share = (h / 2 - first) / (second - first)
    return plain * (1 - share), plain * share


def _exact(offsets: Sequence[float], h: float, rate: float = 1.0) -> np.ndarray:
    """Integrals of rate * exp(rate (u - h)) times each Lagrange polynomial over [0, h].

    The closed forms cancel badly for small h; 24 Gauss points are exact to rounding for
    any h that a schedule has (|h| below 30).
    """
    u, weight = _decaying(h, rate)
    return np.array([float(weight @ basis) for basis in lagrange(offsets, u)])


def lagrange(places: Sequence[float], u: np.ndarray) -> list[np.ndarray]:
    """For each place the polynomial that is 1 there and 0 at the others, read at u."""
    one = np.ones_like(u)
    return [
        math.prod(((u - other) / (own - other) for other in places if other != own), start=one)
        for own in places
    ]


def _moment(power: int, h: float, rate: float) -> float:
    u, weight = _decaying(h, rate)
    return float(weight @ u**power)


def _decaying(h: float, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Gauss points of [0, h], and their weights times rate * exp(rate (u - h))."""
    u, weight = gauss(h)
    return u, weight * rate * np.exp(rate * (u - h))


def gauss(h: float) -> tuple[np.ndarray, np.ndarray]:
    """Points of [0, h] and their weights, by which polynomials are integrated exactly."""
    return h / 2 * (_X + 1), h / 2 * _W


def _bend(offsets: Sequence[float]) -> np.ndarray:
    """The second divided difference through three points, as weights on them."""
    return np.array([1 / math.prod(own - o for o in offsets if o != own) for own in offsets])


def lam_lengths(nodes: Sequence[Node]) -> list[float]:
    """How far each step goes in lam, either way; to no noise at all it goes infinitely far."""
    return [abs(b.lam - a.lam) for a, b in pairwise(nodes)]
