"""Pictures enlarged from smaller ones of their own, judged by the two commands that it saves."""

import json

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from small import write_xl_model

from sdfast import generate, load_model, paint
from sdfast.engine import generate_together
from sdfast.errors import JobError
from sdfast.events import Encoded, Finished, Stepped
from sdfast.infotext import read, to_record, write
from sdfast.job import begun_size, enlarged_size, read_job
from sdfast.models.find import find


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
    with pytest.raises(JobError, match="64 to 4096"):
        source.complete(a_job(hires=4.1))


@pytest.mark.parametrize(
    ("size", "hires", "enlarged"), [((520, 512), 1.5, (776, 768)), ((512, 768), 2, (1024, 1536))]
)
def test_sizes_are_multiples_of_8_that_lead_to_one_another(size, hires, enlarged):
    assert enlarged_size(size, hires) == enlarged
    assert begun_size(enlarged, hires) == size


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"hires": 1}, "hires must be above 1 and at most 8, not `1`"),
        ({"hires": 8.5}, "hires must be above 1 and at most 8, not `8.5`"),
        ({"hires": True}, "hires must be"),
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
    assert "Hires resize" not in pairs
    odd = write(a_job(size="1016x1016"), version="1", model=None, size=(1016, 1016))
    assert read(odd).pairs["Size"] == "512x512"
    assert read(odd).pairs["Hires resize"] == "1016x1016"


@pytest.mark.parametrize("size", [(1024, 1536), (1016, 1016), (776, 768)])
@pytest.mark.parametrize("hires", [1.5, 2, 3.25])
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
        ({"Hires upscale": 2, "Hires upscaler": "Lanczos"}, []),
        ({"Hires upscale": 2, "Hires upscaler": "Latent"}, ["Hires upscaler"]),
        ({"Hires upscale": 2, "Hires steps": 10}, []),
        ({"Hires upscale": 2, "Hires steps": 0}, []),
        ({"Hires upscale": 2, "Hires steps": 15}, ["Hires steps"]),
        ({"Hires resize": "1024x1536", "Hires CFG Scale": 7}, ["Hires CFG Scale"]),
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
        {"Hires resize": "1024x0"},
        {"Hires resize": "1e9"},
        {"Hires upscale": 1},
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
    assert {*pairs, "Denoising strength"} <= {*unknown}


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


def test_a_preset_may_enlarge_and_a_picture_to_begin_from_takes_its_place(here, sdfast):
    assert sdfast("presets", "save", "large", "--hires", "2", "-s", "12")[0] == 0
    job = json.loads(sdfast("gen", "a cat", "-m", "tiny", "-p", "large", "--dry-run")[1])
    assert (job["hires"], job["size"], job["strength"]) == (2, "256x256", 0.5)
    Image.new("RGB", (64, 64)).save("other.png")
    asked = ["-m", "tiny", "-p", "large", "--init", "other.png", "--dry-run"]
    job = json.loads(sdfast("gen", "a cat", *asked)[1])
    assert "hires" not in job
    assert job["size"] == "64x64"


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
