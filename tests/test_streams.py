"""stdin, stdout and stderr that are closed, full, broken or cannot spell a name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import shell
from quick import QUICK, pixels

pytestmark = pytest.mark.usefixtures("here")


def test_a_name_that_the_streams_cannot_spell_is_told_all_the_same(tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    words = ("gen", "a cat", "-n", "2", "-s", "1", "-m", "tiny", "-o", "\u017c\u00f3/")
    ended = shell(*words, cwd=tmp_path, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert [line[:13] for line in ended.stdout.decode().splitlines()] == [r"\u017c\xf3/a-"] * 2
    assert len([*(tmp_path / "\u017c\u00f3").iterdir()]) == 2


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


def test_pictures_painted_together_are_kept_when_nobody_reads_their_names(here):
    words = ("gen", "a cat", "-n", "3", "--batch-size", "3", "-s", "2", "--seed", "1", "-m", "tiny")
    with subprocess.Popen(
        [sys.executable, "-m", "sdfast", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.wait(120) == 141
    assert len([*here.glob("*.png")]) == 3
