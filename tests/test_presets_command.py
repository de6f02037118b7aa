"""Presets from the command line: saved, listed, shown and removed."""

import json
import os
from pathlib import Path

import pytest

from sdfast.config import config_file
from sdfast.presets import load_preset

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
