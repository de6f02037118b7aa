"""Figures and pictures in README.md and docs/, beside what they were taken from."""

import json
import re
import statistics
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from sdfast import load_model, load_preset, paint

HOUSE = Path(__file__).parents[1]
EXPORTS = HOUSE / "benchmarks"
README = (HOUSE / "README.md").read_text(encoding="utf-8")
SAMPLERS = (HOUSE / "docs" / "samplers.md").read_text(encoding="utf-8")

PROCESSORS = [  # each row of README's table for processors: its export, and the other side
    ("cpu-cold", "diffusers"),
    ("cpu-sd15-256", "diffusers:bf16,channels_last"),
    ("cpu-sd15-256", "diffusers:bf16,compile"),
    ("cpu-sd15-256", "diffusers"),
    ("cpu-sd15-512", "diffusers:bf16,channels_last"),
    ("cpu-sd15-512", "diffusers"),
    ("cpu-sd15-512-avx2", "diffusers"),
]
ROW = re.compile(
    r"^\| [^|]+ \| ([\d.]+) s, ([\d.]+) (MB|GB) \| ([\d.]+) s, ([\d.]+) \3 \| ([\d.]+) \|", re.M
)


def rounds_to(number, published):
    """Whether a number is what was published of it, to as many places."""
    return f"{number:.{len(published.partition('.')[2])}f}" == published


def sides(export, theirs):
    """Both sides' results, and how many times as fast ours is, of a step and of all."""
    whole = json.loads((EXPORTS / f"{export}.json").read_text(encoding="utf-8"))
    results = {one["parameters"]["by"]: one for one in whole["results"]}
    (ratio,) = (one for one in whole["ratios"] if one["theirs"].split()[0] == theirs)
    return results["sdfast"], results[theirs], ratio


@pytest.mark.parametrize("row", range(len(PROCESSORS)))
def test_a_row_for_processors_is_that_of_its_export(row):
    rows = ROW.findall(README)
    assert len(rows) == len(PROCESSORS)
    our_time, our_memory, unit, their_time, their_memory, times = rows[row]
    ours, others, ratio = sides(*PROCESSORS[row])
    for one, seconds, memory in ((ours, our_time, our_memory), (others, their_time, their_memory)):
        steps = [ms / 1000 for picture in one.get("steps_ms", ()) for ms in picture]
        assert rounds_to(statistics.median(steps or one["times"]), seconds)
        assert rounds_to(one["memory_bytes"] / {"MB": 1e6, "GB": 1e9}[unit], memory)
    assert rounds_to((ratio["step_times_as_fast"] or ratio["times_as_fast"])["median"], times)


def test_whole_pictures_are_as_much_faster_as_is_said():
    said = re.search(r"Whole pictures: (.+?) times as fast in rows two to seven", README)
    for row, times in zip(PROCESSORS[1:], re.findall(r"[\d.]+", said[1]), strict=True):
        assert rounds_to(sides(*row)[2]["times_as_fast"]["median"], times)


GPUS = [  # each row of README's table for GPUs: its report, bench, the other side, and how many
    ("nvidia-h200-part", "512x512, beside diffusers, compiled", "diffusers:bf16,compile", "1"),
    ("nvidia-h200-part", "512x512, beside diffusers, compiled", "diffusers:bf16", "1"),
    ("nvidia-h100-80gb-hbm3-part", "one picture and eight", "diffusers:bf16", "1"),
    ("nvidia-h100-80gb-hbm3-part", "one picture and eight", "diffusers:bf16", "8"),
    ("nvidia-h100-80gb-hbm3", "XL, 1024x1024, one picture", "diffusers:bf16", "1"),
]
TIMES = r"([\d.]+) s, ([\d.]+) s, ([\d.]+)"


@pytest.mark.parametrize("row", range(len(GPUS)))
def test_a_row_for_gpus_is_that_of_its_report(row):
    report, title, theirs, count = GPUS[row]
    rows = re.findall(rf"^\| H.*? \| {TIMES} \| {TIMES} \|", README, re.M)
    assert len(rows) == len(GPUS)
    benches = json.loads((EXPORTS / f"{report}.json").read_text(encoding="utf-8"))["benches"]
    (bench,) = (one["said"] for one in benches if title in one["title"])
    ours, others = (
        next(
            one
            for one in bench["results"]
            if (one["parameters"]["by"], one["parameters"]["batch-size"]) == (by, count)
        )
        for by in ("sdfast", theirs)
    )
    parts = ("encode", "walk", "decode")
    pixels = [
        [*map(sum, zip(*(one["phases"][part] for part in parts), strict=True))]
        for one in (ours, others)
    ]
    whole = [ours["times"], others["times"]]
    for (mine, their), said in ((pixels, rows[row][:3]), (whole, rows[row][3:])):
        assert rounds_to(statistics.median(mine), said[0])
        assert rounds_to(statistics.median(their), said[1])
        by_round = [b / a for a, b in zip(mine, their, strict=True)]
        assert rounds_to(statistics.median(by_round), said[2])


def tables(text):
    """A page's tables by the heading above them: lists of cells."""
    found = {}
    for part in re.split(r"^## ", text, flags=re.M)[1:]:
        title, _, body = part.partition("\n")
        lines = [line.strip("|").split("|") for line in body.splitlines() if line.startswith("|")]
        found[title] = [[cell.strip() for cell in line] for line in lines if "---" not in line[0]]
    return found


@pytest.mark.parametrize("column", range(4))
def test_the_errors_of_samplers_are_those_of_the_export(column):
    problem, measure = (("uncond", "cfg7.5")[column // 2], ("rms", "median")[column % 2])
    titles = {"rms": "root mean square error", "median": "median error"}
    export = tables((EXPORTS / "accuracy.md").read_text(encoding="utf-8"))
    head, *rows = export[f"{problem}: {titles[measure]}"]
    presets = {row[1]: dict(zip(head, row, strict=True)) for row in rows if row[0] == "sdfast"}
    (best,) = (table for title, table in export.items() if title.startswith(f"{problem}: the best"))
    lines = [row for row in best if row[1] == measure]
    said = re.findall(r"^\| (\d+) \| (.* / .*) \|$", SAMPLERS, re.M)[: len(lines)]
    for (calls, cells), (budget, _, ours, our_error, _, their_error, _) in zip(
        said, lines, strict=True
    ):
        preset = presets["fast" if int(calls) <= 10 else "default"][calls]
        mark = "" if ours == "tuned" else "¹"
        assert calls == budget
        assert cells.split(" | ")[column] == f"{preset} / {our_error}{mark} / {their_error}"


def test_as_many_samplers_of_diffusers_ran_as_is_said():
    export = (EXPORTS / "accuracy.md").read_text(encoding="utf-8")
    head, *rows = tables(export)["uncond: root mean square error"]
    there = sum(row[0] == "diffusers" for row in rows)
    failed = re.findall(r"^- uncond: diffusers (.+) at (.+?): (.+)$", export, re.M)
    assert all(calls.split(", ") == head[3:] for _, calls, _ in failed)
    assert (sum("scipy" in why for *_, why in failed), len(failed)) == (3, 4)
    said = f"had {there} rows, of which {there - len(failed)} ran (three need scipy, one did not"
    assert said in " ".join(SAMPLERS.split())


@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 4)])
def test_the_sheet_on_top_of_readme_is_what_its_command_paints(row, column):
    command = "grid - -m tiny --seed 1 --columns 8 --no-labels < scripts/tiny/everyday.txt"
    assert command in " ".join(README.split())
    prompts = (HOUSE / "scripts" / "tiny" / "everyday.txt").read_text(encoding="utf-8").splitlines()
    model = load_model("tiny", device="cpu", dtype="fp32")
    painted = paint(model, load_preset("default").job(prompts[8 * row + column], seed=1)).image
    left, top = 128 * column, 128 * row
    with Image.open(HOUSE / "docs" / "tiny.png") as sheet:
        shown = sheet.convert("RGB").crop((left, top, left + 128, top + 128))
    assert max(most for _, most in ImageChops.difference(painted, shown).getextrema()) <= 3
