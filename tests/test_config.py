"""What a person has settled once, and the environment above it."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sdfast.config import Config, aliases_file, config_file, lasting_name, load_config, save_alias
from sdfast.errors import PresetError
from sdfast.presets import names


def test_where_nothing_is_settled_nothing_is():
    assert load_config() == Config(None, None, None, {})


def test_the_file_settles_model_preset_and_place():
    config_file().write_text("model: sd15\npreset: fine\nout: pictures/\n")
    assert load_config() == Config("sd15", "fine", "pictures/", {})


def test_the_environment_wins_over_the_file(monkeypatch):
    config_file().write_text("model: sd15\nout: pictures/\npreset: fine\n")
    monkeypatch.setenv("SDFAST_MODEL", "tiny")
    monkeypatch.setenv("SDFAST_OUTPUT", "elsewhere/")
    assert load_config() == Config("tiny", "fine", "elsewhere/", {})


def test_an_empty_variable_settles_nothing(monkeypatch):
    config_file().write_text("model: sd15")
    monkeypatch.setenv("SDFAST_MODEL", "")
    assert load_config().model == "sd15"


def test_sdfast_config_names_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SDFAST_CONFIG", str(tmp_path / "mine"))
    assert config_file() == tmp_path / "mine" / "config.yaml"


def test_a_home_of_nobody_is_refused_in_one_line(monkeypatch):
    monkeypatch.setenv("SDFAST_CONFIG", "~nobody-of-this-name/sdfast")
    with pytest.raises(PresetError, match="SDFAST_CONFIG: there is no folder"):
        load_config()


def test_an_unknown_key_is_named_with_its_file_and_the_nearest():
    config_file().write_text("modell: sd15")
    with pytest.raises(PresetError, match=r"config\.yaml:1: there is no key `modell`") as caught:
        load_config()
    assert (caught.value.hint, caught.value.exit_code) == ("did you mean `model`?", 2)


@pytest.mark.parametrize(
    "value", ["5", "[a]", "true", "{a: b}", "", r'"~a\0"', r'"\ud83d"', r'"~\ud83d/x.png"']
)
def test_a_value_that_is_no_text_is_named_with_its_line(value):
    config_file().write_text(f"preset: fine\nmodel: {value}")
    with pytest.raises(PresetError, match=r"config\.yaml:2: model must be text"):
        load_config()


@pytest.mark.parametrize("text", [b"[", b"\xff", b"a: &a 1", b"- a", b"model: a\nmodel: b"])
@pytest.mark.parametrize("file", [config_file, aliases_file])
def test_a_broken_file_is_one_line(file, text):
    file().write_bytes(text)
    with pytest.raises(PresetError, match=file().name) as caught:
        load_config()
    assert str(caught.value).isprintable()


def test_an_alias_is_saved_changed_and_forgotten():
    save_alias("mine", "somewhere/else")
    save_alias("other", "/models/other")
    save_alias("mine", "someone/something")
    assert load_config().aliases == {"mine": "someone/something", "other": "/models/other"}
    save_alias("mine", None)
    assert load_config().aliases == {"other": "/models/other"}


@pytest.mark.parametrize("name", ["on", "1", "a: b", "#", "é", "two words", "- x", "{", "\x7f"])
def test_an_alias_is_called_what_it_is_called(name):
    save_alias(name, name)
    assert load_config().aliases == {name: name}


def test_aliases_that_are_saved_at_once_are_all_kept():
    names = [f"model-{i}" for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        left = [*pool.map(lambda name: save_alias(name, f"/models/{name}"), names)]
    assert load_config().aliases == {name: f"/models/{name}" for name in names}
    assert sorted(map(len, left)) == [*range(1, 41)]


def test_an_alias_that_is_not_there_brings_the_nearest():
    save_alias("mine", "somewhere")
    with pytest.raises(PresetError, match="no alias `mime` of yours") as caught:
        save_alias("mime", None)
    assert caught.value.hint == "did you mean `mine`?"


def test_where_there_are_no_aliases_none_is_suggested():
    with pytest.raises(PresetError) as caught:
        save_alias("mine", None)
    assert caught.value.hint == ""


@pytest.mark.parametrize(("said", "seconds"), [("90s", 90), ("10m", 600), ("1h", 3600)])
def test_how_long_a_worker_stays_is_settled_in_seconds(said, seconds):
    config_file().write_text(f"keep_warm: {said}")
    assert load_config().keep_warm == seconds


@pytest.mark.parametrize("said", ["600", "0s", "true", "ten minutes", "1d", "-1m", "10:00"])
def test_a_time_that_is_none_is_named(said):
    config_file().write_text(f"keep_warm: {said}")
    with pytest.raises(PresetError, match=r"keep_warm must be a time such as `90s`") as caught:
        load_config()
    assert caught.value.exit_code == 2


def test_a_link_that_leads_nowhere_is_no_empty_file():
    config_file().symlink_to("not-there.yaml")
    with pytest.raises(PresetError, match="there is no file"):
        load_config()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter every folder")
def test_where_no_folder_may_be_entered_nothing_is_settled(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir(mode=0)
    monkeypatch.setenv("SDFAST_CONFIG", str(tmp_path / "locked" / "sdfast"))
    assert load_config() == Config()
    assert "fast" in names()


def test_an_alias_of_a_hub_id_is_told_as_that():
    aliases = {"mine": "some/body", "near": str(Path("model").absolute())}
    told = [lasting_name(name, aliases) for name in ("mine", "near", "tiny", None)]
    assert told == ["some/body", "near", "tiny", None]
