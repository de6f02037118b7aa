"""Latent consistency models, whose UNet is told of the guidance instead of being asked twice."""

import json

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    LatentConsistencyModelPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from original import write_both
from PIL import ImageChops
from safetensors.torch import load_file, save_file
from small import write_lcm_model, write_xl_model
from torch.nn.modules.module import register_module_forward_pre_hook

from sdfast.bench.poses import pose_model
from sdfast.conditioning import guided, prepare, words_of
from sdfast.engine import generate, generate_together
from sdfast.errors import ModelError
from sdfast.job import Job, Sampler, read_sampler
from sdfast.models import load_model
from sdfast.models.family import family
from sdfast.models.find import find
from sdfast.models.networks import UNet
from sdfast.solver.walk import trajectory
from sdfast.tune.model import _lessons

LCM = read_sampler({"sampler": "LCM", "steps": 1})
DDIM = Sampler(solver="ddim", steps=10, spacing="leading", final="sigma_min")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_lcm_model(tmp_path_factory.mktemp("models") / "lcm")


@pytest.fixture(scope="module")
def model(folder):
    return load_model(str(folder), device="cpu")


def latents(model, job, monkeypatch):
    """The latents that the engine decodes."""
    seen = []
    decode = type(model).decode
    monkeypatch.setattr(type(model), "decode", lambda self, x: seen.append(x) or decode(self, x))
    list(generate(model, job))
    return seen[0]


@pytest.mark.parametrize("guidance", [1, 1.5, 8.5])
def test_one_step_is_that_of_diffusers_pipeline(model, folder, monkeypatch, guidance):
    pipeline = LatentConsistencyModelPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    job = Job(prompt="a red cat", seed=5, guidance=guidance, sampler=LCM)
    wanted = pipeline(
        job.prompt,
        latents=model.noise(5, (64, 64)),
        num_inference_steps=1,
        guidance_scale=guidance,
        output_type="latent",
    ).images
    torch.testing.assert_close(latents(model, job, monkeypatch), wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize("guidance", [1.5, 8.5])
def test_a_walk_ends_where_diffusers_does(model, folder, monkeypatch, guidance):
    parts = LatentConsistencyModelPipeline.from_pretrained(folder).components
    parts.pop("image_encoder")
    pipeline = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDIMScheduler.from_pretrained(
        f"{folder}/scheduler", timestep_spacing="leading", clip_sample=False, set_alpha_to_one=False
    )
    job = Job(prompt="a red cat", seed=5, guidance=guidance, sampler=DDIM)
    wanted = pipeline(
        job.prompt,
        latents=model.noise(5, (64, 64)),
        num_inference_steps=10,
        guidance_scale=guidance,
        output_type="latent",
    ).images
    torch.testing.assert_close(latents(model, job, monkeypatch), wanted, rtol=0, atol=1e-3)


def test_it_is_asked_once_a_step_about_one_prompt(model):
    asked = []

    def count(module, inputs):
        if isinstance(module, UNet):
            asked.append((len(inputs[0]), len(inputs[2].keys[0].keys)))

    job = Job(prompt="a cat", guidance=8, sampler=read_sampler({"sampler": "LCM", "steps": 3}))
    with register_module_forward_pre_hook(count):
        list(generate(model, job))
    assert asked == [(1, 1)] * 3


def test_the_guidance_moves_the_picture_and_a_negative_prompt_does_not(model, monkeypatch):
    def end(**keys):
        job = Job(prompt="a cat", seed=1, sampler=LCM, **keys)
        return latents(model, job, monkeypatch)

    assert torch.equal(end(guidance=8.5), end())
    assert (end(guidance=1) - end(guidance=8.5)).abs().max() > 0.01
    assert torch.equal(end(negative="dogs"), end())


def test_pictures_painted_together_are_those_painted_alone(model):
    sampler = read_sampler({"sampler": "LCM", "steps": 2})
    jobs = [Job(prompt=p, seed=s, sampler=sampler) for p, s in (("a cat", 1), ("a red dog", 2))]
    *_, one, two = generate_together(model, jobs)
    for together, job in zip((one, two), jobs, strict=True):
        *_, alone = generate(model, job)
        apart = ImageChops.difference(together.image, alone.image).getextrema()
        assert all(most <= 2 for _, most in apart)


def test_half_precision_is_told_the_guidance_too(folder, model, monkeypatch):
    half = load_model(str(folder), device="cpu", dtype="bf16")

    def end(painter, guidance):
        job = Job(prompt="a cat", seed=1, sampler=LCM, guidance=guidance)
        return latents(painter, job, monkeypatch)

    full = end(model, 8.5)
    assert (end(half, 8.5) - full).norm() < (end(model, 1) - full).norm() / 3


def rows_asked(network, noise):
    """How many rows the UNet is asked for, and what it says."""
    asked = []

    def count(module, inputs):
        if isinstance(module, UNet):
            asked.append(len(inputs[2].keys[0].keys))

    with register_module_forward_pre_hook(count):
        said = network(noise, 500.0)
    return asked, said


@pytest.mark.slow
def test_benches_and_tuning_ask_it_as_pictures_do(model):
    def posed(guidance):
        *_, case = pose_model(model, "lcm", ["a cat"], 1, guidance, training=False)
        return rows_asked(case.test[0].network, model.noise(1, (64, 64)))

    def taught(guidance):
        (lesson,) = _lessons(model, ["a cat"], guidance, 1)
        return rows_asked(lesson.network, model.noise(1, (64, 64)))

    for ask in (posed, taught):
        (rows, much), (_, little) = ask(8.5), ask(1.5)
        assert rows == [1]
        assert (much - little).abs().max() > 1e-3
    torch.testing.assert_close(posed(8.5)[1], taught(8.5)[1])


def test_to_prepare_is_to_ask_it_as_pictures_do(model):
    asked = []

    def count(module, inputs):
        if isinstance(module, UNet):
            asked.append((len(inputs[2].keys[0].keys), inputs[2].guidance.clone()))

    job = model.complete(Job(prompt="a cat", guidance=3, sampler=LCM))
    with register_module_forward_pre_hook(count):
        prepare(model, job)
        list(generate(model, job))
    (prepared, before), (painted, after) = asked
    assert prepared == painted == 1
    assert torch.equal(before, after)


def test_xl_is_told_the_guidance_behind_the_whole(tmp_path):
    folder = write_xl_model(tmp_path / "xl", time_cond_proj_dim=32)
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDIMScheduler.from_pretrained(
        f"{folder}/scheduler", timestep_spacing="leading", clip_sample=False, set_alpha_to_one=False
    )
    model = load_model(str(folder), device="cpu")
    job = model.complete(Job(prompt="a red cat", seed=5, guidance=8, sampler=DDIM))
    wanted = pipeline(
        job.prompt,
        latents=model.noise(5, job.size),
        num_inference_steps=10,
        guidance_scale=8,
        output_type="latent",
    ).images
    network = guided(model.predict, [words_of(model, job.prompt, "", 8)], 8)
    *_, got = trajectory(
        network, model.noise(5, job.size), DDIM, model.schedule, str(model.prediction)
    )
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--sampler", "LCM", "-s", "4"], None),
        (["-s", "10"], "is a latent consistency model: --sampler LCM -s 4 is what"),
        (["--sampler", "LCM", "-s", "4", "-x", "dogs"], "hears of no negative prompt"),
        (["-s", "10", "-x", "dogs"], "is what it is made for; it hears of no negative prompt"),
        (["--sampler", "LCM", "-s", "4", "-g", "0"], "it has learned a guidance from 1 on"),
        (["--sampler", "LCM", "-s", "4", "--guidance-interval", "0:0.5"], "no interval of"),
        (["--sampler", "LCM", "-s", "4", "--guidance-rescale", "0.7"], "is not rescaled"),
    ],
)
@pytest.mark.usefixtures("here")
def test_what_it_cannot_use_is_told(sdfast, folder, flags, told):
    code, _, err = sdfast("gen", "a cat", "-m", str(folder), *flags)
    assert code == 0
    assert err.count("note: ") == (told is not None)
    assert (told or "guidance 8.5") in err


def test_a_folder_says_that_it_holds_one(folder, tmp_path):
    unet = json.loads((folder / "unet" / "config.json").read_text())
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps(unet | {"cross_attention_dim": 768}))
    (tmp_path / "model_index.json").write_bytes((folder / "model_index.json").read_bytes())
    assert family(tmp_path) == "Stable Diffusion 1.x, latent consistency"


def test_a_single_file_of_one_is_refused(tmp_path):
    file = write_both(tmp_path, "sd15").file
    weights = load_file(file)
    weights["model.diffusion_model.time_embed.cond_proj.weight"] = torch.zeros(32, 256)
    save_file(weights, file)
    with pytest.raises(ModelError, match="is a latent consistency model, which is not read from"):
        find(str(file))
