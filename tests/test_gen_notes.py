"""What `gen` says beside its pictures: notes, the summary, the bar and JSON lines."""

import json
import subprocess
import sys

import pytest
from processes import on_a_terminal
from quick import QUICK

from sdfast.cli.output import summary
from sdfast.events import Times

pytestmark = pytest.mark.usefixtures("here")


def test_steps_that_an_adaptive_walk_does_not_take_are_told(sdfast):
    said = "note: an adaptive walk takes as many steps as it needs; --steps does not count"
    words = ("gen", "a cat", "-m", "tiny", "--method", "adaptive", "--size", "64x64")
    assert said in sdfast(*words, "-s", "8")[2]
    assert said not in sdfast(*words)[2]


def test_the_middle_of_two_steps_is_their_mean():
    assert "(20.0 ms a step, 10.0 to 30.0)" in summary(Times(0.1, (0.03, 0.01), 0.1), 0.1)


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


def test_syntax_that_is_not_followed_is_named(sdfast):
    code, _, err = sdfast("gen", "a [cat:dog:0.5] AND <lora:ink:0.8>", *QUICK[2:])
    assert code == 0
    assert "note: read as words and not followed: `AND`, `<lora:ink:0.8>`" in err


def test_quiet_says_nothing(sdfast):
    assert sdfast(*QUICK, "-q") == (0, "a-cat-1.png\n", "")


def test_calls_are_not_called_steps_where_a_step_takes_two(sdfast):
    _, _, err = sdfast(*QUICK, "--sampler", "Heun")
    assert ", 3 calls " in err
    assert "ms a call" in err
    assert ", 2 steps " in sdfast(*QUICK)[2]


@pytest.mark.parametrize(("words", "said"), [([], "note: it is slow\n"), (["-q"], "")])
def test_a_warning_is_a_note_in_one_line(words, said):
    code = (
        "import sys, warnings, sdfast.cli\n"
        "sdfast.cli.run_command = lambda: warnings.warn('it is slow\\nfor long', stacklevel=1)\n"
        "sdfast.cli.main()"
    )
    ended = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, said)


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


def test_of_several_pictures_the_bar_says_which_it_is():
    words = ("gen", "a cat", "-n", "3", "--seed", "1", "-m", "tiny", "--size", "64x64", "-s", "15")
    _, _, drawn = on_a_terminal(*words)
    for number in (1, 2, 3):
        assert f"{number} of 3: seed {number}" in drawn
