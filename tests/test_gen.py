"""What `gen` paints: the same picture whatever is painted beside it, and in whatever way."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageChops
from processes import on_a_terminal, shell
from quick import QUICK, pixels

from sdfast.errors import OutOfMemoryError

pytestmark = pytest.mark.usefixtures("here")


def test_gen_writes_one_picture_and_prints_its_path_alone(sdfast, here):
    code, out, _ = sdfast(*QUICK)
    assert code == 0
    assert out == "a-cat-1.png\n"
    assert [p.name for p in here.iterdir()] == ["a-cat-1.png"]
    with Image.open(here / "a-cat-1.png") as picture:
        assert picture.size == (128, 128)


def test_a_seed_paints_the_same_alone_and_among_four(sdfast):
    sdfast(*QUICK, "-o", "alone.png")
    _, out, _ = sdfast("gen", "a cat", "--steps", "2", "--seed", "0", "-n", "4", "-m", "tiny")
    among = out.split()
    assert len(among) == 4
    assert pixels(among[1]) == pixels("alone.png")
    assert pixels(among[0]) != pixels("alone.png")


def test_a_terminal_changes_neither_the_bytes_nor_stdout(sdfast):
    _, _, err = sdfast(*QUICK, "-o", "piped.png")
    code, out, drawn = on_a_terminal(*QUICK, "-o", "drawn.png")
    assert (code, out) == (0, "drawn.png\n")
    assert "ms/step" in drawn
    assert "\x1b" not in err
    assert Path("drawn.png").read_bytes() == Path("piped.png").read_bytes()


def test_pictures_painted_together_are_those_painted_one_by_one(sdfast, here):
    words = ("gen", "a cat", "a dog, " * 30, "-n", "2", "--seed", "1", "-s", "3", "-m", "tiny")
    code, alone, _ = sdfast(*words, "-o", "alone/")
    assert code == 0
    (here / "together").mkdir()
    kept = here / "together" / Path(alone.split()[1]).name
    kept.write_bytes(b"mine")  # so that five are left, and the last walk is of one
    words = (*words, "another", "-o", "together/", "--exists", "skip", "--json")
    code, out, err = sdfast(*words, "--batch-size", "4")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["seed"] for line in lines] == [1, 2, 1, 2, 1, 2]
    assert [line.get("together") for line in lines] == [1, None, 2, 2, 2, 2]
    assert "(a share of 2)" in err
    for one in map(Path, alone.split()):
        if (here / "together" / one.name) != kept:
            pair = [Image.open(file).convert("RGB") for file in (one, Path("together", one.name))]
            assert max(high for _, high in ImageChops.difference(*pair).getextrema()) <= 3


def test_as_many_pictures_are_painted_together_as_there_is_room_for(sdfast):
    words = ("gen", "a cat", "-n", "5", "-s", "1", "-m", "tiny", "--size", "256x256", "--json")
    for size, shares in (("auto", [4, 4, 4, 4, 1]), ("9", [5] * 5), ("1", [1] * 5)):
        _, out, _ = sdfast(*words, "--batch-size", size)
        assert [json.loads(line)["together"] for line in out.splitlines()] == shares


def test_a_walk_of_too_many_for_the_memory_says_what_helps(sdfast, monkeypatch):
    def full(*_):
        raise OutOfMemoryError(
            "out of memory on cpu while painting", "--size asks for fewer pixels"
        )

    monkeypatch.setattr("sdfast.engine.trajectory", full)
    code, _, err = sdfast(*QUICK, "-n", "2", "--batch-size", "2")
    assert code == 4
    assert "hint: a smaller --batch-size or --size" in err
    assert "hint: --size" in sdfast(*QUICK, "-n", "2")[2]


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_threads_soon_leave_the_core_to_others_unless_told_otherwise(given, spins):
    """Beside one other busy program ten steps of `tiny` took over 25 s, and so take 0.4 s."""
    code = "try: main()\nfinally: print(os.environ.get('GOMP_SPINCOUNT'))"
    words = [sys.executable, "-c", f"import os\nfrom sdfast.cli import main\n{code}", "--version"]
    unset = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    said = subprocess.run(words, capture_output=True, check=True, env=unset | given)
    assert said.stdout.decode().splitlines()[-1] == spins


@pytest.mark.parametrize(
    "asked",
    [{"OMP_DYNAMIC": "TRUE"}, {"OMP_MAX_ACTIVE_LEVELS": "0"}, {"OMP_THREAD_LIMIT": "1"}],
    ids=str,
)
def test_where_openmp_gives_fewer_threads_pictures_are_the_same(sdfast, asked):
    painting = "from sdfast import *; *_, done = generate(load_model('tiny'), Job(prompt='a cat', "
    painting += "seed=1, sampler=load_preset('default').sampler.model_copy(update={'steps': 2})))"
    code = f"{painting}; done.image.save('fewer.png')"
    environment = os.environ | {"OMP_NUM_THREADS": "2"} | asked
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert sdfast(*QUICK, "-o", "as-many.png")[0] == 0
    fewer, as_many = (Image.open(name) for name in ("fewer.png", "as-many.png"))
    assert max(high for _, high in ImageChops.difference(fewer, as_many).getextrema()) <= 2


def test_a_long_weighted_prompt_is_painted_and_weighs(sdfast):
    words = f"(a cat:1.3) [on the grass], {'snow ' * 40} BREAK night"
    for prompt, name in ((words, "a"), (words.replace("1.3", "0.3"), "b")):
        code, _, err = sdfast(*QUICK[:1], prompt, *QUICK[2:], "-x", "(fog)", "-o", f"{name}.png")
        assert code == 0
    assert pixels("a.png") != pixels("b.png")
    assert "not among them" not in err
    assert sdfast("gen", "--from", "a.png", "-o", "c.png")[0] == 0
    assert pixels("a.png") == pixels("c.png")


def test_clip_skip_is_kept_in_the_picture_and_told_to_the_web_ui(sdfast):
    sdfast(*QUICK, "--clip-skip", "2", "-o", "a.png")
    sdfast(*QUICK, "-o", "b.png")
    assert pixels("a.png") != pixels("b.png")
    with Image.open("a.png") as picture:
        assert ", Clip skip: 2, " in picture.text["parameters"]
        assert json.loads(picture.text["sdfast"])["job"]["clip_skip"] == 2
    sdfast("gen", "--from", "a.png", "-o", "c.png")
    assert pixels("a.png") == pixels("c.png")
    code, _, err = sdfast(*QUICK, "--clip-skip", "99")
    assert code == 2
    assert "clip_skip must be from 1 to" in err


def test_a_picture_can_go_through_a_pipe(sdfast):
    sent = shell(*QUICK, "-o", "-")
    assert sent.returncode == 0
    assert sent.stdout.startswith(b"\x89PNG")
    assert sdfast(*QUICK, "-o", "file.png")[0] == 0
    assert sent.stdout == Path("file.png").read_bytes()


def test_an_adaptive_walk_is_of_one_picture(sdfast):
    words = ("gen", "a cat", "-n", "2", "-m", "tiny", "--size", "64x64", "--method", "adaptive")
    _, out, _ = sdfast(*words, "--batch-size", "2", "--json")
    assert [json.loads(line)["together"] for line in out.splitlines()] == [1, 1]


def test_lines_of_stdin_that_begin_with_a_hash_are_no_prompts(sdfast, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("# those for monday\na cat\n\n"))
    _, out, _ = sdfast("gen", "-", "--dry-run")
    assert [json.loads(line)["prompt"] for line in out.splitlines()] == ["a cat"]


def test_the_shipped_presets_paint(sdfast):
    for preset in ("fast", "a1111", "pndm50"):
        words = ("-p", preset, "-m", "tiny", "--size", "64x64", "--json")
        code, _, _ = sdfast("gen", "a cat", *words)
        assert code == 0


@pytest.mark.parametrize("name", ["DPM++ SDE", "DPM++ 2S a", "dpm_2", "LMS Karras"])
def test_a_sampler_by_another_programs_name_paints_and_comes_back(sdfast, name):
    words = ("gen", "a cat", "-m", "tiny", "--size", "64x64", "-s", "3", "--seed", "1")
    assert sdfast(*words, "--sampler", name, "-o", "one.png")[0] == 0
    assert sdfast("gen", "--from", "one.png", "-m", "tiny", "-o", "two.png")[0] == 0
    assert ImageChops.difference(Image.open("one.png"), Image.open("two.png")).getbbox() is None
