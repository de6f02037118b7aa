"""LoRAs that a prompt names, as the web UI has them."""

import json
import os
from pathlib import Path

import pytest
from test_lora import LAYERS, kohya, with_lora

from sdfast import Job
from sdfast.errors import JobError, UsageError
from sdfast.lora_tags import followed

QUICK = ("-s", "2", "--seed", "1", "--size", "64x64", "-g", "2")


@pytest.fixture
def folder(tmp_path):
    """A folder of LoRAs, some of them further down, which hold nothing."""
    place = tmp_path / "loras"
    for name in ("ink.safetensors", "b/ink.safetensors", "b/line art.safetensors", "notes.txt"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).touch()
    return place


@pytest.mark.parametrize(
    ("prompt", "rest", "loras"),
    [
        ("a cat <lora:ink:0.8>", "a cat", ["ink.safetensors:0.8"]),
        ("<lora:ink>, a cat", ", a cat", ["ink.safetensors:1"]),
        ("a <lora:ink:>cat", "a cat", ["ink.safetensors:1"]),
        ("a cat<lora:line art:-0.25>", "a cat", ["b/line art.safetensors:-0.25"]),
        ("fog <lora:ink:1:1><lora:ink:.5>", "fog", ["ink.safetensors:1", "ink.safetensors:.5"]),
        ("fog <lora:ink:te=0.5:unet=0.5>", "fog", ["ink.safetensors:0.5"]),
        ("fog <hypernet:ink:1> <lora:>", "fog <hypernet:ink:1> <lora:>", []),
    ],
)
def test_a_tag_is_a_file_and_no_words(folder, prompt, rest, loras):
    job = followed(Job(prompt=prompt, lora="own.safetensors"), str(folder))
    assert job.prompt == rest
    assert job.lora == ("own.safetensors", *(str(folder / name) for name in loras))


def test_without_a_folder_a_tag_is_words(folder):
    job = Job(prompt="a cat <lora:ink:0.8>", negative="<lora:ink:1>")
    assert followed(job, None) is job
    assert followed(job, str(folder)).negative == job.negative  # as in the web UI


@pytest.mark.parametrize(
    ("tag", "kind", "complaint", "hint"),
    [
        ("<lora:inks:1>", UsageError, "there is no LoRA `inks` in `", "did you mean `ink`?"),
        ("<lora:quasar>", UsageError, "there is no LoRA `quasar` in `", ""),
        ("<lora:notes:1>", UsageError, "there is no LoRA `notes` in `", ""),
        ("<lora:ink:strong>", JobError, "has no scale that is one number", "<lora:ink:0.8>"),
        ("<lora:ink:1:0.5>", JobError, "has no scale that is one number", "<lora:ink:0.8>"),
        ("<lora:ink:nan>", JobError, "has no scale", ""),
        ("<lora:ink:1e-5>", JobError, "has no scale", ""),
        ("<lora:ink:1000>", JobError, "must have a scale from -100 to 100", ""),
        ("<lora:ink> ", JobError, "prompt", ""),
    ],
)
def test_a_tag_that_cannot_be_followed_is_an_error(folder, tag, kind, complaint, hint):
    prompt = tag if tag.endswith(" ") else f"a cat {tag}"
    with pytest.raises(kind, match=complaint) as caught:
        followed(Job(prompt=prompt), str(folder))
    assert not hint or caught.value.hint == hint


def test_a_file_that_has_come_since_is_found(folder):
    with pytest.raises(UsageError):
        followed(Job(prompt="fog <lora:new>"), str(folder))
    (folder / "new.safetensors").touch()
    assert followed(Job(prompt="fog <lora:new>"), str(folder)).lora


@pytest.fixture
def settled(small, tmp_path, here, monkeypatch):
    """A folder with one LoRA for the model that is settled."""
    (tmp_path / "loras").mkdir()
    path = tmp_path / "loras" / "ink.safetensors"
    with_lora(small, tmp_path / "merged", path, kohya, LAYERS)
    monkeypatch.setenv("SDFAST_LORAS", os.path.relpath(path.parent))
    monkeypatch.setenv("SDFAST_MODEL", str(small))
    return path


def pixels(path):
    from PIL import Image

    with Image.open(path) as image:
        return image.tobytes()


def test_a_picture_is_that_of_the_flag(sdfast, settled):
    assert sdfast("gen", "fog <lora:ink:0.5>", *QUICK, "-o", "tag.png")[::2][0] == 0
    assert sdfast("gen", "fog", "--lora", f"{settled}:0.5", *QUICK, "-o", "flag.png")[0] == 0
    assert sdfast("gen", "fog", *QUICK, "-o", "plain.png")[0] == 0
    assert Path("tag.png").read_bytes() == Path("flag.png").read_bytes()
    assert pixels("tag.png") != pixels("plain.png")
    words = ("gen", "fog <lora:ink:1>", "fog", *QUICK)
    assert "these prompts name different LoRAs" in sdfast(*words)[2]


def test_each_line_of_a_batch_and_each_cell_of_a_sheet_has_its_own(sdfast, settled):
    Path("p.txt").write_text("fog <lora:ink:0.5>\nfog\nfog <lora:inc:1>\n")
    code, out, err = sdfast("batch", "p.txt", *QUICK, "-o", "out/", "--json")
    assert code == 5
    assert "p.txt:3: there is no LoRA `inc` in " in err
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line.get("lora") for line in lines if "path" in line] == [[f"{settled}:0.5"], None]
    words = ("grid", "fog <lora:ink:0.5>", "--x", "replace=0.5,0.8", *QUICK, "--json")
    code, out, err = sdfast(*words)
    assert code == 0, err
    cells = [json.loads(line) for line in out.splitlines()][:2]
    assert [cell["lora"] for cell in cells] == [[f"{settled}:0.5"], [f"{settled}:0.8"]]


def test_a_picture_of_the_web_ui_is_painted_with_its_loras(sdfast, settled):
    text = "fog <lora:ink:0.5>\nSteps: 2, Sampler: Euler, CFG scale: 2, Seed: 1, Size: 64x64, "
    Path("said.txt").write_text(text + 'Lora hashes: "ink: 0123456789ab", RNG: CPU')
    code, out, err = sdfast("gen", "--from", "said.txt", "--json")
    assert code == 0
    assert json.loads(out)["lora"] == [f"{settled}:0.5"]
    assert "not followed" not in err
