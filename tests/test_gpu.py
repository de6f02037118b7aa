"""CUDA beside the CPU, and each fast path beside the plain one."""

import gc

import pytest
import torch
from waiting import no_waiting

from sdfast import generate
from sdfast.bench.timing.ours import paint
from sdfast.conditioning import encode, prepare
from sdfast.engine import _walk
from sdfast.job import read_job
from sdfast.models import load_model
from sdfast.models.philox import randn
from sdfast.models.room import MOST, Room

pytestmark = pytest.mark.gpu

SD = {"model": "random:sd15", "size": "256x256", "steps": 8}


def jobs(count=1, **keys):
    asked = {"prompt": "a cat", "steps": 12, **keys}
    return [read_job({**asked, "seed": seed}) for seed in range(1, count + 1)]


def cosine(a, b):
    return torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0).item()


@pytest.fixture(scope="module")
def on_cpu():
    return load_model("tiny", device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def plain():
    """Half precision, and weights that come and go: no graph is recorded of it."""
    return load_model("random:sd15", device="cuda", vram="offload")


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("sampler", ["dpm++", "ddim", "sde-dpm++"])
def test_pictures_match_the_processors(on_cpu, dtype, sampler):
    asked = jobs(sampler=sampler)
    model = load_model("tiny", device="cuda", dtype=dtype)
    least = 0.9999 if dtype == "fp32" else 0.999 if dtype == "fp16" else 0.99
    for _ in range(2):  # recorded, and played again
        assert cosine(paint(model, asked).latents, paint(on_cpu, asked).latents) > least


@pytest.mark.parametrize("vram", ["full", "offload", "min"])
@pytest.mark.parametrize("interval", [None, "0.2:0.8"])
def test_each_use_of_the_memory_paints_the_same(on_cpu, vram, interval):
    asked = jobs(guidance_interval=interval) if interval else jobs()
    model = load_model("tiny", device="cuda", dtype="fp16", vram=vram)
    assert cosine(paint(model, asked).latents, paint(on_cpu, asked).latents) > 0.999


def test_graphs_match_plain_calls_in_the_true_shapes(plain):
    asked = jobs(**SD)
    recorded = load_model("random:sd15", device="cuda", vram="full")
    for _ in range(2):
        assert cosine(paint(recorded, asked).latents, paint(plain, asked).latents) > 0.999


@pytest.mark.filterwarnings("default")  # the compiler's own
def test_compiled_calls_match_plain_ones_in_the_true_shapes(plain):
    asked = jobs(**{**SD, "size": "512x512"})  # what the benches compile for, too
    made = load_model("random:sd15", device="cuda", compiled=True)
    prepare(made, made.complete(asked[0]))
    assert cosine(paint(made, asked).latents, paint(plain, asked).latents) > 0.999


def test_pictures_painted_together_match_those_alone():
    model = load_model("tiny", device="cuda", dtype="fp16")
    together = paint(model, jobs(4)).latents
    alone = torch.cat([paint(model, [job]).latents for job in jobs(4)])
    assert cosine(together, alone) > 0.999


def test_what_one_picture_takes_tells_how_many_there_is_room_for():
    model = load_model("tiny", device="cuda", dtype="fp16")
    (job,) = map(model.complete, jobs())
    room = Room(model)
    assert room.holds(job) == 1
    with room.watched(job, 1):
        list(generate(model, job))
    assert room.holds(job) == MOST


def test_the_walk_never_waits_for_the_gpu():
    model = load_model("tiny", device="cuda", dtype="fp16")
    (job,) = map(model.complete, jobs())
    list(generate(model, job))  # records
    steps = _walk(model, [encode(model, job)], None)
    with no_waiting():
        *_, x = steps
    assert x.isfinite().all()


def test_a_picture_too_large_for_what_the_walk_left_is_decoded_in_tiles():
    model = load_model("random:sd15", device="cuda")
    x = torch.randn(1, 4, 128, 128, device="cuda")
    whole = model.decode(x)
    assert whole.tiles == 1
    gc.collect()
    torch.cuda.empty_cache()
    room = torch.cuda.memory_allocated() + 600_000_000
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.mem_get_info()[1])
    try:
        assert model.decode(x).tiles > 1
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_the_noise_of_a_gpu_is_drawn_without_one():
    generator = torch.Generator("cuda").manual_seed(5)
    there = torch.randn(1, 4, 64, 64, device="cuda", generator=generator)
    torch.testing.assert_close(randn((1, 4, 64, 64), 5), there.cpu(), rtol=1e-5, atol=1e-5)
