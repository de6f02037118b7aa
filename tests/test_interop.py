"""sdfast as a scheduler of diffusers: the same latents, and all that is asked of a scheduler."""

import copy
import inspect
import json
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler
from diffusers import StableDiffusionImg2ImgPipeline as ImageToImage
from diffusers import StableDiffusionPipeline as TextToImage
from diffusers.utils import logging
from safetensors import safe_open
from small import write_model
from waiting import no_waiting

from sdfast import NoiseSchedule, Sampler, load_preset, solve
from sdfast import models as our_models
from sdfast.conditioning import Words, guided
from sdfast.engine import generate
from sdfast.errors import JobError, PresetError
from sdfast.interop import SdfastScheduler
from sdfast.job import Job, read_sampler, sampler_record
from sdfast.layering import layered
from sdfast.models import load_model
from sdfast.solver import grid, noised
from sdfast.solver.draw import drawn_alone
from sdfast.solver.walk import trajectory

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SIZE = (64, 64)
STEPS = 7

CORRECTED = {
    "sampler": "dpm++",
    "timesteps": [999, 770.25, 500.5, 250, 80.125],
    "corrections": [[0, 0.01], [0.001, -0.02, 0.03], [0, 0.1, -0.1], [0.002, 0.01], [0, 0.01]],
    "final": "sigma_min",
}
"""What `tune` writes, with numbers of no meaning."""

DETERMINISTIC = {
    "default": {},
    "third order": {"sampler": "dpm++", "order": 3, "spacing": "logsnr"},
    "singlestep": {"sampler": "dpm", "method": "singlestep", "order": 3},
    "fast": {"sampler": "DPM fast"},
    "reference": {"sampler": "dpm++", "order": 3, "weights": "reference", "spacing": "linspace"},
    "ddim": {"sampler": "DDIM"},
    "pndm": {"sampler": "PNDM"},
    "euler": {"sampler": "Euler Karras"},
    "heun": {"sampler": "Heun"},
    "lms": {"sampler": "LMS"},
    "midpoint": {"sampler": "DPM2"},
    "heun to sigma_min": {"sampler": "heun", "final": "sigma_min"},
    "rk45": {"sampler": "RK45"},
    "thresholding": {"thresholding": 0.9},
}
STOCHASTIC = {
    "sde": {"sampler": "DPM++ 2M SDE Karras"},
    "sde, heun": {"sampler": "DPM++ 2M SDE Heun"},
    "sde, half-way, too": {"sampler": "DPM++ SDE"},
    "ancestral": {"sampler": "DPM++ 2S a"},
    "ddpm": {"sampler": "DDPM"},
    "lcm": {"sampler": "LCM"},
    "eta": {"sampler": "DDIM", "eta": 0.7},
}
ALL = DETERMINISTIC | STOCHASTIC

ours = pytest.mark.parametrize("record", ALL.values(), ids=ALL)
deterministic = pytest.mark.parametrize("record", DETERMINISTIC.values(), ids=DETERMINISTIC)


def network(x, t):
    return torch.tanh(x * (0.5 + torch.as_tensor(t, dtype=torch.float32, device=x.device) / 2000))


def noise(*shape, dtype=torch.float32):
    return torch.randn(shape or (2, 4, 8, 8), generator=torch.manual_seed(0), dtype=dtype)


def painted(scheduler, x, begin=0, draw_from=None):
    """What a pipeline does with a scheduler."""
    scheduler.set_begin_index(begin)
    for t in scheduler.timesteps[begin:]:
        seen = scheduler.scale_model_input(x, t)
        x = scheduler.step(network(seen, t), t, x, generator=draw_from).prev_sample
    return x


def solved(scheduler_record, x, steps=STEPS, **more):
    record = layered(sampler_record(load_preset("default").sampler), scheduler_record)
    sampler = read_sampler(layered(record, {"steps": steps}))
    return solve(network, x, sampler, NoiseSchedule.scaled_linear(), **more)


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


# the same latents


@pytest.fixture(scope="module", params=["epsilon", "v_prediction"])
def folder(request, small, tmp_path_factory):
    if request.param == "epsilon":
        return small
    return write_model(tmp_path_factory.mktemp("models") / request.param, request.param)


@pytest.fixture(scope="module")
def model(folder):
    return load_model(str(folder), device="cpu")


@pytest.fixture(scope="module")
def pipeline(folder):
    pipeline = TextToImage.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def by_the_engine(model, job, x=None):
    plain = model.encode(job.negative) if job.guidance != 1 else None
    asked = guided(model.predict, [Words(model.encode(job.prompt), plain)], job.guidance)
    x = model.noise(job.seed, SIZE) if x is None else x
    *_, x = trajectory(asked, x, job.sampler, model.schedule, model.prediction, seeded(job.seed))
    return x


def by_the_pipeline(pipeline, model, job, x=None, **config):
    shipped = PNDMScheduler.from_pretrained(f"{pipeline.config._name_or_path}/scheduler")
    pipeline.scheduler = SdfastScheduler.from_config(shipped.config, **config)
    prompted, plain = (model.encode(text) for text in (job.prompt, job.negative))

    def asks_ours(x, t, encoder_hidden_states, **_):  # test_models tells how near theirs is
        return (model.predict(x, float(t), encoder_hidden_states).to(x.dtype),)

    pipeline.unet.forward = asks_ours
    return pipeline(
        prompt_embeds=prompted,
        negative_prompt_embeds=plain,
        latents=model.noise(job.seed, SIZE) if x is None else x,
        num_inference_steps=job.sampler.steps,
        guidance_scale=job.guidance,
        generator=seeded(job.seed),
        output_type="latent",
    ).images


PRESETS = {
    "fast": (10, {"preset": "fast"}),
    "default": (12, {}),
    "a1111": (8, {"preset": "a1111"}),
    "ddim50": (5, {"preset": "ddim50"}),
    "pndm50": (6, {"preset": "pndm50"}),
    "corrections": (5, {"sampler": CORRECTED}),
    "heun": (4, {"sampler": {"sampler": "Heun Karras"}}),
    "sde": (5, {"sampler": {"sampler": "DPM++ 2M SDE"}}),
}


def job_of(steps, guidance, config):
    base = sampler_record(load_preset(config.get("preset", "default")).sampler)
    record = layered(base, config.get("sampler", {}))
    if read_sampler(record).steps != steps:
        record = layered(record, {"steps": steps})
    sampler = read_sampler(record)
    return Job(prompt="a red cat", negative="dogs", seed=5, guidance=guidance, sampler=sampler)


@pytest.mark.parametrize(("steps", "config"), PRESETS.values(), ids=PRESETS)
def test_a_pipeline_makes_exactly_the_engines_latents(model, pipeline, steps, config):
    job = job_of(steps, 1, config)
    assert torch.equal(by_the_pipeline(pipeline, model, job, **config), by_the_engine(model, job))


@pytest.mark.parametrize(("steps", "config"), PRESETS.values(), ids=PRESETS)
def test_guided_they_part_by_no_more_than_how_each_rounds_its_guidance(
    model, pipeline, steps, config, monkeypatch
):
    job = job_of(steps, 7.5, config)
    painted = by_the_pipeline(pipeline, model, job, **config)
    torch.testing.assert_close(painted, by_the_engine(model, job), rtol=1e-5, atol=1e-4)

    def as_pipelines_do(plain, prompted, scale, rescale):
        return plain + scale * (prompted - plain)

    monkeypatch.setattr("sdfast.solver.guidance.guide", as_pipelines_do)
    assert torch.equal(painted, by_the_engine(model, job))


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_in_half_precision_only_the_last_rounding_is_lost(small, dtype):
    model = load_model(str(small), device="cpu", dtype=dtype)
    pipeline = TextToImage.from_pretrained(small, torch_dtype=model.dtype)
    pipeline.set_progress_bar_config(disable=True)
    x = model.noise(5, SIZE).to(model.dtype)
    job = Job(prompt="a red cat", seed=5, guidance=1, sampler=load_preset("fast").sampler)
    painted = by_the_pipeline(pipeline, model, job, x, preset="fast")
    assert painted.dtype == model.dtype
    assert torch.equal(painted, by_the_engine(model, job, x.float()).to(model.dtype))


@ours
def test_every_sampler_that_has_a_plan_walks_as_solve_does(record):
    scheduler = SdfastScheduler(**SD, sampler=record)
    for x in (noise(), noise(dtype=torch.float64)):
        scheduler.set_timesteps(STEPS)
        there = painted(scheduler, x, draw_from=seeded())
        assert torch.equal(there, solved(record, x, generator=seeded()))


@pytest.mark.parametrize("name", sorted(ALL.keys() - {"pndm", "rk45"}))
def test_begun_in_the_middle_a_walk_is_the_one_that_solve_begins_there(name):
    scheduler, x = SdfastScheduler(**SD, sampler=ALL[name]), noise()
    for begin in range(1, STEPS):
        scheduler.set_timesteps(STEPS)
        there = painted(scheduler, x, begin * scheduler.order, seeded())
        assert torch.equal(there, solved(ALL[name], x, begin=begin, generator=seeded()))


def test_pndm_begun_in_the_middle_comes_as_near_as_where_it_asks_twice():
    """A pipeline asks once where PNDM's first step would ask twice; the answer serves both."""
    x = noise()
    scheduler = SdfastScheduler(**SD, sampler={"sampler": "PNDM"})
    fine = {"sampler": "dpm", "order": 3, "spacing": "leading", "final": "sigma_min"}
    for begin in (11, 15):
        scheduler.set_timesteps(20)
        once = painted(scheduler, x, begin)
        twice = solved({"sampler": "PNDM"}, x, 20, begin=begin - 1)
        exact = _long_walk(fine, x, float(scheduler.timesteps[begin]))
        assert (once - exact).norm() < 1.5 * (twice - exact).norm()


def _long_walk(record, x, first):
    times = np.linspace(first, 0, 201)[:-1].tolist()
    sampler = read_sampler(layered(record, {"timesteps": times}))
    return solve(network, x, sampler, NoiseSchedule.scaled_linear())


@pytest.mark.parametrize(("name", "begin"), [("PNDM", 1), ("Heun", 3)])
def test_of_two_calls_at_the_time_a_walk_begins_at_the_first_does_nothing(name, begin):
    scheduler = SdfastScheduler(**SD, sampler={"sampler": name})
    scheduler.set_timesteps(STEPS)
    assert scheduler.timesteps[begin] == scheduler.timesteps[begin + 1]
    scheduler.set_begin_index(begin)
    x = noise()
    t = scheduler.timesteps[begin]
    assert torch.equal(scheduler.step(network(x, t), t, x).prev_sample, x)
    rest = x
    for t in scheduler.timesteps[begin + 1 :]:
        rest = scheduler.step(network(rest, t), t, rest).prev_sample
    scheduler.set_timesteps(STEPS)
    assert torch.equal(rest, painted(scheduler, x, begin + 1))


@pytest.mark.parametrize("final", ["zero", "sigma_min"])
@pytest.mark.parametrize("solver", ["dpm", "dpm++"])
def test_begun_half_way_in_a_step_a_walk_comes_as_near_as_begun_at_it(solver, final):
    schedule, spread = NoiseSchedule.scaled_linear(), 0.5
    keys = {"sampler": solver, "method": "midpoint", "spacing": "karras", "final": final}
    scheduler = SdfastScheduler(**SD, sampler=keys)
    scheduler.set_timesteps(10)

    def width(t):
        node = schedule.at(t)
        return np.hypot(node.alpha * spread, node.sigma)

    for begin in range(len(scheduler.timesteps)):
        scheduler.set_timesteps(10)
        scheduler.set_begin_index(begin)
        times = scheduler.timesteps[begin:].tolist()
        x = torch.tensor([width(times[0])], dtype=torch.float64)  # of images from N(0, spread^2)
        for t in times:
            noise = x * schedule.at(t).sigma / width(t) ** 2
            x = scheduler.step(noise, t, x).prev_sample
        ends_at = spread if final == "zero" else width(0)
        assert x.item() == pytest.approx(ends_at, rel=0.06)


@pytest.mark.parametrize("solver", ["dpm++", "sde-dpm++"])
def test_half_way_in_its_last_step_a_walk_ends_where_that_does(solver):
    keys = {"sampler": solver, "method": "midpoint", "final": "sigma_min", "eta": 0.5}
    scheduler, x = SdfastScheduler(**SD, sampler=keys), noise()
    scheduler.set_timesteps(STEPS)
    half, end = scheduler._plan[-1].node, scheduler._schedule.end
    got = painted(scheduler, x, 2 * STEPS - 1, seeded())
    h, image = end.lam - half.lam, (x - half.sigma * network(x, half.t)) / half.alpha
    ratio = end.noise_ratio
    drawn = {
        "sde-dpm++": end.sigma * np.sqrt(-np.expm1(-2 * 0.5 * h)),
        "dpm++": end.sigma * 0.5 * np.sqrt(1 - (ratio / half.noise_ratio) ** 2),
    }[solver]
    kept = {"sde-dpm++": np.exp(-0.5 * h), "dpm++": np.sqrt(1 - (drawn / end.sigma) ** 2)}[solver]
    carry = end.sigma / half.sigma * kept
    fresh = drawn_alone(x, seeded())()
    wanted = carry * x + (end.alpha - carry * half.alpha) * image + drawn * fresh
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "begin"), [("RK45", 2), ("DDIM", STEPS), ("DDIM", -1)])
def test_where_no_walk_can_begin_none_does(name, begin):
    scheduler = SdfastScheduler(**SD, sampler={"sampler": name})
    scheduler.set_timesteps(STEPS)
    scheduler.set_begin_index(begin)
    with pytest.raises(ValueError, match="begin"):
        scheduler.step(noise(), 500.0, noise())


@pytest.mark.parametrize("preset", ["fast", "pndm50", "a1111"])
def test_image_to_image_begins_in_the_middle(small, preset):
    pipeline, model = ImageToImage.from_pretrained(small), load_model(str(small), device="cpu")
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = SdfastScheduler.from_config(pipeline.scheduler.config, preset=preset)
    start = noise(1, 4, 8, 8)  # a latent is taken as it is
    strewn = torch.randn(start.shape, generator=seeded())
    painted = pipeline(
        "a red cat",
        image=start,
        strength=0.5,
        num_inference_steps=10,
        guidance_scale=1,
        generator=seeded(),
        output_type="latent",
    ).images
    if preset == "pndm50":  # of which a test above tells
        assert painted.isfinite().all()
        return
    sampler = read_sampler(layered(sampler_record(load_preset(preset).sampler), {"steps": 10}))
    first = model.schedule.at(float(pipeline.scheduler.timesteps[5]))
    asked = guided(model.predict, [Words(model.encode("a red cat"), None)], 1)
    wanted = solve(asked, noised(start, strewn, first), sampler, model.schedule, begin=5)
    torch.testing.assert_close(painted, wanted, rtol=0, atol=1e-5)


def test_a_pipeline_is_saved_and_loaded_with_the_scheduler(small, tmp_path):
    pipeline = TextToImage.from_pretrained(small)
    pipeline.scheduler = SdfastScheduler.from_config(pipeline.scheduler.config, preset="fast")
    pipeline.save_pretrained(tmp_path)
    again = TextToImage.from_pretrained(tmp_path)
    assert type(again.scheduler) is SdfastScheduler
    assert again.scheduler.config.preset == "fast"
    assert load_model(str(tmp_path), device="cpu").schedule.log_alpha(500) == pytest.approx(
        NoiseSchedule.scaled_linear().log_alpha(500)
    )


# when to ask


@ours
def test_there_is_one_timestep_for_each_network_call(record):
    scheduler = SdfastScheduler(**SD, sampler=record)
    for steps in (2, 5, 20):
        scheduler.set_timesteps(steps)
        calls = read_sampler(layered(scheduler._record, {"steps": steps})).calls
        assert (len(scheduler.timesteps), scheduler.num_inference_steps) == (calls, steps)
        assert (scheduler.timesteps >= 0).all()
        assert (scheduler.timesteps <= 999).all()
        assert (scheduler.timesteps.diff() <= 0).all()


def test_the_network_is_told_fractions_in_single_precision():
    scheduler = SdfastScheduler(**SD, preset="fast")
    scheduler.set_timesteps(10)
    asked = []
    solve(
        lambda x, t: asked.append(t) or x,
        noise(),
        load_preset("fast").sampler,
        NoiseSchedule.scaled_linear(),
    )
    assert scheduler.timesteps.tolist() == torch.tensor(asked, dtype=torch.float32).tolist()
    assert scheduler.timesteps.frac().any()


@pytest.mark.parametrize("steps", [None, 5])
def test_what_was_fitted_to_a_number_of_steps_is_used_at_that_number(steps):
    scheduler = SdfastScheduler(**SD, sampler=CORRECTED)
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps.tolist() == CORRECTED["timesteps"]
    assert torch.equal(painted(scheduler, noise()), _corrected(CORRECTED))


def test_at_another_number_times_and_corrections_are_left_out():
    scheduler = SdfastScheduler(**SD, sampler=CORRECTED)
    scheduler.set_timesteps(6)
    plain = {"sampler": "dpm++", "steps": 6, "final": "sigma_min"}
    assert torch.equal(painted(scheduler, noise()), _corrected(plain))


def _corrected(record):
    return solve(network, noise(), read_sampler(record), NoiseSchedule.scaled_linear())


@pytest.mark.parametrize("kind", [list, torch.tensor, np.array])
def test_times_of_ones_own_are_asked_at(kind):
    scheduler = SdfastScheduler(**SD)
    times = [999.0, 600.5, 250.0, 10.25]
    scheduler.set_timesteps(timesteps=kind(times))
    assert scheduler.timesteps.tolist() == times
    assert scheduler.num_inference_steps == 4


def test_steps_and_times_at_once_are_one_too_many():
    with pytest.raises(ValueError, match="not both"):
        SdfastScheduler(**SD).set_timesteps(10, timesteps=[999, 500])


@pytest.mark.parametrize("times", [[], [500, 999], [1999.0]])
def test_times_that_make_no_walk_are_refused(times):
    with pytest.raises((JobError, ValueError), match="timesteps"):
        SdfastScheduler(**SD).set_timesteps(timesteps=times)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_a_number_of_steps_out_of_range_is_refused(steps):
    with pytest.raises(JobError, match="steps"):
        SdfastScheduler(**SD).set_timesteps(steps)


def test_a_call_is_found_by_the_element_the_value_or_the_nearest_value():
    scheduler = SdfastScheduler(**SD, sampler={"sampler": "PNDM"})
    scheduler.set_timesteps(5)
    times = scheduler.timesteps
    assert [scheduler.index_for_timestep(t) for t in times] == [0, 1, 2, 3, 4, 5]
    assert [scheduler.index_for_timestep(t.clone()) for t in times] == [0, 2, 2, 3, 4, 5]
    assert scheduler.index_for_timestep(float(times[3])) == 3
    assert scheduler.index_for_timestep(5000) == 0
    assert scheduler.index_for_timestep(0) == 5


# as diffusers asks of any scheduler


@ours
@pytest.mark.parametrize(
    ("train", "prediction"), [(1000, "epsilon"), (999, "sample"), (100, "v_prediction")]
)
def test_a_saved_scheduler_steps_alike(record, train, prediction, tmp_path):
    scheduler = SdfastScheduler(
        num_train_timesteps=train, prediction_type=prediction, sampler=record
    )
    scheduler.save_config(tmp_path)
    again = SdfastScheduler.from_pretrained(tmp_path)
    x = noise()
    ends = []
    for each in (scheduler, again):
        each.set_timesteps(10)
        ends.append(each.step(0.1 * x, each.timesteps[0], x, generator=seeded()).prev_sample)
    assert torch.equal(*ends)


@pytest.mark.parametrize(
    "scheduler",
    [
        diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        diffusers.EDMEulerScheduler(),
        diffusers.DPMSolverMultistepScheduler(
            use_flow_sigmas=True, prediction_type="flow_prediction"
        ),
    ],
)
def test_a_config_without_betas_is_refused(scheduler):
    with pytest.raises(ValueError, match=r"has no betas|`use_flow_sigmas` is not known"):
        SdfastScheduler.from_config(scheduler.config, prediction_type="epsilon")


def test_a_samplers_name_alone_is_a_sampler():
    one = SdfastScheduler(**SD, sampler="DPM++ 2M Karras")
    other = SdfastScheduler(**SD, sampler={"sampler": "DPM++ 2M Karras"})
    for scheduler in (one, other):
        scheduler.set_timesteps(5)
    assert one.timesteps.equal(other.timesteps)


@pytest.mark.parametrize(
    ("how", "sampler"),
    [
        ({"sampler": Sampler(solver="ddim", steps=7)}, Sampler(solver="ddim")),
        ({"preset": load_preset("fast")}, load_preset("fast").sampler),
        ({"preset": "fast", "sampler": Sampler(spacing="karras")}, Sampler(spacing="karras")),
        ({"preset": load_preset("fast"), "sampler": "ddim"}, Sampler(solver="ddim", order=1)),
        ({"preset": load_preset("fast"), "sampler": {"spacing": "karras"}}, None),
    ],
)
def test_values_of_ours_are_taken_and_saved(how, sampler, tmp_path):
    config = SdfastScheduler().config
    scheduler = SdfastScheduler.from_config(config, **how)
    scheduler.save_pretrained(tmp_path)
    saved = SdfastScheduler.from_pretrained(tmp_path)
    wanted = sampler or load_preset("fast").sampler.replace(spacing="karras")
    made = SdfastScheduler(**how)
    for one in (scheduler, saved, made, SdfastScheduler.from_config(made.config)):
        one.set_timesteps(9)
        direct = [
            node.t for node in grid(NoiseSchedule.from_config(config), wanted.replace(steps=9))
        ]
        assert one.timesteps.tolist() == pytest.approx(direct[:9])


def test_a_saved_config_is_the_same_config(tmp_path):
    scheduler = SdfastScheduler(**SD, sampler=CORRECTED, preset="fast")
    scheduler.save_pretrained(tmp_path)
    kept = dict(scheduler.config)
    del kept["_use_default_values"]
    assert SdfastScheduler.from_pretrained(tmp_path).config == kept
    written = json.loads((tmp_path / "scheduler_config.json").read_text())
    assert (written["preset"], written["_class_name"]) == ("fast", "SdfastScheduler")


@pytest.mark.parametrize(
    "config",
    [{"beta_schedule": "linear"}, {**SD, "preset": "fast", "prediction_type": "sample"}],
)
def test_through_any_compatible_scheduler_the_config_comes_back(config, monkeypatch):
    monkeypatch.setattr(diffusers, "SdfastScheduler", SdfastScheduler, raising=False)
    scheduler = SdfastScheduler(**config)
    kinds = [kind for kind in scheduler.compatibles if not hasattr(kind, "_backends")]
    assert {DDIMScheduler, PNDMScheduler, SdfastScheduler} <= set(kinds)
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # NumPy's, of diffusers
    for kind in kinds:
        back = SdfastScheduler.from_config(kind.from_config(scheduler.config).config)
        assert {k: v for k, v in back.config.items() if k in scheduler.config} == scheduler.config
        more = set(back.config) - set(scheduler.config)
        assert not more & set(inspect.signature(SdfastScheduler.__init__).parameters)


def test_nothing_is_said_about_the_keys_of_the_scheduler_it_replaces(small, monkeypatch):
    said = []
    logger = logging.get_logger("diffusers.configuration_utils")
    monkeypatch.setattr(logger, "warning", said.append)
    shipped = PNDMScheduler.from_pretrained(small / "scheduler")
    SdfastScheduler.from_config(shipped.config, preset="fast")
    assert not said


@ours
def test_a_step_keeps_shape_type_and_device(record):
    scheduler = SdfastScheduler(**SD, sampler=record)
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        scheduler.set_timesteps(10)
        x = noise(4, 3, 8, 8, dtype=torch.float32).to(dtype)
        for t in scheduler.timesteps[:2]:
            there = scheduler.step(0.1 * x, t, x).prev_sample
            assert (there.shape, there.dtype, there.device) == (x.shape, dtype, x.device)


@pytest.mark.parametrize("name", sorted(ALL.keys() - {"rk45", "heun to sigma_min"}))
def test_a_step_may_be_asked_for_at_times_on_no_list(name):
    scheduler = SdfastScheduler(**SD, sampler=ALL[name])
    scheduler.set_timesteps(10)
    x = noise()
    assert all(scheduler.step(0.1 * x, t, x).prev_sample.shape == x.shape for t in (0, 1))


@ours
def test_a_tuple_holds_what_the_output_does(record):
    scheduler = SdfastScheduler(**SD, sampler=record)
    x = noise()
    ends = []
    for named in (True, False):
        scheduler.set_timesteps(10)
        t = scheduler.timesteps[0]
        ends.append(scheduler.step(0.1 * x, t, x, generator=seeded(), return_dict=named)[0])
    assert torch.equal(*ends)


def test_the_noise_of_a_pipeline_and_the_networks_input_need_no_scale():
    scheduler = SdfastScheduler(**SD)
    assert scheduler.init_noise_sigma == 1.0
    x = noise()
    assert scheduler.scale_model_input(x, 0.0) is x
    assert scheduler.scale_model_input(x, timestep=torch.tensor(3.5)) is x
    assert "eta" not in inspect.signature(scheduler.step).parameters


def test_noise_is_added_as_the_schedule_has_it_at_fractions_too():
    scheduler, x, z = SdfastScheduler(**SD), noise(), torch.ones(2, 4, 8, 8)
    times = torch.tensor([999.0, 412.625])
    strewn = scheduler.add_noise(x, z, times)
    schedule = NoiseSchedule.scaled_linear()
    wanted = torch.cat([noised(x[i : i + 1], z[:1], schedule.at(float(times[i]))) for i in (0, 1)])
    torch.testing.assert_close(strewn, wanted, rtol=0, atol=1e-6)
    assert scheduler.add_noise(x.half(), z.half(), times).dtype == torch.float16


def test_noise_and_velocity_at_whole_times_are_those_of_diffusers():
    mine, theirs = SdfastScheduler(**SD), DDIMScheduler(**SD)
    x, z = noise(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    for times in (torch.tensor([0, 1, 500, 999]), torch.tensor([37])):
        for name in ("add_noise", "get_velocity"):
            apart = getattr(mine, name)(x, z, times) - getattr(theirs, name)(x, z, times)
            assert apart.abs().max() < 1e-5


def test_betas_are_those_of_diffusers():
    for config in (
        SD,
        {},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"trained_betas": [0.1, 0.2, 0.3]},
    ):
        mine, theirs = SdfastScheduler(**config), DDIMScheduler(**config)
        torch.testing.assert_close(mine.betas, theirs.betas, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(mine.alphas_cumprod, theirs.alphas_cumprod, rtol=1e-4, atol=1e-6)


def test_trained_betas_are_saved(tmp_path):
    scheduler = SdfastScheduler(trained_betas=np.array([0.1, 0.3]))
    scheduler.save_pretrained(tmp_path)
    again = SdfastScheduler.from_pretrained(tmp_path)
    assert torch.equal(scheduler.betas, again.betas)
    assert len(again) == 2


def test_a_schedule_without_signal_at_its_start_ends_finite():
    scheduler = SdfastScheduler(
        **SD, rescale_betas_zero_snr=True, prediction_type="v_prediction", preset="fast"
    )
    scheduler.set_timesteps(10)
    assert scheduler.alphas_cumprod[-1] < 1e-7
    assert painted(scheduler, noise()).isfinite().all()


def test_before_it_is_asked_a_scheduler_has_every_step_that_was_trained():
    scheduler = SdfastScheduler(num_train_timesteps=9)
    assert scheduler.timesteps.tolist() == [*range(8, -1, -1)]


@pytest.mark.parametrize(("name", "order"), [("Euler", 1), ("Heun", 2)])
def test_a_schedulers_order_is_how_often_it_asks_in_each_step(name, order):
    assert SdfastScheduler(**SD, sampler=name).order == order


def test_attributes_are_found_and_lost_as_in_any_scheduler():
    scheduler = SdfastScheduler(**SD)
    assert len(scheduler) == 1000
    with pytest.warns(FutureWarning, match="preset"):
        assert scheduler.preset == "default"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        scheduler.nothing  # noqa: B018


@ours
def test_two_runs_are_one_and_the_same(record):
    scheduler = SdfastScheduler(**SD, sampler=record)
    ends = []
    for _ in range(2):
        scheduler.set_timesteps(STEPS)
        ends.append(painted(scheduler, noise(), draw_from=seeded()))
    assert torch.equal(*ends)
    assert scheduler.step_index == len(scheduler.timesteps)


@deterministic
def test_a_copy_made_on_the_way_walks_on_alike(record):
    scheduler = SdfastScheduler(**SD, sampler=record)
    scheduler.set_timesteps(STEPS)
    x = noise().half()  # so that what rounding took is remembered too
    for t in scheduler.timesteps[:3]:
        x = scheduler.step(network(x, t), t, x).prev_sample
    copies = [copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))]
    t = scheduler.timesteps[3]
    there = scheduler.step(network(x, t), t, x).prev_sample
    for each in copies:
        assert torch.equal(each.step(network(x, t), each.timesteps[3], x).prev_sample, there)


@ours
def test_before_and_after_a_walk_a_scheduler_can_be_pickled(record):
    scheduler = SdfastScheduler(**SD, sampler=record)
    for _ in range(2):
        again = pickle.loads(pickle.dumps(scheduler))
        assert again.config == scheduler.config
        again.set_timesteps(3)
        scheduler.set_timesteps(3)
        ends = [painted(each, noise(), draw_from=seeded()) for each in (scheduler, again)]
        assert torch.equal(*ends)


def test_steps_of_states_kept_and_put_back_do_not_disturb_each_other():
    """Pipelines that paint in overlapping views keep a scheduler's attributes for each view."""
    scheduler = SdfastScheduler(**SD, preset="fast")
    scheduler.set_timesteps(5)
    views = [noise(), noise().flip(0)]
    states = [copy.deepcopy(scheduler.__dict__)] * 2
    for t in scheduler.timesteps:
        for i, x in enumerate(views):
            scheduler.__dict__.update(states[i])
            views[i] = scheduler.step(network(x, t), t, x).prev_sample
            states[i] = copy.deepcopy(scheduler.__dict__)
    for start, there in zip((noise(), noise().flip(0)), views, strict=True):
        scheduler.set_timesteps(5)
        assert torch.equal(painted(scheduler, start), there)


def test_the_networks_answer_may_be_overwritten_afterwards():
    scheduler = SdfastScheduler(**SD, sampler={"sampler": "PNDM"})
    scheduler.set_timesteps(STEPS)
    x, answer = noise(), torch.empty(2, 4, 8, 8)
    for t in scheduler.timesteps:
        x = scheduler.step(answer.copy_(network(x, t)), t, x).prev_sample
    assert torch.equal(x, solved({"sampler": "PNDM"}, noise()))


@pytest.mark.parametrize("record", STOCHASTIC.values(), ids=STOCHASTIC)
def test_noise_is_each_pictures_own(record):
    scheduler = SdfastScheduler(**SD, sampler=record)
    scheduler.set_timesteps(STEPS)
    x = noise()
    both = painted(scheduler, x, draw_from=[seeded(1), seeded(2)])
    for i in (0, 1):
        scheduler.set_timesteps(STEPS)
        one = painted(scheduler, x[i : i + 1], draw_from=[seeded(i + 1)])
        torch.testing.assert_close(one, both[i : i + 1])


# what is refused


def test_a_step_before_set_timesteps_is_refused():
    with pytest.raises(ValueError, match="set_timesteps"):
        SdfastScheduler(**SD).step(noise(), 999, noise())


def test_a_sampler_that_chooses_its_own_steps_is_refused():
    with pytest.raises(ValueError, match="adaptive"):
        SdfastScheduler(**SD, sampler={"sampler": "DPM adaptive"})


def test_a_misspelt_preset_or_key_is_named():
    with pytest.raises(PresetError, match="`fats`"):
        SdfastScheduler(**SD, preset="fats")
    with pytest.raises(JobError, match="`odrer`"):
        SdfastScheduler(**SD, sampler={"odrer": 2})


def test_a_prediction_or_schedule_that_sdfast_does_not_know_is_named():
    with pytest.raises(ValueError, match="`flow_prediction`"):
        SdfastScheduler(**SD, prediction_type="flow_prediction")
    with pytest.raises(ValueError, match="`laplace`"):
        SdfastScheduler(beta_schedule="laplace")


def test_asking_for_help_wakes_no_scheduler():
    code = (
        "import sys\nfrom sdfast.cli import main\nsys.argv = ['sdfast', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "assert 'sdfast.cli' in sys.modules\n"
        "assert not {'sdfast.interop', 'diffusers', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.gpu
@deterministic
def test_a_walk_never_waits_for_the_gpu(record):
    scheduler = SdfastScheduler(**SD, sampler=record)
    scheduler.set_timesteps(STEPS, "cuda")
    x = noise().cuda().half()
    network(x, scheduler.timesteps[0])
    with no_waiting():
        for t in scheduler.timesteps:
            x = scheduler.step(network(x, t), t, x).prev_sample
    assert x.isfinite().all()


def test_tinys_text_encoder_has_the_names_of_stable_diffusions_own():
    """Newer releases of transformers write names without the prefix, which older ones miss."""
    file = Path(our_models.__file__).parent / "tiny" / "text_encoder" / "model.safetensors"
    with safe_open(file, "pt") as weights:
        assert all(name.startswith("text_model.") for name in weights.keys())  # noqa: SIM118


def test_tiny_paints_in_a_pipeline_as_it_lies_there():
    folder = Path(our_models.__file__).parent / "tiny"
    pipeline = TextToImage.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = SdfastScheduler.from_config(pipeline.scheduler.config, preset="fast")
    model, job = load_model("tiny"), Job(prompt="a cat", seed=3)
    job = model.complete(job.model_copy(update={"sampler": load_preset("fast").sampler}))
    *_, painted = generate(model, job)
    theirs = pipeline(
        "a cat",
        num_inference_steps=10,
        guidance_scale=job.guidance,
        latents=model.noise(3, job.size),
    ).images[0]
    apart = np.asarray(theirs, np.int16) - np.asarray(painted.image, np.int16)
    assert abs(apart).max() <= 2


def test_a_preset_takes_the_place_of_the_sampler_before_it():
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    first = SdfastScheduler.from_config(betas, sampler={"sampler": "Euler a"})
    fast = SdfastScheduler.from_config(betas, preset="fast")
    assert SdfastScheduler.from_config(first.config, preset="fast").config == fast.config
    same = SdfastScheduler.from_config(first.config)
    assert same.config.sampler == {"sampler": "Euler a"}
    both = SdfastScheduler.from_config(first.config, preset="fast", sampler={"steps": 12})
    assert (both.config.preset, both.config.sampler) == ("fast", {"steps": 12})
