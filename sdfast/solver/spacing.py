"""Where to ask the network on the way from noise to image.

A spacing names the nodes of a walk of n steps, noisiest first. The walk's end is added to them: no
noise at all (`zero`), or the cleanest node the network was trained on (`sigma_min`).
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from sdfast.sampler import Sampler
from sdfast.solver.quantiles import quantiles
from sdfast.solver.schedule import CLEAN, Array, Node, NoiseSchedule

Grid = tuple[Node, ...]
"""n + 1 nodes for n steps, noisiest first."""

Spacing = Callable[[NoiseSchedule, Sampler], list[Node]]


_ROUNDING = 1e-6


def grid(schedule: NoiseSchedule, sampler: Sampler) -> Grid:
    """The nodes of a walk, its end included. Raises ValueError where the schedule has none such."""
    end = CLEAN if sampler.final == "zero" else schedule.end
    span = f"from {schedule.first:g} down to {schedule.last:g}"
    if sampler.timesteps is None:
        asked = SPACINGS[sampler.spacing](schedule, sampler)
        if not _within(schedule, asked[0].t, asked[-1].t):
            raise ValueError(f"a walk of {sampler.steps} steps would leave the times {span}")
    else:
        if not _within(schedule, sampler.timesteps[0], sampler.timesteps[-1]):
            raise ValueError(f"timesteps must lie {span}")
        asked = [schedule.at(t) for t in sampler.timesteps]
    if any(here.lam >= there.lam for here, there in pairwise(asked)):
        raise ValueError(
            "two steps begin at the same noise; fewer steps or a milder spacing part them"
        )
    return *asked, end


def _within(schedule: NoiseSchedule, first: float, last: float) -> bool:
    return first <= schedule.first + _ROUNDING and last >= schedule.last - _ROUNDING


def _at(schedule: NoiseSchedule, times: Array) -> list[Node]:
    return [schedule.at(float(t)) for t in times]


def _count(schedule: NoiseSchedule) -> int:
    """How many training steps there are. Raises ValueError in continuous time, which has none."""
    if schedule.steps is None:
        raise ValueError("this spacing counts training steps, and continuous time has none")
    return schedule.steps


def _whole(numbers: Array, rounded: Callable[[Array], Array] = np.round) -> Array:
    """Numbers as whole ones, unless two would become one."""
    whole = rounded(numbers)
    return whole if len(np.unique(whole)) == len(whole) else numbers


def _power(schedule: NoiseSchedule, sampler: Sampler) -> list[Node]:
    """t = last + (first - last) (1 - i/n)^rho: uniform for rho 1, "quadratic" for rho 2."""
    shares = 1 - np.arange(sampler.steps) / sampler.steps
    rho = 2.0 if sampler.rho is None else sampler.rho
    return _at(schedule, schedule.last + (schedule.first - schedule.last) * shares**rho)


def _beta(schedule: NoiseSchedule, sampler: Sampler) -> list[Node]:
    """Quantiles of a beta distribution (arXiv 2407.12173): alpha shapes the end, beta the start.

    Whole training steps if the walk ends without noise, as ComfyUI asks (which drops those that
    coincide, from 139 steps on).
    """
    alpha, beta = (0.6 if shape is None else shape for shape in (sampler.alpha, sampler.beta))
    shares = np.array(quantiles(sampler.steps, alpha, beta))
    times = schedule.last + (schedule.first - schedule.last) * shares
    times = np.round(times, 9)  # a half is one then, and goes to the even number as there
    rounds = sampler.final == "zero" and schedule.steps is not None
    return _at(schedule, _whole(times) if rounds else times)


def _uniform(schedule: NoiseSchedule, sampler: Sampler) -> list[Node]:
    """Evenly spaced in time, as the authors' `time_uniform`."""
    return _at(schedule, np.linspace(schedule.first, schedule.last, sampler.steps + 1)[:-1])


def _normal(schedule: NoiseSchedule, sampler: Sampler) -> list[Node]:
    """Evenly spaced in time, the cleanest node among those asked: k-diffusion's own, plain one.

    Between two training steps it goes straight in the logarithm of sigma, so this does, too.
    """
    times = np.linspace(schedule.first, schedule.last, _ends(sampler))
    if schedule.steps is None:
        return _at(schedule, times[: sampler.steps])
    below = np.minimum(np.floor(times), schedule.first - 1)
    low, high = (np.array([n.lam for n in _at(schedule, t)]) for t in (below, below + 1))
    return _in_lam(schedule, low + (times - below) * (high - low), sampler)


def _linspace(schedule: NoiseSchedule, sampler: Sampler) -> list[Node]:
    """Evenly spaced whole training steps, as diffusers' `linspace` of its DPM-Solvers."""
    times = np.linspace(0, _count(schedule) - 1, sampler.steps + 1, dtype=np.float64)
    return _at(schedule, _whole(times)[:0:-1])


def _trailing(schedule: NoiseSchedule, sampler: Sampler) -> list[Node]:
    """Counted back from the last training step, as diffusers' `trailing`."""
    count = _count(schedule)
    return _at(schedule, _whole(count - np.arange(sampler.steps) * count / sampler.steps) - 1)


def _simple(schedule: NoiseSchedule, sampler: Sampler) -> list[Node]:
    """Counted back from the last training step and rounded up, as the web UIs' `simple`."""
    stride = _count(schedule) / sampler.steps
    back = np.arange(sampler.steps, dtype=np.float64) * stride
    return _at(schedule, schedule.first - _whole(back, np.floor))


_DISTILLED = 50
"""Times that latent consistency models are distilled at, evenly spaced."""


def _lcm(schedule: NoiseSchedule, sampler: Sampler) -> list[Node]:
    """Spread over the fifty times of a latent consistency model (arXiv 2310.04378, section 4.3).

    More steps than that fall between them.
    """
    stride = _count(schedule) // _DISTILLED or _count(schedule) / _DISTILLED
    which: Array = np.arange(sampler.steps) * _DISTILLED / sampler.steps
    return _at(schedule, schedule.first - stride * _whole(which, np.floor))


def _leading(schedule: NoiseSchedule, sampler: Sampler) -> list[Node]:
    """Counted up from training step 1, as Stable Diffusion's DDIM and PNDM have it.

    The DPM-Solvers count one step more, so that their walk begins nearer to the start.
    """
    more = sampler.solver in ("dpm++", "dpm", "sde-dpm++")
    among = sampler.steps + more
    stride = _count(schedule) // among or schedule.first / among
    times: Array = np.arange(more, among, dtype=np.float64) * stride + 1
    beyond = max(0.0, times[-1] - schedule.first)
    return _at(schedule, times[::-1] - beyond)


def _ends(sampler: Sampler) -> int:
    """How many nodes reach from the first to the cleanest node, so that n are asked."""
    return sampler.steps if sampler.final == "zero" else sampler.steps + 1


def _in_lam(schedule: NoiseSchedule, lams: Array, sampler: Sampler) -> list[Node]:
    return [schedule.at_lam(float(lam)) for lam in lams[: sampler.steps]]


def _logsnr(schedule: NoiseSchedule, sampler: Sampler) -> list[Node]:
    """Evenly spaced in lam: every step removes the same share of the noise."""
    count = _ends(sampler)
    return _in_lam(schedule, np.linspace(schedule.start.lam, schedule.end.lam, count), sampler)


def _karras(schedule: NoiseSchedule, sampler: Sampler) -> list[Node]:
    """Evenly spaced in sigma^(1/rho), rho 7 (arXiv 2206.00364, eq. 5)."""
    rho = 7.0 if sampler.rho is None else sampler.rho
    most, least = (node.noise_ratio ** (1 / rho) for node in (schedule.start, schedule.end))
    ratios: Array = np.linspace(most, least, _ends(sampler), dtype=np.float64) ** rho
    return _in_lam(schedule, -np.log(ratios), sampler)


_AYS = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)


def _ays(schedule: NoiseSchedule, sampler: Sampler) -> list[Node]:
    """Align Your Steps for Stable Diffusion 1.5 (arXiv 2404.14507), drawn out smoothly to any n.

    Straight lines between its eleven points, as other programs draw, would bend where the points
    are, and the error would jump with the step counts at which a step falls on a bend.
    """
    lams = _smooth(-np.log(_AYS), np.linspace(0, len(_AYS) - 1, sampler.steps + 1))
    inside = np.clip(lams, schedule.start.lam, schedule.end.lam)
    return _in_lam(schedule, inside, sampler)


def _smooth(heights: Array, wanted: Array) -> Array:
    """The rising curve through heights at 0, 1, 2, ...: Hermite's cubics, no steeper than they are.

    Slopes are harmonic means of the rises on both sides (Fritsch and Butland, 1984).
    """
    rises = np.diff(heights)
    inner = 2 / (1 / rises[1:] + 1 / rises[:-1])
    slopes = np.concatenate([rises[:1], inner, rises[-1:]])
    left = np.minimum(wanted.astype(int), len(rises) - 1)
    u = wanted - left
    way = u**2 * (3 - 2 * u)
    bend = u * (1 - u) * ((1 - u) * slopes[left] - u * slopes[left + 1])
    return heights[left] + way * rises[left] + bend


SPACINGS: dict[str, Spacing] = {
    "uniform": _uniform,
    "normal": _normal,
    "rho": _power,
    "beta": _beta,
    "logsnr": _logsnr,
    "karras": _karras,
    "exponential": _logsnr,
    "ays": _ays,
    "linspace": _linspace,
    "leading": _leading,
    "trailing": _trailing,
    "simple": _simple,
    "lcm": _lcm,
}
