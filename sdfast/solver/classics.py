"""The samplers beside the DPM-Solvers, in the same table: PNDM, consistency, black boxes.

A black-box solver knows no more than a slope. Here the slope is linear in what the network says, so
its stages, too, become one carry and a few weights each.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from sdfast.solver.predict import Target
from sdfast.solver.schedule import NoiseSchedule
from sdfast.solver.spacing import Grid
from sdfast.solver.step import Mixture, gauss, lagrange, mixture
from sdfast.solver.table import HERE, Plan, Row

_ADAMS_BASHFORTH = (
    (1.0,),
    (-1 / 2, 3 / 2),
    (5 / 12, -16 / 12, 23 / 12),
    (-9 / 24, 37 / 24, -59 / 24, 55 / 24),
)


def _ddim_step(grid: Grid, i: int, shares: Sequence[float], target: Target) -> Mixture:
    """DDIM's step from node i, with its one estimate mixed of several."""
    carry, (plain,), _ = mixture(grid[i], grid[i : i + 1], grid[i + 1], target)
    return Mixture(carry, tuple(plain * share for share in shares))


def plms(grid: Grid, target: Target) -> Plan:
    """PNDM as Stable Diffusion shipped it: DDIM's step with an Adams-Bashforth mix of the past.

    The pseudo linear multistep of arXiv 2202.09778 (eq. 9 and 12). Its first step is taken twice,
    the second time with the mean of both its ends, so n steps make n + 1 calls; the estimate at the
    first arrival is used for that alone, which leaves a hole in the later mixes.
    """
    plan = [Row(grid[0], HERE, _ddim_step(grid, 0, (1.0,), target))]
    if len(grid) > 2:
        plan.append(Row(grid[1], None, _ddim_step(grid, 0, (0.5, 0.5), target)))
    for i in range(1, len(grid) - 1):
        first, *rest = _ADAMS_BASHFORTH[min(i, 3)]
        shares = (first, 0.0, *rest) if i <= 3 else (first, *rest)
        plan.append(Row(grid[i], HERE, _ddim_step(grid, i, shares, target)))
    return tuple(plan)


def heun(grid: Grid, target: Target) -> Plan:
    """Heun's method in sigma / alpha (arXiv 2206.00364, algorithm 1); Euler's where no noise is.

    Each step asks at both its ends and takes the mean of the slopes; a step to no noise at all has
    but one end to ask at.
    """
    plan: list[Row] = []
    for i, (here, there) in enumerate(pairwise(grid)):
        plan.append(Row(here, HERE, _ddim_step(grid, i, (1.0,), target)))
        if there.sigma:
            plan.append(Row(there, None, _ddim_step(grid, i, (0.5, 0.5), target)))
    return tuple(plan)


def lms(grid: Grid) -> Plan:
    """The linear multistep of k-diffusion: sigma / alpha is integrated over, as by Euler and Heun.

    Each step goes along the polynomial through the noise seen at its beginning and up to three
    times before: Adams and Bashforth's method for uneven steps.
    """
    plan: list[Row] = []
    for i, (here, there) in enumerate(pairwise(grid)):
        offsets = [n.noise_ratio - here.noise_ratio for n in grid[max(0, i - 3) : i + 1]]
        u, weight = gauss(there.noise_ratio - here.noise_ratio)
        weights = tuple(there.alpha * float(weight @ one) for one in lagrange(offsets, u))
        plan.append(Row(here, HERE, Mixture(there.alpha / here.alpha, weights)))
    return tuple(plan)


def lcm(grid: Grid) -> Plan:
    """Multistep consistency sampling (arXiv 2303.01469, algorithm 1) of a latent consistency model.

    Each step goes all the way to the image, and from there to the next node with new noise. What
    the boundary condition adds (arXiv 2310.04378, section 4.1) is left out: at the times at which
    these models are distilled it is below a hundred-thousandth.
    """
    return tuple(
        Row(here, HERE, Mixture(0.0, (there.alpha,), there.sigma)) for here, there in pairwise(grid)
    )


Tableau = tuple[tuple[float, ...], ...]
"""Where each stage stands from what the stages before it said; the last row is the step."""

_TABLEAUS: dict[int, Tableau] = {
    1: ((), (1,)),
    2: ((), (1,), (1 / 2, 1 / 2)),
    3: ((), (1 / 2,), (-1, 2), (1 / 6, 4 / 6, 1 / 6)),
    4: ((), (1 / 2,), (0, 1 / 2), (0, 0, 1), (1 / 6, 2 / 6, 2 / 6, 1 / 6)),
    6: (
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
}
"""Runge-Kutta's methods by their calls: Euler, Heun, Kutta, the classical one, Dormand-Prince."""


def rk45(schedule: NoiseSchedule, steps: int) -> Plan:
    """The ODE in time, dx/dt = f x - f eps / sigma with f = d log alpha / dt, as a black box.

    Dormand and Prince's fifth order in strides of six calls of equal length; the calls that are
    left over make a shorter first stride of lower order. Ends at the cleanest node.
    """
    rest = steps % 6
    calls = {5: [1, 4], 0: []}.get(rest, [rest]) + [6] * (steps // 6)
    whole = schedule.last - schedule.first
    ends = [schedule.first + whole * n / steps for n in accumulate(calls, initial=0)]
    return tuple(
        row
        for count, (t, end) in zip(calls, pairwise(ends), strict=True)
        for row in _stride(schedule, t, end - t, _TABLEAUS[count])
    )


def _stride(schedule: NoiseSchedule, t: float, h: float, tableau: Tableau) -> list[Row]:
    """One stride: every stage as a mix of the anchor and of the noise seen at the stages before."""
    rows: list[Row] = []
    slopes: list[tuple[float, list[float]]] = []
    place = Mixture(1.0, ())
    for i, shares in enumerate(tableau[1:]):
        node = schedule.at(t + h * sum(tableau[i]))
        f = _slope(schedule, node.t)
        slopes.append((f * place.carry, [f * w for w in place.weights] + [-f / node.sigma]))
        carry = 1 + h * sum(a * slope for a, (slope, _) in zip(shares, slopes, strict=True))
        weights = [
            h * sum(a * w[j] for a, (_, w) in zip(shares, slopes, strict=True) if j < len(w))
            for j in range(i + 1)
        ]
        place = Mixture(carry, tuple(weights))
        rows.append(Row(node, None if i else HERE, place))
    return rows


def _slope(schedule: NoiseSchedule, t: float) -> float:
    """d log alpha / dt, in discrete time over the training step around t."""
    half = 1e-6 if schedule.steps is None else 0.5
    a, b = t - half, t + half
    if schedule.steps is not None:
        a, b = max(schedule.last, a), min(schedule.first, b)
    return (schedule.log_alpha(b) - schedule.log_alpha(a)) / (b - a)
