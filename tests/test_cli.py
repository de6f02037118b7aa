"""The command line as a shell sees it: exit codes, streams, files."""

import contextlib
import errno
import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image, ImageChops, ImageStat
from PIL.PngImagePlugin import PngInfo
from processes import all_drawn, hears_ctrl_c

from sdfast import cli, image_files, recipes
from sdfast.cli.output import summary
from sdfast.config import config_file, lasting_name
from sdfast.errors import ModelError, OutOfMemoryError
from sdfast.events import Times
from sdfast.job import read_job
from sdfast.presets import load_preset
from sdfast.sampler import Solver

QUICK = ("gen", "a cat", "--steps", "2", "--seed", "1", "-m", "tiny")

pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize("name", ["my", "./my", "~/my"])
def test_a_saved_preset_finds_its_model_from_every_folder(sdfast, tmp_path, monkeypatch, name):
    (tmp_path / "my").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sdfast("presets", "save", "here", "-m", name)[0] == 0
    assert f"model: {json.dumps(str(tmp_path / 'my'))}" in sdfast("presets", "show", "here")[1]


@pytest.mark.parametrize(
    "name", ["some/model", "sd15", "tiny", "~nobody-of-that-name/x", "a" * 300]
)
def test_a_saved_preset_keeps_a_models_name(sdfast, name):
    assert sdfast("presets", "save", "there", "-m", name)[0] == 0
    assert f'model: "{name}"' in sdfast("presets", "show", "there")[1]


def test_a_name_that_the_streams_cannot_spell_is_told_all_the_same(tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    words = ("gen", "a cat", "-n", "2", "-s", "1", "-m", "tiny", "-o", "\u017c\u00f3/")
    ended = shell(*words, cwd=tmp_path, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert [line[:13] for line in ended.stdout.decode().splitlines()] == [r"\u017c\xf3/a-"] * 2
    assert len([*(tmp_path / "\u017c\u00f3").iterdir()]) == 2


def test_steps_that_an_adaptive_walk_does_not_take_are_told(sdfast):
    said = "note: an adaptive walk takes as many steps as it needs; --steps does not count"
    words = ("gen", "a cat", "-m", "tiny", "--method", "adaptive", "--size", "64x64")
    assert said in sdfast(*words, "-s", "8")[2]
    assert said not in sdfast(*words)[2]


def test_a_dry_run_tells_what_it_does_not_follow_of_a_picture(sdfast, tmp_path):
    info = PngInfo()
    info.add_text("parameters", "a cat\nSteps: 20, Sampler: DPM2 a, Seed: 1, Version: v1.10.1")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png", pnginfo=info)
    words = ("gen", "--from", str(tmp_path / "a.png"), "--dry-run", "-m", "tiny")
    code, out, err = sdfast(*words)
    assert (code, json.loads(out)["seed"]) == (0, 1)
    assert "not followed: Sampler (DPM2 a; `DPM2 a` here walks otherwise)" in err
    assert sdfast(*words, "-q")[2] == ""


def test_the_middle_of_two_steps_is_their_mean():
    assert "(20.0 ms a step, 10.0 to 30.0)" in summary(Times(0.1, (0.03, 0.01), 0.1), 0.1)


def shell(*words, **given):
    """Run a command as a process of its own."""
    command = [sys.executable, "-m", "sdfast", *words]
    return subprocess.run(command, capture_output=True, check=False, timeout=120, **given)


def pixels(path):
    with Image.open(path) as picture:
        return picture.tobytes()


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
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "sdfast", *QUICK, "-o", "drawn.png"],
        stdout=subprocess.PIPE,
        stderr=follower,
    )
    os.close(follower)
    drawn = all_drawn(leader)
    out, _ = process.communicate(timeout=120)
    assert out == b"drawn.png\n"
    assert "ms/step" in drawn
    assert "\x1b" not in err
    assert Path("drawn.png").read_bytes() == Path("piped.png").read_bytes()


def test_json_tells_every_steps_time(sdfast):
    _, out, _ = sdfast(*QUICK, "--json")
    line = json.loads(out)
    assert line["path"] == "a-cat-1.png"
    assert line["seed"] == 1
    assert len(line["steps_ms"]) == 2
    assert all(ms > 0 for ms in line["steps_ms"])
    spent = line["encode_s"] + sum(line["steps_ms"]) / 1000 + line["decode_s"] + line["write_s"]
    assert line["write_s"] > 0
    assert line["seconds"] == pytest.approx(spent, abs=0.001)


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


@pytest.mark.parametrize("said", ["0", "1025", "-1", "1.5", "Auto", ""])
@pytest.mark.parametrize("command", ["gen", "grid", "batch"])
def test_what_is_no_number_of_pictures_is_refused(sdfast, command, said):
    code, _, err = sdfast(command, "a cat", "--batch-size", said)
    assert code == 2
    assert f"`{said}` is neither `auto` nor a number from 1 to 1024" in err


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


def test_the_summary_says_where_the_time_went(sdfast):
    _, _, err = sdfast(*QUICK)
    assert err.splitlines()[-2].endswith(", 2 steps, guidance 3, 128x128")
    last = err.splitlines()[-1]
    assert all(word in last for word in ("seed 1", "encode", "2 steps", "decode", "write", "load"))


def test_words_that_tiny_does_not_know_are_named(sdfast):
    code, out, err = sdfast(
        "gen", "a cat and a quasar on a blue background", "-s", "1", "--seed", "1"
    )
    assert (code, out) == (0, "a-cat-and-a-quasar-on-a-blue-background-1.png\n")
    assert 'things; "quasar" is not among them' in err
    _, _, err = sdfast("gen", "Two red APPLES on a blue background", "-s", "1")
    assert "among them" not in err


def test_a_long_weighted_prompt_is_painted_and_weighs(sdfast):
    words = f"(a cat:1.3) [on the grass], {'snow ' * 40} BREAK night"
    for prompt, name in ((words, "a"), (words.replace("1.3", "0.3"), "b")):
        code, _, err = sdfast(*QUICK[:1], prompt, *QUICK[2:], "-x", "(fog)", "-o", f"{name}.png")
        assert code == 0
    assert pixels("a.png") != pixels("b.png")
    assert "not among them" not in err
    assert sdfast("gen", "--from", "a.png", "-o", "c.png")[0] == 0
    assert pixels("a.png") == pixels("c.png")


def test_syntax_that_is_not_followed_is_named(sdfast):
    code, _, err = sdfast("gen", "a [cat:dog:0.5] AND <lora:ink:0.8>", *QUICK[2:])
    assert code == 0
    assert "note: read as words and not followed: `AND`, `<lora:ink:0.8>`" in err


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


def test_quiet_says_nothing(sdfast):
    assert sdfast(*QUICK, "-q") == (0, "a-cat-1.png\n", "")


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


@pytest.mark.parametrize("error", [ImportError("half imported"), ModelError("cannot be loaded")])
@pytest.mark.usefixtures("interruptible")
def test_whatever_ctrl_c_makes_of_what_it_breaks_off_is_an_interrupt(
    sdfast, monkeypatch, here, error
):
    def broken(*_, **__):
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        raise error

    monkeypatch.setattr("sdfast.models.load_model", broken)
    assert sdfast(*QUICK, "-q") == (130, "", "interrupted\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not list(here.iterdir())


def test_the_exit_code_is_130_wherever_ctrl_c_was_heard(here):
    """With -m, Python ends by the signal if it broke off what is executed from a string."""
    (here / "broken.py").write_text(
        "import sys, sdfast.models; from sdfast.cli import run_command\n"
        "sdfast.models.load_model = lambda *_, **__: exec('raise KeyboardInterrupt')\n"
        f"sys.argv = {['sdfast', *QUICK]!r}; sys.exit(run_command())"
    )
    ran = subprocess.run([sys.executable, "-m", "broken"], check=False, capture_output=True)
    assert ran.returncode == 130


def test_a_picture_can_go_through_a_pipe(sdfast):
    sent = shell(*QUICK, "-o", "-")
    assert sent.returncode == 0
    assert sent.stdout.startswith(b"\x89PNG")
    assert sdfast(*QUICK, "-o", "file.png")[0] == 0
    assert sent.stdout == Path("file.png").read_bytes()


def test_a_dry_run_prints_whole_jobs_and_wakes_no_torch(here):
    code = (
        "import sys; sys.argv = ['sdfast', 'gen', 'a cat', '--dry-run', '--seed', '1..3'];"
        "from sdfast.cli import run_command; code = run_command();"
        "sys.exit(code or 10 * ('torch' in sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert ran.returncode == 0
    jobs = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [job["seed"] for job in jobs] == [1, 2, 3]
    assert {job["model"] for job in jobs} == {"tiny"}
    assert not list(here.iterdir())


@pytest.mark.parametrize("words", [["--help"], ["gen", "--help"], ["presets"], ["--version"]])
def test_asking_wakes_neither_torch_nor_pillow(words):
    code = (
        f"import sys; sys.argv = ['sdfast', *{words!r}];"
        "from sdfast.cli import run_command; run_command();"
        "sys.exit(bool({'torch', 'PIL', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert ran.returncode == 0
    assert ran.stdout


def test_a_preset_is_saved_on_top_of_the_settled_one_by_every_command(sdfast):
    config_file().parent.mkdir(parents=True, exist_ok=True)
    config_file().write_text("preset: fast")
    sdfast("gen", "a cat", "-m", "tiny", "-s", "12", "--size", "64x64", "--save", "one")
    assert sdfast("presets", "save", "two", "-m", "tiny", "-s", "12", "--size", "64x64")[0] == 0
    one, two = (load_preset(name) for name in ("one", "two"))
    assert one.record == two.record
    assert one.sampler.alpha == load_preset("fast").sampler.alpha
    config_file().write_text("preset: fsat")
    code, _, err = sdfast("presets", "save", "three")
    assert code == 2
    assert "config.yaml names it" in err


def test_presets_are_listed_for_programs(sdfast):
    assert sdfast("presets", "save", "mine", "-s", "12", "--clip-skip", "2", "--vae", "v")[0] == 0
    Path(os.environ["SDFAST_CONFIG"], "presets", "bad.yaml").write_text("steps: many")
    _, out, _ = sdfast("presets", "list", "--json")
    told = {line["name"]: line for line in map(json.loads, out.splitlines())}
    assert told["bad"].keys() == {"name", "path", "broken"}
    assert told["fast"]["steps"] == 10
    assert Path(told["mine"]["path"]).is_file()
    keys = {key: told["mine"][key] for key in ("steps", "clip_skip", "vae")}
    assert keys == {"steps": 12, "clip_skip": 2, "vae": str(Path("v").absolute())}


def test_doctor_tells_programs_what_it_tells_people(sdfast):
    said = json.loads(sdfast("doctor", "--json")[1])
    assert said["sdfast"] == version("sdfast")
    assert [line.split()[0] for line in sdfast("doctor")[1].splitlines()] == list(said)


def test_presets_are_listed_shown_and_saved(sdfast):
    _, out, _ = sdfast("presets")
    assert {"fast", "default", "fine", "a1111", "ddim50"} <= {
        line.split()[0] for line in out.splitlines()
    }
    _, path, _ = sdfast("presets", "save", "mine", "--steps", "12", "--about", "for me")
    assert Path(path.strip()).is_file()
    _, shown, _ = sdfast("presets", "show", "mine")
    assert "steps: 12" in shown
    _, job, _ = sdfast("gen", "a cat", "-p", "mine", "--dry-run")
    assert json.loads(job)["steps"] == 12
    _, folders, _ = sdfast("presets", "path")
    assert len(folders.splitlines()) == 2
    _, schema, _ = sdfast("presets", "schema")
    assert "steps" in json.loads(schema)["properties"]


def test_what_has_no_flag_is_set_by_its_key(sdfast):
    words = ("gen", "a cat", "--dry-run", "-p", "fast")
    job = json.loads(sdfast(*words, "--set", "alpha = 0.6", "--set", "corrector=false")[1])
    assert (job["alpha"], job["beta"], job["corrector"]) == (0.6, 0.9, False)
    job = json.loads(sdfast(*words, "--set", "timesteps=900,400.5,20")[1])
    assert (job["timesteps"], job["steps"]) == ([900, 400.5, 20], 3)
    assert sdfast("presets", "save", "mine", "--spacing", "rho", "--set", "rho=3")[0] == 0
    assert "rho: 3\n" in sdfast("presets", "show", "mine")[1]


def test_a_whole_job_is_no_other_upon_the_default(sdfast):
    keys = {"prompt": "fog", "sampler": "dpm++", "spacing": "beta", "corrector": True}
    Path("jobs.jsonl").write_text(json.dumps(keys) + "\n" + json.dumps({"prompt": "a"}))
    whole, plain = map(json.loads, sdfast("batch", "jobs.jsonl", "--dry-run")[1].splitlines())
    assert ("alpha" in whole, plain["alpha"]) == (False, 0.48)
    assert read_job({"prompt": "fog", "spacing": "beta"}).sampler.alpha is None


def test_a_spacing_said_again_keeps_its_shape(sdfast):
    words = ("gen", "a cat", "--dry-run", "-p", "fast", "--spacing")
    again, other = (json.loads(sdfast(*words, name)[1]) for name in ("beta", "karras"))
    assert (again["alpha"], again["beta"]) == (0.52, 0.9)
    assert "alpha" not in other


def test_flags_are_kept_as_a_preset(sdfast):
    sdfast("gen", "a cat", "--steps", "13", "--save", "kept")
    _, shown, _ = sdfast("presets", "show", "kept")
    assert "steps: 13" in shown
    assert "a cat" not in shown
    assert "model" not in shown
    code, _, err = sdfast("gen", "a cat", "--save", "kept", "--dry-run")
    assert code == 2
    assert "hint: another name" in err


@pytest.mark.parametrize("more", [("--device", "cuda:99"), ("-m", "no/such"), ("-s", "0")])
def test_a_call_that_fails_keeps_no_preset(sdfast, here, more):
    assert sdfast("gen", "a cat", "--save", "kept", *more)[0] in (2, 3, 4)
    assert sdfast("presets", "show", "kept")[0] == 2
    assert not list(here.iterdir())


def test_a_name_that_is_taken_is_told_before_anything_is_painted(sdfast, here):
    code, _, err = sdfast("gen", "a cat", "--save", "fast")
    assert (code, "there is a preset `fast` already" in err) == (2, True)
    assert not list(here.iterdir())


def test_a_presets_own_words_move_no_terminal(sdfast):
    sdfast("presets", "save", "mine", "--about", "red \x1b[31mand\nlong")
    (line,) = [line for line in sdfast("presets")[1].splitlines() if line.startswith("mine")]
    assert line.isprintable()
    assert line.endswith("red  [31mand long")


@pytest.mark.parametrize("command", ["gen", "grid", "batch"])
@pytest.mark.parametrize(("flag", "value"), [("device", "cud"), ("dtype", "fp61"), ("vram", "ful")])
def test_what_names_no_machine_is_refused_in_a_dry_run_too(sdfast, command, flag, value):
    Path("a cat").write_text("a cat")
    code, out, err = sdfast(command, "a cat", "--dry-run", f"--{flag}", value)
    assert (code, out) == (2, "")
    assert err.splitlines()[0].endswith(f"{flag} `{value}`")


def test_a_dry_run_keeps_no_preset(sdfast):
    code, _, err = sdfast("gen", "a cat", "--save", "kept", "--dry-run")
    assert (code, "note: a dry run saves no preset `kept`" in err) == (0, True)
    assert sdfast("presets", "show", "kept")[0] == 2


def test_a_fitted_preset_is_kept_with_its_model(sdfast, here):
    fitted = (
        "model: tiny\nsampler: dpm++\ntimesteps: [999, 400]\ncorrections: [[0, 0], [0, 0, 0]]\n"
    )
    (here / "fit.yaml").write_text(fitted)
    for name, more in (("one", ()), ("two", ("-m", "tiny"))):
        assert sdfast("gen", "a cat", "-p", "fit.yaml", *more, "--save", name)[0] == 0
        _, shown, _ = sdfast("presets", "show", name)
        assert 'model: "tiny"' in shown
        assert "corrections" in shown


@pytest.mark.parametrize(
    "asked", [("gen", "a cat"), ("batch", "p.txt"), ("grid", "a cat", "--x", "seed=1,2")]
)
def test_a_fitted_preset_without_its_fit_is_told(sdfast, here, asked):
    (here / "p.txt").write_text("a cat\n")
    (here / "fit.yaml").write_text(
        "model: tiny\nsampler: dpm++\ntimesteps: [999, 400]\ncorrections: [[0, 0], [0, 0, 0]]\n"
    )
    words = (*asked, "-p", "fit.yaml", "--dry-run")
    said = "note: `fit` is fitted to 2 steps of its model and has no fit for these flags"
    assert said in sdfast(*words, "-s", "8")[2]
    assert said in sdfast(*words, "-m", "random:sd15")[2]
    assert said not in sdfast(*words, "-s", "2", "-m", "tiny")[2]


def test_an_adaptive_walk_is_of_one_picture(sdfast):
    words = ("gen", "a cat", "-n", "2", "-m", "tiny", "--size", "64x64", "--method", "adaptive")
    _, out, _ = sdfast(*words, "--batch-size", "2", "--json")
    assert [json.loads(line)["together"] for line in out.splitlines()] == [1, 1]


def test_a_place_of_the_config_file_is_a_folder(sdfast, monkeypatch):
    monkeypatch.setenv("SDFAST_OUTPUT", "new")
    assert Path(sdfast(*QUICK)[1].strip()) == Path("new", "a-cat-1.png")
    monkeypatch.setenv("SDFAST_OUTPUT", "s3://bucket/x")
    code, _, err = sdfast(*QUICK)
    assert code == 2
    assert "only `sdfast batch` writes to" in err
    monkeypatch.setenv("SDFAST_OUTPUT", "a" * 300)
    assert sdfast("models")[0] == 0
    assert sdfast(*QUICK)[0] == 2


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


def test_calls_are_not_called_steps_where_a_step_takes_two(sdfast):
    _, _, err = sdfast(*QUICK, "--sampler", "Heun")
    assert ", 3 calls " in err
    assert "ms a call" in err
    assert ", 2 steps " in sdfast(*QUICK)[2]


def test_a_shipped_preset_is_not_hidden_by_chance_and_comes_back(sdfast):
    for words in (("presets", "save", "fast"), ("gen", "a cat", "--save", "fast")):
        code, _, err = sdfast(*words)
        assert code == 2
        assert "there is a preset `fast` already" in err
    assert sdfast("presets", "save", "fast", "-s", "9", "--force")[0] == 0
    _, listed, _ = sdfast("presets")
    assert "in place of the shipped one" in listed
    assert sdfast("presets", "rm", "fast")[0] == 0
    code, _, err = sdfast("presets", "rm", "fast")
    assert (code, err.startswith("error: there is no preset `fast` of yours")) == (2, True)
    assert "steps: 10" in sdfast("presets", "show", "fast")[1]


_SCRIPT = "-c 'from sdfast.entry import main; main()'"


@pytest.mark.parametrize(
    ("program", "closed"),
    [(_SCRIPT, ">&-"), (_SCRIPT, "2>&-"), (_SCRIPT, "<&- >&- 2>&-"), ("-m sdfast", ">&-")],
)
def test_streams_that_are_closed_are_nowhere(here, program, closed):
    line = f"{sys.executable} {program} gen 'a cat' -m tiny -s 2 --seed 1 {closed}"
    ran = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert ran.returncode == 0
    assert "error" not in ran.stderr
    assert ran.stdout == ("a-cat-1.png\n" if closed == "2>&-" else "")
    assert pixels("a-cat-1.png")


def test_a_picture_for_a_stdout_that_is_closed_is_not_painted(here):
    line = f"{sys.executable} -m sdfast gen 'a cat' -m tiny -s 2 -o - >&-"
    ran = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr == "error: `-o -` writes to stdout, which is closed\n"


_TWO = ("batch", "jobs.txt", "-o", "out", "-s", "2")


@pytest.mark.parametrize(
    ("words", "stderr", "code", "pictures"),
    [
        (QUICK, "full", 0, 1),
        pytest.param(QUICK, "broken", 0, 1, marks=pytest.mark.slow),
        pytest.param(_TWO, "full", 0, 2, marks=pytest.mark.slow),
        (_TWO, "broken", 0, 2),
        (("info", "none"), "full", 2, 0),
        (("info", "none"), "broken", 2, 0),
    ],
)
def test_notes_that_cannot_be_said_stop_nothing(here, words, stderr, code, pictures):
    (here / "jobs.txt").write_text("fog\nrain\n")
    reader, broken = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "sdfast", *words]
    with Path("/dev/full").open("wb") as full, os.fdopen(broken, "wb") as pipe:
        there = full if stderr == "full" else pipe
        ran = subprocess.run(command, stdout=-1, stderr=there, check=False)
    assert (ran.returncode, ran.stdout.count(b"\n")) == (code, pictures)


def test_notes_are_said_though_nobody_else_holds_the_stream():
    script = """import sys, threading
from sdfast.cli.streams import set_up_streams
sys.stderr = open(2, "w", closefd=False)
set_up_streams()
print("heard", file=sys.stderr)"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stderr == "heard\n"


def test_where_torch_finds_no_memory_it_is_one_line(here):
    command = f"ulimit -v 400000; exec {sys.executable} -m sdfast {' '.join(map(repr, QUICK))}"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert ran.returncode == OutOfMemoryError.exit_code
    assert ran.stderr.splitlines()[-1] == "error: there is too little memory to work in"


@pytest.mark.parametrize(
    ("program", "module"),
    [("main", "sdfast.warm.handover"), ("main", "typer"), ("alone", "typer")],
)
def test_an_interrupt_while_it_still_wakes_is_one_word(here, program, module):
    wakes = f"""import os, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == {module!r}:
            exec("os.kill(os.getpid(), signal.SIGINT)")
sys.meta_path.insert(0, Finder())
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a background job has not
from sdfast import entry
entry.{program}()"""
    words = [sys.executable, "-c", wakes, *QUICK]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "interrupted\n")


def test_a_picture_of_an_alias_is_painted_again_from_itself(sdfast, here, small):
    sdfast("models", "alias", "mine", str(small))
    _, place, _ = sdfast("gen", "a cat", "-m", "mine", "-s", "2", "--size", "64x64")
    code, job, _ = sdfast("gen", "--from", place.strip(), "--dry-run")
    assert code == 0
    assert json.loads(job)["model"] == "mine"


def test_an_alias_of_a_hub_id_is_told_as_that():
    aliases = {"mine": "some/body", "near": str(Path("model").absolute())}
    told = [lasting_name(name, aliases) for name in ("mine", "near", "tiny", None)]
    assert told == ["some/body", "near", "tiny", None]


def test_lines_of_stdin_that_begin_with_a_hash_are_no_prompts(sdfast, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("# those for monday\na cat\n\n"))
    _, out, _ = sdfast("gen", "-", "--dry-run")
    assert [json.loads(line)["prompt"] for line in out.splitlines()] == ["a cat"]


@pytest.mark.parametrize(
    ("policy", "code", "names"),
    [
        ("rename", 0, ["a-cat-1-2.png", "a-cat-1.png"]),
        ("skip", 0, ["a-cat-1.png"]),
        ("overwrite", 0, ["a-cat-1.png"]),
        ("error", 2, ["a-cat-1.png"]),
    ],
)
def test_a_name_that_is_taken_is_treated_as_told(sdfast, here, policy, code, names):
    (here / "a-cat-1.png").write_bytes(b"mine")
    ended, _, _ = sdfast(*QUICK, "--exists", policy)
    assert ended == code
    assert sorted(p.name for p in here.iterdir()) == names
    kept = (here / "a-cat-1.png").read_bytes() == b"mine"
    assert kept == (policy != "overwrite")


@pytest.mark.parametrize(("policy", "taken"), [("skip", [1, 2]), ("error", [2])])
def test_what_is_taken_is_seen_before_a_model_is_loaded(sdfast, here, monkeypatch, policy, taken):
    words = ("gen", "a cat", "-m", "tiny", "--seed", "1,2", "--exists", policy)
    for seed in taken:
        (here / f"a-cat-{seed}.png").write_bytes(b"mine")
    monkeypatch.setattr("sdfast.cli.painting.hire", lambda *_: pytest.fail("loaded"))
    code, out, _ = sdfast(*words)
    assert (code, out.split()) == (
        (0, ["a-cat-1.png", "a-cat-2.png"]) if policy == "skip" else (2, [])
    )


def test_info_reads_our_own_pictures(sdfast):
    sdfast(*QUICK)
    _, out, _ = sdfast("info", "a-cat-1.png", "--json")
    told = json.loads(out)
    assert told["program"] == "sdfast"
    assert told["job"]["seed"] == 1


@pytest.mark.parametrize(
    ("sampler", "shown"),
    [("heun", set()), ("ddim", set()), ("dpm++", {"order", "method", "corrector", "weights"})],
)
def test_info_leaves_out_what_a_solver_has_no_use_for(sdfast, sampler, shown):
    sdfast(*QUICK, "--sampler", sampler)
    _, out, _ = sdfast("info", "a-cat-1.png")
    words = {line.split()[0] for line in out.splitlines()}
    assert {"sampler", "spacing", "final"} < words
    assert words & {"order", "method", "corrector", "weights"} == shown


def test_models_lists_the_built_in_one_and_aliases(sdfast):
    _, out, _ = sdfast("models")
    assert out.startswith("tiny")
    code, _, _ = sdfast("models", "alias", "mine", "somebody/something")
    assert code == 0
    _, out, _ = sdfast("models", "list")
    assert "somebody/something" in out
    code, _, _ = sdfast("models", "alias", "mine", "--rm")
    assert code == 0
    _, out, _ = sdfast("models", "list")
    assert "somebody/something" not in out


def test_doctor_tells_of_a_config_that_cannot_be_read(sdfast):
    place = Path(os.environ["SDFAST_CONFIG"], "config.yaml")
    place.write_text("modle: tiny\n")
    code, out, _ = sdfast("doctor")
    assert code == 0
    assert "broken" in out
    assert "did you mean `model`" in out or "there is no key `modle`" in out


def test_doctor_tells_what_is_broken_in_its_place(sdfast, monkeypatch):
    def broken():
        raise NotADirectoryError(20, "Not a directory", "/dev/null/token")

    monkeypatch.setattr("huggingface_hub.get_token", broken)
    code, out, _ = sdfast("doctor", "--json")
    assert code == 0
    said = json.loads(out)
    assert said.pop("token") == "broken: [Errno 20] Not a directory: '/dev/null/token'"
    assert not any("broken" in row for row in said.values())


def test_in_a_folder_that_is_gone_nothing_is_begun(tmp_path):
    (tmp_path / "gone").mkdir()
    gone = "import os; os.chdir('gone'); os.rmdir('../gone'); from sdfast.cli import main; main()"
    words = [sys.executable, "-c", gone, *QUICK]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[0] == "error: this folder is gone"
    for since in (["warm", "start"], [*QUICK, "--dry-run", "--init", "x.png"]):
        (tmp_path / "gone").mkdir()
        words = [sys.executable, "-c", gone, *since]
        ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ended.returncode == 2
        assert ended.stderr.splitlines()[0] == "error: this folder is gone"
    for others in (["--version"], ["samplers"], [*QUICK, "--dry-run"]):
        (tmp_path / "gone").mkdir()
        words = [sys.executable, "-c", gone, *others]
        assert subprocess.run(words, cwd=tmp_path, capture_output=True, check=False).returncode == 0


def test_doctor_tells_what_a_bug_report_needs(sdfast):
    code, out, _ = sdfast("doctor")
    assert code == 0
    assert {"sdfast", "python", "torch", "device", "cache"} <= {
        line.split()[0] for line in out.splitlines()
    }


_BAD = [
    (["gen"], 2, "no prompt"),
    (["gen", ""], 2, "prompt must not be empty"),
    (["gen", "  "], 2, "prompt must not be empty"),
    (["gen", "a", "-m", ""], 2, "model must not be empty"),
    (["gen", "caf\udce9"], 2, r"prompt must be text, and `caf\udce9` holds"),
    (["gen", "a", "--lora", ""], 2, "lora must not be empty"),
    (["gen", "a", "--init", ""], 2, "init must not be empty"),
    (["gen", "a", "--steps", "0"], 2, "steps must be from 1 to 1000"),
    (["gen", "a", "--steps", "many"], 2, "many"),
    (["gen", "a", "--order", "4"], 2, "order must be 1, 2 or 3"),
    (["gen", "a", "--size", "513x7"], 2, "513x7"),
    (["gen", "a", "--guidance", "nan"], 2, "finite"),
    (["gen", "a", "--sampler", "dpm+"], 2, "did you mean `dpm++`"),
    (["gen", "a", "--sampler", "DPM++ 2M Kerras"], 2, "did you mean `DPM++ 2M Karras`"),
    (["gen", "a", "--spacing", "kaaras"], 2, "did you mean `karras`"),
    (["gen", "a", "--method", "multi"], 2, "did you mean `multistep`"),
    (["gen", "a", "--preset", "fsat"], 2, "did you mean `fast`"),
    (["gen", "a", "--preset", "none.yaml"], 2, "none.yaml"),
    (["gen", "a", "--seed", "x"], 2, "seed"),
    (["gen", "a", "--seed", "9" * 20], 2, "seed"),
    (["gen", "a", "--seed", "1,2", "-n", "2"], 2, "several seeds"),
    (["gen", "a", "-n", "0"], 2, "`n`"),
    (["gen", "a", "--exists", "maybe"], 2, "maybe"),
    (["gen", "a", "--from", "nothing.png"], 2, "nothing.png"),
    (["gen", "@nothing.txt"], 2, "nothing.txt"),
    (["gen", "a", "-o", "x.gif"], 2, "x.gif"),
    (["gen", "a", "-o", "{sed}.png"], 2, "did you mean `seed`"),
    (["gen", "a", "-o", "/proc/nowhere/"], 2, "/proc/nowhere"),
    (["gen", "a", "b", "-o", "-"], 2, "one picture"),
    (["gen", "a", "-m", "tinny"], 3, "did you mean `tiny`"),
    (["gen", "a", "-m", "no/such-model"], 3, "offline"),
    (["gen", "a", "--device", "cuda:99"], 4, "cuda:99"),
    (["gen", "a", "--device", "abacus"], 2, "abacus"),
    (["gen", "a", "--device", "gpu"], 2, "hint: NVIDIA's are `cuda`"),
    (["gen", "a", "--dtype", "fp99"], 2, "fp99"),
    (["gen", "a", "--dtype", "float16"], 2, "did you mean `fp16`"),
    (["gen", "a", "-m", "./nope.safetensors"], 3, "`./nope.safetensors` does not exist"),
    (["gen", "-p", "a cat"], 2, "a prompt needs no flag"),
    (["gen", "a", "-o", "{seed:05}.png"], 2, "fields take no format: `{seed}`"),
    (["gen", "a", "-o", "-", "--json"], 2, "both write to stdout"),
    (["gen", "a", "--lora", f"{__file__}:abc"], 3, "`abc` is no scale"),
    (["models", "alias", "x", "/no/such"], 3, "`/no/such` does not exist"),
    (["gen", "a", "--stpes", "3"], 2, "--steps)\nhint: --help shows how"),
    (["gen", "a", "--set", "rhoo=3"], 2, "did you mean `rho`?"),
    (["gen", "a", "--set", "guidance_interval=0:1"], 2, "that is a flag, --guidance-interval"),
    (["gen", "a", "--set", "steps=5"], 2, "that is a flag, --steps"),
    (["gen", "a", "--set", "corrections=1"], 2, "--set cannot set `corrections`"),
    (["gen", "a", "--set", "rho=3", "--set", "rho=4"], 2, "rho is set twice"),
    (["gen", "a", "--set", "rho="], 2, "rho is set to nothing"),
    (["gen", "a", "--set", "rho"], 2, "rho is set to nothing"),
    (["gen", "a", "--set", "timesteps=[]"], 2, "timesteps is set to nothing"),
    (["gen", "a", "--set", "weights=foo"], 2, "weights cannot be `foo`"),
    (["gen", "a", "--size", "\uff11\uff12\uff18x128"], 2, "size must be WIDTHxHEIGHT"),
    (["bench", "--accuracy", "--problem", ""], 2, "there is no problem ``"),
    (["gen", "a", "--set", "rho=3,4"], 2, "`rho=3,4` is several values"),
    (["gen", "a", "--set", "timesteps=900,900,5"], 2, "`timesteps=900,900,5` has a time twice"),
    (["gen", "a", "--spacing", "rho", "--set", "rho=many"], 2, "rho must be a number, not `many`"),
    (["presets", "save", "x", "--set", "eta=9"], 2, "eta must be from 0 to 2"),
    (["grid", "a", "-x", "steps=3,4"], 2, "-x is the negative prompt"),
    (["grid", "a", "--x", "steps=3,4", "--x", "seed=1,2"], 2, "--x is given twice"),
    (["grid", "a", "--x", "rho=2,3", "--set", "rho=3"], 2, "rho is given twice"),
    (["gne", "a"], 2, "gne"),
    (["gen", "-a cat"], 2, "a prompt that begins with `-` stands after `--`"),
    (["gen", "a", "--size", "100000x100000"], 2, "must be two multiples of 8 from 64 to 4096"),
    (["gen", "a", "--seed", "-1"], 2, "without it a new one is drawn"),
    (
        ["grid", "a", "--x", "negative=,fog"],
        2,
        'is "", for a shell --x \'negative="",...\'',
    ),
    (["gen", "a", "--lora", "/proc/self/mem"], 3, "`/proc/self/mem` cannot be read: Input/output"),
    (["info", "nothing.png"], 2, "nothing.png"),
    (["presets", "show", "fsat"], 2, "did you mean `fast`"),
    (["presets", "save", "../evil"], 2, "../evil"),
    (["models", "pull", "no/such-model"], 3, "offline"),
    (["models", "rm", "no/such-model", "-y"], 3, "not in the cache"),
]


@pytest.mark.parametrize(
    ("flag", "here"),
    [("--cfg-scale", "--guidance"), ("-W", "--size"), ("--num_inference_steps", "--steps")],
)
def test_a_flag_of_another_program_is_answered_with_ours(sdfast, flag, here):
    code, _, err = sdfast("gen", "a", flag, "3")
    assert (code, err.splitlines()[0]) == (2, f"error: there is no flag {flag}")
    assert err.splitlines()[1].startswith(f"hint: {here}")


def test_a_flag_without_its_value_is_told_in_our_punctuation(sdfast):
    _, _, err = sdfast("gen", "a", "--seed")
    assert err == "error: Option '--seed' requires an argument\nhint: --help shows how\n"


MAIN = "from sdfast.cli import main; main()"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("gen a -p f", {"fast", "fine"}),
        ("gen a --sampler dpmpp_sde_k", {"dpmpp_sde_karras"}),
        ("gen a --sampler sd", {"sde-dpm++"}),
        ("gen a --spacing k", {"karras"}),
        ("gen a -m t", {"tiny"}),
        ("batch a --exists o", {"overwrite"}),
        ("gen a --vram o", {"offload"}),
        ("presets show d", {"ddim50", "default"}),
        ("presets rm d", set()),
        ("gen a --sampler DPM++", set()),
    ],
)
def test_the_shell_is_told_what_may_follow(here, typed, offered):
    words = f"sdfast {typed}"
    asks = {"_SDFAST_COMPLETE": "complete_bash", "COMP_WORDS": words}
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv[0] = 'sdfast'; {MAIN}"],
        env=os.environ | asks | {"COMP_CWORD": str(len(words.split()) - 1)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert set(ran.stdout.split()) == offered


@pytest.mark.parametrize(("words", "code", "says"), _BAD, ids=lambda v: str(v)[:40])
def test_bad_input_is_one_clear_line_and_the_right_exit_code(sdfast, here, words, code, says):
    ended, out, err = sdfast(*words)
    problems = [line for line in err.splitlines() if line.startswith("error: ")]
    assert ended == code
    assert out == ""
    assert len(problems) == 1
    assert says in err
    assert "Traceback" not in err
    assert not list(here.iterdir())


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


def test_an_interrupt_keeps_what_is_finished_and_leaves_no_scraps(here):
    process = subprocess.Popen(
        [sys.executable, "-m", "sdfast", *QUICK, "-n", "500"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hears_ctrl_c,
    )
    first = process.stdout.readline().strip()
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.rstrip().endswith("interrupted")
    assert pixels(first)
    assert all(p.suffix == ".png" and pixels(p) for p in here.iterdir())


def test_a_reader_that_has_left_ends_it_as_shells_expect():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "sdfast", "presets"]
    ran = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert ran.returncode == 141
    assert ran.stderr == b""


def test_a_full_disk_on_stdout_is_one_line():
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "sdfast", "presets"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ran.returncode == 5
    assert ran.stderr == "error: stdout: No space left on device\n"


@pytest.mark.parametrize("policy", ["overwrite", "skip", "error"])
def test_pictures_of_one_run_do_not_take_each_others_names(sdfast, here, policy):
    code, out, err = sdfast("gen", "a", "-n", "3", "-o", "x.png", "--exists", policy)
    assert (code, out) == (2, "")
    assert "called the same" in err
    assert not list(here.iterdir())


def test_json_tells_of_skipped_pictures_too(sdfast, here):
    (here / "a-cat-1.png").write_bytes(b"mine")
    _, out, _ = sdfast(*QUICK, "--exists", "skip", "--json")
    line = json.loads(out)
    assert (line["path"], line["skipped"]) == ("a-cat-1.png", True)


def test_info_names_the_syntax_that_is_not_followed(sdfast, here):
    text = "a cat <lora:foo:0.8>\nSteps: 3, Sampler: Euler, CFG scale: 5, Seed: 1"
    picture = image_files.encode(Image.new("RGB", (64, 64)), {"parameters": text})
    (here / "theirs.png").write_bytes(picture)
    assert "\n  Prompt: <lora:foo:0.8>\n" in sdfast("info", "theirs.png")[1]


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


def test_a_recipe_that_no_jpeg_holds_is_told_before_anything_is_painted(sdfast, here):
    words = ("gen", "猫" * 9000, "-m", "tiny", "-s", "2", "-o", "a.jpg")
    code, _, err = sdfast(*words)
    assert (code, list(here.iterdir())) == (2, [])
    assert "cannot hold so long a recipe" in err
    assert "encode" not in err
    (here / "a.jpg").write_bytes(b"mine")
    assert sdfast(*words, "--exists", "skip")[:2] == (0, "a.jpg\n")


def test_in_a_batch_such_a_recipe_fails_its_own_line_alone(sdfast, here):
    (here / "p.txt").write_text("猫" * 9000 + "\na cat\n")
    words = ("batch", "p.txt", "-o", "{i}.jpg", "-m", "tiny", "-s", "2")
    code, out, err = sdfast(*words)
    assert (code, out) == (5, "2.jpg\n")
    assert "error: p.txt:1: a .jpg cannot hold so long a recipe" in err
    assert sdfast(*words, "--no-metadata", "--retry-failed", "-q")[:2] == (0, "1.jpg\n")


def test_info_goes_on_after_a_file_that_tells_nothing(sdfast, here):
    (here / "bad.png").write_bytes(b"no png")
    sdfast(*QUICK)
    code, out, err = sdfast("info", "bad.png", "a-cat-1.png")
    assert code == 2
    assert out.startswith("a-cat-1.png")
    assert err.count("error: ") == 1


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


def test_the_shipped_presets_paint(sdfast):
    for preset in ("fast", "a1111", "pndm50"):
        words = ("-p", preset, "-m", "tiny", "--size", "64x64", "--json")
        code, _, _ = sdfast("gen", "a cat", *words)
        assert code == 0


@pytest.mark.parametrize(("words", "said"), [([], "note: it is slow\n"), (["-q"], "")])
def test_a_warning_is_a_note_in_one_line(words, said):
    code = (
        "import sys, warnings, sdfast.cli\n"
        "sdfast.cli.run_command = lambda: warnings.warn('it is slow\\nfor long', stacklevel=1)\n"
        "sdfast.cli.main()"
    )
    ended = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, said)


@pytest.mark.parametrize(
    ("words", "variable", "code", "named"),
    [
        ((), None, 2, "`preset` in CONFIG names it"),
        (("-p", "fast"), None, 3, "`model` in CONFIG names it"),
        (("-p", "fast"), "blah", 3, "SDFAST_MODEL names it"),
        (("-p", "quick"), None, 2, None),
        (("-p", "fast", "-m", "other"), None, 3, None),
    ],
)
def test_a_wrong_name_that_is_settled_is_told_with_its_place(
    sdfast, monkeypatch, words, variable, code, named
):
    config_file().write_text("model: nosuch\npreset: quikc\n")
    if variable is not None:
        monkeypatch.setenv("SDFAST_MODEL", variable)
    got, _, err = sdfast("gen", "a cat", *words)
    assert got == code
    assert ("names it" in err) == (named is not None)
    place = str(config_file())
    assert named is None or err.endswith(f"{named.replace('CONFIG', place)}\n")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EACCES, "Permission denied", "cat.png"), "cat.png: Permission denied"),
        (OSError(errno.EIO, "Input/output error"), "stdout: Input/output error"),
        (OSError("timed out"), "timed out"),
    ],
)
def test_what_the_system_refused_is_told_with_the_file_it_was_about(
    capsys, monkeypatch, error, said
):
    monkeypatch.setattr(cli, "_mute", lambda stream: None)
    assert cli._unforeseen(error) == 2
    assert capsys.readouterr().err == f"error: {said}\n"


def test_whoever_wants_to_know_is_told_the_job_as_it_is_painted(sdfast):
    _, _, err = sdfast(*QUICK, "-v")
    (told,) = (line for line in err.splitlines() if line.startswith("job: "))
    assert json.loads(told.removeprefix("job: "))["seed"] == 1
    assert "job: " not in sdfast(*QUICK, "-o", "other/")[2]


def test_whoever_has_no_model_and_names_none_is_told_of_stable_diffusion(sdfast):
    note = "note: painting with the small built-in model; "
    assert note in sdfast("gen", "a cat", "-s", "1")[2]
    assert note not in sdfast("gen", "a cat", "-s", "1", "-m", "tiny")[2]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-g", "0"), "note: guidance 0 leaves the prompt out"),
        (
            ("-g", "1", "-x", "fog", "--guidance-interval", "0:0.5"),
            "note: guidance 1 is without guidance; not used there: the negative prompt, the",
        ),
        (("--sampler", "LCM"), "note: `lcm` is for a guidance of 1 to 2, not 3"),
        (("--sampler", "LCM", "-g", "1.5"), None),
        (("-g", "0", "--guidance-interval", "0.2:0.5"), None),
        (
            ("-g", "1", "--guidance-rescale", "0.7"),
            "note: guidance 1 is without guidance; not used there: the guidance rescale",
        ),
        (("-g", "1"), None),
    ],
)
def test_a_guidance_that_may_not_be_meant_is_told(sdfast, here, words, told):
    code, _, err = sdfast("gen", "a cat", "-s", "2", *words)
    assert code == 0
    notes = [line for line in err.splitlines() if "guidance" in line and line.startswith("note")]
    assert [line.startswith(told or "") for line in notes] == [True] * (told is not None)
    (here / "jobs.txt").write_text("a cat\na dog\n")
    _, _, err = sdfast("batch", "jobs.txt", "-s", "2", *words)
    assert err.count("note: jobs.txt:1: ") == (told is not None)
    assert "jobs.txt:2: " not in err


def test_every_sampler_that_is_listed_is_known(sdfast):
    code, out, err = sdfast("samplers", "--json")
    assert (code, err) == (0, "")
    listed = [json.loads(line) for line in out.splitlines()]
    names = [keys.pop("name") for keys in listed]
    for name, keys in zip(names, listed, strict=True):
        assert read_job({"prompt": "a", "sampler": name}).sampler == (
            read_job({"prompt": "a", **keys}).sampler
        )
    assert len({*names}) == len(names)
    assert {*get_args(Solver), "DPM++ SDE", "dpmpp_sde_karras", "euler_normal"} < {*names}
    _, table, _ = sdfast("samplers")
    for solver in get_args(Solver):
        assert f"\n{solver} " in f"\n{table}"
    row = "DPM++ SDE* dpmpp_sde sde-dpm++, method midpoint, spacing karras"
    assert row in [" ".join(line.split()) for line in table.splitlines()]


@pytest.mark.parametrize("name", ["DPM++ SDE", "DPM++ 2S a", "dpm_2", "LMS Karras"])
def test_a_sampler_by_another_programs_name_paints_and_comes_back(sdfast, name):
    words = ("gen", "a cat", "-m", "tiny", "--size", "64x64", "-s", "3", "--seed", "1")
    assert sdfast(*words, "--sampler", name, "-o", "one.png")[0] == 0
    assert sdfast("gen", "--from", "one.png", "-m", "tiny", "-o", "two.png")[0] == 0
    assert ImageChops.difference(Image.open("one.png"), Image.open("two.png")).getbbox() is None


@pytest.mark.parametrize(
    "words",
    [["gen"], ["batch"], ["grid"], ["bench"], ["tune"], ["presets", "save"], ["warm", "start"]],
)
def test_every_option_stands_in_a_group(sdfast, words):
    code, out, _ = sdfast(*words, "--help")
    assert code == 0
    groups: dict[str, list[str]] = {}
    for line in out.splitlines():
        if line.endswith(":") and line[0] != " ":
            groups[line] = []
        elif line.startswith("  -"):
            flags = line.split("  ")[1]
            [*groups.values()][-1].append(flags.split()[-2 if "<" in flags else 0].strip(","))
    assert "Options:" not in groups
    where = {flag: name for name, flags in groups.items() for flag in flags}
    assert len(where) == sum(map(len, groups.values()))  # in one group each
    assert where.get("-m", "The model:") == "The model:"
    assert "-m" in where
    assert where.get("--device", "Where it runs:") == "Where it runs:"
    assert where.get("-s", "The sampler:") == "The sampler:"
    assert where["-h"] == "What is said:"


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


def _terminated(leader, process, number, seen=b""):
    """What a command drew that was ended, twice, once it had begun to walk."""
    while b"ms/step" not in seen:
        seen += os.read(leader, 65536)
    process.send_signal(number)
    process.send_signal(number)  # as `timeout` does
    return seen.decode(errors="replace") + all_drawn(leader)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_who_is_ended_by_a_signal_leaves_the_cursor_as_it_was(number, here):
    leader, follower = pty.openpty()
    words = ("gen", "a cat", "--steps", "1000", "-m", "tiny")
    process = subprocess.Popen([sys.executable, "-m", "sdfast", *words], stderr=follower)
    os.close(follower)
    drawn = _terminated(leader, process, number)
    assert process.wait(20) == -number
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h") == 1
    assert not [*here.iterdir()]


def test_who_swallows_a_signal_is_ended_by_the_next(here):
    deaf = "import os, signal; import sdfast.cli as c\n"
    deaf += "class Deaf:\n    def __del__(self): os.kill(os.getpid(), signal.SIGTERM)\n"
    deaf += "app = c._app\n"
    deaf += "def begun(words):\n    Deaf()\n    print('on', flush=True)\n    return app(words)\n"
    deaf += "c._app = begun\nc.main()"
    words = ("gen", "a cat", "--steps", "1000", "-m", "tiny", "-o", "cat.png")
    with subprocess.Popen(
        [sys.executable, "-c", deaf, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout.readline() == b"on\n"  # the first was lost in `__del__`
        time.sleep(1.1)  # another within a second is taken for the same one, sent twice
        process.terminate()
        assert process.wait(20) == -signal.SIGTERM


def test_who_is_ended_while_writing_leaves_no_draft(here):
    slow = "import os, time; os.fsync = lambda file: time.sleep(20)"
    words = [sys.executable, "-c", f"{slow}; from sdfast.cli import main; main()", *QUICK]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        while not [*here.iterdir()]:
            assert process.poll() is None
            time.sleep(0.02)
        process.terminate()
        assert process.wait(10) == -signal.SIGTERM
    assert not [*here.iterdir()]


def test_pictures_painted_together_are_kept_when_nobody_reads_their_names(here):
    words = ("gen", "a cat", "-n", "3", "--batch-size", "3", "-s", "2", "--seed", "1", "-m", "tiny")
    with subprocess.Popen(
        [sys.executable, "-m", "sdfast", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.wait(120) == 141
    assert len([*here.glob("*.png")]) == 3


def test_of_several_pictures_the_bar_says_which_it_is():
    leader, follower = pty.openpty()
    words = ("gen", "a cat", "-n", "3", "--seed", "1", "-m", "tiny", "--size", "64x64", "-s", "15")
    process = subprocess.Popen(
        [sys.executable, "-m", "sdfast", *words], stdout=subprocess.PIPE, stderr=follower
    )
    os.close(follower)
    drawn = all_drawn(leader)
    process.communicate(timeout=120)
    for number in (1, 2, 3):
        assert f"{number} of 3: seed {number}" in drawn


def test_times_are_set_with_brackets_and_without(sdfast):
    words = ("gen", "a cat", "-m", "tiny", "--seed", "1", "--dry-run", "--set")
    bare, listed = (dry(sdfast, *words, f"timesteps={v}") for v in ("9,5,1", "[9, 5, 1]"))
    assert bare == listed
    assert bare[0]["timesteps"] == [9, 5, 1]
