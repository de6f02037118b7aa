"""The samplers that k-diffusion named, beside its formulas in sigma, and beside diffusers'."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
)

from sdfast import NoiseSchedule, Sampler, infotext, solve
from sdfast.job import read_job, read_sampler
from sdfast.solver.spacing import grid
from sdfast.solver.walk import plan

SCHEDULE = NoiseSchedule.scaled_linear()
STABLE_DIFFUSION = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
MEAN, SPREAD = 0.7, 0.5
ONE = np.polynomial.Polynomial([1.0])


def bent(x, t):
    """A network that is neither right nor linear, so that nothing cancels."""
    return torch.tanh(x * 0.7 + t / 1000)


def noise(*shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.manual_seed(0), dtype=dtype)


def stream():
    """What a walk draws with the generator of seed 7, in its order."""
    seed = int(torch.randint(2**63 - 1, (1,), generator=torch.Generator().manual_seed(7)))
    own = torch.Generator().manual_seed(seed)
    return lambda: torch.randn((4, 8, 8), generator=own, dtype=torch.float64)[None]


def walked(name, steps):
    sampler = read_sampler({"sampler": name, "steps": steps})
    start, parent = noise(1, 4, 8, 8), torch.Generator().manual_seed(7)
    return solve(bent, start, sampler, SCHEDULE, generator=parent)


def slope_at(x, sigma):
    """The noise that the network sees in x = image + sigma * noise."""
    alpha = 1 / math.sqrt(1 + sigma**2)
    return bent(x * alpha, SCHEDULE.at_lam(-math.log(sigma)).t)


def ancestral(here, there, eta=1.0):
    up = min(there, eta * (there**2 * (here**2 - there**2) / here**2) ** 0.5)
    return (there**2 - up**2) ** 0.5, up


def euler_a(x, sigmas, draw, eta):
    for here, there in pairwise(sigmas):
        down, up = ancestral(here, there, eta)
        x = x + (down - here) * slope_at(x, here)
        x = x + up * draw() if there else x
    return x


def dpm2(x, sigmas, draw, *, noisy):
    for here, there in pairwise(sigmas):
        down, up = ancestral(here, there) if noisy else (there, 0.0)
        seen = slope_at(x, here)
        if there == 0:
            x = x - here * seen
            continue
        half = math.sqrt(here * down)
        x = x + (down - here) * slope_at(x + (half - here) * seen, half)
        x = x + up * draw() if noisy else x
    return x


def dpmpp_2s_a(x, sigmas, draw):
    for here, there in pairwise(sigmas):
        image = x - here * slope_at(x, here)
        if there == 0:
            return image
        down, up = ancestral(here, there)
        half = math.sqrt(here * down)
        middle = half / here * x + (1 - half / here) * image
        image = middle - half * slope_at(middle, half)
        x = down / here * x + (1 - down / here) * image + up * draw()
    return x


def dpmpp_sde(x, sigmas, draw):
    """Both draws of a step are of one Brownian motion, whose clock is sigma."""
    for here, there in pairwise(sigmas):
        image = x - here * slope_at(x, here)
        if there == 0:
            return image
        half = math.sqrt(here * there)
        moved = math.sqrt(here - half) * draw()
        down, up = ancestral(here, half)
        middle = down / here * x + (1 - down / here) * image
        middle = middle + up * moved / math.sqrt(here - half)
        image = middle - half * slope_at(middle, half)
        moved = moved + math.sqrt(half - there) * draw()
        down, up = ancestral(here, there)
        x = down / here * x + (1 - down / here) * image + up * moved / math.sqrt(here - there)
    return x


def dpmpp_msde(x, sigmas, draw, *, order, heun=False):
    """DPM++ 2M SDE, of the solver type midpoint or heun, and 3M SDE, at eta 1."""
    past, lengths = [], []
    for here, there in pairwise(sigmas):
        past.append(x - here * slope_at(x, here))
        if there == 0:
            return past[-1]
        h = math.log(here / there)
        lengths.append(h)
        gone = -math.expm1(-2 * h)
        x = there / here * math.exp(-h) * x + gone * past[-1]
        phi_2 = 1 - gone / (2 * h)
        phi_3 = phi_2 / (2 * h) - 0.5
        if len(past) > 2 and order == 3:
            r, s = lengths[-2] / h, lengths[-3] / h
            first, second = (past[-1] - past[-2]) / r, (past[-2] - past[-3]) / s
            x = x + phi_2 * (first + (first - second) * r / (r + s))
            x = x - phi_3 * (first - second) / (r + s)
        elif len(past) > 1:
            weight = phi_2 if order == 3 or heun else gone / 2
            x = x + weight * (past[-1] - past[-2]) * h / lengths[-2]
        x = x + there * math.sqrt(gone) * draw()
    return x


def lms(x, sigmas, draw):
    slopes = []
    for i, there in enumerate(sigmas[1:]):
        slopes = [*slopes, slope_at(x, sigmas[i])][-4:]
        known = sigmas[i + 1 - len(slopes) : i + 1]
        for j, slope in enumerate(slopes):
            others = [s for k, s in enumerate(known) if k != j]
            basis = math.prod((np.polynomial.Polynomial([-s, 1]) for s in others), start=ONE)
            whole = (basis / math.prod(known[j] - s for s in others)).integ()
            x = x + (whole(there) - whole(sigmas[i])) * slope
    return x


THEIRS = {
    "DPM2": lambda *asked: dpm2(*asked, noisy=False),
    "DPM2 a": lambda *asked: dpm2(*asked, noisy=True),
    "DPM++ 2S a": dpmpp_2s_a,
    "DPM++ SDE": dpmpp_sde,
    "DPM++ 2M SDE": lambda *asked: dpmpp_msde(*asked, order=2),
    "DPM++ 2M SDE Heun": lambda *asked: dpmpp_msde(*asked, order=2, heun=True),
    "DPM++ 3M SDE": lambda *asked: dpmpp_msde(*asked, order=3),
    "LMS": lms,
}


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8, 14, 20])
@pytest.mark.parametrize("kind", ["Karras", "Exponential", "Uniform"])
@pytest.mark.parametrize("name", THEIRS)
def test_each_walks_as_there(name, kind, steps):
    sampler = read_sampler({"sampler": f"{name} {kind}", "steps": steps})
    sigmas = [node.noise_ratio for node in grid(SCHEDULE, sampler)]
    x = THEIRS[name](noise(1, 4, 8, 8) / SCHEDULE.start.alpha, sigmas, stream())
    torch.testing.assert_close(walked(f"{name} {kind}", steps), x, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_euler_a_of_less_noise_walks_as_there(eta):
    text = f"a cat\nSteps: 8, Sampler: Euler a, Schedule type: Karras, Seed: 1, Eta: {eta}"
    sampler = read_job(infotext.to_record(infotext.read(text))[0]).sampler
    sigmas = [node.noise_ratio for node in grid(SCHEDULE, sampler)]
    start, parent = noise(1, 4, 8, 8), torch.Generator().manual_seed(7)
    got = solve(bent, start, sampler, SCHEDULE, generator=parent)
    x = euler_a(start / SCHEDULE.start.alpha, sigmas, stream(), eta)
    torch.testing.assert_close(got, x, rtol=1e-8, atol=1e-8)


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
@pytest.mark.parametrize("steps", [5, 20])
@pytest.mark.parametrize(
    ("name", "kind"),
    [("DPM2", KDPM2DiscreteScheduler), ("DPM2 a", KDPM2AncestralDiscreteScheduler)],
)
def test_dpm2_follows_diffusers(name, kind, steps, monkeypatch):
    scheduler = kind(**STABLE_DIFFUSION, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    draw = stream()
    x = noise(1, 4, 8, 8) / SCHEDULE.start.alpha
    monkeypatch.setitem(scheduler.step.__globals__, "randn_tensor", lambda *_, **__: draw())
    for t in scheduler.timesteps:
        x = scheduler.step(bent(scheduler.scale_model_input(x, t), float(t)), t, x).prev_sample
    sampler = read_sampler({"sampler": name, "spacing": "trailing", "steps": steps})
    parent = torch.Generator().manual_seed(7)
    got = solve(bent, noise(1, 4, 8, 8), sampler, SCHEDULE, generator=parent)
    torch.testing.assert_close(got, x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("steps", [10, 20])
@pytest.mark.parametrize(
    ("order", "weights"), [(1, "reference"), (2, "reference"), (1, "heun"), (2, "heun")]
)
def test_the_sde_follows_diffusers(order, weights, steps):
    """At order 3 diffusers 0.42.1 weighs the second difference by minus one half too much."""
    scheduler = DPMSolverMultistepScheduler(
        **STABLE_DIFFUSION,
        algorithm_type="sde-dpmsolver++",
        solver_order=order,
        solver_type="midpoint" if weights == "reference" else weights,
    )
    scheduler.set_timesteps(steps)
    draw, x = stream(), noise(1, 4, 8, 8)
    for t in scheduler.timesteps:
        x = scheduler.step(bent(x, float(t)), t, x, variance_noise=draw()).prev_sample
    keys = {"order": order, "spacing": "linspace", "weights": weights, "steps": steps}
    sampler = Sampler(solver="sde-dpm++", **keys)
    parent = torch.Generator().manual_seed(7)
    got = solve(bent, noise(1, 4, 8, 8), sampler, SCHEDULE, generator=parent)
    torch.testing.assert_close(got, x, rtol=1e-4, atol=1e-4)


def perfect(x, t):
    """The network that knows that images come from N(MEAN, SPREAD**2)."""
    node = SCHEDULE.at(t)
    return node.sigma * (x - node.alpha * MEAN) / width(node) ** 2


def width(node):
    return math.hypot(node.alpha * SPREAD, node.sigma)


def of_the_noisiest(count):
    """Where walks begin that are to end in the images' distribution; each pixel is a sample."""
    first = SCHEDULE.start
    return first.alpha * MEAN + width(first) * noise(1, count)


@pytest.mark.parametrize("solver", ["dpm", "dpm++"])
def test_half_way_estimates_make_a_second_order(solver):
    first = SCHEDULE.start
    start = torch.tensor([first.alpha * MEAN + width(first)], dtype=torch.float64)
    wanted = SCHEDULE.end.alpha * MEAN + width(SCHEDULE.end)

    def miss(steps):
        keys = {"steps": steps, "spacing": "logsnr", "final": "sigma_min"}
        sampler = Sampler(solver=solver, method="midpoint", **keys)
        return abs(solve(perfect, start, sampler, SCHEDULE).item() - wanted)

    assert math.log2(miss(200) / miss(400)) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(
    "keys",
    [
        {"solver": "sde-dpm++", "eta": 0.5},
        {"solver": "sde-dpm++"},
        {"solver": "sde-dpm++", "eta": 1.5},
        {"solver": "dpm++", "eta": 0.5},
        {"solver": "dpm++", "eta": 1},
        {"solver": "dpm", "eta": 1},
    ],
    ids=str,
)
def test_drawing_leads_to_the_images_mean_and_variance(keys):
    sampler = Sampler(method="midpoint", steps=100, spacing="logsnr", **keys)
    generator = torch.Generator().manual_seed(3)
    x = solve(perfect, of_the_noisiest(200_000), sampler, SCHEDULE, generator=generator)
    assert x.mean().item() == pytest.approx(MEAN, abs=0.005)
    assert x.std().item() == pytest.approx(SPREAD, rel=0.01)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_both_draws_of_a_step_of_the_sde_are_of_one_motion(eta):
    keys = {"method": "midpoint", "timesteps": (900.0,), "final": "sigma_min", "eta": eta}
    first, second = plan(Sampler(solver="sde-dpm++", **keys), SCHEDULE)
    here, half, there = (node.noise_ratio for node in (first.node, second.node, SCHEDULE.end))
    assert half == pytest.approx(math.sqrt(here * there))
    h = math.log(here / there)
    drawn = SCHEDULE.end.sigma * math.sqrt(-math.expm1(-2 * eta * h))
    assert math.hypot(second.again, second.go.noise) == pytest.approx(drawn)
    correlation = math.sqrt((here - half) / (here - there))  # of two moments of the motion
    assert second.again / drawn == pytest.approx(correlation)


@pytest.mark.parametrize("final", ["zero", "sigma_min"])
def test_without_noise_the_sde_is_the_ode(final):
    keys = {"method": "midpoint", "steps": 9, "spacing": "karras", "final": final, "eta": 0.0}
    drawn, ode = (Sampler(solver=solver, **keys) for solver in ("sde-dpm++", "dpm++"))
    start = noise(1, 8)
    torch.testing.assert_close(
        solve(bent, start, drawn, SCHEDULE), solve(bent, start, ode, SCHEDULE), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("schedule", [SCHEDULE, NoiseSchedule.continuous_linear()])
def test_lms_is_exact_for_noise_that_is_a_cubic_in_sigma(schedule):
    """Once it looks back on three steps; the walk begins with the exact start of it."""
    sampler = Sampler(solver="lms", steps=12, spacing="karras" if schedule.steps else "logsnr")
    nodes, rows = grid(schedule, sampler), plan(sampler, schedule)

    def slope(s):
        return 1 - 0.3 * s + 0.05 * s**2 - 0.002 * s**3

    def whole(s):
        return s - 0.15 * s**2 + 0.05 / 3 * s**3 - 0.0005 * s**4

    for i in range(3, 12):
        here, there = nodes[i], nodes[i + 1]
        seen = [slope(node.noise_ratio) for node in nodes[i - 3 : i + 1]]
        moved = np.dot(rows[i].go.weights, seen) / there.alpha
        wanted = whole(there.noise_ratio) - whole(here.noise_ratio)
        assert moved == pytest.approx(wanted, rel=1e-9, abs=1e-12)
        assert rows[i].go.carry == pytest.approx(there.alpha / here.alpha)


@pytest.mark.parametrize(("final", "calls"), [("zero", 13), ("sigma_min", 14)])
@pytest.mark.parametrize("solver", ["dpm", "dpm++", "sde-dpm++"])
def test_a_step_asks_twice_but_for_one_to_no_noise(solver, final, calls):
    sampler = Sampler(solver=solver, method="midpoint", steps=7, final=final)
    assert sampler.calls == len(plan(sampler, SCHEDULE)) == calls
