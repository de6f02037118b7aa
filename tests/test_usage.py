"""A call that cannot be done: one clear line, and the right exit code."""

import errno
import subprocess
import sys

import pytest
from quick import QUICK

from sdfast import cli
from sdfast.config import config_file
from sdfast.errors import OutOfMemoryError

pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize("said", ["0", "1025", "-1", "1.5", "Auto", ""])
@pytest.mark.parametrize("command", ["gen", "grid", "batch"])
def test_what_is_no_number_of_pictures_is_refused(sdfast, command, said):
    code, _, err = sdfast(command, "a cat", "--batch-size", said)
    assert code == 2
    assert f"`{said}` is neither `auto` nor a number from 1 to 1024" in err


def test_where_torch_finds_no_memory_it_is_one_line(here):
    command = f"ulimit -v 400000; exec {sys.executable} -m sdfast {' '.join(map(repr, QUICK))}"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert ran.returncode == OutOfMemoryError.exit_code
    assert ran.stderr.splitlines()[-1] == "error: there is too little memory to work in"


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
