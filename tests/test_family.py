"""The rest of the family: samplers that draw noise, black boxes, walks that choose their steps."""

import math
from collections import Counter
from functools import partial

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from torch.utils._python_dispatch import TorchDispatchMode

from sdfast import NoiseSchedule, Sampler, invert, noised, solve
from sdfast.solver import Prediction, Target, classifier, classifier_free
from sdfast.solver.draw import drawn_alone
from sdfast.solver.plans import _SIZES
from sdfast.solver.step import mixture
from sdfast.solver.walk import trajectory

SCHEDULE = NoiseSchedule.scaled_linear()
STABLE_DIFFUSION = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
MEAN, SPREAD = 0.7, 0.5


def noise(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, generator=torch.manual_seed(seed), dtype=dtype)


def bent(x, t):
    """A network that is neither right nor linear, so that nothing cancels."""
    return torch.tanh(x * 0.7 + t / 1000)


def perfect(schedule, said="epsilon"):
    """The network that knows that images come from N(MEAN, SPREAD**2)."""

    def network(x, t):
        node = schedule.at(t)
        wide = node.alpha**2 * SPREAD**2 + node.sigma**2
        off = (x - node.alpha * MEAN) / wide
        image = MEAN + node.alpha * SPREAD**2 * off
        return {
            "epsilon": node.sigma * off,
            "sample": image,
            "v_prediction": node.alpha * node.sigma * off - node.sigma * image,
            "score": -off,
        }[said]

    return network


def answer(schedule, start, node):
    """Where the ODE leads from `start`: a Gaussian is squeezed and moved as a whole."""

    def width(at):
        return math.hypot(at.alpha * SPREAD, at.sigma)

    first = schedule.start
    return node.alpha * MEAN + width(node) / width(first) * (start - first.alpha * MEAN)


FAMILY = [
    {"solver": "sde-dpm++", "order": 1},
    {"solver": "sde-dpm++", "order": 2},
    {"solver": "sde-dpm++", "order": 3, "eta": 0.5},
    {"solver": "ddpm"},
    {"solver": "lcm"},
    {"solver": "ddim", "eta": 0.5},
    {"solver": "euler"},
    {"solver": "heun"},
    {"solver": "lms"},
    {"solver": "rk45"},
    {"solver": "dpm", "method": "midpoint"},
    {"solver": "dpm++", "method": "midpoint", "eta": 1.0},
    {"solver": "sde-dpm++", "method": "midpoint"},
    {"solver": "dpm", "method": "fast"},
    {"solver": "dpm++", "method": "fast", "order": 2},
    {"solver": "dpm", "method": "adaptive", "order": 2},
    {"solver": "dpm++", "method": "adaptive"},
    {"solver": "dpm++", "method": "adaptive", "order": 3},
    {"solver": "dpm++", "thresholding": 0.995},
]
every_member = pytest.mark.parametrize("keys", FAMILY, ids=lambda k: " ".join(map(str, k.values())))


@every_member
def test_a_picture_does_not_depend_on_its_batch_mates(keys):
    sampler, batch = Sampler(**keys, steps=7), noise(3, 4, 8, 8)
    own = [torch.Generator().manual_seed(i) for i in range(3)]
    together = solve(bent, batch, sampler, SCHEDULE, generator=own)
    alone = torch.Generator().manual_seed(1)
    one = solve(bent, batch[1:2], sampler, SCHEDULE, generator=[alone])
    torch.testing.assert_close(together[1:2], one, rtol=0, atol=1e-12)


@every_member
def test_the_network_is_asked_as_often_as_promised(keys):
    for steps in (1, 2, 3, 6, 7, 20):
        asked = []
        sampler = Sampler(**keys, steps=steps)
        walk = trajectory(lambda x, t, a=asked: a.append(t) or x, noise(1, 4), sampler, SCHEDULE)
        yielded = len(list(walk))
        assert len(asked) == yielded
        assert sampler.calls in (None, yielded)


@every_member
@pytest.mark.parametrize("final", ["zero", "sigma_min"])
def test_no_step_count_ends_in_numbers_that_are_not_finite(keys, final):
    if keys["solver"] == "rk45" and final == "zero":
        final = "sigma_min"
    for steps in (1, 2, 3, 4, 5, 9, 10, 11, 14, 15, 16, 50, 333, 999, 1000):
        if keys.get("method") == "adaptive" and steps > 1:
            break
        sampler = Sampler(**keys, steps=steps, final=final)
        solve(bent, noise(1, 4), sampler, SCHEDULE)  # raises if it does


def test_one_generator_gives_each_picture_a_stream_of_its_own():
    def painted(count):
        generator = torch.Generator().manual_seed(5)
        start = noise(1, 4).expand(count, 4)
        return solve(bent, start, Sampler(solver="ddpm", steps=5), SCHEDULE, generator=generator)

    torch.testing.assert_close(painted(3)[:2], painted(2), rtol=0, atol=0)
    assert not torch.equal(painted(2)[0], painted(2)[1])


def test_what_a_step_draws_is_not_the_noise_the_seed_began_with():
    own = torch.Generator().manual_seed(0)
    drawn = drawn_alone(noise(1, 8), [torch.Generator().manual_seed(0)])()
    assert not torch.equal(drawn, torch.randn(1, 8, generator=own, dtype=torch.float64))


def test_no_pictures_are_no_work():
    for keys in FAMILY:
        assert solve(bent, noise(0, 4), Sampler(**keys), SCHEDULE).shape == (0, 4)


def test_as_many_generators_as_pictures_are_wanted():
    with pytest.raises(ValueError, match="1 generators for 2 pictures"):
        solve(bent, noise(2, 4), Sampler(solver="ddpm"), SCHEDULE, generator=[torch.Generator()])


@pytest.mark.parametrize(("first", "last"), [(999, 900), (500, 300), (40, 0)])
def test_ddpm_takes_the_posterior_of_the_diffusion(first, last):
    here, there = SCHEDULE.at(first), SCHEDULE.at(last)
    carry, (weight,), fresh = mixture(here, [here], there, Target.IMAGE, eta=1.0)
    # arXiv 2006.11239, eq. 7, with beta the noise between the two times
    step = here.alpha / there.alpha
    beta = 1 - step**2
    assert carry == pytest.approx(step * there.sigma**2 / here.sigma**2, rel=1e-9)
    assert weight == pytest.approx(there.alpha * beta / here.sigma**2, rel=1e-9)
    assert fresh**2 == pytest.approx(there.sigma**2 / here.sigma**2 * beta, rel=1e-9)


def test_ddpm_is_ddim_with_all_its_noise_and_the_first_order_of_the_sde():
    def painted(**keys):
        generator = torch.Generator().manual_seed(1)
        return solve(bent, noise(2, 8), Sampler(**keys), SCHEDULE, generator=generator)

    ddpm = painted(solver="ddpm")
    torch.testing.assert_close(painted(solver="ddim", eta=1.0), ddpm, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(painted(solver="sde-dpm++", order=1), ddpm, rtol=0, atol=0)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_a_consistency_model_is_sampled_alike_in_any_number_of_steps(steps):
    def consistent(x, t):
        """Where the ODE leads from x, at once."""
        node = SCHEDULE.at(t)
        wide = math.hypot(node.alpha * SPREAD, node.sigma)
        return MEAN + SPREAD / wide * (x - node.alpha * MEAN)

    sampler = Sampler(solver="lcm", spacing="lcm", steps=steps)
    generator = torch.Generator().manual_seed(3)
    first = SCHEDULE.start
    wide = math.hypot(first.alpha * SPREAD, first.sigma)
    start = first.alpha * MEAN + wide * noise(1, 200_000)
    got = solve(consistent, start, sampler, SCHEDULE, prediction="sample", generator=generator)
    assert got.mean().item() == pytest.approx(MEAN, abs=5e-3)
    assert got.std().item() == pytest.approx(SPREAD, rel=5e-3)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_an_sde_without_noise_is_the_ode(order):
    drawn = solve(bent, noise(1, 8), Sampler(solver="sde-dpm++", order=order, eta=0), SCHEDULE)
    torch.testing.assert_close(
        drawn, solve(bent, noise(1, 8), Sampler(order=order), SCHEDULE), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("eta", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_sde_leads_to_the_images_mean_and_variance(order, eta):
    steps = {1: 250, 2: 50, 3: 50}[order]
    sampler = Sampler(solver="sde-dpm++", order=order, eta=eta, steps=steps, spacing="logsnr")
    generator = torch.Generator().manual_seed(3)
    first = SCHEDULE.start
    # one picture of many pixels: every pixel is a sample
    start = first.alpha * MEAN + math.hypot(first.alpha * SPREAD, first.sigma) * noise(1, 200_000)
    x = solve(perfect(SCHEDULE), start, sampler, SCHEDULE, generator=generator)
    assert x.mean().item() == pytest.approx(MEAN, abs=0.005)
    assert x.std().item() == pytest.approx(SPREAD, rel=0.03 if order == 1 else 0.01)


def theirs(scheduler, steps):
    scheduler.set_timesteps(steps)
    x = noise(1, 4, 8, 8, dtype=torch.float32) / SCHEDULE.start.alpha
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        x = scheduler.step(bent(scaled, t.item()), t, x).prev_sample
    return x


@pytest.mark.parametrize("steps", [5, 20])
@pytest.mark.parametrize(
    ("solver", "kind"), [("euler", EulerDiscreteScheduler), ("heun", HeunDiscreteScheduler)]
)
def test_euler_and_heun_follow_diffusers(solver, kind, steps):
    got = solve(
        bent,
        noise(1, 4, 8, 8, dtype=torch.float32),
        Sampler(solver=solver, steps=steps, spacing="trailing"),
        SCHEDULE,
    )
    wanted = theirs(kind(**STABLE_DIFFUSION, timestep_spacing="trailing"), steps)
    torch.testing.assert_close(got, wanted, rtol=0, atol=2e-4)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("lms", 2), ("rk45", 5)])
def test_a_black_box_has_its_order(solver, order):
    schedule, start = NoiseSchedule.continuous_linear(), torch.ones(1, 1, dtype=torch.float64)
    end = answer(schedule, start, schedule.end)

    def off(steps):
        keys = {"spacing": "logsnr"} if solver != "rk45" else {}
        sampler = Sampler(solver=solver, steps=steps, final="sigma_min", **keys)
        return (solve(perfect(schedule), start, sampler, schedule) - end).abs().item()

    few = 192 if solver == "rk45" else 40
    assert math.log2(off(few) / off(2 * few)) > order - 0.5


@pytest.mark.parametrize("schedule", ["continuous_linear", "continuous_cosine"])
def test_rk45_leads_to_the_exact_answer_in_continuous_time(schedule):
    schedule, start = getattr(NoiseSchedule, schedule)(), noise(1, 8)
    got = solve(perfect(schedule), start, Sampler(solver="rk45", steps=96), schedule)
    wanted = answer(schedule, start, schedule.end)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("steps", "order", "sizes"),
    [
        (15, 3, [3, 3, 3, 3, 2, 1]),
        (16, 3, [3, 3, 3, 3, 3, 1]),
        (17, 3, [3, 3, 3, 3, 3, 2]),
        (8, 2, [2, 2, 2, 1, 1]),
        (1, 3, [1]),
    ],
)
def test_dpm_solver_fast_lowers_the_order_in_its_last_strides(steps, order, sizes):
    assert _SIZES["fast"](steps, order) == sizes


@pytest.mark.parametrize("solver", ["dpm", "dpm++"])
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("final", ["zero", "sigma_min"])
def test_a_smaller_tolerance_brings_an_adaptive_walk_nearer(solver, order, final):
    start = noise(2, 50)
    end = answer(SCHEDULE, start, SCHEDULE.end) / SCHEDULE.end.alpha

    def off(tolerance):
        keys = {"method": "adaptive", "order": order, "tolerance": tolerance, "final": final}
        x = solve(perfect(SCHEDULE), start, Sampler(solver=solver, **keys), SCHEDULE)
        scale = SCHEDULE.end.alpha if final == "sigma_min" else 1.0
        return (x / scale - end).square().mean().sqrt().item()

    floor = 2.1e-3 if final == "zero" else 0.0  # from the cleanest node to none there is one step
    assert off(1e-4) < max(0.5 * off(0.05), floor)
    assert off(1e-4) < 2e-4 + floor


@pytest.mark.parametrize("order", [2, 3])
def test_an_adaptive_walk_to_no_noise_takes_one_more_step_from_the_cleanest_node(order):
    sampler, start, end = Sampler(method="adaptive", order=order), noise(1, 8), SCHEDULE.end

    def walked(final):
        asked = []

        def network(x, t):
            asked.append(t)
            return bent(x, t)

        return solve(network, start, sampler.replace(final=final), SCHEDULE), asked

    (near, before), (image, asked) = walked("sigma_min"), walked("zero")
    assert asked == [*before, end.t]
    wanted = (near - end.sigma * bent(near, end.t)) / end.alpha
    torch.testing.assert_close(image, wanted, rtol=0, atol=1e-12)


def test_where_all_numbers_are_small_an_adaptive_walk_asks_less_often():
    def calls(size):
        asked = []

        def network(x, t):
            asked.append(t)
            return x * math.cos(t / 50)

        sampler = Sampler(method="adaptive", final="sigma_min")
        solve(network, size * noise(1, 64), sampler, SCHEDULE)
        return len(asked)

    assert calls(1e-3) < calls(1.0)


def torn(schedule):
    """The network, in velocity, that knows that images come from about -1 and 0.6."""
    means, widths = torch.tensor([-1.0, 0.6]).double(), torch.tensor([0.2, 0.35]).double()
    shares = torch.tensor([0.4, 0.6]).double()

    def network(x, t):
        node = schedule.at(t)
        wide = (node.alpha * widths) ** 2 + node.sigma**2
        off = x[..., None] - node.alpha * means
        likely = (shares.log() - wide.log() / 2 - off**2 / (2 * wide)).softmax(-1)
        image = (likely * (means + node.alpha * widths**2 / wide * off)).sum(-1)
        return node.alpha * (likely * node.sigma * off / wide).sum(-1) - node.sigma * image

    return network


@pytest.mark.parametrize(
    "config", [STABLE_DIFFUSION, STABLE_DIFFUSION | {"rescale_betas_zero_snr": True}]
)
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("solver", ["dpm", "dpm++"])
def test_an_adaptive_walk_does_not_leap_over_where_samples_part(solver, order, config):
    schedule = NoiseSchedule.from_config(config)
    network, start = torn(schedule), noise(1, 192)
    keys = {"solver": solver, "order": order, "final": "sigma_min"}
    many = Sampler(steps=500, spacing="logsnr", **{**keys, "order": 3})
    end = solve(network, start, many, schedule, prediction="v_prediction")
    walk = Sampler(method="adaptive", **keys)
    x = solve(network, start, walk, schedule, prediction="v_prediction")
    assert (x - end).square().mean().sqrt() < 0.05


def test_a_tolerance_that_cannot_be_met_is_told():
    def hostile(x, t):
        return torch.full_like(x, math.nan)

    with pytest.raises(FloatingPointError):
        solve(hostile, noise(1, 4), Sampler(solver="dpm", method="adaptive"), SCHEDULE)


def test_dynamic_thresholding_follows_diffusers():
    scheduler = DPMSolverMultistepScheduler(
        **STABLE_DIFFUSION,
        thresholding=True,
        dynamic_thresholding_ratio=0.9,
        sample_max_value=100.0,
    )
    scheduler.set_timesteps(10)
    x = start = noise(2, 3, 8, 8, dtype=torch.float32)
    for t in scheduler.timesteps:
        x = scheduler.step(bent(x, t.item()), t, x).prev_sample
    sampler = Sampler(steps=10, spacing="linspace", thresholding=0.9)
    torch.testing.assert_close(solve(bent, start, sampler, SCHEDULE), x, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "keys",
    [
        {"solver": "ddim"},
        {"order": 2},
        {"order": 3, "solver": "dpm"},
        {"method": "singlestep"},
        {"method": "midpoint"},
        {"solver": "dpm", "method": "midpoint"},
        {"solver": "heun"},
        {"solver": "lms"},
    ],
    ids=str,
)
def test_a_picture_taken_back_to_its_noise_comes_out_again(keys):
    start = noise(1, 50)

    def off(steps):
        sampler = Sampler(**keys, steps=steps, spacing="logsnr", final="sigma_min")
        image = answer(SCHEDULE, start, SCHEDULE.end)
        back = invert(perfect(SCHEDULE), image, sampler, SCHEDULE)
        return (back - start).square().mean().sqrt().item()

    assert off(160) < off(80) / 1.8  # not from 40 on, where strides are still of several orders
    assert off(400) < 0.02


def test_a_picture_without_noise_is_taken_back_as_its_part_of_the_cleanest_node():
    sampler, image = Sampler(steps=50, spacing="logsnr"), noise(1, 8)
    ends = sampler.model_copy(update={"final": "sigma_min"})
    at_the_end = invert(bent, SCHEDULE.end.alpha * image, ends, SCHEDULE)
    assert torch.equal(invert(bent, image, sampler, SCHEDULE), at_the_end)


def test_a_walk_that_asks_at_its_very_end_can_be_taken_back_too():
    sampler = Sampler(timesteps=(999, 500, 0), final="sigma_min")
    assert invert(bent, noise(1, 8), sampler, SCHEDULE).isfinite().all()


def test_what_draws_noise_cannot_be_walked_backwards():
    with pytest.raises(ValueError, match=r"^ddpm cannot be walked backwards"):
        invert(bent, noise(1, 4), Sampler(solver="ddpm"), SCHEDULE)


@pytest.mark.parametrize(
    ("keys", "which"),
    [({"method": "adaptive"}, r"an adaptive dpm\+\+"), ({"solver": "rk45"}, "rk45")],
)
def test_what_chooses_its_own_steps_cannot_be_walked_backwards(keys, which):
    with pytest.raises(ValueError, match=f"^{which} cannot be walked backwards"):
        invert(bent, noise(1, 4), Sampler(**keys), SCHEDULE)


def test_a_walk_taken_up_in_the_middle_ends_where_the_whole_one_does():
    sampler, start = Sampler(solver="ddim", steps=9), noise(1, 8)
    fourth = [*trajectory(bent, start, sampler, SCHEDULE)][3]
    asked = []
    rest = solve(lambda x, t: asked.append(t) or bent(x, t), fourth, sampler, SCHEDULE, begin=4)
    assert len(asked) == 5
    torch.testing.assert_close(rest, solve(bent, start, sampler, SCHEDULE), rtol=0, atol=1e-12)


def test_a_picture_under_noise_has_the_noise_of_its_node():
    node, image, over = SCHEDULE.at(300), noise(1, 4), noise(1, 4, seed=1)
    assert torch.equal(noised(image, over, node), node.alpha * image + node.sigma * over)


@pytest.mark.parametrize("begin", [-1, 20])
def test_a_walk_cannot_begin_where_it_has_no_step(begin):
    with pytest.raises(ValueError, match="cannot begin"):
        solve(bent, noise(1, 4), Sampler(), SCHEDULE, begin=begin)


def test_classifier_free_guidance_asks_once_for_both_halves():
    asked = []

    def network(x, t, condition):
        asked.append(len(x))
        return x * condition

    plain, told = torch.full((2, 1), 0.5), torch.full((2, 1), 2.0)
    guided = classifier_free(network, told, plain, 3.0)
    torch.testing.assert_close(guided(torch.ones(2, 1), 5.0), torch.full((2, 1), 0.5 + 3 * 1.5))
    alone = classifier_free(network, told, plain, 1.0)
    torch.testing.assert_close(alone(torch.ones(2, 1), 5.0), told)
    assert asked == [4, 2]


@pytest.mark.parametrize("said", [p.value for p in Prediction])
def test_a_classifier_moves_the_images_as_bayes_has_it(said):
    # p(class | x0) proportional to exp(pull * x0) moves N(m, s^2) to N(m + pull s^2, s^2)
    pull = 1.5

    def log_probability(x, t):
        node = SCHEDULE.at(t)
        wide = node.alpha**2 * SPREAD**2 + node.sigma**2
        return (pull * node.alpha * SPREAD**2 / wide * x).sum(1)

    network = classifier(perfect(SCHEDULE, said), log_probability, 1.0, SCHEDULE, prediction=said)
    start = noise(1, 50)
    sampler = Sampler(order=3, steps=300, spacing="logsnr", final="sigma_min")
    got = solve(network, start, sampler, SCHEDULE, prediction=said)
    moved = answer(SCHEDULE, start, SCHEDULE.end) + SCHEDULE.end.alpha * pull * SPREAD**2 * (
        1
        - math.hypot(SCHEDULE.end.alpha * SPREAD, SCHEDULE.end.sigma)
        / math.hypot(SCHEDULE.start.alpha * SPREAD, SCHEDULE.start.sigma)
        * SCHEDULE.start.alpha
        / SCHEDULE.end.alpha
    )
    torch.testing.assert_close(got, moved, rtol=0, atol=2e-3)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_classifier_guides_where_no_gradients_are_kept(mode):
    network = classifier(bent, lambda x, t: -x.square().sum(1), 2.0, SCHEDULE)
    wanted = solve(network, noise(2, 8), Sampler(steps=5), SCHEDULE)
    with mode():
        got = solve(network, noise(2, 8), Sampler(steps=5), SCHEDULE)
    torch.testing.assert_close(got, wanted, rtol=0, atol=0)


def test_corrections_of_nothing_change_nothing():
    sampler = Sampler(steps=4)
    none = sampler.model_copy(update={"corrections": ((0.0,) * 2,) + ((0.0,) * 3,) * 3})
    start = noise(1, 8)
    plain = solve(bent, start, sampler, SCHEDULE)
    torch.testing.assert_close(solve(bent, start, none, SCHEDULE), plain, rtol=0, atol=0)


def test_a_correction_is_added_to_the_weights_of_its_step():
    start = noise(1, 8)
    plain = Sampler(steps=1, final="sigma_min", solver="dpm")
    bowed = plain.model_copy(update={"corrections": ((0.25, -0.5),)})
    first = SCHEDULE.start
    added = solve(bent, start, bowed, SCHEDULE) - solve(bent, start, plain, SCHEDULE)
    torch.testing.assert_close(added, 0.25 * start - 0.5 * bent(start, first.t), rtol=0, atol=1e-9)


@pytest.mark.parametrize("walked", [partial(solve, begin=2), invert])
def test_what_was_fitted_to_a_whole_walk_is_left_out_of_a_shorter_one_and_on_the_way_back(walked):
    plain = Sampler(steps=4, spacing="logsnr", final="sigma_min")
    fitted = plain.model_copy(update={"corrections": ((0.1,) * 2,) + ((0.1,) * 3,) * 3})
    one, other = (walked(bent, noise(1, 8), sampler, SCHEDULE) for sampler in (plain, fitted))
    assert torch.equal(one, other)


class Counted(TorchDispatchMode):
    """Counts tensor operations by name."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen[str(func)] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "keys",
    [
        {"order": 3, "corrector": True},
        {"solver": "dpm", "order": 3, "corrector": True},
        {"method": "fast"},
        {"corrections": ((0.1,) * 2, (0.1,) * 3, (0.1,) * 4, (0.1,) * 5, *[(0.1,) * 6] * 16)},
        {"solver": "pndm"},
        {"solver": "heun"},
        {"solver": "lms"},
        {"method": "midpoint"},
        {"solver": "rk45"},
    ],
    ids=lambda k: " ".join(map(str, k)),
)
@pytest.mark.parametrize("said", ["epsilon", "v_prediction"])
def test_a_step_takes_at_most_ten_tensor_operations_and_a_walk_one_look(keys, said):
    start, sampler = noise(1, 4, 8, 8), Sampler(steps=20, **keys)
    out = torch.zeros_like(start)
    with Counted() as counted:
        solve(lambda x, t: out, start, sampler, SCHEDULE, prediction=said)
    looks = (
        counted.seen["aten._local_scalar_dense.default"] + counted.seen["aten.is_nonzero.default"]
    )
    assert looks <= 1
    at_the_end = 8  # whether the result is finite
    assert (counted.seen.total() - at_the_end) / sampler.calls <= 10
