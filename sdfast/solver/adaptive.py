"""A walk that chooses its own steps: DPM-Solver-12 and -23 (arXiv 2206.00927, appendix C).

Each stride is taken with two orders at once; where they agree the next stride is longer, where they
do not it is tried again, shorter. Every picture is walked by itself, so that none waits for or
depends on another. To compare the two the walk has to look at its numbers: one host-device
synchronisation a stride. The paper's strides may be of any length, these not; see `LONGEST`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

from sdfast.sampler import Sampler
from sdfast.solver.predict import Target
from sdfast.solver.schedule import CLEAN, Node, NoiseSchedule
from sdfast.solver.step import Mixture, mixture
from sdfast.solver.table import mix

FIRST = 0.05
"""The first stride in lam: the paper's h_init."""
SAFETY = 0.9
"""By how much the next stride is shorter than the error would allow: theta."""
ABSOLUTE = 0.0078
"""Error that a number may always have: epsilon_atol."""
RELATIVE = 0.05
"""And as a share of the number: epsilon_rtol, which `tolerance` sets."""

LONGEST = 1.0
"""A stride in lam. Where there is next to no signal both orders agree on anything, as neither has
seen a thing: without an end, the next stride leapt over where samples decide on their mode.
"""

_STAGES = {2: (1 / 2,), 3: (1 / 3, 2 / 3)}
"""Where inside a stride the network is asked, by the higher order."""

MOST = 2_000
"""Strides that a walk may try."""


class Stride(NamedTuple):
    """A stride of both orders, written down: where to ask on the way, and both its ends."""

    inside: tuple[tuple[Node, Mixture], ...]
    low: Mixture
    high: Mixture


def adaptive(
    x: Tensor,
    sampler: Sampler,
    schedule: NoiseSchedule,
    predict: Callable[[Tensor, Node], Tensor],
    target: Target,
) -> Iterator[Tensor]:
    """Yield where the walk stands after each network call; the last one is the image.

    Raises FloatingPointError if the tolerance cannot be met.
    """
    relative = RELATIVE if sampler.tolerance is None else sampler.tolerance
    absolute = ABSOLUTE * relative / RELATIVE
    here, h, before = schedule.start, FIRST, x
    first = predict(x, here)
    yield x
    for _ in range(MOST):
        h = min(h, LONGEST, schedule.end.lam - here.lam)
        whole = here.lam + h >= schedule.end.lam - 1e-9
        there = schedule.end if whole else schedule.at_lam(here.lam + h)
        inside = [schedule.at_lam(here.lam + r * h) for r in _STAGES[sampler.order]]
        stride = _stride(here, there, inside, target)
        past = [first]
        for i, (node, go) in enumerate(stride.inside):
            if i:
                yield x
            past.append(predict(mix(x, go, past), node))
        low, high = mix(x, stride.low, past[:-1]), mix(x, stride.high, past)
        allowed = (low.abs().maximum(before.abs()) * relative).clamp_min(absolute)
        error = float(((high - low) / allowed).detach().square().mean().sqrt())
        if not math.isfinite(error):
            raise FloatingPointError("the walk came upon numbers that are not finite")
        if error <= 1:
            before, x, here = low, high, there
        yield x
        if here.lam >= schedule.end.lam:
            break
        if error <= 1:
            first = predict(x, here)
            yield x
        h = SAFETY * h * max(1e-8, error) ** (-1 / sampler.order)
    else:
        raise FloatingPointError(f"no stride is short enough for a tolerance of {relative:g}")
    if sampler.final == "zero":
        yield mix(x, mixture(here, (here,), CLEAN, target), [predict(x, here)])


def _stride(here: Node, there: Node, inside: Sequence[Node], target: Target) -> Stride:
    asked = (here, *inside)
    ways = tuple((node, mixture(here, asked[:i], node, target)) for i, node in enumerate(inside, 1))
    low, high = (mixture(here, asked[:n], there, target) for n in (len(inside), len(asked)))
    return Stride(ways, low, high)
