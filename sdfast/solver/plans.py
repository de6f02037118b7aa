"""How the DPM-Solvers walk, written down before they begin."""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise, zip_longest

from sdfast.sampler import Sampler
from sdfast.solver.predict import Target
from sdfast.solver.schedule import Node
from sdfast.solver.spacing import Grid
from sdfast.solver.step import Mixture, mixture, strides
from sdfast.solver.table import HERE, Plan, Row

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
    UniC of UniPC (arXiv 2302.04867), which costs no call of its own. Noise that a step draws, and
    corrections fitted to a model, are numbers in the same rows.
    """
    reference = sampler.weights == "reference"
    fitted = sampler.corrections or ((),) * len(grid)
    plan: list[Row] = []
    for i, (order, (here, there)) in enumerate(
        zip(orders(grid, sampler), pairwise(grid), strict=True)
    ):
        settle = HERE
        if sampler.corrector and i:
            known = grid[max(0, i - sampler.order) : i + 1]
            settle = _instead(plan[-1].go, mixture(grid[i - 1], known, here, target))
        past = grid[i + 1 - order : i + 1]
        go = mixture(here, past, there, target, reference=reference, eta=sampler.noisy)
        plan.append(Row(here, settle, _corrected(go, fitted[i])))
    return tuple(plan)


def _instead(taken: Mixture, better: Mixture) -> Mixture:
    """From where one step led to where a better one with one estimate more would have led.

    Both carry the same anchor, so that only the estimates count.
    """
    return Mixture(1.0, _summed(better.weights, tuple(-w for w in (*taken.weights, 0.0))))


def _corrected(go: Mixture, by: Sequence[float]) -> Mixture:
    if not by:
        return go
    return Mixture(go.carry + by[0], _summed(go.weights, by[1:]), go.noise)


def _summed(a: Sequence[float], b: Sequence[float]) -> tuple[float, ...]:
    """Weights added, the newest estimates' to each other."""
    pairs = zip_longest(reversed(a), reversed(b), fillvalue=0.0)
    return tuple(x + y for x, y in pairs)[::-1]


def singlestep(grid: Grid, sampler: Sampler, target: Target) -> Plan:
    """Strides of up to `order` calls; the nodes inside a stride supply the higher orders.

    After DPM-Solver-2 and -3 (arXiv 2206.00927, algorithms 1 and 2), with the grid's own nodes in
    the inside and, at order 3, the exact quadratic through all of them.
    """
    plan: list[Row] = []
    for stride in _cut(grid, sampler):
        here, *inside = stride[:-1]
        asked = (here, *inside)
        for i, (node, there) in enumerate(pairwise(stride)):
            settle = None if i else HERE
            plan.append(Row(node, settle, mixture(here, asked[: i + 1], there, target)))
    return tuple(plan)


def _cut(grid: Grid, sampler: Sampler) -> list[Grid]:
    """The grid in strides; a last step that is long beside the one before is taken alone."""
    last = len(grid) - 1
    order = min(sampler.order, last)
    end = last - (_trusted(strides(grid), order) < order)
    sizes = _SIZES[sampler.method](end, sampler.order) + [1] * (last - end)
    return [grid[a : b + 1] for a, b in pairwise(accumulate(sizes, initial=0))]


def _rest_first(steps: int, order: int) -> list[int]:
    """What is left over makes a shorter first stride, where least is decided."""
    rest = steps % order
    return [rest] * (rest > 0) + [order] * (steps // order)


def _rest_last(steps: int, order: int) -> list[int]:
    """DPM-Solver-fast (arXiv 2206.00927, section 3.4): the order falls in the last strides."""
    full, rest = divmod(steps, order)
    if rest or order == 1 or not full:
        return [order] * full + [rest] * (rest > 0)
    return [order] * (full - 1) + [order - 1, 1]


_SIZES: dict[str, Callable[[int, int], list[int]]] = {
    "singlestep": _rest_first,
    "fast": _rest_last,
}

PLANS: dict[str, Callable[[Grid, Sampler, Target], Plan]] = {
    "multistep": multistep,
    "singlestep": singlestep,
    "fast": singlestep,
}
"""By the method's name."""
