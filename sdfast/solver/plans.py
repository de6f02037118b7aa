"""How the DPM-Solvers walk, written down before they begin."""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import accumulate, pairwise, zip_longest

from sdfast.sampler import Sampler
from sdfast.solver.predict import Target
from sdfast.solver.schedule import Node, NoiseSchedule
from sdfast.solver.spacing import Grid
from sdfast.solver.step import Mixture, lam_lengths, mixture
from sdfast.solver.table import HERE, Plan, Row

CAUTION = {2: (1.9, 3.0), 3: (1.1, 1.5)}
"""An order counts in full while a step is at most so many times as long as the one before it, and
not at all beyond the second number.

A polynomial through the past says little about a step much longer than the past. Near the image
evenly spaced times make such steps, whatever their number: a rule by step count, as in the authors'
code (below 10) and diffusers (below 15), only moves the jump in error to that count. A rule that
fades has no jump at all.
"""

REACH = {
    Target.IMAGE: {2: (0.5, 2.0), 3: (0.5, 1.5)},
    Target.NOISE: {2: (0.2, 1.5), 3: (0.25, 1.25)},
}
"""Inside a stride an order counts in full while a step ends no farther than the first number in
lam from the oldest estimate it takes, and not at all beyond the second.

One call more shifts all strides, and what guidance makes of a long one depends on where it begins:
the error of whole strides jumps up to fivefold from one guided call to the next. With these numbers
it never more than doubles between 8 and 50 calls on the mixtures of `sdfast bench --accuracy`; they
were found by trial there, and the noise needs the narrower ones.
"""

Shares = dict[int, float]
"""How much of a step is taken with each order; they add up to 1."""


def orders(nodes: Sequence[Node], sampler: Sampler) -> list[Shares]:
    """The orders of each step: rising from 1 as the past fills, lower where a step is long."""
    lengths = lam_lengths(nodes)
    if sampler.weights != "exact":
        return [{order: 1.0} for order in _reference_orders(len(lengths), sampler)]
    return [
        {1: 1.0}
        if there.lam == float("inf")
        else _multistep_shares(lengths[: i + 1], min(sampler.order, i + 1))
        for i, there in enumerate(nodes[1:])
    ]


def _multistep_shares(lengths: Sequence[float], order: int) -> Shares:
    """As much of the highest orders up to `order` as the newest step's length allows."""
    return _by_trust(order, lambda n: _fading(lengths[-1] / lengths[-2], *CAUTION[n]))


def _singlestep_shares(lengths: Sequence[float], target: Target) -> Shares:
    """As much of the highest orders as the lengths of a stride's steps so far allow."""
    reach = REACH[target]
    return _by_trust(len(lengths), lambda n: _fading(sum(lengths[-n:]), *reach[n]))


def _fading(value: float, full: float, none: float) -> float:
    """From 1 at `full` to 0 at `none`."""
    return min(1.0, max(0.0, (none - value) / (none - full)))


def _by_trust(order: int, trust: Callable[[int], float]) -> Shares:
    """Each order takes what it is trusted with of what those above it left; the first the rest."""
    shares: Shares = {}
    left = 1.0
    while order > 1 and left:
        share = left * trust(order)
        if share:
            shares[order] = share
        left, order = left - share, order - 1
    return shares | {1: left} if left else shares


def _reference_orders(steps: int, sampler: Sampler) -> list[int]:
    """diffusers' rule: first order to no noise, and the end slowed down below 15 steps.

    A walk begun in the middle counts the steps of the whole. The SDE is walked as in k-diffusion,
    which slows nothing down.
    """
    slow = max(steps, sampler.steps) < 15 and sampler.solver != "sde-dpm++"
    last = 1 if slow or sampler.final == "zero" else sampler.order
    by_end = {1: last, 2: 2 if slow else sampler.order}
    return [min(sampler.order, i + 1, by_end.get(steps - i, 3)) for i in range(steps)]


def multistep(grid: Grid, sampler: Sampler, target: Target) -> Plan:
    """One call per step; the past supplies the higher orders (arXiv 2211.01095, algorithm 2).

    With the corrector each step is taken again once the network has been asked where it led: the
    UniC of UniPC (arXiv 2302.04867), which costs no call of its own. Noise that a step draws, and
    corrections fitted to a model, are numbers in the same rows.
    """
    reference = sampler.weights != "exact"
    third_of_the_sde = reference and sampler.solver == "sde-dpm++" and sampler.order == 3
    line = third_of_the_sde or sampler.weights == "heun"
    fitted = sampler.corrections or ((),) * len(grid)
    plan: list[Row] = []
    for i, (shares, (here, there)) in enumerate(
        zip(orders(grid, sampler), pairwise(grid), strict=True)
    ):
        settle = HERE
        if sampler.corrector and i:
            known = grid[max(0, i - sampler.order) : i + 1]
            settle = _instead(plan[-1].go, mixture(grid[i - 1], known, here, target))
        of_each = {
            order: mixture(
                here,
                grid[i + 1 - order : i + 1],
                there,
                target,
                reference=reference,
                line=line,
                eta=sampler.noisy,
            )
            for order in shares
        }
        plan.append(Row(here, settle, _corrected(_blended(of_each, shares), fitted[i])))
    return tuple(plan)


def _instead(taken: Mixture, better: Mixture) -> Mixture:
    """From where one step led to where a better one with one estimate more would have led.

    Both carry the same anchor, so that only the estimates count.
    """
    return Mixture(1.0, _summed(better.weights, tuple(-w for w in (*taken.weights, 0.0))))


def _blended(of_each: dict[int, Mixture], shares: Shares) -> Mixture:
    """One step of several orders' steps, which carry and draw alike and weigh differently."""
    carry, _, noise = next(iter(of_each.values()))
    weights = reduce(
        _summed, ([share * w for w in of_each[n].weights] for n, share in shares.items())
    )
    return Mixture(carry, tuple(weights), noise)


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
    the inside and, at order 3, the exact quadratic through all of them. The highest order begins
    where the stride does; what a long stride leaves to a lower one goes on from the newest node.
    """
    plan: list[Row] = []
    whole = sampler.weights == "reference"
    for stride in _cut(grid, sampler):
        lengths = lam_lengths(stride)
        taken = HERE
        for i, (here, there) in enumerate(pairwise(stride)):
            known = stride[: i + 1]
            shares = {i + 1: 1.0} if whole else _singlestep_shares(lengths[: i + 1], target)
            of_each = {
                order: mixture(stride[0], known, there, target)
                if order == i + 1
                else _onward(taken, mixture(here, known[-order:], there, target))
                for order in shares
            }
            taken = _blended(of_each, shares)
            plan.append(Row(here, None if i else HERE, taken))
    return tuple(plan)


def midpoint(grid: Grid, sampler: Sampler, target: Target, schedule: NoiseSchedule) -> Plan:
    """Two calls a step, the second half-way in lam, whose estimate alone decides on the step.

    DPM-Solver-2 (arXiv 2206.00927, algorithm 1 with r1 = 1/2) and DPM-Solver++(2S) (arXiv
    2211.01095, algorithm 1); with eta, what k-diffusion calls DPM2 a and DPM++ 2S a, and for the
    SDE, at eta 0 and 1, its DPM++ SDE. A step to no noise at all makes one call.
    """
    two = _halves_of_the_sde if sampler.solver == "sde-dpm++" else _halves
    plan: list[Row] = []
    for here, there in pairwise(grid):
        if there.sigma:
            plan += two(here, there, sampler.noisy, target, schedule)
        else:
            plan.append(Row(here, HERE, mixture(here, [here], there, target)))
    return tuple(plan)


def _halves(
    here: Node, there: Node, eta: float, target: Target, schedule: NoiseSchedule
) -> tuple[Row, Row]:
    """A step with its second call half-way; at eta 1 that is where it ends."""
    down, noise = ancestral(here, there, eta)
    lam = (here.lam + down.lam) / 2
    at_its_end = math.isclose(lam, there.lam, abs_tol=1e-9)
    half = there if at_its_end else schedule.at_lam(lam)
    step = mixture(here, [half], down, target)
    return (
        Row(here, HERE, mixture(here, [here], half, target)),
        Row(half, None, step._replace(noise=noise)),
    )


def ancestral(here: Node, there: Node, eta: float) -> tuple[Node, float]:
    """Where a step goes that draws noise afterwards, to less than `there` has, and how much.

    At eta 1 it is what the diffusion itself would have put between the two (arXiv 2006.11239,
    eq. 7).
    """
    share = eta * (1 - (there.noise_ratio / here.noise_ratio) ** 2) ** 0.5 if eta else 0.0
    return Node(there.t, there.alpha, there.sigma * (1 - share**2) ** 0.5), there.sigma * share


def _halves_of_the_sde(
    here: Node, there: Node, eta: float, target: Target, schedule: NoiseSchedule
) -> tuple[Row, Row]:
    """A step that draws half-way, too; that noise is a part of the whole step's.

    How large a part, is k-diffusion's: as of one Brownian motion whose clock is sigma / alpha.
    """
    half = schedule.at_lam((here.lam + there.lam) / 2)
    begin, middle, end = (node.noise_ratio for node in (here, half, there))
    part = (begin - middle) / (begin - end) if begin > end else 0.0  # none is drawn on no way
    step = mixture(here, [half], there, target, eta=eta)
    new, again = (step.noise * share**0.5 for share in (1 - part, part))
    return (
        Row(here, HERE, mixture(here, [here], half, target, eta=eta)),
        Row(half, None, step._replace(noise=new), again),
    )


def _onward(taken: Mixture, step: Mixture) -> Mixture:
    """Two steps on end as one, neither drawing noise; the second has one estimate more."""
    before = (*(step.carry * w for w in taken.weights), 0.0)
    return Mixture(taken.carry * step.carry, _summed(before, step.weights))


def _cut(grid: Grid, sampler: Sampler) -> list[Grid]:
    """The grid in strides; a step to no noise at all stands alone."""
    steps = len(grid) - 1
    alone = steps > 1 and grid[-1].lam == float("inf")
    sizes = [*_SIZES[sampler.method](steps - alone, sampler.order), *[1] * alone]
    edges = [0, *accumulate(sizes)]
    return [grid[a : b + 1] for a, b in pairwise(edges)]


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
