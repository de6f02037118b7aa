"""Whatever a file says: one clear line, an exit code as documented, nothing outside the folder."""

import io
import json
import sys
import time
import zlib
from contextlib import redirect_stderr, redirect_stdout

import pytest
from costless import Costless
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sdfast import Job, image_files, recipes
from sdfast.batch import crew
from sdfast.cli import run_command
from sdfast.job import KEYS

COUNTS = [pytest.param(40, id="some"), pytest.param(1000, id="many", marks=pytest.mark.slow)]

TRICKS = [
    *("../../up", "/etc/passwd", "~root/x", "~nobody-such", "..", ".", "a/b\\c", "con", "{slug}"),
    *("a\0b", "\x1b[31mred\x1b[0m", "\u202egnp.exe", "\ud800", "\U0001f600", "a\u0300" * 50),
    *("9" * 400, "1e999", "-1", "nan", "0x10", "1_000", "Infinity", "true", "null", "", " "),
    *("x" * 30_000, "!!python/object/apply:os.system ['touch up']", "&a [*a]", "<<: *x", "%s%n"),
    *("DPM++ 2M Karras", "tiny", "1..4", "1..99999999", "512x512", "99999x8", "64x64", "a: b: c"),
]
words = st.one_of(st.sampled_from(TRICKS), st.text(max_size=40))
keys = st.one_of(st.sampled_from([*KEYS, "n"]), words)
scalars = st.one_of(
    words,
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from([10**40, -(2**63), 1e308, 5e-324]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
sound = st.fixed_dictionaries(
    {},
    optional={
        "steps": st.integers(1, 40),
        "order": st.integers(1, 4),
        "sampler": st.sampled_from(["dpm++", "dpm", "ddim", "DPM++ 2M Karras", "pndm"]),
        "method": st.sampled_from(["multistep", "singlestep", "fast", "adaptive"]),
        "spacing": st.sampled_from(["rho", "karras", "logsnr", "uniform", "ays"]),
        "timesteps": st.lists(st.floats(0, 999), max_size=5),
        "size": st.sampled_from(["64x64", "128x512", [64, 64]]),
        "guidance": st.floats(0, 101),
        "negative": words,
        "eta": st.floats(0, 2),
    },
)
records = st.builds(
    lambda mostly, rest: {**mostly, **rest},
    sound,
    st.just({}) | st.dictionaries(keys, values, max_size=3),
)
"""Jobs that could be meant, more or less."""


few = ("--limit", "5")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder deep enough that whatever climbs out of it is seen."""
    folder = tmp_path / "outer" / "inner" / "here"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("SDFAST_CONFIG", str(folder / "config"))
    monkeypatch.setattr(crew, "Alone", lambda setting: Costless())
    (folder / "config").mkdir()
    return folder


def judge(home, *argv):
    """Run a command; whatever it was given, it behaves."""
    out, err = io.StringIO(), io.StringIO()
    sys.argv, before = ["sdfast", *argv], sys.argv
    begun = time.process_time()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = run_command()
    finally:
        sys.argv = before
    said = err.getvalue()
    assert time.process_time() - begun < 5
    assert code in (0, 2, 3, 4, 5), said
    assert "Traceback" not in said
    assert "\x1b" not in said
    assert code == 0 or "error: " in said
    assert [p.name for p in home.parent.iterdir()] == ["here"]
    assert [p.name for p in home.parent.parent.iterdir()] == ["inner"]
    return code, out.getvalue(), said


def fuzz(strategy, check, count):
    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        suppress_health_check=[*HealthCheck],
    )
    @given(strategy)
    def tried(example):
        check(example)

    tried()


def as_bytes(text):
    return text.encode("utf-8", errors="surrogatepass")


def yaml_of(record):
    """YAML as somebody might write it, quoted or not."""
    return "".join(
        f"{key}: {value if isinstance(value, str) else json.dumps(value)}\n"
        for key, value in record.items()
    )


@pytest.mark.parametrize("count", COUNTS)
def test_any_preset(home, count):
    def check(example):
        record, raw = example
        (home / "p.yaml").write_bytes(raw or as_bytes(yaml_of(record)))
        judge(home, "gen", "a", "-p", "p.yaml", "--dry-run", "--seed", "1")

    fuzz(st.tuples(records, st.one_of(st.none(), st.binary(max_size=80))), check, count)


@pytest.mark.parametrize("count", COUNTS)
def test_any_job_lines(home, count):
    def check(example):
        lines, cut = example
        raw = "\n".join(json.dumps({"prompt": "a", **line}) for line in lines).encode()
        (home / "p.jsonl").write_bytes(raw[: len(raw) - cut])
        judge(home, "batch", "p.jsonl", "-m", "tiny", "-o", "out/", *few)
        judge(home, "batch", "p.jsonl", "-o", "out/{slug}/{model}-{preset}.png", "--json", *few)

    fuzz(st.tuples(st.lists(records, max_size=4), st.integers(0, 9)), check, count)


@pytest.mark.parametrize("count", COUNTS)
def test_any_rows_and_any_bytes(home, count):
    def check(example):
        header, rows, raw = example
        cells = [",".join(header), *(",".join(row) for row in rows)]
        (home / "p.csv").write_bytes(raw or as_bytes("\n".join(cells)))
        judge(home, "batch", "p.csv", "-m", "tiny", "-o", "out/", "--exists", "overwrite", *few)
        (home / "p").write_bytes(raw or as_bytes("\n".join(cells)))
        judge(home, "batch", "p", "-m", "tiny", "-o", "out/", "--dry-run", *few)

    header = st.lists(st.sampled_from(["prompt", *KEYS, "n", "x"]), min_size=1, max_size=4)
    rows = st.lists(st.lists(words, max_size=5), max_size=4)
    raw = st.one_of(st.none(), st.binary(max_size=200))
    fuzz(st.tuples(header, rows, raw), check, count)


@pytest.mark.parametrize("count", COUNTS)
def test_any_picture(home, count):
    job = Job(prompt="a cat", seed=1)
    grey = Image.new("RGB", (64, 64))

    def check(example):
        record, text, spots, cut = example
        recipe = recipes.texts_of(job, version="0", model="tiny", size=(64, 64))
        if record is not None:
            said = {"schema": 1, "job": {"prompt": "a", "seed": 1, **record}}
            recipe = {"sdfast": json.dumps(said)}
        if text is not None:
            recipe = {"parameters": text}
        raw = bytearray(image_files.encode(grey, recipe))
        for spot, value in spots:
            raw[spot % len(raw)] = value
        (home / "x.png").write_bytes(bytes(raw[: len(raw) - cut]))
        judge(home, "info", "x.png")
        judge(home, "gen", "--from", "x.png", "--dry-run", "-m", "tiny")

    spots = st.just([]) | st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=3)
    text = words | st.builds(
        "{}\nSteps: {}, Sampler: {}, Size: {}".format, words, words, words, words
    )
    fuzz(
        st.tuples(st.none() | records, st.none() | text, spots, st.sampled_from([0] * 8 + [5, 60])),
        check,
        count,
    )


@pytest.mark.parametrize("count", COUNTS)
def test_any_settings(home, count):
    def check(example):
        config, aliases = example
        (home / "config" / "config.yaml").write_bytes(as_bytes(yaml_of(config)))
        (home / "config" / "aliases.yaml").write_bytes(as_bytes(yaml_of(aliases)))
        judge(home, "gen", "a", "--dry-run", "--seed", "1")
        judge(home, "models", "list")

    names = st.sampled_from(["model", "preset", "keep_warm"]) | words
    config = st.dictionaries(names, scalars, max_size=3)
    fuzz(st.tuples(config, st.dictionaries(words, scalars, max_size=3)), check, count)


@pytest.mark.parametrize("count", COUNTS)
def test_any_words(home, count):
    flags = st.sampled_from(
        [
            *("-s", "-g", "-n", "-m", "-p", "-x", "--sampler", "--order", "--spacing", "--seed"),
            *("--size", "--exists", "--from", "--device", "--dtype", "--method"),
        ]
    )

    def check(example):
        prompt, given_ = example
        argv = [word for pair in given_ for word in pair]
        if not any("\0" in word for word in argv):  # which no system passes on
            judge(home, "gen", "--dry-run", *argv, "--", prompt)

    fuzz(st.tuples(words, st.lists(st.tuples(flags, words), max_size=4)), check, count)


def test_a_bomb_is_not_unpacked(home):
    packed = zlib.compress(b"\0" * 50_000_000)
    import struct

    chunk = b"sdfast\0\0" + packed
    body = struct.pack(">I", len(chunk)) + b"zTXt" + chunk
    body += struct.pack(">I", zlib.crc32(b"zTXt" + chunk))
    whole = image_files.encode(Image.new("RGB", (8, 8)), {})
    (home / "x.png").write_bytes(whole[:33] + body + whole[33:])
    judge(home, "info", "x.png")


@pytest.mark.parametrize(
    "recipe",
    [
        {"positive_prompt": "a cat", "steps": 2, "seed": 1, "\x1b]52;c;aGk=\x07\x1b[2J\x9b2J": 1},
        {"positive_prompt": "a cat", "steps": 2, "seed": 1} | {f"key{i}": i for i in range(9_000)},
        {"positive_prompt": "a cat", "steps": 2, "seed": 1} | {f"{i}" * 300: i for i in range(40)},
    ],
    ids=["escapes", "many", "long"],
)
def test_what_a_recipe_says_besides_is_a_short_line(home, recipe):
    (home / "r.json").write_text(json.dumps(recipe))
    code, out, err = judge(home, "gen", "--from", "r.json", "-m", "tiny", "--dry-run")
    assert (code, len(out.splitlines())) == (0, 1)
    notes = err.splitlines()
    assert notes[0].startswith("note: of that picture's recipe, not followed: ")
    assert all(line.isprintable() and len(line) < 2500 for line in notes)


@pytest.mark.parametrize("key", ["Lora hashes", "TI hashes"])
def test_a_text_of_hashes_without_any_takes_no_time(home, key):
    text = f'fog\nSteps: 2, Sampler: Euler, CFG scale: 2, Seed: 1, {key}: "{"x" * 900_000}"'
    (home / "p.txt").write_text(text)
    code, out, _ = judge(home, "gen", "--from", "p.txt", "-m", "tiny", "--dry-run")
    assert (code, len(out.splitlines())) == (0, 1)


def test_lines_of_json_do_nothing_to_a_terminal(home):
    prompt = "a\x9b2Jb\u202ec\u200d\U0001f600\x7f\u3000\u061c\U000e0041"
    code, out, _ = judge(home, "gen", prompt, "-m", "tiny", "--seed", "1", "--dry-run")
    assert (code, json.loads(out)["prompt"]) == (0, prompt)
    assert out.rstrip("\n").isprintable()
    assert "\U0001f600" in out
