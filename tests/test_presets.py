"""Sampler recipes in YAML: the shipped ones, a person's own, and the hostile."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from sdfast.errors import JobError, PresetError, UsageError
from sdfast.fields import named, scaled
from sdfast.job import DEFAULT, Sampler, read_job
from sdfast.preset_schema import schema
from sdfast.presets import (
    PRESET_KEYS,
    as_yaml,
    config_folder,
    folders,
    load_preset,
    names,
    read_yaml,
    save_preset,
)

SHIPPED = sorted(path.stem for path in folders()[1].glob("*.yaml"))


@pytest.fixture
def own():
    """A person's own folder of presets."""
    folder = config_folder() / "presets"
    folder.mkdir()
    return folder


@pytest.fixture
def file(tmp_path):
    return tmp_path / "some.yaml"


def refused(file, text):
    """The one line that is said, and soon, of a preset that cannot be."""
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    began = time.process_time()
    with pytest.raises(PresetError) as caught:
        load_preset(str(file))
    assert time.process_time() - began < 10
    assert str(caught.value).isprintable()
    return caught.value


def test_the_shipped_presets_are_these():
    assert SHIPPED == ["a1111", "ddim50", "default", "fast", "fine", "pndm50"]
    assert list(names()) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_preset_walks_as_many_steps_as_it_says(name):
    preset = load_preset(name)
    (steps,) = re.findall(r"(\d+) steps", preset.about.partition(";")[0])
    assert (preset.name, preset.sampler.steps) == (name, int(steps))
    assert preset.about.isprintable()


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_preset_needs_only_a_prompt_to_be_a_job(name):
    preset = load_preset(name)
    assert read_job({"prompt": "fog", **preset.record}).sampler == preset.sampler


def test_the_steps_rise_from_fast_through_default_to_fine():
    steps = [load_preset(name).sampler.steps for name in ("fast", "default", "fine")]
    assert steps == [10, 20, 25]


def test_a1111_is_its_sampler_of_that_name():
    assert load_preset("a1111").sampler == Sampler(steps=20, spacing="karras", weights="reference")


def test_what_a_kill_has_left_of_a_name_is_no_preset_that_takes_it(own):
    (own / "mine.yaml").touch()
    save_preset("mine", {"steps": 12})
    assert load_preset("mine").sampler.steps == 12
    with pytest.raises(PresetError, match="there is a preset `mine` already"):
        save_preset("mine", {"steps": 13})


def test_ones_own_preset_wins_over_the_shipped_one_of_that_name(own):
    (own / "fast.yaml").write_text("steps: 3")
    assert load_preset("fast").sampler.steps == 3
    assert names()["fast"] == own / "fast.yaml"


def test_a_preset_is_loaded_by_its_path_too(file):
    file.write_text("about: three\nsteps: 3\n")
    preset = load_preset(str(file))
    assert (preset.name, preset.about, preset.record) == ("some", "three", {"steps": 3})


def test_a_preset_of_64_kilobytes_is_read_and_of_one_byte_more_is_not(file):
    whole = b"steps: 3\n".ljust(2**16, b"#")
    file.write_bytes(whole)
    assert load_preset(str(file)).record == {"steps": 3}
    assert "larger than 64 kB" in str(refused(file, whole + b"#"))


def test_a_path_is_told_as_it_was_typed(file):
    missing = str(file.parent / "gone" / "fast")
    with pytest.raises(PresetError, match=f"^there is no file `{missing}`$"):
        load_preset(missing)
    (bare := file.with_suffix("")).write_text("steps: 3\n")
    assert load_preset(str(bare)).name == "some"
    (dotted := file.with_name("v1.5")).write_text("steps: 3\n")
    assert load_preset(str(dotted)).name == "v1.5"


def test_an_unknown_name_brings_the_nearest_one():
    with pytest.raises(PresetError, match="no preset `fastt`") as caught:
        load_preset("fastt")
    assert (caught.value.hint, caught.value.exit_code) == ("did you mean `fast`?", 2)


@pytest.mark.parametrize("path", ["no/such.yaml", "such.yml", "~nobody-of-this-name/x.yaml"])
def test_a_file_that_is_not_there_is_named(path):
    with pytest.raises(PresetError, match=f"there is no file `{path}`"):
        load_preset(path)


@pytest.mark.parametrize("path", ["a\0b.yaml", "x" * 5000 + ".yaml", "/", "/dev/zero"])
def test_what_is_no_file_to_read_is_refused(path):
    with pytest.raises(PresetError) as caught:
        load_preset(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("steps: 20\nstepz: 5", "2: there is no key `stepz`", "did you mean `steps`?"),
        ("steps: 20\n\norder: 4", "3: order must be 1, 2 or 3, not `4`", ""),
        ("spacing: karas", "1: there is no spacing `karas`", "did you mean `karras`?"),
        ("steps: true", "1: steps must be a whole number, not `true`", ""),
        ("order: 2\nguidance: .nan", "2: guidance must be a finite number, not `nan`", ""),
        ("guidance: .inf", "1: guidance must be a finite number, not `inf`", ""),
        ("steps: 1\nabout: 42", "2: about must be text", ""),
        ("steps: 1\nsteps: 2", "2: `steps` stands there twice", ""),
        ("steps: {a: 1}", "1: steps must be a whole number, not `{'a': 1}`", ""),
        ("steps: [", "1: expected the node content, but found '<stream end>'", ""),
        ("steps: 1\n\torder: 2", "2: found character '\\t' that cannot start any token", ""),
        ("a: 1\n---\nb: 2", "2: but found another document", ""),
    ],
)
def test_a_fault_is_told_with_its_file_and_line(file, text, problem, hint):
    error = refused(file, text)
    assert (str(error), error.hint) == (f"{file}:{problem}", hint)


def test_a_fault_of_a_preset_by_name_is_told_with_its_file_and_line(own):
    (own / "mine.yaml").write_text("steps: 3\norder: 7")
    with pytest.raises(PresetError, match=r"^mine\.yaml:2: order must be 1, 2 or 3, not `7`"):
        load_preset("mine")


@pytest.mark.parametrize("key", ["prompt", "seed", "solver", "on", "true", "null", "1", "~", "<<"])
def test_a_key_that_no_preset_has_is_named_as_it_is_typed(file, key):
    assert str(refused(file, f"{key}: {{steps: 5}}")) == f"{file}:1: there is no key `{key}`"


@pytest.mark.parametrize("key", ["[a, b]", "{a: b}", "? [a]\n"])
def test_a_key_that_is_no_word_is_refused(file, key):
    assert "a key must be a word" in str(refused(file, f"{key}: 5"))


BOMB = "a: &a [x, x]\n" + "".join(
    f"{there}: &{there} [{', '.join([f'*{here}'] * 9)}]\n"
    for here, there in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "trick"),
    [
        (BOMB, "anchors"),
        ("steps: &n 5\norder: *n", "anchors"),
        ("a: &a [*a]", "anchors"),
        ("about: !!python/object/apply:os.system ['touch /tmp/sdfast-was-here']", "tags"),
        ("about: !!python/name:os.system", "tags"),
        ("steps: !!int abc", "tags"),
        ("steps: !!bool abc", "tags"),
        ("steps: !!timestamp abc", "tags"),
        ("!!omap [a: 1]", "tags"),
        ("[" * 60_000, "deep nesting"),
        ("timesteps: " + "[" * 30_000 + "]" * 30_000, "deep nesting"),
        ("- " * 30_000, "deep nesting"),
        ("{a: " * 15_000, "deep nesting"),
    ],
    ids=range(13),
)
def test_yamls_tricks_are_refused(file, text, trick):
    assert str(refused(file, text)).endswith(f":1: YAML {trick} may not be used")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"steps: 5 # \xff\xfe", "not UTF-8"),
        (b"steps: 5\0", "is no YAML"),
        (b"\x1b[2J: 5", "is no YAML"),
        (b"- 5", "must hold keys and values"),
        (b"steps", "must hold keys and values"),
        (b"model: 2024-13-45", "is no YAML that makes sense"),
        (b"guidance: " + b"59:" * 20_000 + b"59.5", "is no YAML that makes sense"),
        (b"steps: 0x" + b"f" * 60_000, "steps must be"),
        (b"steps: " + b"9" * 60_000, "is no YAML that makes sense"),
        (b"steps: =", "could not determine a constructor"),
        (b"%YAML 9.9\n---\nsteps: 5", "incompatible YAML document"),
        (b'about: "\\uD800', "unexpected end of stream"),
    ],
)
def test_what_is_no_preset_is_refused_with_the_reason(file, text, words):
    assert words in str(refused(file, text))


@pytest.mark.parametrize("text", ["", "\n", "# nothing here", "steps:\n", "\ufeff"])
def test_a_preset_that_settles_nothing_is_a_preset(file, text):
    file.write_text(text, encoding="utf-8")
    assert load_preset(str(file)).sampler == DEFAULT


@pytest.mark.parametrize("written", ["1e-3", "0.001", "1.0e-3", "1E-3", ".001"])
def test_a_number_is_a_number_however_it_is_written(file, written):
    file.write_text(f"guidance: {written}")
    assert read_job({"prompt": "fog", **load_preset(str(file)).record}).guidance == 0.001


@pytest.mark.parametrize("written", ["on", "yes", "true", "True", '"true"'])
def test_on_is_true_where_true_is_meant(file, written):
    file.write_text(f"corrector: {written}")
    assert load_preset(str(file)).sampler.corrector


def test_a_folder_is_no_preset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (f"{tmp_path}/", "./"):
        with pytest.raises(PresetError, match=r"`.+` cannot be read: Is a directory"):
            load_preset(name)


def test_a_saved_preset_comes_back_as_it_was(own):
    record = {"steps": 12, "sampler": "dpm", "rho": 2.5, "spacing": "rho", "size": "512x768"}
    path = save_preset("mine", record, "my own")
    preset = load_preset("mine")
    assert path == own / "mine.yaml"
    assert (preset.name, preset.about, preset.record) == ("mine", "my own", record)


GOOD = [
    {"guidance_interval": "0.2:0.8", "size": "512x768"},
    {"guidance_interval": [0.2, 0.8], "guidance": None},
    {"lora": f"{'long/' * 20}a.safetensors:0.8", "embedding": "word.safetensors"},
    {"lora": ["a.safetensors", "b.safetensors:2"], "vae": "other"},
    {"sampler": "DPM++ 2M Karras", "steps": 12},
    {"timesteps": [999, 500.5, 1], "corrector": False},
]
BAD = [{"steps": 0}, {"size": "large"}, {"lora": 3}, {"sampler": 1}, {"method": "x"}, {"seed": 1}]


def fits(record):
    return Draft202012Validator(schema()).is_valid(record)


@pytest.mark.parametrize("record", GOOD)
def test_the_schema_takes_what_a_preset_may_say_and_what_is_saved_of_it(own, record):
    saved = save_preset("mine", read_job({"prompt": "a", **record}).record)
    assert fits(record)
    assert fits(read_yaml(saved, "mine")[0])


@pytest.mark.parametrize("record", BAD)
def test_what_no_preset_may_say_the_schema_refuses(own, record):
    assert not fits(record)
    (own / "mine.yaml").write_text(as_yaml(record))
    with pytest.raises(PresetError):
        load_preset("mine")


def test_the_schema_takes_the_shipped_presets():
    for path in names().values():
        assert fits(read_yaml(path, path.name)[0]), path


def test_a_saved_preset_leaves_prompt_and_seed_behind(own):
    save_preset("mine", {"prompt": "fog", "seed": 1, "steps": 12})
    assert load_preset("mine").record == {"steps": 12}


def test_a_saved_preset_stands_in_the_order_given_with_lists_on_one_line(own):
    path = save_preset("mine", {"timesteps": [999, 500.5, 1], "prompt": "x", "guidance": 1.5}, "me")
    assert path.read_text() == 'about: "me"\ntimesteps: [999, 500.5, 1]\nguidance: 1.5\n'


def test_a_preset_is_not_overwritten_unless_told(own):
    save_preset("mine", {"steps": 12})
    with pytest.raises(PresetError, match="there is a preset `mine` already"):
        save_preset("mine", {"steps": 13})
    assert load_preset("mine").sampler.steps == 12
    save_preset("mine", {"steps": 13}, replace=True)
    assert load_preset("mine").sampler.steps == 13


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../evil", "a/b", "a b", "-x", ".x", "a\n", "a\0", "x" * 65, "x.yaml"]
)
def test_a_name_that_is_no_file_name_is_refused(own, name):
    with pytest.raises(PresetError, match="is no name for a preset"):
        save_preset(name, {"steps": 12})
    assert list(own.parent.rglob("*")) == [own]


def test_a_record_that_cannot_be_is_not_saved(own):
    with pytest.raises(JobError, match="steps must be from 1 to 1000, not `0`"):
        save_preset("mine", {"steps": 0})
    assert list(own.iterdir()) == []


def test_where_no_preset_can_be_written_it_is_said():
    (config_folder() / "presets").write_text("a file where the folder would be")
    with pytest.raises(UsageError, match="cannot write"):
        save_preset("mine", {"steps": 12})


def test_of_two_who_save_a_preset_at_once_the_second_is_refused(own, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("sdfast.presets.names", dict)  # as each of them saw it
        path = save_preset("mine", {"steps": 5})
        with pytest.raises(PresetError, match="there is a preset `mine` already"):
            save_preset("mine", {"steps": 6})
    assert load_preset("mine").sampler.steps == 5
    assert [*own.iterdir()] == [path]


def test_a_preset_that_is_kept_elsewhere_is_replaced_there(own, tmp_path):
    kept = tmp_path / "dotfiles.yaml"
    kept.write_text("steps: 11")
    (own / "mine.yaml").symlink_to(kept)
    save_preset("mine", {"steps": 12}, replace=True)
    assert (own / "mine.yaml").is_symlink()
    assert kept.read_text() == "steps: 12\n"


plain = st.text() | st.integers() | st.booleans() | st.floats(allow_nan=False)


@given(st.dictionaries(st.text(), plain | st.lists(plain)))
def test_what_is_written_as_yaml_reads_back_the_same(values):
    assert yaml.safe_load(as_yaml(values)) == (values or None)


def test_the_schema_knows_every_key_and_no_other():
    known = schema()
    assert set(known["properties"]) == set(PRESET_KEYS)
    assert known["additionalProperties"] is False
    assert json.loads(json.dumps(known)) == known


def test_the_schema_says_what_every_key_is():
    for key, said in schema()["properties"].items():
        assert said["description"], key


def test_the_schema_has_the_ranges_and_the_choices():
    keys = schema()["properties"]
    assert (keys["steps"]["minimum"], keys["steps"]["maximum"]) == (1, 1000)
    assert keys["method"]["enum"] == ["multistep", "singlestep", "midpoint", "fast", "adaptive"]
    assert keys["corrector"]["type"] == "boolean"
    assert "$ref" not in json.dumps(keys)


def test_loading_a_preset_imports_no_torch():
    code = (
        "import sys; from sdfast.presets import load_preset;"
        "load_preset('fast').sampler; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_files_beside_a_presets_own_are_found_from_everywhere(tmp_path, monkeypatch):
    folder, elsewhere = tmp_path / "shared", tmp_path / "elsewhere"
    for place in (folder, elsewhere):
        place.mkdir()
    for name in ("ink.safetensors", "toy.safetensors", "soft.safetensors"):
        (folder / name).touch()
    (folder / "mine.yaml").write_text(
        "lora: [ink.safetensors:0.5, other.safetensors]\n"
        "embedding: toy.safetensors:toy\nvae: soft.safetensors\n"
    )
    monkeypatch.chdir(elsewhere)
    record = load_preset("../shared/mine.yaml").record
    found = record["lora"], record["embedding"], record["vae"]
    assert [Path(one).name for one in found[0]] == ["ink.safetensors:0.5", "other.safetensors"]
    places = [scaled(found[0][0]).path, named(found[1]).path, found[2]]
    assert all(Path(place).samefile(folder / Path(place).name) for place in places)
    assert named(found[1]).token == "toy"
    assert found[0][1] == "other.safetensors"
