"""What the command line tells of itself: help, completions and lists."""

import json
import os
import subprocess
import sys
from typing import get_args

import pytest

from sdfast.job import read_job
from sdfast.sampler import Solver

pytestmark = pytest.mark.usefixtures("here")


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
    code = "import sys; sys.argv[0] = 'sdfast'; from sdfast.cli import main; main()"
    asks = {"_SDFAST_COMPLETE": "complete_bash", "COMP_WORDS": words}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | asks | {"COMP_CWORD": str(len(words.split()) - 1)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert set(ran.stdout.split()) == offered


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
