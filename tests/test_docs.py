"""What README.md and docs/ say that there is, beside what there is."""

import json
import re
import shlex
import tomllib
from datetime import datetime
from itertools import dropwhile, groupby
from pathlib import Path
from typing import get_args

import pytest
from grey import Grey
from typer.main import get_command

import sdfast as package
from sdfast import Job, generate, load_preset
from sdfast import errors as kinds
from sdfast.batch.lines import RECORD_KEYS, Form, form_of
from sdfast.batch.window import ROOM
from sdfast.bench.poses import PROMPTS
from sdfast.bench.timing.entries import TWEAKS
from sdfast.cli import _app
from sdfast.config import CONFIG_KEYS
from sdfast.job import read_job, read_sampler
from sdfast.machine import PRECISIONS, VRAM
from sdfast.models.find import ALIASES, RANDOM
from sdfast.naming import fields
from sdfast.preset_schema import schema
from sdfast.presets import PRESET_KEYS, names
from sdfast.sampler import Method, Solver, Spacing
from sdfast.tune.model import SEEN, UNSEEN
from sdfast.warm.control import IDLE

HOUSE = Path(__file__).parents[1]
PAGES = [HOUSE / "README.md", *sorted((HOUSE / "docs").glob("*.md"))]
README = " ".join(PAGES[0].read_text(encoding="utf-8").split())
BATCH, BENCH = (
    (HOUSE / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("batch", "bench")
)


def listed(begin, end, page="README.md"):
    """The words in backticks between two others of a page."""
    (place,) = (one for one in PAGES if one.name == page)
    text = " ".join(place.read_text(encoding="utf-8").split())
    assert begin in text
    return re.findall(r"`([^`]+)`", text.partition(begin)[2].partition(end)[0])


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
    there = fields(Job(prompt="a"), datetime(2026, 1, 2))
    assert set(listed("Fields of `-o` are ", " which count all")) == set(there)


def test_the_commands_are_those_of_the_table():
    said: dict[str, set[str]] = {}
    table = README.partition("| command | does |")[2].partition("Fields of")[0]
    for command, more in re.findall(r"\| `sdfast (\w+)([^|]*) \|", table):
        said.setdefault(command, set()).update(re.findall("[a-z]+", re.sub(r"--\w+", "", more)))
    there = get_command(_app([])).commands
    assert said == {name: {*getattr(each, "commands", ())} for name, each in there.items()}


def test_the_keys_of_the_config_file_and_the_variables_are_those_that_are_listed():
    assert listed("`config.yaml` (", "; `sdfast doctor`") == [*CONFIG_KEYS]
    variables = listed("the environment (", "), the preset")
    assert {*variables, *listed("shows where it is, ", " moves its folder")} == {
        name
        for path in Path(package.__file__).parent.rglob("*.py")
        for name in re.findall(r"\bSDFAST_[A-Z]+\b", path.read_text(encoding="utf-8"))
    }


def test_the_keys_of_a_job_file_and_its_endings_are_those_that_are_listed():
    keys = listed("but `about`, with ", " |", "batch.md")
    assert {*RECORD_KEYS} == {*PRESET_KEYS, *keys} - {"about"}
    rows = re.findall(r"^\| (`\..+?) \|", BATCH, re.MULTILINE)
    endings = [re.findall(r"`(\.\w+)`", row) for row in rows]
    assert sum(map(len, endings)) == 6
    forms = [{form_of(f"a{ending}", None) for ending in those} for those in endings]
    assert forms == [{Form.TXT}, {Form.JSONL}, {Form.CSV}]


def test_the_names_of_precisions_of_memory_and_of_models_are_those_that_are_listed():
    assert listed("`--dtype` is ", ". `--vram`", "models.md") == ["auto", *PRECISIONS]
    assert listed("`--vram` is ", " at a time).", "models.md") == [*VRAM]
    assert sorted(listed("in the original layout. ", " are short names")) == sorted(ALIASES)
    rows = re.findall(r"^\| (`[^|]+) \|", BENCH, re.MULTILINE)
    assert re.findall(r"`(\w+)`", " ".join(rows)) == [*PRECISIONS, *TWEAKS]
    randoms = listed("so before it loads them.", " have", "bench.md")
    assert {*randoms} == {*RANDOM}


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
    assert f"within a window of {ROOM} jobs" in BATCH


def test_an_interval_from_a_fifth_to_four_fifths_guides_nine_of_the_defaults_twenty_steps():
    model = Grey()
    list(generate(model, read_job({"prompt": "a", "guidance_interval": "0.2:0.8"})))
    assert [told for _, _, told in model.asked].count(2) == 9
    assert len(model.asked) == 20


def anchors(page):
    """What a link to a heading of a page ends in, as GitHub makes it."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        place, _, heading = target.partition("#")
        if not place.startswith("https://"):
            there = page.parent / place if place else page
            assert there.exists(), target
            assert not heading or heading in anchors(there), target


@pytest.mark.parametrize("page", [*PAGES, HOUSE / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_every_file_of_ours_that_is_named_is_there(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w/.])(?:tests|scripts|benchmarks|sdfast)/[\w/.-]*\w", text)
    assert [name for name in named if not (HOUSE / name).exists()] == []


def test_what_pip_is_told_to_want_is_what_is_said():
    settings = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    said = re.search(
        r"You need Python ([\d.]+) or newer .* the torch \(([\d.]+) or newer\)", README
    )
    torch = next(need for need in settings["dependencies"] if need.startswith("torch"))
    assert (settings["requires-python"], torch) == (f">={said[1]}", f"torch>={said[2]}")


def test_the_presets_ask_at_the_quantiles_of_the_table():
    rows = re.findall(r"\| `(\w+)` \| \d+ \|[^|]*Beta\(([\d.]+), ([\d.]+)\)", README)
    shapes = {name: load_preset(name).sampler for name, *_ in rows}
    assert {*shapes} == {"fast", "default", "fine"}
    for name, alpha, beta in rows:
        assert (shapes[name].spacing, shapes[name].corrector) == ("beta", True)
        assert (shapes[name].alpha, shapes[name].beta) == (float(alpha), float(beta))


def test_tiny_knows_as_many_things_as_is_said_and_those_of_its_card():
    tiny = Path(package.__file__).parent / "models" / "tiny"
    things = json.loads((tiny / "sdfast.json").read_text(encoding="utf-8"))["things"]
    card = " ".join((tiny / "README.md").read_text(encoding="utf-8").split())
    listed = re.search(r"A hundred and twelve things: (.+?)\. Say what", card)[1].split(", ")
    assert listed == things
    assert len({*things}) == len(things) == 112
    assert "`tiny` knows a hundred and twelve things" in README


def test_as_many_prompts_are_fitted_to_and_judged_by_as_is_said():
    said = " ".join((HOUSE / "docs" / "samplers.md").read_text(encoding="utf-8").split())
    assert "with the twelve prompts that `bench --accuracy -m` paints" in said
    assert len({*PROMPTS}) == 12
    assert "from two dozen prompts" in said
    assert len({*SEEN}) == 24
    assert "Four of these twelve prompts are among those that `tune` fits to" in said
    assert len({*PROMPTS} & {*SEEN}) == 4
    assert "on the twelve that it judges by and never fits to (`UNSEEN`" in said
    assert len({*UNSEEN} - {*SEEN}) == 12


@pytest.mark.parametrize(
    ("said", "calls"),
    [
        ("n; Heun 2n - 1", {"DPM++ 2M": 10, "Euler": 10, "Heun": 19, "LMS": 10}),
        (
            "n; 2S a and SDE 2n - 1",
            {"Euler a": 10, "DPM++ 2S a": 19, "DPM++ SDE": 19, "DPM++ 2M SDE": 10}
            | {"DPM++ 2M SDE Heun": 10},
        ),
        ("n; DPM2 and DPM2 a 2n - 1", {"DPM2": 19, "DPM2 a": 19, "DPM++ 3M SDE": 10}),
        ("n; PLMS n + 1", {"UniPC": 10, "DDIM": 10, "PLMS": 11, "LCM": 10}),
        ("n; adaptive as many as it takes", {"DPM fast": 10, "DPM adaptive": None}),
    ],
)
def test_a_sampler_of_the_web_uis_makes_as_many_calls_as_is_said(said, calls):
    text = (HOUSE / "docs" / "samplers.md").read_text(encoding="utf-8")
    (row,) = (line for line in text.splitlines() if line.endswith(f" | {said} |"))
    assert row.startswith(f"| {', '.join(calls)} |")
    found = {name: read_sampler({"sampler": name, "steps": 10}).calls for name in calls}
    assert found == calls
