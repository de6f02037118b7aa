"""Where the network is asked: always onward, and where diffusers would ask."""

from itertools import pairwise, product
from typing import get_args

import numpy as np
import pytest
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, LCMScheduler
from hypothesis import given
from hypothesis import strategies as st

from sdfast import NoiseSchedule, Sampler
from sdfast.job import read_sampler
from sdfast.sampler import Spacing
from sdfast.sampler_names import A1111
from sdfast.solver.spacing import grid

SCHEDULE = NoiseSchedule.scaled_linear()
STABLE_DIFFUSION = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SPACINGS = get_args(Spacing)
COUNTED = ("linspace", "leading", "trailing", "simple", "lcm")
"""The spacings that count training steps."""
SOME = (*range(1, 61), 100, 333, 500, 501, 998, 999, 1000)


def times(spacing, steps, **more):
    return [node.t for node in grid(SCHEDULE, Sampler(spacing=spacing, steps=steps, **more))[:-1]]


@pytest.mark.parametrize("final", ["zero", "sigma_min"])
@pytest.mark.parametrize("solver", ["dpm++", "ddim"])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_every_step_leads_from_more_noise_to_less(spacing, solver, final):
    for steps in SOME:
        sampler = Sampler(solver=solver, spacing=spacing, steps=steps, final=final)
        *asked, end = grid(SCHEDULE, sampler)
        assert len(asked) == steps
        assert all(a.lam < b.lam and a.t > b.t for a, b in pairwise(asked)), steps
        assert asked[-1].lam <= end.lam


def k_diffusion():
    """k-diffusion's sigmas for n steps, by the web UI's schedule types, written down anew."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    bars = np.cumprod(1 - betas)
    logs = np.log(((1 - bars) / bars) ** 0.5)
    low, high = np.exp(logs[[0, -1]])

    def karras(n):
        ramp = np.linspace(0, 1, n)
        return (high ** (1 / 7) + ramp * (low ** (1 / 7) - high ** (1 / 7))) ** 7

    return {
        "Karras": karras,
        "Uniform": lambda n: np.exp(np.interp(np.linspace(999, 0, n), range(1000), logs)),
        "Normal": lambda n: np.exp(np.interp(np.linspace(999, 0, n), range(1000), logs)),
        "Exponential": lambda n: np.exp(np.linspace(logs[-1], logs[0], n)),
        "Polyexponential": lambda n: np.exp(
            np.linspace(1, 0, n) * np.log(high / low) + np.log(low)
        ),
        "SGM Uniform": lambda n: np.exp(
            np.interp(np.linspace(999, 0, n + 1)[:-1], range(1000), logs)
        ),
        "Simple": lambda n: np.exp(logs[[-(1 + int(i * (1000 / n))) for i in range(n)]]),
    }


@pytest.mark.parametrize("said", A1111, ids=" ".join)
def test_the_web_uis_samplers_walk_k_diffusions_sigmas_from_2_to_50_steps(said):
    name, kind = said
    if kind == "Automatic":  # as the web UI has it for each of its samplers
        kind = "Karras" if name == "DPM++ 2M" else "Uniform"
    sigmas = k_diffusion()[kind]
    for steps in range(2, 51):
        nodes = grid(SCHEDULE, read_sampler({"steps": steps, **A1111[said]}))
        wanted = pytest.approx([*sigmas(steps), 0], rel=0, abs=3e-5)
        assert [node.noise_ratio for node in nodes] == wanted, steps


@pytest.mark.parametrize("schedule", ["continuous_linear", "continuous_cosine"])
@pytest.mark.parametrize("spacing", [s for s in SPACINGS if s not in COUNTED])
def test_continuous_time_is_spaced_from_its_first_time_to_its_last(spacing, schedule):
    schedule = getattr(NoiseSchedule, schedule)()
    for steps, final in product((1, 2, 3, 10, 100), ("zero", "sigma_min")):
        *asked, end = grid(schedule, Sampler(spacing=spacing, steps=steps, final=final))
        assert len(asked) == steps
        assert all(a.lam < b.lam for a, b in pairwise(asked))
        assert schedule.first + 1e-9 >= asked[0].t > asked[-1].t - 1e-9 >= end.t - 2e-9


@pytest.mark.parametrize("spacing", COUNTED)
def test_training_steps_cannot_be_counted_in_continuous_time(spacing):
    with pytest.raises(ValueError, match="training steps"):
        grid(NoiseSchedule.continuous_linear(), Sampler(spacing=spacing))


@pytest.mark.parametrize("spacing", [s for s in SPACINGS if s != "leading"])
def test_a_walk_starts_where_training_ended(spacing):
    assert times(spacing, 20)[0] == pytest.approx(999, abs=0.05)


def test_a_walk_ends_where_it_is_told():
    assert grid(SCHEDULE, Sampler(final="zero"))[-1].sigma == 0
    assert grid(SCHEDULE, Sampler(final="sigma_min"))[-1] == SCHEDULE.at(0)


@pytest.mark.parametrize("steps", [1, 2, 5, 7, 10, 14, 15, 20, 25, 30, 50, 100])
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
def test_counted_spacings_ask_where_diffusers_asks(spacing, steps):
    theirs = DPMSolverMultistepScheduler(
        **STABLE_DIFFUSION, timestep_spacing=spacing, steps_offset=int(spacing == "leading")
    )
    theirs.set_timesteps(steps)
    assert times(spacing, steps) == theirs.timesteps.tolist()


def test_no_walk_asks_beyond_the_schedule():
    short = NoiseSchedule.linear(steps=10)
    assert len(grid(short, Sampler(spacing="trailing", steps=10))) == 11
    with pytest.raises(ValueError, match="11 steps would leave the times from 9 down to 0"):
        grid(short, Sampler(spacing="trailing", steps=11))


def test_consistency_models_are_asked_where_diffusers_asks():
    theirs = LCMScheduler(**STABLE_DIFFUSION)
    for steps in range(1, 51):
        theirs.set_timesteps(steps)
        assert times("lcm", steps) == theirs.timesteps.tolist()


@pytest.mark.parametrize("spacing", COUNTED)
def test_training_steps_are_counted_whole_however_many_there_are(spacing):
    schedule = NoiseSchedule.from_config(STABLE_DIFFUSION | {"num_train_timesteps": 990})
    for steps in range(1, 51):
        nodes = grid(schedule, Sampler(spacing=spacing, steps=steps))
        assert all(node.t == int(node.t) for node in nodes), steps


@pytest.mark.parametrize("steps", [1, 2, 7, 10, 20, 25, 50, 100])
def test_ddim_leads_as_it_does_in_diffusers(steps):
    theirs = DDIMScheduler(**STABLE_DIFFUSION, timestep_spacing="leading", steps_offset=1)
    theirs.set_timesteps(steps)
    assert times("leading", steps, solver="ddim") == theirs.timesteps.tolist()


@pytest.mark.parametrize("steps", [5, 10, 20, 50])
@pytest.mark.parametrize("spacing", ["karras", "exponential"])
def test_sigmas_are_those_of_diffusers(spacing, steps):
    theirs = DPMSolverMultistepScheduler(**STABLE_DIFFUSION, **{f"use_{spacing}_sigmas": True})
    theirs.set_timesteps(steps)
    nodes = grid(SCHEDULE, Sampler(spacing=spacing, steps=steps))
    ours = [node.sigma / node.alpha for node in nodes]
    np.testing.assert_allclose(ours, theirs.sigmas, rtol=1e-4, atol=0)


@given(steps=st.integers(1, 200))
def test_rho_of_one_is_uniform(steps):
    assert times("rho", steps, rho=1) == pytest.approx(times("uniform", steps))


@given(steps=st.integers(1, 200))
def test_rho_is_quadratic_unless_told_otherwise(steps):
    wanted = [999 * (1 - i / steps) ** 2 for i in range(steps)]
    assert times("rho", steps) == pytest.approx(wanted)


def beta(steps, alpha, beta):
    """The spacing as shares of its time: 1 at the start."""
    sampler = Sampler(spacing="beta", steps=steps, alpha=alpha, beta=beta, final="sigma_min")
    return np.array([node.t for node in grid(SCHEDULE, sampler)[:-1]]) / 999


@given(steps=st.integers(1, 200), power=st.floats(0.5, 2))
def test_beta_has_the_closed_forms_of_its_distribution(steps, power):
    left = 1 - np.arange(steps) / steps
    np.testing.assert_allclose(beta(steps, 1, 1), left, atol=1e-11)
    np.testing.assert_allclose(beta(steps, power, 1), left ** (1 / power), atol=1e-11)
    np.testing.assert_allclose(beta(steps, 1, power), 1 - (1 - left) ** (1 / power), atol=1e-11)
    np.testing.assert_allclose(beta(steps, 0.5, 0.5), np.sin(np.pi / 2 * left) ** 2, atol=1e-11)
    x = beta(steps, 2, 2)
    np.testing.assert_allclose(3 * x**2 - 2 * x**3, left, atol=1e-10)


@given(steps=st.integers(2, 40), one=st.floats(0.3, 10), other=st.floats(0.3, 10))
def test_beta_with_its_shapes_exchanged_is_turned_round(steps, one, other):
    there, back = beta(steps, one, other)[1:], beta(steps, other, one)[1:]
    np.testing.assert_allclose(there, 1 - back[::-1], atol=1e-11)


@given(steps=st.integers(2, 30), one=st.floats(1, 10), other=st.floats(1, 10))
def test_between_two_of_betas_times_lies_an_equal_share_of_the_distribution(steps, one, other):
    angles, weights = np.polynomial.legendre.leggauss(200)
    ends = np.arcsin(np.sqrt(np.append(beta(steps, one, other), 0)))

    def mass(low, high):
        at = (low + high) / 2 + angles * (high - low) / 2
        density = np.sin(at) ** (2 * one - 1) * np.cos(at) ** (2 * other - 1)
        return (weights * density).sum() * (high - low) / 2

    shares = [mass(low, high) for high, low in pairwise(ends)]
    np.testing.assert_allclose(shares, mass(0, np.pi / 2) / steps, rtol=1e-5)


def test_beta_asks_at_comfys_whole_steps_unless_told_otherwise():
    """By scipy 1.17: the beta distribution's quantiles at 1 - i/n times 999, rounded."""
    assert times("beta", 4) == [999, 823, 500, 176]
    assert times("beta", 8) == [999, 942, 823, 670, 500, 329, 176, 57]
    wanted = "999 986 959 922 876 823 765 703 637 569 500 430 362 296 234 176 123 77 40 13"
    assert times("beta", 20) == [int(t) for t in wanted.split()]


def test_logsnr_removes_the_same_share_of_noise_each_step():
    lams = [n.lam for n in grid(SCHEDULE, Sampler(spacing="logsnr", final="sigma_min"))]
    np.testing.assert_allclose(np.diff(lams), (lams[-1] - lams[0]) / 20, rtol=1e-9)


PUBLISHED = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)


def test_align_your_steps_has_its_published_sigmas_at_ten_steps():
    nodes = grid(SCHEDULE, Sampler(spacing="ays", steps=10))[:-1]
    assert [node.noise_ratio for node in nodes] == pytest.approx(PUBLISHED[:-1], rel=1e-4)


def test_half_way_between_its_sigmas_align_your_steps_rises_as_beside_them():
    lams = -np.log(PUBLISHED)
    rises = np.diff(lams)
    slopes = [rises[0], *2 / (1 / rises[1:] + 1 / rises[:-1]), rises[-1]]
    wanted = (lams[1:] + lams[:-1]) / 2 - np.diff(slopes) / 8  # Hermite's cubics in the middle
    nodes = grid(SCHEDULE, Sampler(spacing="ays", steps=20))
    np.testing.assert_allclose([node.lam for node in nodes[1:20:2]], wanted, rtol=0, atol=1e-4)


def test_explicit_times_are_asked_at_as_they_are():
    sampler = Sampler(timesteps=(999, 500.25, 3))
    assert [node.t for node in grid(SCHEDULE, sampler)] == [999, 500.25, 3, 0]


def test_steps_that_rounding_would_merge_are_refused():
    with pytest.raises(ValueError, match="milder spacing"):
        times("rho", 50, rho=20)
    for shape in ({"alpha": 0.1}, {"beta": 0.1}, {"alpha": 10, "beta": 0.1}):
        with pytest.raises(ValueError, match="milder spacing"):
            times("beta", 50, **shape)


def test_a_time_beyond_training_is_refused():
    with pytest.raises(ValueError, match="999"):
        grid(SCHEDULE, Sampler(timesteps=(1000, 500)))


@pytest.mark.parametrize("times", [(1, 0.5, 0), (1, 0.5, 0.0005), (1.5, 0.5)])
def test_times_outside_the_schedule_are_refused(times):
    sampler = Sampler(timesteps=times, final="sigma_min")
    with pytest.raises(ValueError, match=r"timesteps must lie from 1 down to 0\.001"):
        grid(NoiseSchedule.continuous_linear(), sampler)
