"""The timing: what is timed, what is made of the numbers, what is written down."""

import csv
import io
import json
import math
import os
import pickle
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from processes import hears_ctrl_c, soon

from sdfast import Job, Sampler, load_model
from sdfast.bench.timing import apart, entries, laps, ours, pipelines, processes, sides, turn
from sdfast.bench.timing.cold import _program as program
from sdfast.bench.timing.cold import script
from sdfast.bench.timing.entries import Entry, beside, named, pairs, read_settings
from sdfast.bench.timing.laps import race
from sdfast.bench.timing.report import Result, Sheet, duels, lines
from sdfast.bench.timing.shapes import unfilled
from sdfast.bench.timing.spread import Effort, doubts, ratios, spread
from sdfast.bench.timing.start import Start
from sdfast.bench.timing.turn import Lap, Painted, Phases, Side
from sdfast.cli.bench import command_line
from sdfast.errors import DeviceError, ModelError, UsageError
from sdfast.events import Times
from sdfast.job import read_job
from sdfast.models.find import find
from sdfast.models.libraries import quiet

HYPERFINE = {"command", "mean", "stddev", "median", "user", "system", "min", "max", "times"}
HYPERFINE |= {"exit_codes", "parameters"}


def entry(family="sdfast", name="a", dtype="fp32", **keys):
    job = Job(prompt="a cat", seed=1, **{"size": (64, 64), "guidance": 3} | keys)
    return Entry(family, name, job, "tiny", dtype)


def a_lap(wall=1.0, step=0.2, network=0.15):
    phases = Phases(0.1, (step,) * 4, (network,) * 4, 0.05, 0.01)
    return Lap(wall, wall, 0.0, others=0.0, phases=phases)


def result(family, walls, step=0.2):
    timed = tuple(a_lap(wall, step) for wall in walls)
    return Result(entry(family), "fp32", "cpu", None, timed)


def test_what_the_libraries_say_of_themselves_is_as_it_was_afterwards():
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    def seen():
        kinds = of_diffusers, of_transformers
        return [(kind.get_verbosity(), kind.is_progress_bar_enabled()) for kind in kinds]

    @quiet()
    def fail():
        assert seen() == [(40, False)] * 2
        raise ZeroDivisionError

    before = seen()
    assert before != [(40, False)] * 2
    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen() == before


def test_a_sweep_is_every_combination_in_order():
    found = entries.read_sweeps(["steps=10,20", "spacing=rho,karras"], {})
    assert found == [
        {"steps": 10, "spacing": "rho"},
        {"steps": 10, "spacing": "karras"},
        {"steps": 20, "spacing": "rho"},
        {"steps": 20, "spacing": "karras"},
    ]
    assert entries.read_sweeps([], {}) == [{}]
    assert entries.read_sweeps(["guidance=7.5,1", "corrector=true"], {}) == [
        {"guidance": 7.5, "corrector": True},
        {"guidance": 1, "corrector": True},
    ]


@pytest.mark.parametrize(
    ("words", "given", "said"),
    [
        (["steps"], {}, "no sweep"),
        (["steps=10,"], {}, "no sweep"),
        (["stps=1"], {}, "`stps` cannot be swept"),
        (["timesteps=999,5"], {}, "`timesteps` cannot be swept"),
        (["steps=5", "steps=6"], {}, "steps is given twice"),
        (["steps=5"], {"steps": 6}, "steps is given twice"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(words, given, said):
    with pytest.raises(UsageError, match=said):
        entries.read_sweeps(words, given)


def test_a_row_is_named_by_what_differs():
    assert named("fast", {}, 1) == "fast"
    assert named("fast", {"steps": 5}, 1) == "steps=5"
    assert named("fast", {"steps": 5, "dtype": "bf16"}, 2) == "fast steps=5 dtype=bf16"


def test_rows_that_differ_by_our_precision_share_one_of_another():
    two = [entry(name="dtype=fp32"), entry(name="dtype=bf16", dtype="bf16")]
    rows = beside(two, ["diffusers", "diffusers:bf16"])
    assert [(row.family, row.name) for row in rows] == [
        ("sdfast", "dtype=fp32"),
        ("diffusers", "default"),
        ("diffusers:bf16", "default"),
        ("sdfast", "dtype=bf16"),
    ]
    assert len(pairs(rows)) == 4


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("diffusers", ("fp32", ())),
        ("diffusers:bf16,channels_last", ("bf16", ("channels_last",))),
        ("diffusers:compile,fp16", ("fp16", ("channels_last", "fused", "compile"))),
    ],
)
def test_a_pipeline_is_set_up_as_said(family, settings):
    assert read_settings(family) == settings


@pytest.mark.parametrize("family", ["comfy", "diffusers:int8", "diffusers:bf16,fp16"])
def test_a_pipeline_unheard_of_is_refused(family):
    with pytest.raises(UsageError):
        read_settings(family)


def test_the_spread_is_the_middle_half():
    found = spread([1, 2, 3, 4, 100])
    assert found == (3, 2, 4, 1, 100)
    assert found.iqr == 2
    assert spread([7]) == (7, 7, 7, 7, 7)


def test_ratios_are_taken_round_by_round():
    assert ratios([2.0, 20.0, 3.0], [1.0, 10.0, 1.0]).median == 2
    assert ratios([2.0, 20.0], [1.0, 5.0, 9.0]).most == 4  # the last round was not finished


@pytest.mark.parametrize(
    ("effort", "said"),
    [
        (Effort((1.0,) * 5, 10.0, 0.0, 2, 2), []),
        (Effort((1.0, 1.0), 4.0, 0.0, 2, 2), ["too few to show the spread"]),
        (Effort((1.0, 1.1, 1.2, 1.3, 1.4), 12.0, 0.0, 2, 2), ["17% of the median"]),
        (Effort((1.0,) * 5, 5.0, 5.0, 2, 2), ["other programs held 50%"]),
        (Effort((1.0,) * 5, 5.0, None, 2, 2), ["2 threads got 1.00 s of processor a second"]),
        (Effort((1.0,) * 5, 5.0, None, 2, None), []),
    ],
)
def test_a_timing_says_why_not_to_believe_it(effort, said):
    found = doubts(effort)
    assert len(found) == len(said)
    assert all(words in doubt for words, doubt in zip(said, found, strict=True))


@pytest.mark.parametrize(
    ("at_most", "beyond"),
    [
        (Effort((1.0,) * 3, 6.0, 0.0, 2, 2), Effort((1.0,) * 2, 4.0, 0.0, 2, 2)),
        (
            Effort((10.0, 10.0, 10.0, 11.0, 11.0), 104.0, 0.0, 2, 2),
            Effort((10.0, 10.0, 10.0, 11.1, 11.1), 104.4, 0.0, 2, 2),
        ),
        (Effort((1.0,) * 5, 5.0, 1.0, 2, 2), Effort((1.0,) * 5, 5.0, 1.01, 2, 2)),
        (Effort((1.0,) * 5, 7.0, None, 2, 2), Effort((1.0,) * 5, 6.99, None, 2, 2)),
    ],
    ids=["three pictures", "an IQR of 10 %", "others at 10 %", "threads at 70 %"],
)
def test_a_timing_is_doubted_from_where_the_documentation_says(at_most, beyond):
    assert doubts(at_most) == []
    assert len(doubts(beyond)) == 1


def test_what_is_to_be_doubted_is_said_of_its_row():
    *_, said = lines(Sheet("tiny", False, 2, [result("sdfast", [1.0, 1.0])]))
    assert said == "doubtful: sdfast a: 2 runs are too few to show the spread; -r 5 would"


def test_a_duel_says_how_many_times_as_fast_ours_is():
    sheet = Sheet(
        "tiny",
        False,
        2,
        [result("sdfast", [1.0, 2.0, 1.0]), result("diffusers", [3.0, 6.0, 3.0], step=0.8)],
    )
    (duel,) = duels(sheet)
    assert duel.whole.median == 3
    assert duel.step.median == pytest.approx(4)
    assert "a: a step 4.00 times (4.00 to 4.00), a picture 3.00 times" in next(lines(sheet))


def test_pictures_painted_at_once_are_set_beside_one_by_one():
    one, four = result("sdfast", [1.0, 2.0]), result("sdfast", [2.0, 4.0])
    four = replace(four, entry=replace(four.entry, name="batch=4", batch=4))
    said = [*lines(Sheet("tiny", False, 2, [one, four]))]
    assert said[0].startswith("sdfast batch=4: 2.00 times (2.00 to 2.00) the pictures a second")
    assert not any("one by one" in line for line in lines(Sheet("tiny", False, 2, [four])))


def test_overhead_is_the_share_of_the_walk_without_the_network():
    assert result("sdfast", [1.0]).overhead == pytest.approx(0.25)
    deaf = Lap(1, 1, 0, phases=Phases(0, (0.1,), (), 0, 0))
    assert Result(entry(), "fp32", "cpu", None, (deaf,)).overhead is None


def test_rows_take_turns_and_every_other_round_goes_backwards():
    order = []

    def turn(one):
        order.append(one.family)
        return a_lap(), None

    events = [*race([entry("a"), entry("b"), entry("c")], turn, 2, 1)]
    assert order == [*"abc", *"cba", *"abc"]
    timed = [event.entry.family for event in events if isinstance(event, laps.Timed)]
    assert timed == [*"cba", *"abc"]


def test_a_start_is_measured_once_for_each_side_and_size():
    asked = []

    def measure(row):
        asked.append(row)
        return Start(1.0, 4.0, 0)

    rows = [entry(), entry(name="b", sampler=Sampler(steps=3)), entry("diffusers", "c")]
    events = laps.started(rows, measure)
    told = [(e.entry, e.start.first) for e in events if isinstance(e, laps.Started)]
    assert told == [(rows[0], 4.0), (rows[1], None), (rows[2], 4.0)]
    assert asked == [rows[0], rows[2]]


def test_pictures_of_one_job_are_compared():
    latents, grey = torch.ones(1, 4, 2, 2), Image.new("RGB", (16, 16), (10, 10, 10))
    other = Image.new("RGB", (16, 16), (10, 13, 10))
    times = Times(0, (0.1,), 0)

    def turn(one):
        mine = one.family == "sdfast"
        image, ended = (grey, latents) if mine else (other, 2 * latents)
        return a_lap(), Painted((image,), ended, times, ())

    *_, compared = race([entry(), entry("diffusers")], turn, 1, 0)
    assert compared.cosine == pytest.approx(1)
    assert compared.pixels == 3


def test_our_side_is_generate_with_its_network_calls_counted():
    model = load_model("tiny", device="cpu")
    job = Job(prompt="a cat", seed=3, size=(64, 64), sampler=Sampler(solver="heun", steps=3))
    painted = ours.paint(model, [job])
    assert len(painted.network) == len(painted.times.steps) == 5
    assert sum(painted.network) <= sum(painted.times.steps)
    image, *_ = model.decode(painted.latents)
    assert image.tobytes() == painted.images[0].tobytes()


@pytest.mark.parametrize(
    ("keys", "family"),
    [
        ({}, "diffusers"),
        ({"guidance": 1.0}, "diffusers"),
        ({"sampler": Sampler(solver="pndm", steps=4)}, "diffusers"),
        ({"negative": "a dog"}, "diffusers:channels_last,fused"),
    ],
)
def test_both_sides_end_at_the_same_latents(small, keys, family):
    source = find(str(small))
    model = load_model(source, device="cpu", dtype="fp32")
    side = pipelines.load_pipeline(source, "cpu", read_settings(family))
    defaults = {"guidance": 3.0, "sampler": Sampler(steps=4)}
    job = Job(prompt="a cat", seed=3, size=(64, 96), **(defaults | keys))
    mine, theirs = ours.paint(model, [job]), side.paint([job])
    assert mine.latents.shape == (1, 4, 12, 8)
    assert torch.allclose(mine.latents, theirs.latents, atol=2e-5)
    cosine, pixels = laps.nearness(mine, theirs)
    assert cosine == pytest.approx(1, abs=1e-6)
    assert pixels <= 1
    assert len(theirs.network) == len(theirs.times.steps) == job.sampler.calls


def test_a_batch_is_the_same_pictures_on_both_sides(small):
    source = find(str(small))
    model = load_model(source, device="cpu", dtype="fp32")
    side = pipelines.load_pipeline(source, "cpu", read_settings("diffusers"))
    job = Job(prompt="a cat", seed=3, size=(64, 64), guidance=3, sampler=Sampler(steps=4))
    three = Entry("sdfast", "a", job, "tiny", "fp32", batch=3).jobs
    mine, theirs = ours.paint(model, three), side.paint(three)
    assert mine.latents.shape == (3, 4, 8, 8)
    assert len(mine.images) == 3
    assert torch.allclose(mine.latents, theirs.latents, atol=2e-5)
    alone = ours.paint(model, three[2:])
    assert torch.allclose(mine.latents[2:], alone.latents, atol=2e-5)


def test_in_half_precision_diffusers_starts_from_the_same_noise(small):
    side = pipelines.load_pipeline(find(str(small)), "cpu", read_settings("diffusers:bf16"))
    assert side.dtype == "bf16"
    job = Job(prompt="a cat", seed=3, size=(64, 64), guidance=3, sampler=Sampler(steps=4))
    full = ours.paint(load_model(str(small), device="cpu", dtype="fp32"), [job])
    assert laps.nearness(full, side.paint([job]))[0] > 0.99


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"sampler": Sampler(method="adaptive", final="sigma_min")}, "an adaptive walk"),
        ({"guidance_interval": (0.2, 0.8)}, "`guidance_interval`"),
        ({"init": "a.png"}, "`init`"),
        ({"clip_skip": 2}, "`clip_skip`"),
        ({"guidance_rescale": 0.7}, "`guidance_rescale`"),
        ({"rng": "cuda"}, "`rng`"),
        ({"lora": ("a.safetensors",)}, "`lora`"),
        ({"vae": "a.safetensors"}, "`vae`"),
        ({"embedding": ("a.safetensors",)}, "`embedding`"),
        ({"hires": 2, "size": (128, 128)}, "`hires`"),
    ],
)
def test_what_diffusers_does_not_paint_here_is_refused(keys, what):
    with pytest.raises(UsageError, match=f"diffusers cannot match {what}, which `a` has"):
        beside([entry(**keys)], ["diffusers"])
    assert beside([entry(**keys)], []) == [entry(**keys)]


def test_a_pipeline_is_left_as_it_was_found(small):
    clock = SimpleNamespace(mark=lambda: 0)
    network = SimpleNamespace(forward=len)
    pipe = SimpleNamespace(encode_prompt=abs, unet=network, scheduler=SimpleNamespace(step=abs))
    with suppress(ZeroDivisionError), pipelines._Heard(pipe, clock):
        assert pipe.unet.forward is not len
        raise ZeroDivisionError
    assert (pipe.encode_prompt, pipe.unet.forward) == (abs, len)


def test_a_cold_gen_is_of_the_whole_job(tmp_path, sdfast):
    sampler = Sampler(order=3, spacing="karras", rho=5, steps=4)
    more = {"negative": "fog", "clip_skip": 2, "guidance_interval": (0.2, 0.8)}
    more |= {"guidance_rescale": 0.7, "rng": "cuda"}
    more |= {"variation_seed": 5, "variation_strength": 0.5}
    more |= {"init": str(tmp_path / "a.png"), "strength": 0.5}
    Image.new("RGB", (64, 64)).save(more["init"])
    one = entry(sampler=sampler, **more)
    _, safe, _, module, *words = program(one, "cpu", tmp_path / "x")
    assert (safe, module) == ("-P", "sdfast")
    code, out, _ = sdfast(*words, "--dry-run", "--json")
    assert code == 0
    assert read_job(json.loads(out)) == one.job.model_copy(update={"model": "tiny"})


@pytest.mark.parametrize(("precision", "gigabytes"), [("fp32", "13.7"), ("bf16", "6.9")])
def test_weights_are_counted_that_no_file_holds(monkeypatch, precision, gigabytes):
    rows = [replace(entry(dtype=precision), model="random:sdxl")] * 2  # which share their networks
    monkeypatch.setattr(sides, "free_memory", lambda device: 14 * 10**9)
    sides.check_room(rows, "cpu")
    monkeypatch.setattr(sides, "free_memory", lambda device: 10**9)
    with pytest.raises(DeviceError, match=f"fill {gigabytes} GB together, and 1.0 GB of memory"):
        sides.check_room(rows, "cpu")


def test_rows_are_painted_with_the_weights_they_name(bench, tmp_path, small):
    swept = ("--sweep", f'vae="",{small}/vae', "--export-json", tmp_path / "a")
    swept += ("--export-csv", tmp_path / "b", "--export-markdown", tmp_path / "c")
    words = ("-m", small, "-s", 2, "-r", 1, "-w", 0, "--size", "64x64", "--no-start", *swept)
    assert bench(*words)[::2] == (0, "")
    results = json.loads((tmp_path / "a").read_text())["results"]
    assert [len(row["times"]) for row in results] == [1, 1]
    told = [(row["command"], row["parameters"].get("vae")) for row in results]
    assert told == [("sdfast vae=", None), ("sdfast vae=vae", "vae")]
    assert not any(str(small) in (tmp_path / name).read_text() for name in "abc")


def test_the_script_is_python_that_asks_for_the_same(tmp_path):
    one = entry("diffusers:bf16,channels_last", sampler=Sampler(solver="heun", steps=3))
    text = script(one, find("tiny"), "cpu", tmp_path / "x.png")
    compile(text, "script", "exec")
    assert "num_inference_steps=5" in text
    assert "torch_dtype=torch.bfloat16" in text
    assert "channels_last" in text


def test_a_process_that_fails_says_so_in_its_own_words():
    fails = "import sys\nprint('error: no such model', file=sys.stderr)\nsys.exit(3)"
    with pytest.raises(ModelError, match=r"^no such model$"):
        processes.run([sys.executable, "-c", fails])
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        processes.run([sys.executable, "-c", "1 / 0"])


def test_a_process_tells_what_it_took():
    fill = "x = bytearray(80_000_000); import time"
    fill += "\nwhile time.process_time() < 0.3: pass"  # clocks that count ticks miss less
    ended = processes.run([sys.executable, "-c", fill])
    assert ended.peak > 80_000_000
    assert 0 < ended.user < math.inf


def test_where_no_process_tells_what_it_took_its_seconds_are_known(monkeypatch):
    monkeypatch.delattr(os, "wait4")  # as on Windows
    ended = processes.run([sys.executable, "-c", "print(1)"])
    assert (ended.peak, ended.user) == (None, 0.0)
    assert ended.wall > 0
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        processes.run([sys.executable, "-c", "1 / 0"])


def test_timings_are_written_in_hyperfines_shape(bench, tmp_path, small):
    files = {kind: tmp_path / f"out.{kind}" for kind in ("json", "csv", "markdown")}
    words = [word for kind, path in files.items() for word in (f"--export-{kind}", path)]
    words += ["--sweep", "steps=3,4", "-r", 2, "-w", 0, "-m", small, "--device", "cpu"]
    words += ["--size", "64x64"]
    code, out, err = bench(*words, "--vs", "diffusers", "--no-start")
    assert (code, err) == (0, "")
    assert "steps=3: a step" in out
    whole = json.loads(files["json"].read_text())
    assert whole.keys() == {"results", "ratios", "compared", "notes", "environment"}
    assert len(whole["results"]) == 4
    for one in whole["results"]:
        assert one["load"] is one["first"] is one["memory_bytes"] is None  # by --no-start
        assert one.keys() >= HYPERFINE
        assert len(one["times"]) == len(one["exit_codes"]) == len(one["steps_ms"]) == 2
        assert all(len(steps) == int(one["parameters"]["steps"]) for steps in one["steps_ms"])
        assert one["min"] <= one["median"] <= one["max"]
        assert all(isinstance(value, str) for value in one["parameters"].values())
        parts = (one["phases"][key] for key in ("encode", "walk", "decode", "write"))
        for wall, *spent in zip(one["times"], *parts, strict=True):
            assert sum(spent) <= wall * 1.001
    assert {one["pixels_apart"] <= 1 for one in whole["compared"]} == {True}
    lines = [*csv.DictReader(io.StringIO(files["csv"].read_text()))]
    assert [line["command"] for line in lines] == [one["command"] for one in whole["results"]]
    for key in ("median", "user", "system"):
        assert float(lines[0][key]) == whole["results"][0][key]
    assert lines[0]["os"]
    assert "| sdfast | steps=3 | fp32 | 3 |" in files["markdown"].read_text()
    for path in files.values():
        assert str(tmp_path) not in path.read_text()
        assert str(small) not in path.read_text()


def test_exports_name_no_host_and_no_user(bench, monkeypatch, tmp_path):
    for variable in ("USER", "LOGNAME", "USERNAME", "HOSTNAME"):
        monkeypatch.setenv(variable, "somebodys")
    for asks in ("platform.node", "socket.gethostname", "getpass.getuser"):
        monkeypatch.setattr(asks, lambda: "somebodys")
    files = {kind: tmp_path / f"out.{kind}" for kind in ("json", "csv", "markdown")}
    words = [word for kind, path in files.items() for word in (f"--export-{kind}", path)]
    words += ["-m", "tiny", "-s", 1, "-r", 1, "-w", 0, "--size", "64x64", "--no-start"]
    assert bench(*words)[0] == 0
    assert not any("somebodys" in path.read_text() for path in files.values())


def test_a_start_is_measured_in_a_process_of_its_own(bench, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("random.py").write_text("raise SystemExit('this folder is not theirs to import from')")
    words = ("-m", "tiny", "-s", 2, "-r", 1, "-w", 0, "--size", "64x64", "--export-json")
    assert bench(*words, tmp_path / "a")[0] == 0
    (one,) = json.loads((tmp_path / "a").read_text())["results"]
    assert one["load"] > 0
    assert one["first"] > 0
    assert one["memory_bytes"] > 100_000_000


def test_cold_times_whole_processes(bench, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("random.py").write_text("raise SystemExit('this folder is not theirs to import from')")
    words = ("--cold", "-m", "tiny", "-s", 2, "-r", 1, "-w", 0, "--size", "64x64")
    code, out, err = bench(*words, "--export-json", tmp_path / "a")
    assert (code, err) == (0, "")
    assert "default: sdfast gen takes" in out
    mine, theirs = json.loads((tmp_path / "a").read_text())["results"]
    assert (mine["command"], theirs["command"]) == ("sdfast default", "diffusers default")
    assert mine["memory_bytes"] > 100_000_000


def test_what_diffusers_is_not_told_of_is_timed_cold_without_it(bench, tmp_path):
    words = ("--cold", "-m", "tiny", "-r", 1, "-w", 0, "--size", "64x64", "--sweep", "clip_skip=2")
    code, _, err = bench(*words, "-s", 2, "--export-json", tmp_path / "a")
    assert (code, err) == (0, "note: diffusers cannot match `clip_skip`, and is left out\n")
    (one,) = json.loads((tmp_path / "a").read_text())["results"]
    assert one["command"] == "sdfast clip_skip=2"


def test_bars_are_a_png(bench, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "bars.png"
    words = ("-m", "tiny", "-r", 2, "-w", 0, "--size", "64x64", "--sweep", "steps=2,3")
    assert bench(*words, "--no-start", "--plot", path)[0] == 0
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > 500


def test_unless_asked_otherwise_five_pictures_are_timed_after_one_that_is_not(bench, monkeypatch):
    real, seen = Side.lap, []
    monkeypatch.setattr(Side, "lap", lambda *asked: seen.append(asked) or real(*asked))
    words = ("-m", "tiny", "-s", 1, "--size", "64x64", "--no-start")
    assert "; 5 runs a row\n" in bench(*words)[1]
    assert len(seen) == 6


def test_what_was_timed_before_an_interrupt_is_printed(bench, monkeypatch, tmp_path):
    real, seen = Side.lap, []

    def lap(*asked):
        if seen:
            raise KeyboardInterrupt
        seen.append(asked)
        return real(*asked)

    monkeypatch.setattr(Side, "lap", lap)
    words = ("-m", "tiny", "-s", 2, "-w", 0, "--size", "64x64", "--no-start", "--export-json")
    code, out, err = bench(*words, tmp_path / "a")
    assert (code, err) == (130, "interrupted\n")
    assert "1 run a row" in out
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fsat",), "there is no preset `fsat`\nhint: did you mean `fast`?"),
        (("--sweep", "steps=0"), "steps must be from 1 to 1000, not `0`"),
        (("--sweep", "dtype=fp31"), "there is no dtype `fp31`\nhint: did you mean `fp32`?"),
        (("--sweep", "size=100x100"), "size must be two multiples of 8 from 64 to 4096"),
        (("-r", "0"), "--runs takes numbers from 1 to 1000, not `0`"),
        (("-r", "2,3"), "--runs takes one number, not `2,3`"),
        (("-w", "x"), "--warmup takes numbers from 0 to 1000, not `x`"),
        (("--batch-size", "0000000019999"), "--batch-size takes numbers from 1 to 1024, not `000"),
        (("--vs", "comfy"), "--vs cannot be `comfy`\nhint: known is `diffusers`"),
        (("--vs", "diffusers:bf17"), "--vs knows no `bf17`\nhint: did you mean `bf16`?"),
        (("--batch-size", "0"), "--batch-size takes numbers from 1 to 1024, not `0`"),
        (("--batch-size", "2", "--cold"), "--batch-size cannot be combined with --cold"),
        (("--vs", "diffusers", "--sweep", "method=adaptive"), "diffusers cannot match"),
        (("--calls", "5"), "--calls goes with --accuracy"),
        (("--prompts", "x"), "--prompts goes with --accuracy"),
        (("--accuracy", "--sweep", "steps=5"), "--sweep goes without --accuracy"),
        (("--accuracy", "-r", "5"), "--runs goes without --accuracy"),
        (("--accuracy", "--compile"), "--compile goes without --accuracy"),
        (("--export-csv", "/no/such/x"), "there is no folder `/no/such`"),
        (("--plot", "x.pdf"), "a plot is a PNG, and `x.pdf` does not end in .png"),
    ],
)
def test_what_cannot_be_timed_is_one_line_and_exit_2(bench, words, said):
    code, out, err = bench(*words, "-m", "tiny")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {said}")


def test_others_are_what_everyone_spent_beyond_us():
    before, after = turn.Spent(1, 0, 10.0), turn.Spent(3, 0, 15.0)
    assert turn.others(before, after, 2.0) == 3
    assert turn.others(before, after._replace(everyone=None), 2.0) is None
    seen = [turn.everyone() for _ in range(2)]
    if Path("/proc/stat").exists():
        assert 0 < seen[0] <= seen[1]
    else:
        assert seen == [None, None]


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("sd15", [859_520_964, 83_653_863, 123_060_480]),
        ("sd21", [865_910_724, 83_653_863, 340_387_840]),
        ("sdxl", [2_567_463_684, 83_653_863, 123_060_480, 694_659_840]),
    ],
)
def test_the_random_shapes_are_stable_diffusions(name, counts):
    parts = unfilled(find(f"random:{name}")).values()
    assert [sum(p.numel() for p in part.parameters()) for part in parts] == counts


def test_a_random_model_of_no_known_shape_is_exit_3(bench):
    code, out, err = bench("-m", "random:sd16", "--vs", "diffusers")
    assert (code, out) == (3, "")
    assert err.startswith("error: there is no model `random:sd16`\nhint: did you mean `random:sd")


def test_sides_that_do_not_fit_into_memory_together_are_exit_4(bench, monkeypatch):
    monkeypatch.setattr("sdfast.bench.timing.sides.free_memory", lambda device: 1)
    code, out, err = bench("-m", "tiny", "--vs", "diffusers")
    assert (code, out) == (4, "")
    assert err.startswith("error: the rows' weights fill ")


def test_exports_name_no_folder_of_anybodys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    words = ["bench", "-m", f"{tmp_path}/mine", "--plot", "x.png", "--export-csv=/a/b", "-r", "3"]
    assert command_line(words) == "sdfast bench -m mine -r 3"
    odd = tmp_path / "a=b,c"
    odd.mkdir()
    assert command_line(["bench", "-m", str(odd)]) == "sdfast bench -m a=b,c"
    long = f"prompt={'a' * 5000}/b"
    assert command_line(["bench", "--sweep", long]) == f"sdfast bench --sweep {long}"
    (tmp_path / "a.safetensors").touch()
    words = ["bench", "--sweep", f"lora={tmp_path}/a.safetensors:0.5,/none/b", "--sweep", "steps=2"]
    assert (
        command_line(words) == "sdfast bench --sweep lora=a.safetensors:0.5,/none/b --sweep steps=2"
    )


def test_nothing_is_imported_beforehand_that_a_start_is_to_be_timed_with():
    code = "import sys; import sdfast.bench.timing.start; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("raised", "kind", "says"),
    [
        (EOFError("ran out"), RuntimeError, "sdfast a: EOFError: ran out"),
        (ValueError("a\nb"), RuntimeError, "sdfast a: ValueError: a b"),
        (ModelError("no weights", "pull them"), ModelError, "no weights"),
    ],
)
def test_what_goes_wrong_apart_is_told_as_what_it_was(raised, kind, says, monkeypatch):
    def work(*_):
        yield 1
        raise raised

    here, there = _line(monkeypatch)
    apart._answer(there, work, entry(), "cpu")
    said, error = (pickle.loads(here.recv_bytes()) for _ in range(2))
    assert (said, type(error), str(error)) == (1, kind, says)
    assert getattr(error, "hint", None) == getattr(raised, "hint", None)


def test_who_works_apart_ends_when_nobody_asks_any_more(monkeypatch):
    heard = []

    def work(entry, device, asked):
        heard.extend(asked)
        yield "to nobody"

    here, there = _line(monkeypatch)
    here.send(1)
    here.close()
    apart._answer(there, work, entry(), "cpu")
    assert heard == [1]


def _line(monkeypatch):
    monkeypatch.setattr(apart.os, "dup2", lambda *_: None)  # of this process itself
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return Pipe()


def test_who_works_apart_and_was_killed_is_told_as_that(small):
    side = apart.Apart(replace(entry(), model=str(small)), "cpu")
    side._process._process.kill()
    side._process._process.join()
    with pytest.raises(DeviceError, match="the process of sdfast a was ended"):
        side.lap(entry(), Path("any.png"))
    side.close()


def test_ctrl_c_while_a_start_is_measured_is_one_word(here):
    words = ("bench", "-m", "tiny", "-s", "3", "-r", "2", "-q")
    process = subprocess.Popen(
        [sys.executable, "-m", "sdfast", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hears_ctrl_c,
    )
    assert soon(lambda: _children(process.pid) > 1)  # one is the resource tracker
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")


def _children(pid):
    tasks = Path(f"/proc/{pid}/task/{pid}/children")
    return len(tasks.read_text().split())
