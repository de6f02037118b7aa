"""Latent consistency models, whose UNet is told of the guidance instead of being asked twice."""

import json
import sys

import pytest
import torch
from diffusers import DDIMScheduler, LatentConsistencyModelPipeline, StableDiffusionPipeline
from PIL import ImageChops
from small import write_lcm_model
from torch.nn.modules.module import register_module_forward_pre_hook

from sdfast.cli import run_command
from sdfast.engine import generate, generate_together
from sdfast.job import Job, Sampler, read_sampler
from sdfast.models import load_model
from sdfast.models.family import family
from sdfast.models.networks import UNet

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


def test_half_precision_comes_near(folder, model, monkeypatch):
    half = load_model(str(folder), device="cpu", dtype="bf16")
    job = Job(prompt="a cat", seed=1, sampler=LCM)
    alike = torch.cosine_similarity(
        latents(half, job, monkeypatch).flatten(), latents(model, job, monkeypatch).flatten(), 0
    )
    assert alike > 0.999


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--sampler", "LCM", "-s", "4"], None),
        (["-s", "10"], "is a latent consistency model: --sampler LCM -s 4 is what"),
        (["--sampler", "LCM", "-s", "4", "-x", "dogs"], "hears of no negative prompt"),
    ],
)
def test_what_it_cannot_use_is_told(folder, flags, told, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sdfast", "gen", "a cat", "-m", str(folder), *flags])
    assert run_command() == 0
    err = capsys.readouterr().err
    assert ("note: " in err) == (told is not None)
    assert (told or "guidance 8.5") in err


def test_a_folder_says_that_it_holds_one(folder, tmp_path):
    unet = json.loads((folder / "unet" / "config.json").read_text())
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps(unet | {"cross_attention_dim": 768}))
    (tmp_path / "model_index.json").write_bytes((folder / "model_index.json").read_bytes())
    assert family(tmp_path) == "Stable Diffusion 1.x, latent consistency"
