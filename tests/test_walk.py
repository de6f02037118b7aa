"""Whole walks against exact answers, against diffusers, and against what was promised."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from pydantic import ValidationError

from sdfast import NoiseSchedule, Sampler, invert, solve
from sdfast.job import read_sampler
from sdfast.solver import Prediction, Target
from sdfast.solver.plans import _multistep_shares, _singlestep_shares, multistep, orders, singlestep
from sdfast.solver.spacing import grid
from sdfast.solver.step import mixture

SCHEDULE = NoiseSchedule.scaled_linear()
STABLE_DIFFUSION = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SPREAD = 0.5
"""Images drawn from N(0, SPREAD**2): the one case whose path is known in closed form."""
SAMPLERS = [
    *({"solver": "dpm++", "order": order, "corrector": True} for order in (1, 2, 3)),
    *(
        {"solver": solver, "method": method, "order": order}
        for solver, method, order in product(
            ("dpm++", "dpm"), ("multistep", "singlestep"), (1, 2, 3)
        )
    ),
    {"solver": "ddim"},
]

every_sampler = pytest.mark.parametrize(
    "keys", SAMPLERS, ids=lambda k: " ".join(map(str, k.values()))
)


def noise(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.manual_seed(0), dtype=dtype)


def bent(x, t):
    """A network that is neither right nor linear, so that nothing cancels."""
    return torch.tanh(x * 0.7 + t / 1000)


def perfect(schedule, said=Prediction.NOISE):
    """The network that knows the images' spread."""

    def network(x, t):
        node = schedule.at(t)
        image = x * node.alpha * SPREAD**2 / width(node) ** 2
        noise = x * node.sigma / width(node) ** 2
        return {
            Prediction.NOISE: noise,
            Prediction.IMAGE: image,
            Prediction.VELOCITY: node.alpha * noise - node.sigma * image,
            Prediction.SCORE: -noise / node.sigma,
        }[said]

    return network


def width(node):
    return math.hypot(node.alpha * SPREAD, node.sigma)


ONE = torch.ones((), dtype=torch.float64)
START = width(SCHEDULE.start)
"""A walk from ONE passes through width(node) / START."""


def ours(network=bent, **keys):
    return solve(network, noise(1, 4, 8, 8), Sampler(**keys), SCHEDULE)


def theirs(scheduler, steps, network=bent):
    """The walk of a scheduler of diffusers."""
    scheduler.set_timesteps(steps)
    x = noise(1, 4, 8, 8)
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t.item()), t, x).prev_sample
    return x


def assert_same(got, wanted):
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 5, 20, 50])
@pytest.mark.parametrize("order", [1, 2])
def test_dpmpp_follows_diffusers(order, steps):
    scheduler = DPMSolverMultistepScheduler(**STABLE_DIFFUSION, solver_order=order)
    assert_same(ours(order=order, steps=steps, spacing="linspace"), theirs(scheduler, steps))


@pytest.mark.parametrize("final", ["zero", "sigma_min"])
@pytest.mark.parametrize("steps", [1, 5, 10, 14, 15, 20, 50])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_dpmpp_with_reference_weights_follows_diffusers(order, steps, final):
    scheduler = DPMSolverMultistepScheduler(
        **STABLE_DIFFUSION, solver_order=order, final_sigmas_type=final
    )
    got = ours(order=order, steps=steps, spacing="linspace", final=final, weights="reference")
    assert_same(got, theirs(scheduler, steps))


@pytest.mark.filterwarnings("ignore:.*algorithm_type dpmsolver is deprecated:FutureWarning")
@pytest.mark.parametrize("steps", [1, 5, 14, 20])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("solver", ["dpm", "dpm++"])
def test_with_the_weights_heun_both_follow_diffusers_solver_type(solver, order, steps):
    scheduler = DPMSolverMultistepScheduler(
        **STABLE_DIFFUSION,
        solver_order=order,
        solver_type="heun",
        algorithm_type={"dpm": "dpmsolver", "dpm++": "dpmsolver++"}[solver],
        final_sigmas_type="sigma_min",
    )
    keys = {"spacing": "linspace", "final": "sigma_min", "weights": "heun"}
    assert_same(ours(solver=solver, order=order, steps=steps, **keys), theirs(scheduler, steps))


@pytest.mark.filterwarnings("ignore:.*algorithm_type dpmsolver is deprecated:FutureWarning")
@pytest.mark.parametrize("steps", [1, 5, 10, 14, 15, 20, 50])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_dpm_with_reference_weights_follows_diffusers(order, steps):
    scheduler = DPMSolverMultistepScheduler(
        **STABLE_DIFFUSION,
        solver_order=order,
        algorithm_type="dpmsolver",
        final_sigmas_type="sigma_min",
    )
    keys = {"spacing": "linspace", "final": "sigma_min", "weights": "reference"}
    assert_same(ours(solver="dpm", order=order, steps=steps, **keys), theirs(scheduler, steps))


@pytest.mark.parametrize("steps", [2, 5, 20])
def test_euler_a_follows_diffusers(steps):
    theirs = EulerAncestralDiscreteScheduler(**STABLE_DIFFUSION, timestep_spacing="linspace")
    theirs.set_timesteps(steps)
    start = noise(1, 4, 8, 8, dtype=torch.float64)
    seed = int(torch.randint(2**63 - 1, (1,), generator=torch.Generator().manual_seed(7)))
    stream = torch.Generator().manual_seed(seed)
    x = start * (theirs.sigmas[0] ** 2 + 1) ** 0.5
    for t in theirs.timesteps:
        said = bent(theirs.scale_model_input(x, t), float(t))
        x = theirs.step(said, t, x, generator=stream).prev_sample
    sampler = read_sampler({"sampler": "Euler a", "steps": steps})
    parent = torch.Generator().manual_seed(7)
    got = solve(bent, start, sampler, SCHEDULE, generator=parent)
    torch.testing.assert_close(got, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 25])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_lcm_follows_diffusers(steps, prediction):
    theirs = LCMScheduler(**STABLE_DIFFUSION, prediction_type=prediction)
    theirs.set_timesteps(steps)
    x = start = noise(1, 4, 8, 8, dtype=torch.float64)
    seed = int(torch.randint(2**63 - 1, (1,), generator=torch.Generator().manual_seed(7)))
    stream = torch.Generator().manual_seed(seed)
    for t in theirs.timesteps:
        x = theirs.step(bent(x, float(t)), int(t), x, generator=stream).prev_sample
    sampler = read_sampler({"sampler": "LCM", "steps": steps})
    parent = torch.Generator().manual_seed(7)
    got = solve(bent, start, sampler, SCHEDULE, prediction=prediction, generator=parent)
    torch.testing.assert_close(got, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [5, 10, 20, 50])
def test_dpmpp_2m_karras_follows_diffusers(steps):
    def timeless(x, t):
        # diffusers rounds the time of a Karras sigma to a training step; we tell it as it is
        return bent(x, 500)

    scheduler = DPMSolverMultistepScheduler(**STABLE_DIFFUSION, use_karras_sigmas=True)
    got = ours(timeless, steps=steps, spacing="karras")
    assert_same(got, theirs(scheduler, steps, timeless))


@pytest.mark.parametrize("steps", [10, 50])
def test_ddim_follows_diffusers(steps):
    scheduler = DDIMScheduler(
        **STABLE_DIFFUSION, steps_offset=1, set_alpha_to_one=False, clip_sample=False
    )
    # diffusers counts back by a whole stride from t = 1, and so ends at the first training step
    got = ours(solver="ddim", steps=steps, spacing="leading", final="sigma_min")
    assert_same(got, theirs(scheduler, steps))


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 10, 50])
def test_pndm_follows_diffusers(steps):
    scheduler = PNDMScheduler(**STABLE_DIFFUSION, skip_prk_steps=True, steps_offset=1)
    got = ours(solver="pndm", steps=steps, spacing="leading", final="sigma_min")
    assert_same(got, theirs(scheduler, steps))


@pytest.mark.parametrize(("steps", "calls"), [(1, 1), (2, 3), (50, 51)])
def test_pndm_takes_its_first_step_twice(steps, calls):
    asked = []
    sampler = Sampler(solver="pndm", steps=steps)
    solve(lambda x, t: asked.append(t) or x, torch.ones(1), sampler, SCHEDULE)
    assert len(asked) == sampler.calls == calls


@pytest.mark.parametrize("steps", [1, 5, 9, 21, 49])
def test_singlestep_of_second_order_follows_diffusers_at_odd_counts(steps):
    # of an even count one step is left over: we take it first, diffusers second to last
    scheduler = DPMSolverSinglestepScheduler(
        **STABLE_DIFFUSION, solver_order=2, lower_order_final=True
    )
    got = ours(method="singlestep", steps=steps, spacing="linspace", weights="reference")
    assert_same(got, theirs(scheduler, steps))


@pytest.mark.parametrize("steps", [1, 5, 20, 50])
def test_the_corrector_of_second_order_is_that_of_unipc(steps):
    # At order 2 both take the midpoint weight for two estimates and the exact integral for the
    # three of the corrector. At order 3 UniPC's predictor keeps its own B(h) weights, and ending at
    # sigma_min it always takes the last step at first order, where we go by the step's length.
    scheduler = UniPCMultistepScheduler(
        **STABLE_DIFFUSION, solver_order=2, solver_type="bh2", predict_x0=True
    )
    got = ours(order=2, corrector=True, steps=steps, spacing="linspace")
    assert_same(got, theirs(scheduler, steps))


@every_sampler
@pytest.mark.parametrize("final", ["zero", "sigma_min"])
def test_a_walk_asks_exactly_as_often_as_it_has_steps(keys, final):
    for steps, spacing in product(range(1, 31), ("uniform", "rho", "karras")):
        asked = []

        def network(x, t, asked=asked):
            asked.append(t)
            return x

        solve(
            network, noise(2), Sampler(**keys, steps=steps, spacing=spacing, final=final), SCHEDULE
        )
        assert len(asked) == steps


@every_sampler
def test_a_walk_asks_at_the_nodes_of_its_grid_in_turn(keys):
    sampler, asked = Sampler(**keys, steps=11), []
    solve(lambda x, t: asked.append(t) or x, noise(2), sampler, SCHEDULE)
    assert asked == [node.t for node in grid(SCHEDULE, sampler)[:-1]]


def accuracy(sampler):
    """How near 400 steps must come: first order is the poor one."""
    return 0.02 if sampler.order == 1 else 2e-4


@every_sampler
def test_a_walk_to_the_last_training_step_leads_to_the_exact_answer(keys):
    sampler = Sampler(**keys, steps=400, spacing="rho", final="sigma_min")
    got = solve(perfect(SCHEDULE), ONE, sampler, SCHEDULE).item()
    assert got == pytest.approx(width(SCHEDULE.end) / START, rel=accuracy(sampler))


@every_sampler
def test_a_walk_to_no_noise_leads_to_the_image_that_the_network_last_sees(keys):
    sampler = Sampler(**keys, steps=400, spacing="rho", final="zero")
    last = grid(SCHEDULE, sampler)[-2]
    got = solve(perfect(SCHEDULE), ONE, sampler, SCHEDULE).item()
    wanted = last.alpha * SPREAD**2 / width(last) / START
    assert got == pytest.approx(wanted, rel=accuracy(sampler))
    assert got == pytest.approx(SPREAD / START, rel=accuracy(sampler) + 2e-3)


@pytest.mark.parametrize("method", ["multistep", "singlestep"])
@pytest.mark.parametrize("solver", ["dpm++", "dpm"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_error_of_a_whole_walk_falls_with_its_order(order, solver, method):
    keys = {"solver": solver, "method": method, "order": order}

    def miss(steps):
        sampler = Sampler(**keys, steps=steps, spacing="logsnr", final="sigma_min")
        got = solve(perfect(SCHEDULE), ONE, sampler, SCHEDULE).item()
        return abs(got - width(SCHEDULE.end) / START)

    # a multistep walk has no past to begin with: its first step errs by the second power
    power = min(order, 2) if method == "multistep" else order
    assert math.log2(miss(240) / miss(480)) > power - 0.2


@pytest.mark.parametrize("schedule", ["continuous_linear", "continuous_cosine"])
@every_sampler
def test_continuous_time_leads_to_the_exact_answer(keys, schedule):
    schedule = getattr(NoiseSchedule, schedule)()
    sampler = Sampler(**keys, steps=400, spacing="logsnr", final="sigma_min")
    wanted = width(schedule.end) / width(schedule.start)
    got = solve(perfect(schedule), ONE, sampler, schedule).item()
    assert got == pytest.approx(wanted, rel=accuracy(sampler))


@every_sampler
def test_every_prediction_of_an_exact_network_leads_to_the_same_image(keys):
    sampler, start = Sampler(**keys, steps=9), noise(4, dtype=torch.float64)
    ends = [
        solve(perfect(SCHEDULE, said), start, sampler, SCHEDULE, prediction=said)
        for said in Prediction
    ]
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=1e-10, atol=0)


@pytest.mark.parametrize("steps", [1, 7, 20])
def test_ddim_is_the_first_order_of_either_solver(steps):
    start = noise(4, dtype=torch.float64)
    ddim, dpm, dpmpp = (
        solve(bent, start, Sampler(solver=solver, order=1, steps=steps), SCHEDULE)
        for solver in ("ddim", "dpm", "dpm++")
    )
    torch.testing.assert_close(dpm, ddim, rtol=0, atol=0)
    torch.testing.assert_close(dpmpp, ddim, rtol=1e-11, atol=1e-11)


@every_sampler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 4, 8, 8)])
def test_dtype_shape_and_device_are_kept_and_the_noise_unchanged(keys, dtype, shape):
    start = noise(*shape, dtype=dtype)
    told = start.clone()
    end = solve(bent, start, Sampler(**keys, steps=5), SCHEDULE)
    assert (end.dtype, end.shape, end.device) == (dtype, start.shape, start.device)
    assert torch.equal(start, told)


@every_sampler
def test_a_picture_is_the_same_alone_and_in_a_batch(keys):
    batch = noise(3, 4, 8, 8)
    together = solve(bent, batch, Sampler(**keys, steps=7), SCHEDULE)
    alone = solve(bent, batch[1:2], Sampler(**keys, steps=7), SCHEDULE)
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-6)


def test_float32_is_enough():
    start, sampler = noise(64, dtype=torch.float64), Sampler(order=3, corrector=True, spacing="rho")
    exact = solve(bent, start, sampler, SCHEDULE)
    torch.testing.assert_close(
        solve(bent, start.float(), sampler, SCHEDULE), exact.float(), rtol=2e-6, atol=1e-5
    )


@every_sampler
def test_a_network_that_says_nan_is_a_floating_point_error(keys):
    with pytest.raises(FloatingPointError, match="not finite"):
        solve(lambda x, t: x * math.nan, noise(2), Sampler(**keys, steps=3), SCHEDULE)


def test_the_corrector_has_its_whole_past_where_every_step_is_of_first_order():
    # each step is far longer than the one before it, so none is trusted beyond first order
    sampler = Sampler(
        order=2, corrector=True, timesteps=(999, 998, 990, 930, 700), final="sigma_min"
    )
    nodes = grid(SCHEDULE, sampler)
    assert orders(nodes, sampler) == [{1: 1.0}] * 5
    image, straight = 0.3 * ONE, nodes[-1].alpha * 0.3 + nodes[-1].sigma * 2
    start = nodes[0].alpha * image + nodes[0].sigma * 2
    end = solve(lambda x, t: image, start, sampler, SCHEDULE, prediction="sample")
    assert end.item() == pytest.approx(straight, rel=1e-12)


@pytest.mark.parametrize("order", [2, 3])
def test_a_step_is_of_lower_order_where_it_is_long_and_nowhere_else(order):
    even = Sampler(order=order, spacing="logsnr", final="sigma_min", steps=8)
    assert orders(grid(SCHEDULE, even), even) == [
        {n: 1.0} for n in (*range(1, order), *[order] * (9 - order))
    ]
    uneven = Sampler(order=order, timesteps=(999, 800, 600, 400, 200, 0.01), final="sigma_min")
    assert orders(grid(SCHEDULE, uneven), uneven)[4] == {1: 1.0}


@pytest.mark.parametrize(
    ("ratio", "shares"),
    [
        (1.1, {3: 1.0}),
        (1.3, {3: 0.5, 2: 0.5}),
        (1.5, {2: 1.0}),
        (1.9, {2: 1.0}),
        (2.45, {2: 0.5, 1: 0.5}),
        (3.0, {1: 1.0}),
    ],
)
def test_an_order_fades_as_the_step_grows(ratio, shares):
    got = _multistep_shares([1.0, 1.0, ratio], 3)
    assert got == {order: pytest.approx(share) for order, share in shares.items()}


@pytest.mark.parametrize(
    ("lengths", "target", "shares"),
    [
        ([5.0], Target.IMAGE, {1: 1.0}),
        ([0.25, 0.25], Target.IMAGE, {2: 1.0}),
        ([0.5, 0.75], Target.IMAGE, {2: 0.5, 1: 0.5}),
        ([0.5, 0.35], Target.NOISE, {2: 0.5, 1: 0.5}),
        ([1.0, 1.0], Target.IMAGE, {1: 1.0}),
        ([0.2, 0.1, 0.2], Target.IMAGE, {3: 1.0}),
        ([0.6, 0.2, 0.2], Target.IMAGE, {3: 0.5, 2: 0.5}),
        ([0.75, 0.25, 0.6], Target.NOISE, {2: 0.5, 1: 0.5}),
        ([0.75, 0.65, 0.6], Target.IMAGE, {2: 0.5, 1: 0.5}),
        ([0.8, 0.3, 0.35], Target.IMAGE, {3: 0.05, 2: 0.855, 1: 0.095}),
        ([2.0, 2.0, 2.0], Target.IMAGE, {1: 1.0}),
    ],
)
def test_an_order_fades_as_a_stride_grows(lengths, target, shares):
    got = _singlestep_shares(lengths, target)
    assert got == {order: pytest.approx(share) for order, share in shares.items()}


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("solver", ["dpm++", "dpm"])
def test_strides_far_too_long_are_ddim(solver, order):
    long = {"timesteps": (999, 500, 180, 30), "final": "sigma_min"}
    got = ours(solver=solver, method="singlestep", order=order, steps=4, **long)
    assert_same(got, ours(solver="ddim", order=1, steps=4, **long))


@pytest.mark.parametrize("method", ["singlestep", "fast"])
def test_a_stride_of_the_reference_weights_keeps_its_order_however_long(method):
    nodes = tuple(SCHEDULE.at_lam(lam) for lam in (-2.0, -0.5, 1.0, 2.5, 3.0))
    plan = singlestep(
        nodes, Sampler(method=method, order=3, steps=4, weights="reference"), Target.NOISE
    )
    began = 1 if method == "singlestep" else 0  # the rest in front or behind
    known = nodes[began : began + 3]
    wanted = mixture(known[0], known, nodes[began + 3], Target.NOISE)
    assert plan[began + 2].go.weights == pytest.approx(wanted.weights)


def test_what_a_stride_leaves_to_a_lower_order_goes_on_from_the_newest_node():
    nodes = tuple(SCHEDULE.at_lam(lam) for lam in (0.0, 0.6, 0.8, 1.0))
    *_, before, row = singlestep(
        nodes, Sampler(method="singlestep", order=3, steps=3), Target.IMAGE
    )
    x, said = 1.7, (0.3, -0.4, 0.9)

    def led(step, anchor, known):
        return step.carry * anchor + sum(w * e for w, e in zip(step.weights, known, strict=True))

    third = led(mixture(nodes[0], nodes[:3], nodes[3], Target.IMAGE), x, said)
    newest = led(before.go, x, said[:2])
    second = led(mixture(nodes[2], nodes[1:3], nodes[3], Target.IMAGE), newest, said[1:])
    assert led(row.go, x, said) == pytest.approx((third + second) / 2, rel=1e-9)


def test_a_step_between_two_orders_is_the_mean_of_both():
    lams = [0.0, 0.1, 0.2, 0.33]  # the last is 1.3 times as long
    nodes = [SCHEDULE.at_lam(lam) for lam in lams]
    *_, row = multistep(tuple(nodes), Sampler(order=3, steps=3), Target.IMAGE)
    second, third = (
        mixture(nodes[2], nodes[3 - order : 3], nodes[3], Target.IMAGE).weights for order in (2, 3)
    )
    wanted = [third[0] / 2, (third[1] + second[0]) / 2, (third[2] + second[1]) / 2]
    assert row.go.weights == pytest.approx(wanted, rel=1e-9)


@every_sampler
def test_from_no_signal_at_all_a_velocity_leads_to_the_image(keys):
    zero = NoiseSchedule.from_config({**STABLE_DIFFUSION, "rescale_betas_zero_snr": True})
    image = torch.tensor(0.75, dtype=torch.float64)
    times = []

    def network(x, t):  # v = alpha noise - sigma image, of the noise that x must hold
        times.append(t)
        node = zero.at(t)
        return node.alpha * (x - node.alpha * image) / node.sigma - node.sigma * image

    x = solve(
        network,
        noise(1, 4, dtype=torch.float64),
        Sampler(steps=12, **keys),
        zero,
        prediction="v_prediction",
    )
    assert times[0] == 999
    torch.testing.assert_close(x, image.expand(1, 4), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "keys", [{"timesteps": (999, 500, 0)}, {"spacing": "simple", "steps": 1000}]
)
def test_a_step_of_no_length_at_the_end_is_none(keys):
    sampler = Sampler(solver="sde-dpm++", method="midpoint", final="sigma_min", **keys)
    asked = []
    x = solve(lambda x, t: asked.append(t) or x, noise(1, 4), sampler, SCHEDULE)
    assert x.isfinite().all()
    assert len(asked) == sampler.calls


@pytest.mark.parametrize("solver", ["dpm++", "dpm", "heun", "pndm", "rk45"])
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_a_network_may_write_over_what_it_has_said(solver, prediction):
    said = torch.empty(2, 6, dtype=torch.float64)

    def fresh(x, t):
        return torch.tanh(0.7 * x + t / 1000)

    def again(x, t):
        return said.copy_(fresh(x, t))

    sampler = Sampler(solver=solver, steps=6)
    x = noise(2, 6, dtype=torch.float64)
    one, other = (solve(n, x, sampler, SCHEDULE, prediction=prediction) for n in (fresh, again))
    assert one.equal(other)


def test_an_output_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"output is \(1, 4\) where x is \(2, 4\)"):
        solve(lambda x, _: x[:1], noise(2, 4), Sampler(steps=2), SCHEDULE)


def test_an_unknown_prediction_brings_those_that_there_are():
    with pytest.raises(ValueError, match="one of epsilon, sample, v_prediction, score, not `v`"):
        solve(lambda x, _: x, noise(2, 4), Sampler(steps=2), SCHEDULE, prediction="v")


@pytest.mark.parametrize("kind", [list, tuple, torch.tensor, np.array])
def test_explicit_times_count_the_steps_themselves(kind):
    assert Sampler(timesteps=kind([999.0, 500.0])) == Sampler(timesteps=(999, 500), steps=2)


def test_one_number_is_no_list_of_times():
    with pytest.raises(ValidationError):
        Sampler(timesteps=torch.tensor(5.0))


def test_an_adaptive_walk_does_not_begin_in_the_middle():
    sampler = Sampler(method="adaptive", final="sigma_min")
    with pytest.raises(ValueError, match="begins at the beginning"):
        solve(lambda x, _: x, torch.zeros(1, 4), sampler, NoiseSchedule.scaled_linear(), begin=5)


@pytest.mark.parametrize(
    "sampler", [Sampler(thresholding=0.9), Sampler(solver="ddpm"), Sampler(method="adaptive")]
)
def test_where_pictures_are_counted_there_is_a_dimension_of_them(sampler):
    with pytest.raises(ValueError, match="first dimension counts pictures"):
        solve(lambda x, t: x * 0.5, torch.tensor(0.5), sampler, SCHEDULE)
    assert solve(lambda x, t: x * 0.5, torch.randn(5), sampler, SCHEDULE).shape == (5,)


def test_times_beyond_a_schedule_without_steps_are_refused():
    with pytest.raises(ValueError, match=r"timesteps must lie from 0\.9946 down to 0\.001"):
        grid(NoiseSchedule.continuous_cosine(), Sampler(timesteps=(1.2,)))


def test_backwards_two_times_of_the_same_noise_are_one():
    sampler = Sampler(solver="dpm", steps=10, spacing="rho", rho=20)
    back = invert(lambda x, t: x * 0.5, torch.randn(2, 3), sampler, SCHEDULE)
    assert torch.isfinite(back).all()
