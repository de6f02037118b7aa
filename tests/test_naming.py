"""Names that files can have, wherever their words come from."""

from datetime import datetime
from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdfast.errors import UsageError
from sdfast.job import read_job
from sdfast.naming import Exists, as_folder, destination, digest, fields, settle, slug

NOON = datetime(2026, 1, 2, 12, 0, 5)
CAT = read_job(
    {
        "prompt": "A cat in the rain",
        "seed": 42,
        "guidance": 7.5,
        "size": "512x768",
        "sampler": "DPM++ 2M Karras",
    }
)


def words(job=CAT, **more):
    return fields(job, NOON, **more)


def of_model(name):
    return CAT.model_copy(update={"model": name})


@given(st.text(min_size=1))
def test_a_slug_is_short_and_safe(prompt):
    made = slug(prompt)
    assert 0 < len(made.encode()) <= 60
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert made == made.strip("-")


@pytest.mark.parametrize(
    ("prompt", "made"),
    [
        ("A cat in the rain", "a-cat-in-the-rain"),
        ("the cat's (hat:1.2)", "the-cats-hat-1-2"),
        ("Ein Käse für Łódź, Straße", "ein-kase-fur-lodz-strasse"),
        ("../../etc/passwd", "etc-passwd"),
        ("x" * 99, "x" * 60),
        ("ten digits " * 9, "ten-digits-" * 5 + "ten"),
    ],
)
def test_a_slug_says_the_prompt(prompt, made):
    assert slug(prompt) == made


def test_prompts_in_another_script_have_slugs_that_differ():
    assert slug("猫").startswith("picture-")
    assert slug("猫") != slug("犬")


def test_equal_jobs_have_equal_keys():
    karras = {"sampler": "dpm++", "spacing": "karras", "weights": "reference", "steps": "20"}
    own = {"prompt": CAT.prompt, "seed": "42", "guidance": "7.5", "size": (512, 768)}
    again = read_job({**own, **karras})
    assert digest(again) == digest(CAT)
    assert digest(read_job({"prompt": CAT.prompt, "seed": 43})) != digest(CAT)


def test_every_field_can_be_asked_for():
    template = "-".join(f"{{{name}}}" for name in words()) + ".png"
    job = of_model("a/b c")
    assert destination(template, words(job, i=3, n=12, preset="fast")) == Path(
        "a-cat-in-the-rain-42-03-12-20-7.5-dpm++-2m-karras-b-c-fast-512-768-2026-01-02-12-00-05-"
        f"{digest(job)[:8]}.png"
    )


def test_without_a_place_the_picture_goes_here():
    assert destination(None, words()) == Path("a-cat-in-the-rain-42.png")


def test_a_folder_gets_the_usual_name(tmp_path):
    name = "a-cat-in-the-rain-42.png"
    assert destination(f"{tmp_path}/new/", words()) == tmp_path / "new" / name
    assert destination(str(tmp_path), words()) == tmp_path / name


def test_a_folder_with_braces_in_its_name_is_taken_as_it_is(tmp_path):
    (tmp_path / "a{b}").mkdir()
    assert destination(f"{tmp_path}/a{{b}}", words()).parent == tmp_path / "a{b}"


def test_a_file_is_taken_at_its_word():
    assert destination("out/Cat.PNG", words()) == Path("out/Cat.PNG")


def test_a_template_leads_into_folders():
    assert destination("{date}/{i}.png", words(n=10)) == Path("2026-01-02/01.png")


def test_home_is_found_where_the_shell_did_not(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    assert destination("~/cat.png", words()) == Path("/home/ann/cat.png")


@given(st.text(), st.sampled_from(["{model}.png", "x/{preset}/{model}.png", "{preset}/"]))
def test_no_word_leads_out_of_the_folder(word, template):
    made = PurePath("out") / destination(template, words(of_model(word), preset=word))
    depth = template.count("/") + 2
    assert len(made.parts) == depth
    assert not {"..", ".", "~"} & set(made.parts)
    assert not any(part.startswith(".") for part in made.parts)


@pytest.mark.parametrize(
    ("out", "said", "hint"),
    [
        ("{sed}.png", "no field `{sed}`", "did you mean `seed`?"),
        ("{seed.__class__}.png", "no field `{seed.__class__}`", "known are"),
        ("cat.gif", "`cat.gif` is neither a folder nor the name of a PNG", "end a new folder"),
        ("cat", "neither", ".png"),
        ("~nobody-here/cat.png", "cannot write `~nobody-here/cat.png`", ""),
        ("a\0b.png", "NUL", ""),
        ("x" * 5000 + "/cat.png", "file name too long", ""),
    ],
)
def test_a_place_that_cannot_be_is_explained(out, said, hint):
    with pytest.raises(UsageError) as caught:
        destination(out, words())
    assert said in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize("out", ["x" * 5000, "~nobody-here"])
def test_a_name_that_cannot_be_looked_for_is_taken_for_a_folder(out):
    assert as_folder(out) == f"{out}/"


def test_a_free_name_is_kept_under_every_policy(tmp_path):
    assert {settle(tmp_path / "cat.png", exists) for exists in Exists} == {tmp_path / "cat.png"}


def test_a_taken_name_is_settled_by_the_policy(tmp_path):
    cat = tmp_path / "cat.png"
    cat.write_bytes(b"a picture")
    (tmp_path / "cat-2.png").symlink_to("nowhere")
    assert settle(cat, Exists.RENAME) == tmp_path / "cat-3.png"
    assert settle(cat, Exists.SKIP) is None
    assert settle(cat, Exists.OVERWRITE) == cat
    with pytest.raises(UsageError, match="exists"):
        settle(cat, Exists.ERROR)


def test_of_many_names_that_are_taken_the_end_is_found_in_leaps(tmp_path):
    cat = tmp_path / "cat.png"
    cat.touch()
    for number in (*range(2, 701), 900):
        cat.with_stem(f"cat-{number}").touch()
    asked = []

    def take(path):
        asked.append(path)
        return not path.exists()

    made = settle(cat, Exists.RENAME, take)
    assert made == cat.with_stem("cat-701")
    assert len(asked) < 5


@pytest.mark.parametrize("word", ["con", "NUL", "aux", "com1", "lpt9"])
def test_no_name_is_that_of_a_device(word):
    assert destination("{slug}.png", words() | {"slug": word}) == Path(f"{word}-.png")
    assert destination("{slug}.png", words() | {"slug": f"{word}s"}) == Path(f"{word}s.png")


def test_a_name_too_long_for_the_disk_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="too long"):
        settle(tmp_path / ("x" * 300 + ".png"), Exists.RENAME)
