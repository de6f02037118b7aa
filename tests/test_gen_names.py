"""What `gen` calls its pictures, and what it does where a name is taken."""

import json
from pathlib import Path

import pytest
from quick import QUICK

pytestmark = pytest.mark.usefixtures("here")


def test_a_place_of_the_config_file_is_a_folder(sdfast, monkeypatch):
    monkeypatch.setenv("SDFAST_OUTPUT", "new")
    assert Path(sdfast(*QUICK)[1].strip()) == Path("new", "a-cat-1.png")
    monkeypatch.setenv("SDFAST_OUTPUT", "s3://bucket/x")
    code, _, err = sdfast(*QUICK)
    assert code == 2
    assert "only `sdfast batch` writes to" in err
    monkeypatch.setenv("SDFAST_OUTPUT", "a" * 300)
    assert sdfast("models")[0] == 0
    assert sdfast(*QUICK)[0] == 2


@pytest.mark.parametrize(
    ("policy", "code", "names"),
    [
        ("rename", 0, ["a-cat-1-2.png", "a-cat-1.png"]),
        ("skip", 0, ["a-cat-1.png"]),
        ("overwrite", 0, ["a-cat-1.png"]),
        ("error", 2, ["a-cat-1.png"]),
    ],
)
def test_a_name_that_is_taken_is_treated_as_told(sdfast, here, policy, code, names):
    (here / "a-cat-1.png").write_bytes(b"mine")
    ended, _, _ = sdfast(*QUICK, "--exists", policy)
    assert ended == code
    assert sorted(p.name for p in here.iterdir()) == names
    kept = (here / "a-cat-1.png").read_bytes() == b"mine"
    assert kept == (policy != "overwrite")


@pytest.mark.parametrize(("policy", "taken"), [("skip", [1, 2]), ("error", [2])])
def test_what_is_taken_is_seen_before_a_model_is_loaded(sdfast, here, monkeypatch, policy, taken):
    words = ("gen", "a cat", "-m", "tiny", "--seed", "1,2", "--exists", policy)
    for seed in taken:
        (here / f"a-cat-{seed}.png").write_bytes(b"mine")
    monkeypatch.setattr("sdfast.cli.painting.hire", lambda *_: pytest.fail("loaded"))
    code, out, _ = sdfast(*words)
    assert (code, out.split()) == (
        (0, ["a-cat-1.png", "a-cat-2.png"]) if policy == "skip" else (2, [])
    )


@pytest.mark.parametrize("policy", ["overwrite", "skip", "error"])
def test_pictures_of_one_run_do_not_take_each_others_names(sdfast, here, policy):
    code, out, err = sdfast("gen", "a", "-n", "3", "-o", "x.png", "--exists", policy)
    assert (code, out) == (2, "")
    assert "called the same" in err
    assert not list(here.iterdir())


def test_json_tells_of_skipped_pictures_too(sdfast, here):
    (here / "a-cat-1.png").write_bytes(b"mine")
    _, out, _ = sdfast(*QUICK, "--exists", "skip", "--json")
    line = json.loads(out)
    assert (line["path"], line["skipped"]) == ("a-cat-1.png", True)


def test_a_recipe_that_no_jpeg_holds_is_told_before_anything_is_painted(sdfast, here):
    words = ("gen", "猫" * 9000, "-m", "tiny", "-s", "2", "-o", "a.jpg")
    code, _, err = sdfast(*words)
    assert (code, list(here.iterdir())) == (2, [])
    assert "cannot hold so long a recipe" in err
    assert "encode" not in err
    (here / "a.jpg").write_bytes(b"mine")
    assert sdfast(*words, "--exists", "skip")[:2] == (0, "a.jpg\n")


def test_in_a_batch_such_a_recipe_fails_its_own_line_alone(sdfast, here):
    (here / "p.txt").write_text("猫" * 9000 + "\na cat\n")
    words = ("batch", "p.txt", "-o", "{i}.jpg", "-m", "tiny", "-s", "2")
    code, out, err = sdfast(*words)
    assert (code, out) == (5, "2.jpg\n")
    assert "error: p.txt:1: a .jpg cannot hold so long a recipe" in err
    assert sdfast(*words, "--no-metadata", "--retry-failed", "-q")[:2] == (0, "1.jpg\n")
