"""Sheets: what varies on them, how they look, and that their pictures are those of `gen`."""

import json
import re
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops
from PIL.PngImagePlugin import PngInfo
from processes import broken_off, on_a_terminal, shell

from sdfast import models, recipes
from sdfast.config import config_file
from sdfast.errors import JobError, UsageError
from sdfast.grid.axes import Sides, find_sides, lay_out, replaced
from sdfast.grid.letters import broken, lacking, open_font
from sdfast.grid.page import Page, _labels
from sdfast.job import read_job
from sdfast.sheet import Sheet, read_sheet, sheet_record
from sdfast.sweeps import Sweep
from sdfast.warm import control

QUICK = ("-m", "tiny", "-s", "2")

pytestmark = pytest.mark.usefixtures("here")


def sides(x=None, y=None, prompts=(), seeds=(), **given):
    return find_sides(x, y, prompts, seeds, given)


STEPS, SEEDS = Sweep("steps", (10, 20)), Sweep("seed", (1, 2))
PROMPTS = Sweep("prompt", ("a", "b"))


@pytest.mark.parametrize(
    ("found", "across", "down"),
    [
        (sides("steps=10,20"), STEPS, None),
        (sides(None, "steps=10,20"), None, STEPS),
        (sides("steps=10,20", "seed=1,2"), STEPS, SEEDS),
        (sides(prompts=["a", "b"]), PROMPTS, None),
        (sides(seeds=[1, 2]), SEEDS, None),
        (sides(prompts=["a", "b"], seeds=[1, 2]), SEEDS, PROMPTS),
        (sides("steps=10,20", prompts=["a", "b"]), STEPS, PROMPTS),
        (sides("steps=10,20", seeds=[1, 2], prompts=["a"]), STEPS, SEEDS),
        (sides(None, "steps=10,20", seeds=[1, 2]), SEEDS, STEPS),
        (sides("steps=20", seeds=[1]), Sweep("steps", (20,)), None),
    ],
)
def test_what_varies_stands_across_or_down(found, across, down):
    assert found == Sides(across, down)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "nothing varies"),
        ({"prompts": ["a"], "seeds": [1]}, "nothing varies"),
        ({"x": "steps=1,2", "y": "steps=3"}, "steps is given twice"),
        ({"x": "steps=1,2", "steps": 5}, "steps is given twice"),
        ({"x": "preset=fast", "preset": "fine"}, "preset is given twice"),
        ({"x": "prompt=a,b", "prompts": ["c"]}, "prompt is given twice"),
        ({"x": "seed=1,2", "seeds": [3]}, "seed is given twice"),
        (
            {"x": "steps=1,2", "prompts": ["a", "b"], "seeds": [1, 2]},
            "three things vary: steps, seed, prompt",
        ),
        ({"x": "timesteps=999,1"}, "`timesteps` cannot be swept"),
    ],
)
def test_what_cannot_stand_on_two_sides_is_refused(asked, said):
    with pytest.raises(UsageError, match=said):
        sides(**asked)


def job(**keys):
    return read_job({"prompt": "a", "seed": 1, **keys})


def test_a_sheet_is_made_row_by_row():
    sheet = lay_out(Sides(STEPS, SEEDS), None, lambda cell: job(**cell))
    assert [(one.sampler.steps, one.seed) for one in sheet.jobs] == [
        (10, 1),
        (20, 1),
        (10, 2),
        (20, 2),
    ]
    assert (sheet.tops, sheet.lefts) == (("steps 10", "steps 20"), ("seed 1", "seed 2"))
    assert [sheet.name(k) for k in (0, 3)] == ["steps 10, seed 1", "steps 20, seed 2"]


@pytest.mark.parametrize(
    ("pictures", "columns", "shape"),
    [(8, None, (8, 1)), (9, None, (3, 3)), (10, None, (4, 3)), (10, 5, (5, 2)), (3, 7, (3, 1))],
)
def test_one_axis_of_many_is_broken_into_rows(pictures, columns, shape):
    across = Sweep("seed", tuple(range(pictures)))
    sheet = lay_out(Sides(across, None), columns, lambda cell: job(**cell))
    assert (sheet.columns, sheet.rows) == shape
    assert [sheet.name(k) for k in range(pictures)] == [f"seed {k}" for k in range(pictures)]


def test_a_value_that_cannot_be_is_told_with_its_picture():
    with pytest.raises(UsageError, match=r"seed 1, order 4: order must be 1, 2 or 3, not `4`"):
        lay_out(Sides(Sweep("order", (2, 4)), SEEDS), None, lambda cell: job(**cell))


@pytest.mark.parametrize("axes", [Sides(STEPS, SEEDS), Sides(None, SEEDS)])
def test_only_a_sheet_of_one_axis_across_is_broken_into_rows(axes):
    with pytest.raises(UsageError, match="--columns"):
        lay_out(axes, 2, lambda cell: job(**cell))


def test_labels_do_not_tell_whose_home_a_file_is_in(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "ann"))
    files = tuple(str(tmp_path / folder / "l.st") for folder in ("ann", "other"))
    page = lay_out(Sides(Sweep("lora", files), None), None, lambda cell: job())
    assert page.tops == ("lora ~/l.st", "lora other/l.st")


def test_too_many_pictures_are_refused_before_any_is_thought_of():
    many = Sweep("seed", tuple(range(40)))
    with pytest.raises(UsageError, match="at most 1000 pictures, not 1600"):
        lay_out(Sides(many, Sweep("steps", many.values)), None, lambda cell: pytest.fail("made"))


def test_a_word_takes_the_place_of_the_first_in_both_prompts():
    record = {"prompt": "a cat, a cat", "negative": "cat hair", "steps": 5}
    assert replaced(record, ["cat", "dog"], "dog") == {
        "prompt": "a dog, a dog",
        "negative": "dog hair",
        "steps": 5,
    }
    with pytest.raises(UsageError, match="`cow`"):
        replaced(record, ["cow", "dog"], "dog")


def a_sheet(columns=2, tops=("one", "two"), lefts=("up", "down"), seeds=4):
    jobs = tuple(job(seed=k, steps=10 + k % 2) for k in range(seeds))
    return Sheet(jobs, columns, ("steps", "seed"), tops, lefts)


def test_a_sheet_comes_back_from_its_record():
    sheet = a_sheet(lefts=("up", "d" * 200))
    record = json.loads(json.dumps(sheet_record(sheet, [one.record for one in sheet.jobs])))
    assert read_sheet(record) == sheet
    assert [sorted(cell) for cell in record["cells"]] == [["seed", "steps"]] * 4


@pytest.mark.parametrize(
    "change",
    [
        {"columns": 0},
        {"columns": 5},
        {"columns": "2"},
        {"cells": []},
        {"cells": [1, 2, 3, 4]},
        {"cells": [{}, {}, {}, None]},
        {"cells": [{"seed": k, "steps": 10} for k in range(1001)], "tops": [], "lefts": []},
        {"tops": ["one"]},
        {"lefts": ["up"]},
        {"columns": True, "tops": ["one"], "lefts": ["a", "b", "c", "d"]},
        {"tops": ["one", 2]},
        {"tops": ["one", ["two"]]},
        {"lefts": ["up", "d" * 201]},
        {"varies": [{}]},
        {"varies": ["seed"] * 1001},
        {"job": {"prompt": ""}},
        {"job": {"prompt": "a", "nonsense": 1}},
    ],
)
def test_a_record_that_is_no_sheet_is_refused(change):
    sheet = a_sheet()
    record = sheet_record(sheet, [one.record for one in sheet.jobs])
    with pytest.raises(JobError):
        read_sheet(record | change)


RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 128, 0), (0, 0, 255), (128, 128, 128)


def test_without_labels_a_page_is_its_pictures_side_by_side():
    page = Page(a_sheet(), [(8, 8)] * 4, None)
    for place, colour in enumerate((RED, GREEN, BLUE, GREY)):
        page.paste(place, Image.new("RGB", (8, 8), colour))
    assert page.image.size == (16, 16)
    corners = [(0, 0), (15, 0), (0, 15), (15, 15)]
    assert [page.image.getpixel(at) for at in corners] == [RED, GREEN, BLUE, GREY]
    assert len(page.image.getcolors()) == 4


def test_unlike_pictures_stand_in_the_middle_of_their_cells():
    sizes = [(8, 8), (24, 8), (16, 32), (8, 8)]
    page = Page(a_sheet(), sizes, None)
    for place, (size, colour) in enumerate(zip(sizes, (RED, GREEN, BLUE, GREY), strict=True)):
        page.paste(place, Image.new("RGB", size, colour))
    assert page.image.size == (16 + 24, 8 + 32)
    boxes = {colour: box_of(page.image, colour) for colour in (RED, GREEN, BLUE, GREY)}
    assert boxes == {
        RED: (4, 0, 12, 8),
        GREEN: (16, 0, 40, 8),
        BLUE: (0, 8, 16, 40),
        GREY: (24, 20, 32, 28),
    }


def box_of(image, colour):
    """Where this colour is."""
    other = ImageChops.difference(image, Image.new("RGB", image.size, colour)).convert("L")
    return other.point(lambda level: 255 * (level == 0)).getbbox()


@pytest.mark.parametrize(
    "sheet",
    [
        a_sheet(),
        a_sheet(lefts=()),
        a_sheet(tops=()),
        a_sheet(tops=("one", "two", "a label of many words that is broken", "four"), lefts=()),
    ],
)
def test_no_label_lies_beneath_a_picture_or_off_the_page(sheet):
    font = open_font(None, 12, [*sheet.tops, *sheet.lefts])
    bare = Page(sheet, [(64, 64)] * 4, font)
    ink = sum(count for count, colour in bare.image.getcolors(1 << 20) if colour != (255,) * 3)
    for place in range(4):
        bare.paste(place, Image.new("RGB", (64, 64), RED))
    colours = bare.image.getcolors(1 << 20)
    assert {colour: count for count, colour in colours}[RED] == 4 * 64 * 64
    assert sum(n for n, c in colours if c not in (RED, (255,) * 3)) == ink > 50
    edge = bare.image.copy()
    edge.paste((255, 255, 255), (1, 1, edge.width - 1, edge.height - 1))
    assert edge.getcolors() == [(edge.width * edge.height, (255, 255, 255))]


def test_a_label_before_a_row_stands_at_its_middle():
    font = open_font(None, 12, [])  # half of that is between rows of pictures
    page = Page(a_sheet(tops=(), lefts=("H", "H")), [(64, 64)] * 4, font).image.convert("L")
    for middle in (6 + 32, 6 + 64 + 6 + 32):
        row = page.crop((0, middle - 32, page.width, middle + 32))
        _, top, _, bottom = row.point(lambda level: 255 - level).getbbox()
        assert (top + bottom) / 2 == pytest.approx(32, abs=3)


def test_a_page_of_too_many_pixels_is_refused():
    with pytest.raises(UsageError, match="a sheet of 32768x32768 pixels is too large"):
        Page(a_sheet(), [(16384, 16384)] * 4, None)


FONT = open_font(None, 14, [])


LETTERS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300)
WORDS = st.lists(st.text("abilm", min_size=1, max_size=9), max_size=30).map(" ".join)


@given(LETTERS | WORDS)
def test_a_broken_label_fits_and_says_the_same(text):
    lines = broken(FONT, text, 90, 4)
    assert len(lines) <= 4
    assert len(lines) <= 1 or FONT.getlength(" ".join(text.split())) > 90
    assert all(len(line) == 1 or FONT.getlength(line.rstrip("…")) <= 90 for line in lines)
    said, told = "".join(text.split()), "".join("".join(lines).split())
    assert told == said or (told.endswith("…") and said.startswith(told[:-1]))


def test_a_label_of_nothing_is_one_empty_line():
    (label,) = _labels(FONT, [" "], [(90, 2)])
    assert (label.lines, label.width) == ([""], 0)


def test_letters_that_a_font_lacks_are_named():
    assert lacking(FONT, ["DPM++ 2M, 7.5", "猫 cat 猫"]) == "猫"


def test_what_is_no_font_is_refused(here):
    (here / "x.ttf").write_bytes(b"none")
    for name in ("x.ttf", "nothing.ttf", "."):
        with pytest.raises(UsageError, match="cannot be read as a font"):
            open_font(name, 12, [])


def test_a_font_in_ones_home_is_found(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    (here / "own.ttf").write_bytes(FONT.font_bytes)
    assert open_font("~/own.ttf", 12, []).getname() == FONT.getname()


def cells_of(path):
    """The pictures of a sheet without labels, row by row."""
    with Image.open(path) as sheet:
        page = sheet.convert("RGB")
    return [
        page.crop((x, y, x + 128, y + 128))
        for y in range(0, page.height, 128)
        for x in range(0, page.width, 128)
    ]


def picture(path):
    with Image.open(path) as image:
        return image.convert("RGB")


def alike(one, other):
    return ImageChops.difference(one, other).getbbox() is None


def test_every_picture_of_a_sheet_is_the_one_that_gen_paints(sdfast):
    code, out, _ = sdfast(
        *("grid", "a cat", "--x", "steps=2,3", "--y", "sampler=DDIM,dpm++", "--seed", "5"),
        *("-m", "tiny", "--no-labels"),
    )
    assert (code, out) == (0, "a-cat-grid.png\n")
    asked = [(s, n) for s in ("DDIM", "dpm++") for n in ("2", "3")]
    for cell, (sampler, steps) in zip(cells_of("a-cat-grid.png"), asked, strict=True):
        words = ("--sampler", sampler, "-s", steps, "--seed", "5", "-m", "tiny", "-o", "own.png")
        assert sdfast("gen", "a cat", *words, "--exists", "overwrite")[0] == 0
        assert alike(cell, picture("own.png"))


def test_presets_words_and_prompts_vary_as_flags_do(sdfast):
    words = ("--x", "replace=cat,dog", "--y", "preset=a1111,ddim50", *QUICK, "--seed", "1")
    _, out, _ = sdfast("grid", "a cat", *words, "--dry-run")
    jobs = [json.loads(line) for line in out.splitlines()]
    assert [each["cell"] for each in jobs] == [
        *("cat, a1111", "dog, a1111"),
        *("cat, ddim50", "dog, ddim50"),
    ]
    for each, (prompt, preset) in zip(
        jobs, [(p, s) for s in ("a1111", "ddim50") for p in ("a cat", "a dog")], strict=True
    ):
        del each["cell"]
        _, alone, _ = sdfast("gen", prompt, "-p", preset, *QUICK, "--seed", "1", "--dry-run")
        assert each == json.loads(alone)


def test_the_name_of_a_key_is_a_negative_prompt_as_any_word_is(sdfast):
    code, out, _ = sdfast("grid", "a cat", "-x", "steps", "--x", "steps=1,2", "--dry-run")
    assert code == 0
    assert [json.loads(line)["negative"] for line in out.splitlines()] == ["steps"] * 2


def test_one_new_seed_is_shared_by_a_whole_sheet(sdfast):
    _, out, _ = sdfast("grid", "a cat", "--x", "steps=1..5", "-m", "tiny", "--dry-run")
    assert len({json.loads(line)["seed"] for line in out.splitlines()}) == 1


def test_a_sheet_paints_itself_again_and_takes_flags(sdfast):
    made = ("a cat", "a dog", "--seed", "1,2", *QUICK, "--no-labels")
    sdfast("grid", *made, "-o", "one.png")
    assert sdfast("grid", "--from", "one.png", "--no-labels", "-o", "two.png")[0] == 0
    assert Path("one.png").read_bytes() == Path("two.png").read_bytes()
    sdfast("grid", "--from", "one.png", "-s", "3", "--no-labels", "-o", "three.png")
    sdfast("gen", "a dog", "--seed", "2", "-m", "tiny", "-s", "3", "-o", "own.png")
    assert alike(cells_of("three.png")[3], picture("own.png"))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--seed", "5"], "seed varies"),
        (["a cow"], "prompt varies"),
        (["--x", "steps=1,2"], "its rows and columns stay"),
        (["--columns", "2"], "its rows and columns stay"),
        (["-n", "2"], "its rows and columns stay"),
        (["-n", "1"], "its rows and columns stay"),
        (["--seed", "5,6"], "its rows and columns stay"),
        (["a cow", "a pig"], "its rows and columns stay"),
    ],
)
def test_what_varies_on_a_sheet_stays(sdfast, flags, said):
    sdfast("grid", "a cat", "a dog", "--seed", "1,2", *QUICK, "-o", "one.png")
    code, _, err = sdfast("grid", "--from", "one.png", *flags)
    assert code == 2
    assert said in err


def test_a_sheet_tells_what_it_shows(sdfast):
    sdfast("grid", "a cat", "--x", "steps=1,2", "--seed", "7", "-m", "tiny", "-o", "one.png")
    code, out, _ = sdfast("info", "one.png")
    assert code == 0
    said = dict(line.split(None, 1) for line in out.splitlines()[1:] if len(line.split()) > 1)
    assert (said["prompt"], said["seed"], said["across"]) == ("a cat", "7", "steps 1, steps 2")
    assert "steps" not in said
    told = json.loads(sdfast("info", "one.png", "--json")[1])
    assert told["sheet"] == {
        "columns": 2,
        "varies": ["steps"],
        "tops": ["steps 1", "steps 2"],
        "lefts": [],
    }
    code, _, err = sdfast("gen", "--from", "one.png")
    assert code == 2
    assert "is a sheet of 2 pictures\nhint: `sdfast grid --from`" in err


def write_sheet(path, **change):
    """A picture with a recipe of a sheet of our own making."""
    sheet = a_sheet()
    record = sheet_record(sheet, [one.record for one in sheet.jobs]) | change
    text = PngInfo()
    text.add_text("sdfast", json.dumps({"schema": 1, "sheet": record}))
    Image.new("RGB", (8, 8)).save(path, pnginfo=text)


@pytest.mark.parametrize(
    ("shared", "own"),
    [
        ({"lora": 5}, {"lora": []}),
        ({"sampler": ["x"]}, {"sampler": "ddim"}),
        ({"\x1b[31mevil\n": None}, {}),
    ],
)
def test_what_the_cells_of_a_sheet_hide_is_not_told(sdfast, shared, own):
    cells = [{"prompt": "a", "seed": k, **own} for k in range(4)]
    write_sheet("one.png", job=shared, cells=cells)
    code, out, err = sdfast("info", "one.png")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert "evil" not in out


def test_a_strangers_labels_do_not_reach_the_terminal_as_they_are(sdfast):
    write_sheet("one.png", tops=["\x1b[31mred\x07", "two\nlines"])
    _, out, err = sdfast("grid", "--from", "one.png", "-m", "tiny", "--json", "-o", "two.png")
    assert "lines, up, " in err
    assert not {"\x1b", "\x07"} & {*out, *err}
    assert len(out.splitlines()) == 5


def test_long_prompts_are_told_by_their_beginning(sdfast):
    prompts = [f"{k} a cat on green grass with a red ball and a very long tail" for k in (1, 2)]
    _, out, err = sdfast("grid", *prompts, "-m", "tiny", "-s", "1", "--json")
    assert re.search(r"^1 a cat on green grass with a red bal\.\.\., [\d.]+ s:", err, re.MULTILINE)
    assert json.loads(out.splitlines()[0])["cell"] == prompts[0]
    code, _, err = sdfast("grid", *prompts, "-m", "tiny", "--x", "steps=0")
    assert code == 2
    assert "with a red bal..., steps 0: steps must be" in err


def test_a_sheet_whose_recipe_nobody_would_read_is_refused_before_it_is_painted(sdfast, here):
    prompts = [f"{k} " + "very " * 3000 + "long" for k in range(100)]
    words = ("grid", *prompts, "-m", "tiny", "-s", "1")
    code, _, err = sdfast(*words)
    assert code == 2
    assert "100 pictures is too long to be read\nhint: --no-metadata" in err
    assert not list(here.iterdir())


def test_a_sheet_that_somebody_has_damaged_is_refused(sdfast):
    text = PngInfo()
    sheet = {"columns": 1, "varies": [], "tops": [], "lefts": [], "job": {}, "cells": [{}]}
    text.add_text("sdfast", json.dumps({"schema": 1, "sheet": sheet}))
    Image.new("RGB", (8, 8)).save("one.png", pnginfo=text)
    for command in ("info", "gen", "grid"):
        code, _, err = sdfast(command, *["--from"] * (command != "info"), "one.png")
        assert code == 2
        assert err.startswith("error: `one.png` has a recipe that cannot be: prompt")


def test_every_picture_is_written_too_where_that_is_asked_for(sdfast, here):
    code, out, _ = sdfast(
        *("grid", "a cat", "--seed", "1..3", *QUICK, "--no-labels"),
        *("--cells", "all/", "-o", "one.png"),
    )
    assert code == 0
    assert out.split() == [f"all/a-cat-{k}-{k}.png" for k in (1, 2, 3)] + ["one.png"]
    for cell, path in zip(cells_of("one.png"), sorted((here / "all").iterdir()), strict=True):
        assert alike(cell, picture(path))
    assert recipes.read_recipe(here / "all" / "a-cat-2-2.png").record["seed"] == 2


def test_a_cell_is_named_by_its_own_preset(sdfast):
    words = ("--x", "preset=fast,fine", *QUICK, "--cells", "{preset}.png", "-o", "one.png")
    assert sdfast("grid", "a cat", *words)[1].split() == ["fast.png", "fine.png", "one.png"]


def test_json_is_a_line_of_each_picture_and_one_of_the_sheet(sdfast):
    _, out, _ = sdfast("grid", "a cat", "--x", "steps=1,2", "-m", "tiny", "--json")
    first, second, sheet = map(json.loads, out.splitlines())
    assert (first["cell"], len(first["steps_ms"])) == ("steps 1", 1)
    assert (second["cell"], len(second["steps_ms"])) == ("steps 2", 2)
    assert "path" not in first
    assert (sheet["path"], sheet["pictures"]) == ("a-cat-grid.png", 2)


def test_models_are_loaded_once_each_and_paint_in_their_own_sizes(sdfast, small):
    _, out, err = sdfast(
        *("grid", "a cat", "--x", "steps=1,2", "--y", f"model=tiny,{small}"),
        *("--seed", "1", "-o", "one.png"),
    )
    assert err.count("2 pictures\n") == 2
    assert out == "one.png\n"
    assert [one.size for one in recipes.read_recipe(Path("one.png")).sheet.jobs] == [
        *[(128, 128)] * 2,
        *[(64, 64)] * 2,
    ]
    sdfast("gen", "a cat", "-m", str(small), "-s", "2", "--seed", "1", "-o", "own.png")
    own = picture("own.png")
    whole = picture("one.png")
    assert any(
        alike(whole.crop((x, y, x + 64, y + 64)), own)
        for y in range(128, whole.height - 63)
        for x in range(128, whole.width - 63)
        if whole.getpixel((x, y)) == own.getpixel((0, 0))
    )


def test_models_of_one_name_are_told_apart_by_the_folders_that_lead_there(sdfast, small, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model").symlink_to(small)
    paths = ",".join(str(tmp_path / folder / "model") for folder in ("a", "b"))
    _, out, _ = sdfast("grid", "a cat", "--x", f"model={paths}", "-s", "1", "--json")
    assert [json.loads(line).get("cell") for line in out.splitlines()] == [
        *("a/model", "b/model"),
        None,
    ]


def test_one_model_is_in_memory_at_a_time(sdfast, small, monkeypatch):
    alive, found = weakref.WeakSet(), []
    loaded = models.load_model

    def load(*given, **flags):
        found.append(len(alive))
        alive.add(model := loaded(*given, **flags))
        return model

    monkeypatch.setattr(models, "load_model", load)
    words = ("--x", f"model=tiny,{small},tiny", "--y", "clip_skip=1,2", "-s", "1")
    assert sdfast("grid", "a cat", *words)[0] == 0
    assert found == [0, 0]


def test_a_worker_paints_what_is_of_its_model_and_one_is_left_after_the_last(
    sdfast, small, here, monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    left = []
    monkeypatch.setattr(control, "leave_behind", lambda _, order: left.append(order.found.name))
    config_file().write_text("keep_warm: 1m\n")
    words = ("grid", "a cat", "--y", f"model={small},tiny", "--x", "steps=1,2", "--seed", "1")
    assert sdfast(*words, "-o", "one.png")[0] == 0
    assert left == ["tiny"]
    assert sdfast("warm", "start", "-m", "tiny")[0] == 0
    try:
        _, out, _ = sdfast(*words, "-o", "two.png", "--json", "-v")
    finally:
        assert sdfast("warm", "stop")[0] == 0
    assert [json.loads(line).get("load_s", 0) > 0 for line in out.splitlines()] == [
        *(True, True, False, False),
        False,
    ]
    assert left == ["tiny"]
    assert Path("one.png").read_bytes() == Path("two.png").read_bytes()


def test_with_and_without_are_values_of_an_axis(sdfast):
    words = ("--x", 'negative="",red', "--y", 'vae=""', "-m", "tiny", "-s", "1", "--dry-run")
    _, out, _ = sdfast("grid", "a cat", *words)
    first, second = map(json.loads, out.splitlines())
    assert (first["cell"], second["cell"]) == ("no negative, no vae", "negative red, no vae")
    assert (first["negative"], second["negative"], "vae" in first) == ("", "red", False)


def test_a_picture_is_without_what_another_layer_has(sdfast, here):
    sdfast("gen", "a cat", *QUICK, "--seed", "1", "-o", "base.png")
    flags = ("--init", "base.png", "--strength", "0.5", "-o", "over.png")
    sdfast("gen", "a cat", *QUICK, "--seed", "1", *flags)
    words = ("--from", "over.png", "--x", 'init="",base.png', "--dry-run")
    _, out, _ = sdfast("grid", *words)
    without, over = map(json.loads, out.splitlines())
    assert (without["cell"], over["cell"]) == ("no init", "init base.png")
    assert not {"init", "strength"} & without.keys()
    assert over["init"] == str(here / "base.png")
    (here / "mine.yaml").write_text("lora: [x.safetensors]\n")
    _, out, _ = sdfast("grid", "a cat", "-p", "mine.yaml", "--x", 'lora=""', "--dry-run")
    assert "lora" not in json.loads(out)


@pytest.mark.parametrize("word", ['replace="",dog', 'model="",tiny', 'preset="",fast', 'steps=""'])
def test_what_cannot_be_nothing_is_refused(sdfast, word):
    code, _, err = sdfast("grid", "a cat", "--x", word, "--dry-run")
    assert code == 2
    assert err.startswith("error: ")
    assert "bug" not in err


def test_a_word_that_is_taken_out_is_told(sdfast):
    _, out, _ = sdfast("grid", "a red cat", "--x", 'replace=red,""', "-m", "tiny", "--dry-run")
    told = [json.loads(line) for line in out.splitlines()]
    assert [(one["cell"], one["prompt"]) for one in told] == [
        ("red", "a red cat"),
        ("no red", "a  cat"),
    ]


def test_a_sheet_takes_no_pictures_place(sdfast, here):
    words = ("--x", "steps=1,2", "-m", "tiny", "-o", "one.png", "--cells", "one.png")
    code, _, err = sdfast("grid", "a cat", *words)
    assert code == 2
    assert "cannot both be `one.png`" in err
    assert not list(here.iterdir())


def test_flags_that_would_make_pictures_of_a_sheet_alike_are_refused(sdfast):
    sdfast("grid", "a cat", "--x", "spacing=karras,uniform", *QUICK, "-o", "one.png")
    code, _, err = sdfast("grid", "--from", "one.png", "--sampler", "DPM++ 2M Karras")
    assert code == 2
    assert "pictures of `one.png` would be alike that differ" in err


def test_pictures_that_agree_in_their_walk_are_painted_together_wherever_they_stand(sdfast):
    words = ("a cat", "a dog", "--x", "steps=1,2", "-m", "tiny", "--json", "--batch-size", "2")
    lines = [json.loads(line) for line in sdfast("grid", *words)[1].splitlines()]
    assert [(line.get("cell"), line.get("together")) for line in lines] == [
        *(("steps 1, a cat", 2), ("steps 1, a dog", 2)),
        *(("steps 2, a cat", 2), ("steps 2, a dog", 2)),
        (None, None),
    ]
    lines = [json.loads(line) for line in sdfast("grid", *words[:-1], "auto")[1].splitlines()]
    assert [line.get("together") for line in lines] == [2, 2, 2, 2, None]


def test_a_settled_name_of_pictures_is_not_a_sheets(sdfast, here, monkeypatch):
    monkeypatch.setenv("SDFAST_OUTPUT", "pp/{slug}-{seed}.png")
    words = ("a cat", *QUICK)
    assert sdfast("gen", *words, "--seed", "1")[1] == "pp/a-cat-1.png\n"
    picture = (here / "pp" / "a-cat-1.png").read_bytes()
    sheet = sdfast("grid", *words, "--seed", "1..2", "--exists", "overwrite")[1]
    assert sheet == "pp/a-cat-grid.png\n"
    assert (here / "pp" / "a-cat-1.png").read_bytes() == picture


def test_cells_that_are_there_are_treated_as_told(sdfast, here):
    words = ("grid", "a cat", "--seed", "1,2", *QUICK, "--cells", "all", "-o", "one.png")
    assert sdfast(*words)[0] == 0
    last = here / "all" / "a-cat-2-2.png"
    last.write_bytes(b"mine")
    (here / "one.png").unlink()
    code, out, err = sdfast(*words, "--exists", "error")
    assert (code, out) == (2, "")
    assert "`all/a-cat-1-1.png` exists" in err
    assert sdfast(*words, "--exists", "skip")[1].split()[1:] == ["all/a-cat-2-2.png", "one.png"]
    assert last.read_bytes() == b"mine"
    assert json.loads(sdfast(*words, "--exists", "skip", "--json")[1]) == {
        "path": "one.png",
        "skipped": True,
        "pictures": 2,
    }


def test_a_terminal_calls_pictures_by_their_labels(here):
    _, out, drawn = on_a_terminal("grid", "a cat", "--x", "steps=3,4", "-m", "tiny")
    assert out == "a-cat-grid.png\n"
    assert "steps 3 " in drawn
    assert "seed " not in drawn


def test_pictures_that_agree_in_their_walk_are_painted_together(sdfast):
    words = ("grid", "a cat", "a dog", "--seed", "1,2", *QUICK, "--no-labels", "--json")
    _, apart, _ = sdfast(*words, "-o", "one.png")
    _, together, _ = sdfast(*words, "-o", "two.png", "--batch-size", "3")
    counts = [json.loads(line).get("together") for line in together.splitlines()]
    assert counts == [3, 3, 3, 1, None]
    assert {json.loads(line).get("together") for line in apart.splitlines()} == {1, None}
    most = ImageChops.difference(picture("one.png"), picture("two.png")).getextrema()
    assert all(high <= 2 for _, high in most)
    unlike = ("grid", "a cat", "--x", "steps=1,2", "-m", "tiny", "--json", "--batch-size", "2")
    assert [json.loads(line).get("together") for line in sdfast(*unlike)[1].splitlines()] == [
        *(1, 1),
        None,
    ]


def test_a_sheet_goes_through_a_pipe_and_is_kept_from_taking_a_name(sdfast, here):
    words = ("grid", "a cat", "--x", "steps=1,2", "-m", "tiny", "-q", "--seed", "1")
    sent = shell(*words, "-o", "-")
    sdfast(*words)
    assert sent.stdout == (here / "a-cat-grid.png").read_bytes()
    assert sdfast(*words)[1] == "a-cat-grid-2.png\n"
    assert sdfast(*words, "--exists", "error")[0] == 2
    assert sdfast(*words, "--exists", "skip")[1] == "a-cat-grid.png\n"
    assert sorted(path.name for path in here.iterdir()) == ["a-cat-grid-2.png", "a-cat-grid.png"]


def test_an_interrupted_sheet_leaves_its_finished_cells_and_no_half_sheet(here):
    words = ("grid", "a cat", "--seed", "1..500", *QUICK, "--cells", "all/", "-o", "one.png")
    code, first, err = broken_off(*words)
    assert code == 130
    assert err.rstrip().endswith("interrupted")
    assert picture(first).size == (128, 128)
    assert [path.name for path in here.iterdir()] == ["all"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["a cat"], 2, "nothing varies"),
        (["--x", "steps=1,2"], 2, "there is no prompt"),
        (["a cat", "--x", "steps=1,0"], 2, "steps 0: steps must be from 1 to 1000"),
        (["a cat", "--x", "stpes=1,2"], 2, "did you mean `steps`"),
        (["a cat", "--x", "cfg=1,2"], 2, "that is `guidance` here"),
        (["a cat", "--x", "model=tiny,tinny"], 3, "did you mean `tiny`"),
        (["a cat", "--x", "preset=fast,fsat"], 2, "did you mean `fast`"),
        (["a cat", "--x", "steps=1,2", "--font", "no.ttf"], 2, "`no.ttf` cannot be read"),
        (["a cat", "--x", "steps=1,2", "-o", "-", "--json"], 2, "both write to stdout"),
        (["a cat", "--x", "steps=1,2", "--cells", "-"], 2, "`--cells` is a folder"),
        (["a cat", "--x", "steps=1,2", "--cells", "/proc/no/"], 2, "/proc/no"),
        (["a cat", "--x", "steps=1,2", "-o", "x.gif"], 2, "x.gif"),
        (["a cat", "--x", "replace=dog,cow"], 2, "`dog`, the first word of replace"),
        (["a cat", "--x", "lora=no.safetensors"], 3, "no.safetensors"),
        (["a cat", "--x", "seed=1,2", "--cfg-scale", "3"], 2, "--guidance"),
    ],
)
def test_bad_input_is_one_clear_line_and_nothing_is_painted(sdfast, here, words, code, said):
    ended, out, err = sdfast("grid", *words, *["-m", "tiny"] * ("model=" not in words[-1]))
    assert (ended, out) == (code, "")
    assert said in err
    assert "Traceback" not in err
    assert not list(here.iterdir())


def test_a_dry_run_wakes_no_torch(here):
    code = (
        "import sys; sys.argv = ['sdfast', 'grid', 'a cat', '--x', 'steps=1,2', '--dry-run'];"
        "from sdfast.cli import run_command; code = run_command();"
        "sys.exit(code or 10 * ('torch' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert not list(here.iterdir())


def test_a_sheet_and_its_pictures_may_be_photos(sdfast, here):
    words = ("grid", "a cat", "--seed", "1..2", *QUICK, "-o", "sheet.webp")
    code, _, err = sdfast(*words, "--cells", "all/{seed}.jpg")
    assert code == 0, err
    assert sorted(path.name for path in (here / "all").iterdir()) == ["1.jpg", "2.jpg"]
    assert recipes.read_recipe(here / "all" / "2.jpg").record["seed"] == 2
    _, again, _ = sdfast("grid", "--from", "sheet.webp", "--dry-run")
    assert [json.loads(line)["seed"] for line in again.splitlines()] == [1, 2]


def test_a_sheet_too_long_for_a_jpeg_is_told_before_anything_is_painted(sdfast, here):
    words = ("grid", "猫" * 9000, "--seed", "1..3", *QUICK, "-o", "sheet.jpg")
    code, _, err = sdfast(*words)
    assert (code, list(here.iterdir())) == (2, [])
    assert "cannot hold so long a recipe" in err


@pytest.mark.parametrize(
    ("axis", "flags", "key"),
    [
        ('sampler="DPM++ 2M Karras",Euler', ("--spacing", "uniform"), "spacing"),
        ("preset=fast,default", ("--sampler", "ddim"), "sampler"),
        ("preset=fast,default", ("-s", "4"), "steps"),
        ("sampler=dpm,dpm++", ("--order", "1"), None),  # what these names leave open
        ("sampler=DDIM,Euler", ("-s", "4"), None),
    ],
)
def test_a_flag_does_not_belie_the_labels_of_a_sheet(sdfast, here, axis, flags, key):
    words = ("-m", "tiny", "--size", "64x64")
    assert sdfast("grid", "a cat", "--seed", "1", "--x", axis, *words, "-o", "one.png")[0] == 0
    code, _, err = sdfast("grid", "--from", "one.png", *flags, "-o", "two.png")
    assert code == (2 if key else 0)
    assert not key or f"the labels of `one.png` stand for the `{key}` of their pictures" in err
