"""LoRAs that a prompt names, as the web UI has them."""

import json
import os
from pathlib import Path
from unicodedata import normalize

import pytest
from loras import LAYERS, kohya, with_lora
from quick import pixels

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
        ("fog <lora:ink:te=0.5>", "fog", ["ink.safetensors:0.5"]),
        ("fog <lora:ink:0.5:unet=0.5>", "fog", ["ink.safetensors:0.5"]),
        ("fog <lyco:ink:0.5>", "fog", ["ink.safetensors:0.5"]),
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
        *(
            (f"<lora:ink:{said}>", JobError, "has no scale that is one number", "<lora:ink:0.8>")
            for said in ("1:0.5", "1:1:1", "dyn=4", "lbw=0", "=3", "unet=0.5", "te=0.5:unet=1")
        ),
        ("<lora:ink:nan>", JobError, "has no scale", "<lora:ink:0.8>"),
        ("<lora:ink:1e-5>", JobError, "has no scale", "<lora:ink:0.8>"),
        ("<lora:ink:1000>", JobError, "must have a scale from -100 to 100", ""),
        ("<lora:ink> ", JobError, "`<lora:ink>` has no words besides its LoRAs", ""),
    ],
)
def test_a_tag_that_cannot_be_followed_is_an_error(folder, tag, kind, complaint, hint):
    prompt = tag if tag.endswith(" ") else f"a cat {tag}"
    with pytest.raises(kind, match=complaint) as caught:
        followed(Job(prompt=prompt), str(folder))
    assert caught.value.hint == hint


def test_a_file_that_has_come_since_is_found(folder):
    with pytest.raises(UsageError):
        followed(Job(prompt="fog <lora:new>"), str(folder))
    (folder / "new.safetensors").touch()
    assert followed(Job(prompt="fog <lora:new>"), str(folder)).lora


@pytest.mark.parametrize("kept", ["NFC", "NFD"])
@pytest.mark.parametrize("said", ["NFC", "NFD"])
def test_an_accent_may_stand_by_itself(folder, kept, said):
    (folder / f"{normalize(kept, 'café')}.safetensors").touch()
    assert followed(Job(prompt=f"fog <lora:{normalize(said, 'café')}>"), str(folder)).lora


def test_links_in_a_folder_are_walked_once(folder):
    for name in ("x", "y", "z"):
        (folder / "b" / name).symlink_to(folder)
    assert followed(Job(prompt="fog <lora:line art>"), str(folder)).lora


@pytest.mark.parametrize("place", ["~nobody-here/loras", "/nowhere", "/dev/null"])
def test_a_folder_that_is_none_is_told(place):
    with pytest.raises(UsageError, match=f"there is no folder `{place}` of LoRAs"):
        followed(Job(prompt="fog <lora:ink>"), place)


def test_a_name_that_a_recipe_alone_has_is_left_out(folder):
    missing = []
    job = followed(Job(prompt="fog <lora:ink> <lora:gone:2>"), str(folder), missing)
    assert (job.prompt, missing) == ("fog", ["gone"])
    assert job.lora == (f"{folder / 'ink.safetensors'}:1",)


@pytest.fixture
def settled(small, tmp_path, here, monkeypatch):
    """A folder with one LoRA for the model that is settled."""
    (tmp_path / "loras").mkdir()
    path = tmp_path / "loras" / "ink.safetensors"
    with_lora(small, tmp_path / "merged", path, kohya, LAYERS)
    monkeypatch.setenv("SDFAST_LORAS", os.path.relpath(path.parent))
    monkeypatch.setenv("SDFAST_MODEL", str(small))
    return path


def test_a_picture_is_that_of_the_flag(sdfast, settled):
    assert sdfast("gen", "fog <lora:ink:0.5>", *QUICK, "-o", "tag.png")[0] == 0
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


def test_a_batch_is_painted_anew_where_tags_are_followed_now(sdfast, settled, monkeypatch):
    Path("p.txt").write_text("fog <lora:ink:1>\nfog\n")
    words = ("batch", "p.txt", *QUICK, "-o", "out/")
    with monkeypatch.context() as unsettled:
        unsettled.delenv("SDFAST_LORAS")
        assert "lets prompts do so" in sdfast(*words)[2]
    assert "1 painted" in sdfast(*words)[2]
    assert "0 painted" in sdfast(*words)[2]


def test_a_sheet_that_is_made_again_with_another_prompt_has_its_loras(sdfast, settled):
    words = ("grid", "fog", "--seed", "1..2", *QUICK[:2], *QUICK[4:], "-o", "one.png")
    assert sdfast(*words)[0] == 0
    model = ("-m", os.environ["SDFAST_MODEL"])
    words = ("grid", "--from", "one.png", "rain <lora:ink:0.5>", *model, "--dry-run")
    _, out, _ = sdfast(*words)
    cells = [json.loads(line) for line in out.splitlines()]
    assert [cell["lora"] for cell in cells] == [[f"{settled}:0.5"]] * 2


def test_what_was_words_stays_words(sdfast, settled, monkeypatch):
    with monkeypatch.context() as unsettled:
        unsettled.delenv("SDFAST_LORAS")
        assert sdfast("gen", "fog <lora:ink:1>", *QUICK, "-o", "words.png")[0] == 0
    again = ("--from", "words.png", "-m", os.environ["SDFAST_MODEL"])
    assert sdfast("gen", *again, "-o", "again.png")[0] == 0
    assert pixels("again.png") == pixels("words.png")
    assert sdfast("gen", "fog <lora:ink:1>", *again, "-o", "lora.png")[0] == 0
    assert pixels("lora.png") != pixels("words.png")


def test_a_lora_of_a_recipe_that_is_not_there_is_told_and_left_out(sdfast, settled):
    text = "fog <lora:ink:0.5> <lora:gone:1>\nSteps: 2, Sampler: Euler, CFG scale: 2, Seed: 1, "
    hashes = 'Lora hashes: "ink: 0123, other: 4567"'
    Path("said.txt").write_text(f"{text}Size: 64x64, RNG: CPU, {hashes}")
    code, out, err = sdfast("gen", "--from", "said.txt", "--json")
    assert (code, json.loads(out)["lora"]) == (0, [f"{settled}:0.5"])
    assert "note: that picture's LoRA `gone` is not there and left out" in err
    assert "not followed: Lora hashes" in err
    assert "LoRA `gone` is not there" in sdfast("gen", "--from", "said.txt", "--dry-run")[2]


def test_a_picture_of_the_web_ui_is_painted_with_its_loras(sdfast, settled):
    text = "fog <lora:ink:0.5>\nSteps: 2, Sampler: Euler, CFG scale: 2, Seed: 1, Size: 64x64, "
    Path("said.txt").write_text(text + 'Lora hashes: "ink: 0123456789ab", RNG: CPU')
    code, out, err = sdfast("gen", "--from", "said.txt", "--json")
    assert code == 0
    assert json.loads(out)["lora"] == [f"{settled}:0.5"]
    assert "not followed" not in err
