"""`sdfast doctor`: what a bug report needs, also of what is broken."""

import json
import os
from importlib.metadata import version
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("here")


def test_doctor_tells_programs_what_it_tells_people(sdfast):
    said = json.loads(sdfast("doctor", "--json")[1])
    assert said["sdfast"] == version("sdfast")
    assert [line.split()[0] for line in sdfast("doctor")[1].splitlines()] == list(said)


def test_doctor_shows_where_the_config_file_is(sdfast):
    place = Path(os.environ["SDFAST_CONFIG"], "config.yaml")
    assert json.loads(sdfast("doctor", "--json")[1])["config"] == f"{place} (none yet)"
    place.write_text("model: tiny\n")
    assert json.loads(sdfast("doctor", "--json")[1])["config"] == str(place)


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


def test_doctor_tells_what_a_bug_report_needs(sdfast):
    code, out, _ = sdfast("doctor")
    assert code == 0
    assert {"sdfast", "python", "torch", "device", "cache"} <= {
        line.split()[0] for line in out.splitlines()
    }
