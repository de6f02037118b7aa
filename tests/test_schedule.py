"""The noise schedule against diffusers, against its own inverse and against an integral."""

import math
import pickle

import numpy as np
import pytest
from diffusers import DPMSolverMultistepScheduler
from hypothesis import given
from hypothesis import strategies as st

from sdfast import NoiseSchedule

STABLE_DIFFUSION = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
CONFIGS = {
    "the default": {},
    "scaled_linear": STABLE_DIFFUSION,
    "linear": {"beta_schedule": "linear", "beta_start": 0.001, "beta_end": 0.01},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "few steps": {**STABLE_DIFFUSION, "num_train_timesteps": 100},
    "trained": {"trained_betas": [0.01, 0.02, 0.05, 0.3]},
    "zero snr": {**STABLE_DIFFUSION, "rescale_betas_zero_snr": True},
}
SCHEDULES = {
    "discrete": NoiseSchedule.scaled_linear(),
    "linear": NoiseSchedule.continuous_linear(),
    "cosine": NoiseSchedule.continuous_cosine(),
}

by_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_alpha_at_every_training_step_is_that_of_diffusers(config):
    wanted = DPMSolverMultistepScheduler(**config).alphas_cumprod.double().numpy()
    schedule = NoiseSchedule.from_config(config)
    ours = [schedule.at(t).alpha ** 2 for t in range(len(wanted))]
    # theirs is a product of float32
    np.testing.assert_allclose(ours, wanted, rtol=2e-3, atol=1e-6)


def test_alpha_is_the_product_of_the_betas_to_float64():
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    wanted = math.prod(1 - beta for beta in betas[:601])
    assert NoiseSchedule.scaled_linear().at(600).alpha ** 2 == pytest.approx(wanted, rel=1e-13)


def test_zero_snr_keeps_the_first_alpha_and_a_trace_of_the_last():
    plain = NoiseSchedule.from_config(STABLE_DIFFUSION)
    zero = NoiseSchedule.from_config(CONFIGS["zero snr"])
    assert zero.end.alpha == pytest.approx(plain.end.alpha, rel=1e-12)
    assert zero.start.alpha == pytest.approx(2**-12, rel=1e-12)


def test_log_alpha_is_straight_between_training_steps():
    schedule = NoiseSchedule.scaled_linear()
    middle = math.log(schedule.at(500.5).alpha)
    ends = [math.log(schedule.at(t).alpha) for t in (500, 501)]
    assert middle == pytest.approx(sum(ends) / 2, rel=1e-13)


@by_schedule
@given(share=st.floats(0, 1))
def test_every_node_holds_all_of_the_variance(schedule, share):
    node = schedule.at(schedule.last + share * (schedule.first - schedule.last))
    assert node.alpha**2 + node.sigma**2 == pytest.approx(1, abs=1e-14)


@by_schedule
@given(share=st.floats(0, 1))
def test_a_time_is_found_again_by_its_lam(schedule, share):
    there = schedule.at(schedule.last + share * (schedule.first - schedule.last))
    assert schedule.at_lam(there.lam).t == pytest.approx(there.t, rel=1e-9, abs=1e-9)


@by_schedule
@given(share=st.floats(0, 1))
def test_a_lam_is_found_again_by_its_time(schedule, share):
    lam = schedule.start.lam + share * (schedule.end.lam - schedule.start.lam)
    node = schedule.at_lam(lam)
    assert node.lam == pytest.approx(lam, abs=1e-9)
    assert schedule.at(node.t).lam == pytest.approx(lam, abs=1e-9)


@given(t=st.floats(1e-3, 1), start=st.floats(0.01, 1), rise=st.floats(0.1, 30))
def test_continuous_linear_is_the_integral_of_its_beta(t, start, rise):
    # beta is a straight line, so the trapezium is exact
    integral = t * (start + (start + t * rise)) / 2
    schedule = NoiseSchedule.continuous_linear(start, start + rise)
    assert schedule.at(t).alpha == pytest.approx(math.exp(-integral / 2), rel=1e-12)


@given(t=st.floats(1e-3, 0.9946))
def test_continuous_cosine_is_a_cosine_that_starts_at_one(t):
    wanted = math.cos((t + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)
    assert NoiseSchedule.continuous_cosine().at(t).alpha == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(
    "config",
    [
        {"beta_schedule": "sigmoid"},
        {"beta_start": 0.0},
        {"beta_end": 1.0},
        {"beta_end": math.nan},
        {"beta_start": -0.1, "beta_schedule": "scaled_linear"},
        {"beta_start": "little"},
        {"num_train_timesteps": 0},
        {"num_train_timesteps": 1},
        {"num_train_timesteps": -5},
        {"num_train_timesteps": math.inf},
        {"num_train_timesteps": 10**12},
        {"trained_betas": []},
        {"trained_betas": [0.1, 2.0]},
        {"trained_betas": [[0.1, 0.2], [0.3, 0.4]]},
        {"trained_betas": 0.1},
        {"trained_betas": [1e-300] * 5, "rescale_betas_zero_snr": True},
        {"beta_start": 5e-324},
        {"beta_start": 1e-20, "rescale_betas_zero_snr": True},
        {"beta_start": 0.85},
        {"beta_schedule": ["linear"] * 1000},
    ],
    ids=str,
)
def test_a_config_that_makes_no_schedule_is_a_value_error(config):
    with pytest.raises(ValueError, match=r"^.{10,120}$"):
        NoiseSchedule.from_config(config)


@pytest.mark.parametrize(
    "config",
    [
        {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000},
        {"_class_name": "IPNDMScheduler", "num_train_timesteps": 1000, "trained_betas": None},
        {"beta_schedule": "linear", "use_flow_sigmas": True},
        {"beta_schedule": "scaled_linear", "snr_shift_scale": 3.0},
    ],
    ids=str,
)
def test_a_scheduler_that_walks_by_more_than_betas_is_a_value_error(config):
    with pytest.raises(ValueError, match=r"has no betas|is not known"):
        NoiseSchedule.from_config(config)


@pytest.mark.parametrize(
    "made",
    [
        NoiseSchedule.scaled_linear,
        lambda: NoiseSchedule.from_betas([0.1, 0.2]),
        NoiseSchedule.continuous_linear,
        NoiseSchedule.continuous_cosine,
    ],
)
def test_equal_betas_are_equal_schedules(made):
    assert made() == made()
    assert hash(made()) == hash(made())
    assert made() != NoiseSchedule.linear()


@pytest.mark.parametrize("said", [{}, {"beta_start": 0.0001, "beta_end": 0.02}])
def test_what_a_trimmed_config_leaves_out_is_as_in_diffusers(said):
    config = {"_class_name": "DDIMScheduler", **said}
    assert NoiseSchedule.from_config(config) == NoiseSchedule.linear()


@pytest.mark.parametrize("kind", ["scaled_linear", "continuous_linear", "continuous_cosine"])
def test_a_schedule_can_be_sent_elsewhere(kind):
    schedule = getattr(NoiseSchedule, kind)()
    sent = pickle.loads(pickle.dumps(schedule))
    assert sent == schedule
    times = np.linspace(schedule.last, schedule.first, 7)
    assert [sent.at(t) for t in times] == [schedule.at(t) for t in times]
    assert "0x" not in repr(schedule)


@pytest.mark.parametrize(
    "betas",
    [
        [],
        [0.1],
        np.full((1000, 2), 0.005),
        [0.1, math.nan, 0.2],
        [0.1, 1.5],
        [0.1, -0.2],
        np.linspace(0.999, 0.01, 1000),
        [0.9] * 1000,
        [1e-300, 0.1, 0.2],
        [0.5, 1e-20, 0.2],
    ],
    ids=[
        *("none", "one", "a table", "nan", "above 1", "below 0", "alphas", "no signal"),
        *("no noise at first", "no more noise"),
    ],
)
def test_betas_that_make_no_schedule_are_a_value_error(betas):
    with pytest.raises(ValueError, match="betas"):
        NoiseSchedule.from_betas(betas)
