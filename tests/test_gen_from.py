"""What `gen` goes on from: recipes in pictures and texts, pictures beneath, and pipes of them."""

import io
import json
import os
import threading
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat
from PIL.PngImagePlugin import PngInfo
from quick import QUICK, pixels

from sdfast import image_files, recipes

pytestmark = pytest.mark.usefixtures("here")


def test_a_dry_run_tells_what_it_does_not_follow_of_a_picture(sdfast, tmp_path):
    info = PngInfo()
    info.add_text("parameters", "a cat\nSteps: 20, Sampler: DPM2 a, Seed: 1, Version: v1.10.1")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png", pnginfo=info)
    words = ("gen", "--from", str(tmp_path / "a.png"), "--dry-run", "-m", "tiny")
    code, out, err = sdfast(*words)
    assert (code, json.loads(out)["seed"]) == (0, 1)
    assert "not followed: Sampler (DPM2 a; `DPM2 a` here walks otherwise)" in err
    assert sdfast(*words, "-q")[2] == ""


def test_a_pictures_own_recipe_paints_it_again(sdfast):
    sdfast("gen", "a dog", "-x", "blue", "-s", "3", "-g", "2", "--order", "3", "-o", "first.png")
    code, _, _ = sdfast("gen", "--from", "first.png", "-o", "again.png")
    assert code == 0
    assert pixels("again.png") == pixels("first.png")


def test_flags_win_over_a_pictures_recipe(sdfast):
    sdfast(*QUICK)
    _, out, _ = sdfast("gen", "--from", "a-cat-1.png", "--steps", "7", "--dry-run")
    job = json.loads(out)
    assert (job["steps"], job["seed"], job["prompt"]) == (7, 1, "a cat")


def test_a_recipe_can_be_left_out(sdfast):
    sdfast(*QUICK, "--no-metadata")
    code, _, err = sdfast("info", "a-cat-1.png")
    assert code == 2
    assert err.startswith("error: ")


def test_the_noise_of_a_sampler_that_is_not_taken_is_not_missed(sdfast, here):
    text = "fog\nSteps: 3, Sampler: Euler a, CFG scale: 5, RNG: CPU"
    (here / "a.png").write_bytes(
        image_files.encode(Image.new("RGB", (64, 64)), {"parameters": text})
    )
    words = ("gen", "--from", "a.png", "-m", "tiny", "--dry-run")
    assert "not followed: the noise of its steps" in sdfast(*words)[2]
    assert sdfast(*words, "--sampler", "DDIM")[2] == ""
    assert "noise" not in sdfast("info", "a.png")[1]


def test_a_preset_beneath_a_pictures_recipe_is_told(sdfast):
    _, out, _ = sdfast(*QUICK)
    words = ("gen", "--from", out.strip(), "--dry-run")
    assert "recipe stands above the preset `fast`" in sdfast(*words, "-p", "fast")[2]
    assert sdfast(*words)[2] == ""


def test_a_picture_of_an_alias_is_painted_again_from_itself(sdfast, here, small):
    sdfast("models", "alias", "mine", str(small))
    _, place, _ = sdfast("gen", "a cat", "-m", "mine", "-s", "2", "--size", "64x64")
    code, job, _ = sdfast("gen", "--from", place.strip(), "--dry-run")
    assert code == 0
    assert json.loads(job)["model"] == "mine"


@pytest.mark.parametrize(
    "content", [b"", b"no png", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n" + b"\0" * 99]
)
def test_a_png_that_is_none_is_refused(sdfast, here, content):
    (here / "x.png").write_bytes(content)
    for words in (["info", "x.png"], ["gen", "--from", "x.png"]):
        code, _, err = sdfast(*words)
        assert code == 2
        assert err.startswith("error: ")
        assert "Traceback" not in err


def test_a_text_that_is_copied_is_painted_again(sdfast, here, monkeypatch):
    text = "a cat\nSteps: 2, Sampler: Euler, CFG scale: 3, Seed: 1, Size: 64x64, Version: v1.10.1"
    (here / "cat.txt").write_text(text)
    assert sdfast("gen", "--from", "cat.txt", "-q")[0] == 0
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert sdfast("gen", "--from", "-", "-q", "-o", "again.png")[0] == 0
    assert (here / "a-cat-1.png").read_bytes() == (here / "again.png").read_bytes()
    _, out, _ = sdfast("info", "cat.txt")
    assert out.startswith("cat.txt  AUTOMATIC1111\n  negative")
    assert json.loads(sdfast("info", "cat.txt", "--json")[1])["size"] is None


def test_what_json_lines_tell_is_painted_again(sdfast, here):
    words = ("-m", "tiny", "-s", "2", "--size", "64x64", "--sampler", "DPM++ 2M Karras", "-q")
    (here / "gen.json").write_text(sdfast("gen", "a cat", "--seed", "7", "--json", *words)[1])
    (here / "info.json").write_text(sdfast("info", "a-cat-7.png", "--json")[1])
    for name in ("gen", "info"):
        assert sdfast("gen", "--from", f"{name}.json", "-q", "-o", f"{name}.png")[0] == 0
        assert (here / f"{name}.png").read_bytes() == (here / "a-cat-7.png").read_bytes()


def test_a_recipe_without_a_prompt_says_why(sdfast, here):
    nodes = {"1": {"class_type": "KSampler", "inputs": {"positive": ["2", 0], "steps": 9}}}
    nodes["2"] = {"class_type": "CLIPTextEncode", "inputs": {"text": ["3", 0]}}
    nodes["3"] = {"class_type": "Florence2", "inputs": {}}
    (here / "graph.json").write_text(json.dumps(nodes))
    code, _, err = sdfast("gen", "--from", "graph.json")
    assert code == 2
    assert "not followed: prompt" in err
    assert "error: there is no prompt" in err


def test_an_empty_prompt_of_another_program_is_refused(sdfast, here):
    (here / "a.txt").write_text("\nNegative prompt: fog\nSteps: 3, Sampler: Euler, Seed: 1")
    code, out, err = sdfast("gen", "--from", "a.txt", "-m", "tiny")
    assert (code, out) == (2, "")
    assert "error: there is no prompt" in err
    assert sdfast("gen", "a cat", "--from", "a.txt", "-m", "tiny", "--dry-run")[0] == 0


def test_a_recipe_comes_through_a_named_pipe(sdfast, here):
    os.mkfifo("pipe")
    said = "a cat\nSteps: 2, Sampler: Euler, CFG scale: 3, Seed: 1"
    writer = threading.Thread(target=Path("pipe").write_text, args=(said,))
    writer.start()
    code, out, _ = sdfast("info", "pipe", "--json")
    writer.join()
    assert (code, json.loads(out)["job"]["prompt"]) == (0, "a cat")


def test_a_picture_to_begin_from_comes_through_a_pipe(sdfast, here, monkeypatch):
    beneath, mask = Image.effect_noise((64, 64), 80), Image.new("L", (64, 64), "white")
    beneath.save("a.png")
    mask.save("mask.png")
    words = ("gen", "a dog", "-m", "tiny", "-s", "2", "--seed", "1", "-q", "--strength", "0.5")
    assert sdfast(*words, "--init", "a.png", "--mask", "mask.png", "-o", "file.png")[0] == 0
    os.mkfifo("pipe")
    sent = Path("mask.png").read_bytes()
    writer = threading.Thread(target=Path("pipe").write_bytes, args=(sent,))
    writer.start()
    piped = io.TextIOWrapper(io.BytesIO(Path("a.png").read_bytes()))
    monkeypatch.setattr("sys.stdin", piped)
    assert sdfast(*words, "--init", "-", "--mask", "pipe", "-o", "piped.png")[0] == 0
    writer.join()
    with Image.open("file.png") as one, Image.open("piped.png") as other:
        assert one.tobytes() == other.tobytes()
        told = json.loads(other.text["sdfast"])["job"]
    assert (told["init"], told["mask"]) == ("piped-init", "piped-mask")
    code, _, err = sdfast("gen", "--from", "piped.png")
    assert (code, err.splitlines()[-1]) == (2, "hint: name one again")
    assert "a picture that came through a pipe is not kept" in err


def test_a_picture_of_the_web_ui_says_whose_noise_it_is_taken_for(sdfast, here):
    (here / "a.txt").write_text("a cat\nSteps: 2, Sampler: Euler, Seed: 1, Version: v1.10.1")
    words = ("gen", "--from", "a.txt", "-m", "tiny", "--dry-run")
    assert "note: the first noise is drawn as on an NVIDIA GPU; --rng cpu" in sdfast(*words)[2]
    _, out, err = sdfast(*words, "--rng", "cpu")
    assert ("NVIDIA" in err, "rng" in json.loads(out)) == (False, False)


@pytest.mark.parametrize(
    ("words", "sent", "said"),
    [
        (("gen", "-", "--init", "-"), b"a cat", "stdin holds prompts, a recipe or a picture"),
        (("gen", "a", "--init", "-", "--mask", "-"), b"a", "stdin holds prompts, a recipe or"),
        (("grid", "a", "--init", "-", "--x", "seed=1,2"), b"", "nothing came through the pipe of"),
        (
            ("gen", "a", "--init", "-"),
            b"no picture",
            "through a pipe is no picture that can be read",
        ),
        (("gen", "a", "--init", "-", "--dry-run"), b"", "reads no pipe"),
    ],
)
def test_what_comes_through_a_pipe_is_one_picture(sdfast, here, monkeypatch, words, sent, said):
    monkeypatch.setattr("tempfile.tempdir", str(here))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(sent)))
    code, out, err = sdfast(*words, "-m", "tiny")
    assert (code, out) == (2, "")
    assert said in err
    assert not [*here.iterdir()]


@pytest.mark.parametrize("command", ["gen", "grid"])
def test_stdin_is_a_recipe_or_prompts(sdfast, here, command):
    code, _, err = sdfast(command, "-", "--from", "-")
    assert (code, err.count("\n")) == (2, 2)
    assert "stdin holds a recipe or prompts, not both" in err


@pytest.mark.parametrize("ending", ["jpg", "webp"])
def test_a_photo_is_painted_told_and_painted_again(sdfast, here, ending):
    assert sdfast(*QUICK, "-o", f"{{slug}}.{ending}")[1] == f"a-cat.{ending}\n"
    assert sdfast(*QUICK, "-o", "a.png")[0] == 0
    assert sdfast("gen", "--from", f"a-cat.{ending}", "-o", "again.png")[0] == 0
    assert pixels("again.png") == pixels("a.png")
    with Image.open(f"a-cat.{ending}") as photo, Image.open("a.png") as exact:
        assert photo.size == exact.size
        apart = ImageChops.difference(photo.convert("RGB"), exact)
        assert max(ImageStat.Stat(apart).mean) < 4
    assert json.loads(sdfast("info", "--json", f"a-cat.{ending}")[1])["program"] == "sdfast"


def test_a_strangers_picture_cannot_make_us_download(sdfast, here):
    from sdfast import Job

    job = Job(prompt="a cat", model="some/body", seed=1)
    text = recipes.texts_of(job, version="0", model="some/body", size=(64, 64))
    (here / "theirs.png").write_bytes(image_files.encode(Image.new("RGB", (64, 64)), text))
    code, out, err = sdfast("gen", "--from", "theirs.png")
    assert (code, out) == (3, "")
    assert "some/body" in err
    assert "-m says where it is" in err


def test_what_a_foreign_recipe_says_and_we_cannot_do_is_named(sdfast, here):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("parameters", "fog\nSteps: 3, Sampler: Euler a, CFG scale: 5, ENSD: 2")
    Image.new("RGB", (64, 64)).save(here / "theirs.png", pnginfo=info)
    code, out, err = sdfast("gen", "--from", "theirs.png", "-m", "tiny")
    assert code == 0
    assert "Euler a Uniform, 3 steps" in err
    assert "not followed: ENSD, the noise of its steps" in err
    assert pixels(out.strip())


def a_picture_of_the_web_uis(**pairs):
    info = PngInfo()
    said = {"Steps": 4, "Sampler": "DDIM", "Schedule type": "Automatic", "Seed": 1, "Size": "64x64"}
    listed = ", ".join(f"{key}: {value}" for key, value in (said | pairs).items())
    info.add_text("parameters", f"a cat\n{listed}, RNG: CPU, Version: v1.10.1")
    Image.new("RGB", (64, 64)).save("web.png", pnginfo=info)
    return ("gen", "--from", "web.png", "-m", "tiny", "--dry-run")


def dry(sdfast, *words):
    code, out, err = sdfast(*words)
    assert code == 0, err
    return json.loads(out), err


def test_a_sampler_that_walks_otherwise_there_is_walked_as_here_and_named(sdfast):
    words = a_picture_of_the_web_uis()
    job, err = dry(sdfast, *words)
    assert (job["sampler"], job["spacing"]) == ("ddim", "leading")
    assert "not followed: Sampler (DDIM; `DDIM` here walks otherwise)" in err
    job, err = dry(sdfast, *words, "--sampler", "Euler")
    assert job["sampler"] == "euler"
    assert "Sampler" not in err


def test_another_picture_to_begin_from_brings_its_size_and_is_left_as_far(sdfast):
    words = a_picture_of_the_web_uis(**{"Denoising strength": 0.4})
    Image.new("RGB", (120, 88)).save("other.png")
    job, err = dry(sdfast, *words)
    assert job["size"] == "64x64"
    assert "Denoising strength" in err
    job, err = dry(sdfast, *words, "--init", "other.png")
    assert (job["size"], job["strength"]) == ("120x88", 0.4)
    assert "Denoising strength" not in err
    job, err = dry(sdfast, *words, "--init", "other.png", "-s", "2")
    assert job.get("strength", 0.75) == 0.75  # 0.4 of two steps is none
    assert "Denoising strength" in err
    job, _ = dry(sdfast, *words, "--init", "other.png", "--strength", "0.5", "--size", "64x64")
    assert (job["size"], job["strength"]) == ("64x64", 0.5)
    assert sdfast(*words, "--init", "other.png", "-s", "two", "--dry-run")[0] == 2


def test_the_strength_of_another_pass_is_not_taken_for_that_of_a_picture(sdfast):
    words = a_picture_of_the_web_uis(**{"Denoising strength": 0.4, "Hires upscale": 2})
    job, _ = dry(sdfast, *words, "--init", "web.png")
    assert job["strength"] == 0.75
    assert "hires" not in job
