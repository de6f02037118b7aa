"""The jobs that flags and presets mean, as dry runs print them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sdfast.job import read_job

pytestmark = pytest.mark.usefixtures("here")


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


@pytest.mark.parametrize("command", ["gen", "grid", "batch"])
@pytest.mark.parametrize(("flag", "value"), [("device", "cud"), ("dtype", "fp61"), ("vram", "ful")])
def test_what_names_no_machine_is_refused_in_a_dry_run_too(sdfast, command, flag, value):
    Path("a cat").write_text("a cat")
    code, out, err = sdfast(command, "a cat", "--dry-run", f"--{flag}", value)
    assert (code, out) == (2, "")
    assert err.splitlines()[0].endswith(f"{flag} `{value}`")


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


def test_times_are_set_with_brackets_and_without(sdfast):
    words = ("gen", "a cat", "-m", "tiny", "--seed", "1", "--dry-run", "--set")
    bare, listed = (sdfast(*words, f"timesteps={v}") for v in ("9,5,1", "[9, 5, 1]"))
    assert bare == listed
    assert json.loads(bare[1])["timesteps"] == [9, 5, 1]
