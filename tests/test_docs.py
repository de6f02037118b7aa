"""What README.md and docs/ say that there is, beside what there is."""

import re
import shlex
from datetime import datetime
from itertools import dropwhile, groupby
from pathlib import Path
from typing import get_args

import pytest
from grey import Grey
from typer.main import get_command

from sdfast import Job, generate, load_preset
from sdfast import errors as kinds
from sdfast.batch.window import ROOM
from sdfast.cli import _app
from sdfast.job import read_job
from sdfast.naming import fields
from sdfast.preset_schema import schema
from sdfast.presets import names
from sdfast.sampler import Method, Solver, Spacing
from sdfast.warm.control import IDLE

HOUSE = Path(__file__).parents[1]
PAGES = [HOUSE / "README.md", *sorted((HOUSE / "docs").glob("*.md"))]
README = " ".join(PAGES[0].read_text(encoding="utf-8").split())


def listed(begin, end):
    """The words in backticks between two others in README.md."""
    return re.findall(r"`([^`]+)`", README.partition(begin)[2].partition(end)[0])


def shown(page):
    """The words behind `sdfast` in each command of a page's blocks, up to what is the shell's."""
    text = page.read_text(encoding="utf-8")
    indented = re.findall(r"^    (.*\bsdfast .*)", text, re.MULTILINE)
    fenced = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    for line in [*indented, *re.findall(r".*\bsdfast .*", fenced)]:
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        for is_shells, said in groupby(words, lambda word: set(word) <= set("<>|&;()")):
            behind = [*dropwhile(lambda word: word != "sdfast", said)]
            if behind and not is_shells:
                yield behind[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_shown_has_its_flags(page):
    said = 0
    for words in shown(page):
        context, command = None, get_command(_app([]))
        while hasattr(command, "commands") and words:
            context = command.context_class(command, parent=context)
            _, command, words = command.resolve_command(context, words)
        command.make_context("sdfast", words, parent=context)  # raises on a flag that is none
        said += 1
    assert said > 5


def test_the_fields_of_a_name_are_those_that_are_listed():
    there = fields(Job(prompt="a"), size=(64, 64), now=datetime(2026, 1, 2))
    assert set(listed("Fields of `-o` are ", " which count all")) == set(there)


def test_the_solvers_and_spacings_are_those_that_are_listed():
    words = {word.rpartition(" ")[2] for word in listed("Solvers: ", "Choosing another")}
    assert words == {*get_args(Solver), *get_args(Method), "1", "3"}
    assert set(listed("Spacings: `--spacing` ", "## ")) == set(get_args(Spacing))


def test_what_has_no_flag_is_what_is_listed():
    keys = listed("What has no flag of its own", " is set by")
    assert len(keys) == 10
    assert set(keys) <= set(schema()["properties"])
    gen = get_command(_app(["gen"])).commands["gen"]
    flags = {name for option in gen.params for name in option.opts}
    assert not {f"--{key}" for key in keys} & flags


def test_the_presets_and_their_steps_are_those_of_the_table():
    rows = re.findall(r"\| `(\w+)` \| (\d+) \|", README)
    assert {name: int(steps) for name, steps in rows} == {
        name: load_preset(name).sampler.steps for name in names()
    }


def test_every_exit_code_of_an_error_is_in_the_table():
    codes = {int(code) for code in re.findall(r"\| (\d) \| ", README)}
    raised = {kind.exit_code for kind in vars(kinds).values() if hasattr(kind, "exit_code")}
    assert raised <= codes


def test_a_worker_leaves_when_it_is_said_to_and_as_many_jobs_wait_as_is_said():
    assert f"leaves after {IDLE / 60:.0f} min idle" in README
    assert f"within a window of {ROOM} jobs" in (HOUSE / "docs" / "batch.md").read_text()


def test_an_interval_from_a_fifth_to_four_fifths_guides_nine_of_the_defaults_twenty_steps():
    model = Grey()
    list(generate(model, read_job({"prompt": "a", "guidance_interval": "0.2:0.8"})))
    assert [told for _, _, told in model.asked].count(2) == 9
    assert len(model.asked) == 20
