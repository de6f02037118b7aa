"""How a walk goes, written down before it begins.

A plan is a table with one row for each network call. It holds floats only: computed once, in
float64, and the same for every picture of a batch. A multistep walk looks behind, a singlestep walk
looks ahead from its anchor, a corrector returns to the anchor with what it has learnt; in the table
they differ by their numbers alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sdfast.job import Sampler
from sdfast.solver.predict import Target
from sdfast.solver.schedule import Node
from sdfast.solver.spacing import Grid
from sdfast.solver.step import Mixture, mixture, strides

HERE = Mixture(1.0, ())
"""Settle where the network was asked."""


@dataclass(frozen=True, slots=True)
class Row:
    """One network call and what follows from it."""

    node: Node
    """Where the network is asked."""
    settle: Mixture | None
    """The new anchor: the point asked at (HERE), that point corrected, or none (the old one)."""
    go: Mixture
    """From the anchor to the point asked at next; after the last row, to the image."""


Plan = tuple[Row, ...]

CAUTION = {2: 2.0, 3: 1.4}
"""A step of this order may be at most so many times as long as the one before it.

A polynomial through the past says little about a step much longer than the past. Near the image
evenly spaced times make such steps, whatever their number: a rule by step count, as in the authors'
code (below 10) and diffusers (below 15), only moves the jump in error to that count.
"""


def orders(nodes: Sequence[Node], sampler: Sampler) -> list[int]:
    """The order of each step: rising from 1 as the past fills, lower where a step is long."""
    lengths = strides(nodes)
    if sampler.weights == "reference":
        return _reference_orders(len(lengths), sampler)
    return [
        1 if there.lam == float("inf") else _trusted(lengths[: i + 1], min(sampler.order, i + 1))
        for i, there in enumerate(nodes[1:])
    ]


def _trusted(lengths: Sequence[float], order: int) -> int:
    """The highest order up to `order` that the newest step's length allows."""
    while order > 1 and lengths[-1] > CAUTION[order] * lengths[-2]:
        order -= 1
    return order


def _reference_orders(steps: int, sampler: Sampler) -> list[int]:
    """diffusers' rule: first order to no noise, and the end slowed down below 15 steps."""
    slow = steps < 15
    last = 1 if slow or sampler.final == "zero" else sampler.order
    by_end = {1: last, 2: 2 if slow else sampler.order}
    return [min(sampler.order, i + 1, by_end.get(steps - i, 3)) for i in range(steps)]


def multistep(grid: Grid, sampler: Sampler, target: Target) -> Plan:
    """One call per step; the past supplies the higher orders (arXiv 2211.01095, algorithm 2).

    With the corrector each step is taken again once the network has been asked where it led: the
    UniC of UniPC (arXiv 2302.04867), which costs no call of its own.
    """
    reference = sampler.weights == "reference"
    plan: list[Row] = []
    for i, (order, (here, there)) in enumerate(
        zip(orders(grid, sampler), pairwise(grid), strict=True)
    ):
        settle = HERE
        if sampler.corrector and i:
            known = grid[max(0, i - sampler.order) : i + 1]
            settle = mixture(grid[i - 1], known, here, target)
        go = mixture(here, grid[i + 1 - order : i + 1], there, target, reference=reference)
        plan.append(Row(here, settle, go))
    return tuple(plan)


def singlestep(grid: Grid, sampler: Sampler, target: Target) -> Plan:
    """Strides of `order` calls; the nodes inside a stride supply the higher orders.

    After DPM-Solver-2 and -3 (arXiv 2206.00927, algorithms 1 and 2), with the grid's own nodes in
    the inside and, at order 3, the exact quadratic through all of them. What is left over makes a
    shorter first stride, where least is decided, and a last step that is long beside the one
    before is taken alone.
    """
    plan: list[Row] = []
    for stride in _cut(grid, sampler.order):
        here, *inside = stride[:-1]
        asked = (here, *inside)
        for i, (node, there) in enumerate(pairwise(stride)):
            settle = None if i else HERE
            plan.append(Row(node, settle, mixture(here, asked[: i + 1], there, target)))
    return tuple(plan)


def _cut(grid: Grid, order: int) -> list[Grid]:
    """The grid in runs of `order` steps, the rest in front of them and a long last step behind."""
    last = len(grid) - 1
    full = min(order, last)
    end = last - (_trusted(strides(grid), full) < full)
    cuts = sorted({0, *range(end % order, end + 1, order), last})
    return [grid[a : b + 1] for a, b in pairwise(cuts)]


_ADAMS_BASHFORTH = (
    (1.0,),
    (-1 / 2, 3 / 2),
    (5 / 12, -16 / 12, 23 / 12),
    (-9 / 24, 37 / 24, -59 / 24, 55 / 24),
)


def plms(grid: Grid, sampler: Sampler, target: Target) -> Plan:
    """PNDM as Stable Diffusion shipped it: DDIM's step with an Adams-Bashforth mix of the past.

    The pseudo linear multistep of arXiv 2202.09778 (eq. 9 and 12). Its first step is taken twice,
    the second time with the mean of both its ends, so n steps make n + 1 calls; the estimate at the
    first arrival is used for that alone, which leaves a hole in the later mixes.
    """
    del sampler

    def step(i: int, shares: Sequence[float]) -> Mixture:
        carry, (plain,) = mixture(grid[i], grid[i : i + 1], grid[i + 1], target)
        return Mixture(carry, tuple(plain * share for share in shares))

    plan = [Row(grid[0], HERE, step(0, (1.0,)))]
    if len(grid) > 2:
        plan.append(Row(grid[1], None, step(0, (0.5, 0.5))))
    for i in range(1, len(grid) - 1):
        first, *rest = _ADAMS_BASHFORTH[min(i, 3)]
        plan.append(Row(grid[i], HERE, step(i, (first, 0.0, *rest) if i <= 3 else (first, *rest))))
    return tuple(plan)


PLANS: dict[str, Callable[[Grid, Sampler, Target], Plan]] = {
    "pndm": plms,
    "multistep": multistep,
    "singlestep": singlestep,
}
"""By the solver's name, else by its method's."""
