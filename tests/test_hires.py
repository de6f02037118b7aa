"""Pictures enlarged from smaller ones of their own, judged by the two commands that it saves."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from small import write_xl_model

from sdfast import generate, load_model, load_preset, paint
from sdfast.bench.timing import ours
from sdfast.engine import generate_together
from sdfast.errors import JobError
from sdfast.events import Encoded, Finished, Stepped
from sdfast.fields import begun_size, enlarged_size
from sdfast.infotext import read, to_record, write
from sdfast.job import read_job
from sdfast.models.find import find
from sdfast.presets import PRESET_KEYS


@pytest.fixture(scope="module", params=["1.x", "XL"])
def model(request, small, tmp_path_factory):
    folder = small
    if request.param == "XL":
        folder = write_xl_model(tmp_path_factory.mktemp("models") / "model")
    return load_model(str(folder), device="cpu")


def a_job(**keys):
    return read_job({"prompt": "a cat", "seed": 1, "steps": 4, "hires": 2, **keys})


@pytest.mark.parametrize("size", ["128x128", "200x136"])
def test_it_is_the_picture_of_two_jobs_to_the_bit(size, model, tmp_path):
    job = a_job(size=size, strength=0.5)
    begun, _ = job.passes
    paint(model, begun).image.save(tmp_path / "small.png")
    over = job.replace(hires=None, init=str(tmp_path / "small.png"))
    assert paint(model, job).image.tobytes() == paint(model, over).image.tobytes()


def test_those_painted_together_are_those_painted_alone(model):
    jobs = [
        a_job(seed=seed, size="128x128", prompt=prompt) for seed, prompt in ((1, "a"), (2, "b"))
    ]
    events = list(generate_together(model, jobs))
    finished = [event for event in events if isinstance(event, Finished)]
    assert [one.job.seed for one in finished] == [1, 2]
    for one, job in zip(finished, jobs, strict=True):
        alone = np.int16(paint(model, job).image)
        assert np.abs(np.int16(one.image) - alone).max() <= 1
    assert np.abs(np.int16(finished[0].image) - np.int16(finished[1].image)).max() > 10


def test_both_walks_are_counted_as_one_and_every_call_is_timed(model):
    events = list(generate(model, a_job(size="128x128", steps=6, strength=0.5)))
    assert isinstance(events[0], Encoded)
    steps = [(event.index, event.total) for event in events if isinstance(event, Stepped)]
    assert steps == [(call, 9) for call in range(1, 10)]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert len(finished.times.steps) == 9
    assert finished.image.size == (128, 128)


def test_without_a_size_it_begins_at_the_models_own(model):
    width, height = model.complete(a_job(hires=None)).size
    job = model.complete(a_job())
    assert job.size == (2 * width, 2 * height)
    assert job.strength == job.how_strong == 0.5


def test_what_would_be_too_large_is_told():
    source = find("random:sdxl")
    assert source.complete(a_job(hires=4)).size == (4096, 4096)
    assert source.complete(a_job(hires=5, size="2560x2560")).size == (2560, 2560)
    with pytest.raises(JobError, match=r"hires 4\.1 would be 4192x4192 pixels"):
        source.complete(a_job(hires=4.1))


@pytest.mark.parametrize("one", [1, 1.0, "1", "1.00", "1e0"])
def test_at_1_nothing_is_enlarged(one):
    assert a_job(hires=one, strength=0.3) == a_job(hires=None)
    assert a_job(hires=2, strength=0.3).replace(hires=one) == a_job(hires=None)
    assert a_job(hires=one, init="x.png", strength=0.3).strength == 0.3
    for share in (0, 7, "far"):
        with pytest.raises(JobError, match=f"strength must be .*, not `{share}`"):
            a_job(hires=one, strength=share)


def test_a_size_is_rounded_as_the_web_ui_rounds_it():
    assert enlarged_size((520, 512), 1.5) == (776, 768)
    assert enlarged_size((512, 768), 2) == (1024, 1536)


@pytest.mark.parametrize("percent", range(101, 801, 7))
def test_what_is_enlarged_leads_back_to_where_it_began(percent):
    for side in range(64, 1025, 8):
        assert begun_size(enlarged_size((side, side), percent / 100), percent / 100) == (side, side)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"hires": 0.9}, "hires must be from 1 to 8, not `0.9`"),
        ({"hires": 8.5}, "hires must be from 1 to 8, not `8.5`"),
        ({"hires": True}, "hires must be"),
        ({"hires": [1]}, "hires must be"),
        ({"size": "112x128"}, "hires 2 would begin at 56x64; a side has at least 64"),
        ({"init": "x.png"}, "hires begins from a picture of its own"),
        ({"mask": "x.png"}, "mask needs a picture to begin from: init"),
        ({"steps": 1}, "strength 0.5 of 1 steps is no step at all"),
        ({"sampler": "rk45"}, "cannot begin in the middle"),
        ({"hires": None, "strength": 0.5}, "strength needs a picture to begin from"),
    ],
)
def test_what_cannot_be_enlarged_is_told(keys, said):
    with pytest.raises(JobError, match=said):
        a_job(**keys)


# other programs


def test_the_web_ui_is_told_of_its_own_two_passes():
    job = a_job(size="1024x1536", strength=0.4, model="sd15")
    text = write(job, version="1", model="sd15", size=(1024, 1536))
    pairs = read(text).pairs
    assert pairs["Size"] == "512x768"
    assert pairs["Denoising strength"] == "0.4"
    assert (pairs["Hires upscale"], pairs["Hires upscaler"]) == ("2", "Lanczos")
    assert (pairs["Steps"], pairs["Hires steps"]) == ("4", "1")
    assert "Hires resize" not in pairs
    odd = write(a_job(size="1016x1016"), version="1", model=None, size=(1016, 1016))
    assert read(odd).pairs["Size"] == "512x512"
    assert read(odd).pairs["Hires resize"] == "1016x1016"


@pytest.mark.parametrize("size", [(1024, 1536), (1016, 1016), (776, 768)])
@pytest.mark.parametrize("hires", [1.2, 4 / 3, 2, 3.25])
def test_what_is_written_is_read_back(size, hires):
    job = a_job(size="{}x{}".format(*size), hires=hires, strength=0.75, sampler="Euler a")
    record, unknown = to_record(read(write(job, version="1", model=None, size=size)))
    back = read_job({"prompt": "a cat", **record})
    assert (back.size, back.strength, back.passes[0].size) == (size, 0.75, job.passes[0].size)
    assert not unknown


def web_ui(**pairs):
    steps = {"Steps": 20, "Sampler": "Euler a", "Schedule type": "Automatic", "CFG scale": 7}
    said = {**steps, "Seed": 1, "Size": "512x768", "Denoising strength": 0.5, **pairs}
    return "a cat\n" + ", ".join(f"{key}: {value}" for key, value in said.items())


@pytest.mark.parametrize(
    ("pairs", "left"),
    [
        ({"Hires upscale": 2, "Hires upscaler": "Lanczos"}, ["Hires steps"]),
        ({"Hires upscale": 2, "Hires steps": 0}, ["Hires steps"]),
        ({"Hires upscale": 2, "Hires steps": 15}, ["Hires steps"]),
        ({"Hires upscale": 2, "Hires steps": "ten"}, ["Hires steps"]),
        ({"Hires upscale": 2, "Hires steps": 10, "Hires upscaler": "None"}, []),
        ({"Hires upscale": 2, "Hires steps": 10, "Hires upscaler": "Latent"}, ["Hires upscaler"]),
        (
            {"Hires resize": "1024x1536", "Hires CFG Scale": 7, "Hires steps": 10},
            ["Hires CFG Scale"],
        ),
        ({"Hires resize": "1024X0", "Hires steps": 10}, []),
        ({"Hires resize": "0x1540", "Hires steps": 10}, []),
    ],
)
def test_the_web_uis_hires_fix_is_followed_as_far_as_it_is_ours(pairs, left):
    record, unknown = to_record(read(web_ui(**pairs)))
    job = read_job(record)
    assert (job.size, job.hires, job.strength) == ((1024, 1536), 2, 0.5)
    assert unknown == left


@pytest.mark.parametrize(
    "pairs",
    [
        {"Hires resize": "1024x1024"},  # another shape
        {"Hires resize": "0x0"},
        {"Hires resize": "1e9"},
        {"Hires upscale": 0},
        {"Hires upscale": 1},
        {"Hires upscale": 2, "Sampler": "DPM adaptive"},
        {"Hires upscale": 9},
        {"Hires upscale": "inf"},
        {"Hires upscale": "nan"},
        {"Hires upscale": "two"},
        {"Hires upscale": 2, "Denoising strength": 0.01},
        {"Hires upscale": 2, "Denoising strength": 2},
        {"Hires upscale": 2, "Size": "a lot"},
    ],
)
def test_a_second_pass_that_is_none_here_is_named_whole(pairs):
    record, unknown = to_record(read(web_ui(**pairs)))
    assert not record.keys() & {"hires", "strength"}
    named = {name for name in pairs if name.startswith("Hires")} | {"Denoising strength"}
    assert named <= {*unknown}
    read_job(record)


# from the command line


def test_a_picture_remembers_that_it_was_enlarged_and_is_painted_again(small, here, sdfast):
    asked = ["-m", str(small), "-s", "4", "--hires", "2", "--size", "128x128", "--seed", "1"]
    code, _, err = sdfast("gen", "a cat", *asked, "-o", "x.png")
    assert code == 0
    assert "128x128 over one of 64x64 in the last 2 steps" in err
    assert "6 steps" in err
    assert sdfast("gen", "--from", "x.png", "-m", str(small), "-o", "y.png", "-q")[0] == 0
    with Image.open("x.png") as first, Image.open("y.png") as again:
        assert again.tobytes() == first.tobytes()


def test_another_picture_to_begin_from_takes_its_place(small, here, sdfast):
    asked = ["-m", str(small), "-s", "4", "--hires", "2", "--size", "128x128", "--strength", "0.25"]
    assert sdfast("gen", "a cat", *asked, "-o", "x.png", "-q")[0] == 0
    Image.new("RGB", (72, 64)).save("other.png")
    code, out, _ = sdfast(
        "gen", "--from", "x.png", "-m", "tiny", "--init", "other.png", "--dry-run"
    )
    job = json.loads(out)
    assert code == 0
    assert "hires" not in job
    assert job["size"] == "72x64"
    assert job.get("strength", 0.75) == 0.75


def test_a_line_of_a_batch_with_a_picture_of_its_own_begins_from_that(here, sdfast):
    Image.new("RGB", (64, 64)).save("other.png")
    lines = ['{"prompt": "a cat"}', '{"prompt": "a cat", "init": "other.png"}']
    (here / "jobs.jsonl").write_text("\n".join(lines))
    asked = ["-m", "tiny", "--hires", "2", "-s", "1", "--strength", "1", "--dry-run"]
    code, out, err = sdfast("batch", "jobs.jsonl", "-o", "out", *asked)
    assert code == 0, err
    enlarged, over = map(json.loads, out.splitlines())
    assert (enlarged["hires"], enlarged["strength"]) == (2, 1)
    assert "hires" not in over
    code, _, err = sdfast("batch", "jobs.jsonl", "-o", "out", *asked, "--init", "other.png")
    assert code == 2
    assert "hires begins from a picture of its own" in err
    code, _, err = sdfast("batch", "jobs.jsonl", "-o", "out", "--hires", "9", "--dry-run")
    assert code == 2
    assert "hires must be from 1 to 8, not `9`" in err


def test_what_each_line_of_a_batch_decides_is_left_to_it(here, sdfast):
    (here / "jobs.jsonl").write_text('{"prompt": "a cat", "steps": 20, "size": "256x256"}')
    asked = ["-m", "tiny", "--hires", "2", "--strength", "0.2", "-s", "4", "--size", "64x64"]
    code, out, err = sdfast("batch", "jobs.jsonl", "-o", "out", *asked, "--dry-run")
    assert code == 0, err
    job = json.loads(out)
    assert (job["hires"], job["strength"], job["steps"]) == (2, 0.2, 20)


def test_no_preset_says_to_enlarge_and_none_is_saved_that_does(here, small, sdfast):
    assert "hires" not in PRESET_KEYS
    asked = ["-m", str(small), "-s", "4", "--hires", "2", "--size", "128x128", "-q"]
    assert sdfast("gen", "a cat", *asked, "--save", "mine")[0] == 0
    assert load_preset("mine").record.keys() & {"hires", "strength"} == set()


def test_bench_compares_the_last_latents_and_times_every_call(model):
    job = model.complete(a_job(size="128x128"))
    painted = ours.paint(model, [job, job.replace(seed=2)])
    alone = ours.paint(model, [job])
    assert len(painted.latents) == 2
    assert painted.latents.shape[-1] == 2 * model.noise(0, (64, 64)).shape[-1]
    assert torch.allclose(painted.latents[:1], alone.latents, atol=1e-3)
    assert len(painted.network) == len(painted.times.steps) == 6


def test_a_sheet_may_hold_the_picture_that_is_not_enlarged(here, sdfast):
    asked = ["-m", "tiny", "--size", "128x128", "--strength", "0.5", "--x", "hires=1,2"]
    code, out, err = sdfast("grid", "a cat", *asked, "--dry-run")
    assert code == 0, err
    plain, enlarged = (json.loads(line) for line in out.splitlines())
    assert "hires" not in plain
    assert (enlarged["hires"], enlarged["strength"]) == (2, 0.5)


def test_another_picture_begins_elsewhere_though_the_recipe_says_no_strength(here, sdfast):
    job = {"prompt": "a cat", "seed": 1, "hires": 2, "size": "256x256"}
    Path("job.json").write_text(json.dumps({"schema": 1, "version": "0", "job": job}))
    Image.new("RGB", (64, 64)).save("other.png")
    asked = ["--from", "job.json", "-m", "tiny", "--init", "other.png", "--dry-run"]
    code, out, err = sdfast("gen", *asked)
    assert code == 0, err
    assert "hires" not in json.loads(out)


def test_what_is_asked_for_of_the_web_ui_is_painted(small, here, sdfast):
    info = PngInfo()
    pairs = {"Size": "64x72", "Steps": 4, "Hires upscale": 2, "Hires upscaler": "R-ESRGAN 4x+"}
    info.add_text("parameters", web_ui(**pairs))
    Image.new("RGB", (128, 144)).save("web.png", pnginfo=info)
    code, _, err = sdfast("gen", "--from", "web.png", "-m", str(small), "-o", "x.png")
    assert code == 0, err
    assert "128x144 over one of 64x72" in err, err
    assert "Hires upscaler (R-ESRGAN 4x+)" in err
    with Image.open("x.png") as image:
        assert image.size == (128, 144)
