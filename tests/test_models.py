"""Stable Diffusion as the engine asks it, judged by diffusers' own pipeline on the same weights."""

import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
)
from PIL import Image
from small import write_model, write_v2_model, write_xl_model
from torch.nn.modules.module import register_module_forward_pre_hook

from sdfast.conditioning import Words, calls_of, guided, prepare
from sdfast.engine import generate, generate_together, paint
from sdfast.errors import DeviceError, ModelError, OutOfMemoryError, UsageError
from sdfast.events import Finished
from sdfast.job import Job, Sampler
from sdfast.models import load_model, philox
from sdfast.models.device import (
    Clock,
    cpu_has_bfloat16,
    is_memory,
    memory_errors,
    pick_device,
    pick_dtype,
)
from sdfast.models.networks import UNet
from sdfast.models.sight import Sight
from sdfast.solver.walk import trajectory

SIZE = (64, 64)
CPU = torch.device("cpu")

REFERENCE = {"weights": "reference", "spacing": "linspace"}
SAMPLERS = {
    "dpm++ 2m": (DPMSolverMultistepScheduler, {}, Sampler(steps=10, **REFERENCE)),
    "dpm++ 2m, 20 steps": (DPMSolverMultistepScheduler, {}, Sampler(steps=20, **REFERENCE)),
    "dpm++ 3m": (
        DPMSolverMultistepScheduler,
        {"solver_order": 3},
        Sampler(steps=10, order=3, **REFERENCE),
    ),
    "dpm++ 2m, trailing": (
        DPMSolverMultistepScheduler,
        {"timestep_spacing": "trailing"},
        Sampler(steps=8, weights="reference", spacing="trailing"),
    ),
    "ddim": (
        DDIMScheduler,
        {"timestep_spacing": "leading", "clip_sample": False},
        Sampler(solver="ddim", steps=10, spacing="leading", final="sigma_min"),
    ),
}
"""A scheduler of diffusers, what to change in its config, and ours that walks alike."""


@pytest.fixture(scope="module", params=["1.x", "2.x"])
def folder(request, small, tmp_path_factory):
    """A model that predicts noise, and one that predicts velocity, from no signal at all on."""
    if request.param == "1.x":
        return small
    return write_v2_model(tmp_path_factory.mktemp("models") / "v2")


@pytest.fixture(scope="module")
def model(folder):
    return load_model(str(folder), device="cpu")


@pytest.fixture(scope="module")
def pipeline(folder):
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def theirs(pipeline, model, job, scheduler, changes, output_type="latent", **more):
    shipped = f"{pipeline.config._name_or_path}/scheduler"
    config = {"timestep_spacing": "linspace"} | changes
    pipeline.scheduler = scheduler.from_pretrained(shipped, **config)
    return pipeline(
        job.prompt,
        negative_prompt=job.negative,
        latents=model.noise(job.seed, SIZE),
        num_inference_steps=job.sampler.steps,
        guidance_scale=job.guidance,
        output_type=output_type,
        **more,
    ).images


def ours(model, job):
    plain = model.encode(job.negative) if job.guidance != 1 else None
    network = guided(model.predict, [Words(model.encode(job.prompt), plain)], job.guidance)
    noise = model.noise(job.seed, SIZE)
    *_, x = trajectory(network, noise, job.sampler, model.schedule, model.prediction)
    return x


@pytest.mark.parametrize("together", [1, 2])
def test_rescaled_guidance_paints_the_picture_that_diffusers_paints(model, pipeline, together):
    scheduler, changes, sampler = SAMPLERS["dpm++ 2m"]
    keys = {"prompt": "a red cat", "negative": "dogs", "size": SIZE, "sampler": sampler}
    jobs = [Job(**keys, seed=5 + n, guidance=9, guidance_rescale=0.7) for n in range(together)]
    painted = [e.image for e in generate_together(model, jobs) if isinstance(e, Finished)]
    for job, image in zip(jobs, painted, strict=True):
        how = {"guidance_rescale": 0.7, "output_type": "np"}
        wanted = theirs(pipeline, model, job, scheduler, changes, **how)[0]
        apart = np.abs(np.asarray(image, np.float64) / 255 - wanted).max()
        assert apart < 3 / 255
    plain = paint(model, jobs[0].replace(guidance_rescale=None)).image
    assert plain.tobytes() != painted[0].tobytes()


@pytest.mark.parametrize("guidance", [1, 7.5])
@pytest.mark.parametrize("name", SAMPLERS)
def test_latents_are_those_of_diffusers(model, pipeline, name, guidance):
    scheduler, changes, sampler = SAMPLERS[name]
    job = Job(prompt="a red cat", negative="dogs", seed=5, guidance=guidance, sampler=sampler)
    wanted = theirs(pipeline, model, job, scheduler, changes)
    torch.testing.assert_close(ours(model, job), wanted, rtol=0, atol=1e-3)


def test_a_walk_begins_at_the_noisiest_time_whatever_the_models_own_scheduler_does(folder):
    model = load_model(str(folder), device="cpu")  # theirs would begin `leading` or `trailing`
    asked, true = [], model.predict
    model.predict = lambda x, t, context: asked.append(t) or true(x, t, context)
    *_, finished = generate(model, Job(prompt="a cat", seed=1, sampler=Sampler(steps=3)))
    assert asked == [999, 666, 333]
    assert finished.image.size == SIZE


def test_pictures_are_those_of_diffusers_but_for_the_rounding_of_a_pixel(model, pipeline):
    scheduler, changes, sampler = SAMPLERS["dpm++ 2m"]
    job = Job(prompt="a red cat", seed=5, guidance=7.5, sampler=sampler)
    (wanted,) = theirs(pipeline, model, job, scheduler, changes, output_type="pil")
    *_, finished = generate(model, job)
    apart = np.abs(np.int16(finished.image) - np.int16(wanted))
    assert apart.max() <= 1
    assert np.count_nonzero(apart) < 20  # of 12288


def test_the_same_latents_decode_to_the_pixels_of_diffusers(model, pipeline):
    x = torch.randn(1, 4, 8, 8, generator=torch.manual_seed(0))
    with torch.inference_mode():
        pixels = pipeline.vae.decode(x / pipeline.vae.config.scaling_factor).sample
    (wanted,) = pipeline.image_processor.postprocess(pixels)
    np.testing.assert_array_equal(model.decode(x)[0], wanted)


def test_prompt_and_negative_move_the_picture(model):
    jobs = [
        Job(prompt=prompt, negative=negative, seed=5, guidance=7.5, sampler=Sampler(steps=4))
        for prompt in ("a red cat", "fog")
        for negative in ("", "dogs")
    ]
    ends = [ours(model, job) for job in jobs]
    apart = [(a - b).abs().max().item() for i, a in enumerate(ends) for b in ends[:i]]
    assert min(apart) > 0.01  # ten times what the comparison with diffusers allows


@pytest.mark.parametrize(("guidance", "prompts"), [(1, 1), (7.5, 2)])
def test_the_unet_is_asked_once_a_step_about_one_picture_and_two_prompts_if_guided(
    small, guidance, prompts
):
    model, asked = load_model(str(small), device="cpu"), []

    def count(module, inputs):
        if isinstance(module, UNet):
            asked.append((len(inputs[0]), len(inputs[2].keys[0].keys)))

    with register_module_forward_pre_hook(count):
        list(generate(model, Job(prompt="a cat", guidance=guidance, sampler=Sampler(steps=3))))
    assert asked == [(1, prompts)] * 3


def test_a_seed_is_the_same_noise_alone_and_in_any_order(model):
    forward = [model.noise(seed, SIZE) for seed in (1, 2, 3)]
    backward = [model.noise(seed, SIZE) for seed in (3, 2, 1)][::-1]
    assert all(map(torch.equal, forward, backward))
    assert not torch.equal(forward[0], forward[1])


def test_noise_is_an_eighth_of_the_picture_wide_and_as_high(model):
    assert model.noise(1, (128, 64)).shape == (1, 4, 8, 16)
    assert model.noise(1, (128, 64), "cuda").shape == (1, 4, 8, 16)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_its_authors_words(counter, key, words):
    """The answers that come with their library, Random123."""
    asked = tuple(np.array([word], np.uint32) for word in counter)
    assert tuple(int(word[0]) for word in philox.philox(asked, key)) == words


def test_noise_of_a_gpu_is_what_torch_draws_there():
    """`torch.manual_seed(0); torch.randn(3, 4, device="cuda")`, as the web UI's NV tells it."""
    there = [
        [-0.92466259, -0.42534415, -2.6438457, 0.14518388],
        [-0.12086647, -0.57972564, -0.62285122, -0.32838709],
        [-1.07454231, -0.36314407, -1.67105067, 2.26550497],
    ]
    torch.testing.assert_close(philox.randn((3, 4), 0), torch.tensor(there), rtol=0, atol=1e-6)


def test_noise_of_a_gpu_is_normal_and_of_all_of_the_seed():
    drawn = philox.randn((4, 512, 512), 7).double()
    assert drawn.mean().item() == pytest.approx(0, abs=5e-3)
    assert drawn.var().item() == pytest.approx(1, abs=1e-2)
    assert (drawn**4).mean().item() == pytest.approx(3, abs=5e-2)
    assert drawn.diff().mul(drawn[..., 1:]).mean().item() == pytest.approx(1, abs=1e-2)
    seeds = (7, 8, 7 + 2**32, 2**64 - 1)
    assert len({philox.randn((4,), seed)[0].item() for seed in seeds}) == 4


def test_a_tokenizer_that_knows_no_limit_gets_the_text_encoders(small, tmp_path):
    folder = shutil.copytree(small, tmp_path / "model")
    (folder / "tokenizer" / "tokenizer_config.json").unlink()
    assert load_model(str(folder)).encode("a " * 76).shape[1] == 2 * 77


def a_vae(small, folder, change):
    """A copy of the model with its decoder's last layer changed."""
    shutil.copytree(small, folder)
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    with torch.no_grad():
        change(vae.decoder.conv_out)
    vae.save_pretrained(folder / "vae")
    return str(folder)


def loud(layer):
    layer.weight *= 30_000 / layer.weight.abs().max()


def too_loud(layer):
    layer.weight.fill_(3e38)


def test_a_picture_that_overflows_half_precision_is_looked_at_again_in_float32(small, monkeypatch):
    picture = Image.effect_noise((64, 64), 80).convert("RGB")
    wanted = load_model(str(small), device="cpu").look(picture)
    seen = Sight._seen

    def overflows(self, network, pixels):
        latents = seen(self, network, pixels)
        return latents if pixels.dtype == torch.float32 else latents / 0

    monkeypatch.setattr(Sight, "_seen", overflows)
    latents = load_model(str(small), device="cpu", dtype="bf16").look(picture)
    assert torch.equal(latents, wanted)


def test_a_decoding_that_overflows_half_precision_is_repeated_in_float32(small, tmp_path):
    folder, x = a_vae(small, tmp_path / "loud", loud), torch.randn(1, 4, 8, 8)
    half, single = (load_model(folder, device="cpu", dtype=d) for d in ("fp16", "fp32"))
    (saved, again, _), (straight, once, _) = half.decode(x), single.decode(x)
    assert (again, once) == (True, False)
    assert saved.getextrema() == straight.getextrema() == ((0, 255),) * 3
    assert half.decode(x).again  # back in half precision, the next picture overflows again


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_pixels_that_stay_nan_are_an_error_and_no_black_picture(small, tmp_path, dtype):
    model = load_model(a_vae(small, tmp_path / "loud", too_loud), device="cpu", dtype=dtype)
    with pytest.raises(ModelError, match="not finite"):
        model.decode(torch.randn(1, 4, 8, 8))


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_latents_stay_float32_whatever_the_networks_compute_in(small, dtype):
    model = load_model(str(small), device="cpu", dtype=dtype)
    words = model.encode("a cat")
    assert model.dtype_name == dtype
    assert words.dtype == model.dtype
    assert model.predict(model.noise(1, SIZE), 999.0, words).dtype == torch.float32


@pytest.mark.parametrize("wanted", ["gpu", "cuda:x", "cuda:-1", "", "CPU", "auto:1", "cuda:"])
def test_an_unknown_device_is_bad_usage(wanted):
    with pytest.raises(UsageError, match=f"no device `{wanted}`") as caught:
        pick_device(wanted)
    assert caught.value.exit_code == 2


def test_a_misspelt_device_brings_the_nearest_name():
    with pytest.raises(UsageError) as caught:
        pick_device("cudda")
    assert caught.value.hint == "did you mean `cuda`?"


@pytest.mark.parametrize("wanted", ["cpu:1", f"cuda:{torch.cuda.device_count()}"])
def test_a_device_that_is_not_there_is_named_with_what_is(wanted):
    with pytest.raises(DeviceError, match=f"`{wanted}` is not there: this machine has") as caught:
        pick_device(wanted)
    assert caught.value.exit_code == 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_cuda_device_is_an_error_of_the_device(small):
    with pytest.raises(DeviceError, match="no cuda device"):
        load_model(str(small), device="cuda")


def test_auto_finds_a_device_that_is_there():
    assert torch.zeros(1, device=pick_device("auto")).item() == 0


@pytest.mark.parametrize(
    ("wanted", "device", "parameters", "picked"),
    [
        ("fp32", "cuda", 10**9, torch.float32),
        ("bf16", "cpu", 1, torch.bfloat16),
        ("fp16", "cpu", 1, torch.float16),
        ("auto", "cuda", 1, torch.float16),
        ("auto", "mps", 1, torch.float16),
        ("auto", "cpu", 100_000_000, torch.float32),
        ("auto", "cpu", 10**9, torch.bfloat16 if cpu_has_bfloat16() else torch.float32),
    ],
)
def test_the_dtype_is_the_named_one_or_the_devices_fastest(wanted, device, parameters, picked):
    assert pick_dtype(wanted, torch.device(device), parameters) == picked


def test_an_unknown_dtype_is_bad_usage_with_the_nearest_name():
    with pytest.raises(UsageError, match="no dtype `fp61`") as caught:
        pick_dtype("fp61", CPU, 1)
    assert (caught.value.hint, caught.value.exit_code) == ("did you mean `fp16`?", 2)


def test_too_little_memory_is_an_error_of_the_device():
    said = "out of memory on cpu while painting"
    with pytest.raises(DeviceError, match=said) as caught, memory_errors(CPU, "painting"):
        torch.empty(2**60, dtype=torch.uint8)
    assert (caught.value.exit_code, caught.value.hint) == (4, "--size asks for fewer pixels")


def test_mps_says_of_one_large_tensor_that_it_has_no_memory():
    assert is_memory(RuntimeError("Invalid buffer size: 16.00 GiB"))
    assert not is_memory(RuntimeError("Invalid argument"))


def test_who_is_nearest_to_the_memory_that_is_short_says_so():
    outside = memory_errors(CPU, "reading `sd15`", hint="")
    inside = memory_errors(torch.device("cuda"), "loading `sd15`", "--vram offload")
    with pytest.raises(OutOfMemoryError) as caught, outside, inside:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB")
    assert str(caught.value) == "out of memory on cuda while loading `sd15`"
    assert caught.value.hint == "--vram offload"


_IN_NO_ROOM = """
import resource, sys, torch
from pathlib import Path
from sdfast import load_model
from sdfast.errors import OutOfMemoryError
load_model("tiny", device="cpu")  # all is imported
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 2**20, resource.RLIM_INFINITY))
try:
    load_model(sys.argv[1], device="cpu")
except OutOfMemoryError as error:
    print(error, error.hint)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory as Linux has them")
def test_weights_that_find_no_memory_are_not_called_broken(small):
    ran = subprocess.run(
        [sys.executable, "-c", _IN_NO_ROOM, str(small)], capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"out of memory on cpu while (reading|loading) `.*` \n", ran.stdout)


def test_numpy_is_short_of_memory_in_the_same_words():
    with pytest.raises(DeviceError, match="out of memory"), memory_errors(CPU, "decoding"):
        np.empty(2**60, np.uint8)


def test_an_operation_that_onednn_cannot_do_is_no_lack_of_memory():
    said = "could not create a primitive descriptor for the convolution forward propagation"
    assert not is_memory(RuntimeError(said))
    assert is_memory(RuntimeError("could not create a primitive"))


def test_another_fault_of_the_networks_stays_what_it_is():
    with pytest.raises(RuntimeError, match="shape"), memory_errors(CPU, "painting"):
        torch.zeros(2, 3) @ torch.zeros(2, 3)


def test_noise_too_large_for_the_memory_is_an_error_of_the_device(model):
    for rng in ("cpu", "cuda"):
        with pytest.raises(DeviceError, match="drawing noise"):
            model.noise(1, (2**31, 2**31), rng)


def test_a_clock_tells_the_seconds_between_its_marks():
    clock = Clock(CPU)
    began = time.perf_counter()
    seconds = clock.between([clock.mark() for _ in range(3)])
    assert len(seconds) == 2
    assert 0 < sum(seconds) < time.perf_counter() - began


@pytest.mark.gpu
def test_a_clock_times_its_own_gpu_whichever_is_current():
    last = torch.device("cuda", torch.cuda.device_count() - 1)
    clock = Clock(last)
    x = torch.randn(4096, 4096, device=last)
    began = time.perf_counter()
    marks = [clock.mark()]
    for _ in range(20):
        x = torch.tanh(x @ x)
    marks.append(clock.mark())
    (told,) = clock.between(marks)
    torch.cuda.synchronize(last)
    assert 1e-4 < told < time.perf_counter() - began


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"guidance": 1},
        {"guidance_interval": (0.2, 0.8), "guidance_rescale": 0.7},
        {"prompt": "a red cat, " * 40, "negative": "grey"},
        {"negative": "a dog, " * 30, "clip_skip": 2},
    ],
)
def test_to_prepare_is_to_ask_the_unet_as_the_picture_will(model, monkeypatch, keys):
    asked = set()
    predict = type(model).predict

    def heard(self, x, t, context):
        asked.add((x.shape, context.shape))
        return predict(self, x, t, context)

    monkeypatch.setattr(type(model), "predict", heard)
    job = model.complete(Job(**{"prompt": "a cat", "size": SIZE, "seed": 1} | keys))
    for together in (1, 3):
        asked.clear()
        prepare(model, job, together)
        prepared = asked.copy()
        asked.clear()
        list(generate_together(model, [job] * together))
        assert prepared == asked


def test_jobs_share_what_is_compiled_where_their_calls_look_alike(model):
    def calls(**keys):
        return calls_of(model, model.complete(Job(**{"prompt": "a cat", "size": SIZE} | keys)))

    assert calls() == calls(prompt="a dog", negative="grey", seed=5)
    for other in ({"prompt": "a, " * 200}, {"guidance": 1}, {"size": (64, 128)}):
        assert calls(**other) != calls()


@pytest.mark.parametrize("write", [write_model, write_xl_model])
def test_a_time_that_is_kept_is_not_that_of_another_prompt_or_size(tmp_path, write):
    folder = str(write(tmp_path))
    kept = load_model(folder, device="cpu")
    for prompt, side in (("fog", 8), ("a cat", 8), ("fog", 16), ("fog", 8)):
        x = torch.ones(1, 4, side, side)
        said, wanted = (
            model.predict(x, 500.0, model.encode(prompt))
            for model in (kept, load_model(folder, device="cpu"))
        )
        torch.testing.assert_close(said, wanted, rtol=0, atol=1e-6)


def test_a_time_is_read_once_for_all_pictures_until_it_is_let_go(tmp_path, monkeypatch):
    model = load_model(str(write_model(tmp_path)), device="cpu")
    read, true = [], model._unet.embed_time

    def noted(t, told):
        read.append(float(t))
        return true(t, told)

    monkeypatch.setattr(model._unet, "embed_time", noted)
    for seed in (1, 2):
        list(generate(model, Job(prompt="fog", seed=seed, sampler=Sampler(steps=4))))
    assert len(read) == len({*read}) > 0
    model.forget()
    list(generate(model, Job(prompt="fog", sampler=Sampler(steps=4))))
    assert len(read) == 2 * len({*read})
