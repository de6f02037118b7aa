"""`sdfast batch` as a shell sees it, on jobs that go as they should and some that do not."""

import io
import json
import os
import pty
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import fsspec
import numpy
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image
from processes import all_drawn, shell

from sdfast.batch.manifest import open_manifest
from sdfast.batch.pictures import texts
from sdfast.batch.seen import look, look_into
from sdfast.batch.shards import WHOLE
from sdfast.errors import JobError, UsageError
from sdfast.image_files import encode
from sdfast.job import Job, read_job
from sdfast.models.room import Room

QUICK = ("-s", "1", "-m", "tiny", "-o", "out/")

pytestmark = pytest.mark.usefixtures("here")


def pixels(path):
    with Image.open(path) as picture:
        return numpy.asarray(picture).astype(int)


def told(folder="out", status="done"):
    lines = [json.loads(line) for line in Path(folder, "sdfast.jsonl").read_text().splitlines()]
    return [line for line in lines if line["status"] == status]


def pictures(folder="out"):
    return sorted(path.name for path in Path(folder).rglob("*.png"))


def test_what_dry_runs_print_is_painted(sdfast, here):
    words = ("-m", "tiny", "-s", "1", "--size", "64x64", "--dry-run")
    Path("p.txt").write_text("a cat\na dog\n")
    Path("batch.jsonl").write_text(sdfast("batch", "p.txt", *words)[1])
    Path("gen.jsonl").write_text(sdfast("gen", "a cat", "--seed", "1,2", *words)[1])
    Path("grid.jsonl").write_text(sdfast("grid", "a cat", "--x", "seed=1,2", *words)[1])
    for name in ("batch", "gen", "grid"):
        assert sdfast("batch", f"{name}.jsonl", "-o", f"{name}/")[0] == 0
        assert len([*Path(name).glob("*.png")]) == 2


@pytest.mark.parametrize(
    "flags",
    [
        ("--sampler", "DPM++ 2M Karras"),
        ("--sampler", "dpm++"),
        ("--spacing", "uniform"),
        ("--set", "final=zero", "--set", "corrector=false"),
        ("-p", "pndm50", "-s", "6"),
    ],
)
@pytest.mark.parametrize("command", ["gen", "grid", "batch"])
def test_what_dry_runs_print_is_the_same_job(sdfast, here, command, flags):
    Path("p.txt").write_text("a cat\n")
    asked = {"gen": ("a cat",), "grid": ("a cat", "--x", "seed=1"), "batch": ("p.txt",)}[command]
    told = sdfast(command, *asked, "-m", "tiny", "--size", "64x64", *flags, "--dry-run")[1]
    Path("j.jsonl").write_text(told)
    for preset in ("default", "a1111"):
        again = sdfast("batch", "j.jsonl", "-m", "tiny", "-p", preset, "--dry-run")[1]
        first, second = ({**json.loads(line)} for line in (told, again))
        for record in (first, second):
            for name in ("key", "cell"):
                record.pop(name, None)
        assert read_job(first) == read_job(second)


def test_a_manifest_that_is_a_link_is_not_written_to(sdfast, here):
    """Whoever packs a folder may let it lead to a file of whoever unpacks it."""
    Path("p.jsonl").write_text('{"prompt": "a", "$(touch x)": 1}\n')
    own = here / "own"
    own.write_text("mine\n")
    Path("out").mkdir()
    Path("out", "sdfast.jsonl").symlink_to(own)
    code, out, err = sdfast("batch", "p.jsonl", *QUICK)
    assert (code, out) == (2, "")
    assert err == "error: cannot write `out/sdfast.jsonl`: it is a link\n"
    assert own.read_text() == "mine\n"


@pytest.mark.parametrize("other", [True, False], ids=["of another shard", "its own"])
def test_a_manifest_that_is_no_file_is_not_read_for_ever(sdfast, other):
    Path("p.txt").write_text("a\n")
    Path("out").mkdir()
    os.mkfifo(Path("out", "sdfast-2-of-4.jsonl" if other else "sdfast.jsonl"))
    code, out, err = sdfast("batch", "p.txt", *QUICK)
    assert (code, out) == (2, "")
    assert "it is no file" in err


def test_each_line_is_a_picture_and_a_second_run_has_nothing_to_do(sdfast):
    Path("p.txt").write_text("a cat\na dog\na cat\n")
    code, out, _ = sdfast("batch", "p.txt", *QUICK)
    assert code == 0
    assert sorted(out.splitlines()) == [f"out/{name}" for name in pictures()]
    assert len(pictures()) == 3
    before = {name: Path("out", name).stat().st_mtime_ns for name in pictures()}
    code, out, err = sdfast("batch", "p.txt", *QUICK)
    assert (code, out) == (0, "")
    assert "0 painted; 3 there before" in err
    assert before == {name: Path("out", name).stat().st_mtime_ns for name in pictures()}


def test_a_job_that_is_done_is_not_painted_again_under_another_name(sdfast):
    Path("p.txt").write_text("a cat\na dog\n")
    words = ("batch", "p.txt", "-s", "1", "-m", "tiny", "-o")
    assert sdfast(*words, "out/{slug}.png")[1].count("\n") == 2
    for other in ("out/{seed}.png", "out/{slug}.jpg", "out/"):
        assert sdfast(*words, other)[:2] == (0, "")


def test_a_name_tells_how_many_pictures_a_file_asks_for_and_of_a_pipe_none(sdfast):
    Path("p.jsonl").write_text('{"prompt": "a", "n": 3}\n')
    words = ("batch", "p.jsonl", "-s", "1", "-m", "tiny", "-o")
    assert sdfast(*words, "{i}-{n}.png")[1].split() == [f"{k}-3.png" for k in (1, 2, 3)]
    ran = shell("batch", "-", *words[2:], "pipe/{i}-{n}.png", input=b"a cat\n")
    assert (ran.returncode, ran.stdout) == (0, b"pipe/1-0.png\n")


def test_a_batch_paints_what_gen_paints(sdfast):
    Path("p.jsonl").write_text('{"prompt": "a cat", "seed": 5, "steps": 3}\n')
    sdfast("batch", "p.jsonl", *QUICK)
    sdfast("gen", "a cat", "--seed", "5", "-s", "3", "-m", "tiny")
    assert (pixels("out/a-cat-5.png") == pixels("a-cat-5.png")).all()


def test_pictures_painted_together_are_those_painted_alone_but_for_rounding(sdfast):
    Path("p.txt").write_text("".join(f"a cat {k}\n" for k in range(5)))
    _, out, _ = sdfast("batch", "p.txt", "-s", "4", "-m", "tiny", "-o", "many/", "--json")
    sdfast("batch", "p.txt", "-s", "4", "-m", "tiny", "-o", "one/", "--batch-size", "1")
    assert [json.loads(line)["together"] for line in out.splitlines()] == [5] * 5
    assert pictures("many") == pictures("one")
    for name in pictures("many"):
        assert abs(pixels(f"many/{name}") - pixels(f"one/{name}")).max() <= 2


def test_a_picture_that_was_taken_away_or_cut_short_is_painted_again(sdfast):
    Path("p.txt").write_text("a\nb\nc\n")
    sdfast("batch", "p.txt", *QUICK)
    first, second, third = (Path("out", name) for name in pictures())
    whole = second.read_bytes()
    first.unlink()
    second.write_bytes(whole[:-20])
    code, out, _ = sdfast("batch", "p.txt", *QUICK, "--exists", "overwrite")
    assert code == 0
    assert sorted(out.splitlines()) == [str(first), str(second)]
    assert second.read_bytes() == whole
    assert third.exists()


@pytest.mark.parametrize("more", [(), ("--no-metadata",)])
@pytest.mark.parametrize("ending", ["jpg", "webp"])
def test_photos_are_known_again_as_pngs_are(sdfast, ending, more):
    Path("p.txt").write_text("a cat\na dog\n")
    words = ("batch", "p.txt", "-s", "2", "-m", "tiny", "-o", f"out/{{slug}}.{ending}", *more)
    assert sorted(sdfast(*words)[1].splitlines()) == [f"out/a-{w}.{ending}" for w in ("cat", "dog")]
    if not more:
        assert '"prompt": "a cat"' in sdfast("info", "--json", f"out/a-cat.{ending}")[1]
    first = Path(f"out/a-cat.{ending}")
    whole = first.read_bytes()
    for length in (0, 2, 11, 200, len(whole) // 2, len(whole) - 1):
        first.write_bytes(whole[:length])
        assert sdfast(*words, "--exists", "skip")[:2] == (0, f"{first}\n"), length
        assert first.read_bytes() == whole
    Path("out/sdfast.jsonl").unlink()  # each tells for itself
    assert sdfast(*words)[:2] == (0, "")
    assert sdfast(*words, "-s", "3")[1].count("\n") == 2
    assert len(list(Path("out").glob(f"*.{ending}"))) == 4
    assert first.read_bytes() == whole


def test_a_photo_is_known_again_behind_what_others_wrote_into_it():
    path, key, note = Path("a.jpg"), bytes(range(16)), b"http://ns.adobe.com/xap/1.0/\0<x/>"
    whole = encode(Image.new("RGB", (16, 16)), texts({}, key), path)
    path.write_bytes(whole[:2] + b"\xff\xe1" + (len(note) + 2).to_bytes(2) + note + whole[2:])
    assert look(path) == (True, key, False)


class Sparing(io.BytesIO):
    """A file that nobody may read to its end unasked."""

    def read(self, count=-1):
        assert 0 <= count <= 2**16
        return super().read(count)


def shot(camera=None):
    """Somebody's own JPEG, its image's ID as a camera writes it."""
    file, tags = io.BytesIO(), Image.Exif()
    if camera:
        tags[0x0131] = camera
        tags[0x8769] = {0xA420: "0123456789abcdef" * 2}
    Image.new("RGB", (64, 64), "red").save(file, "JPEG", exif=tags)
    return file.getvalue()


@pytest.mark.parametrize("policy", ["rename", "skip", "overwrite"])
@pytest.mark.parametrize(
    "theirs",
    [
        shot() + b"\n",
        shot("Camera 1.0") + bytes(100_000),  # a film behind it
        shot("Camera 1.0")[:-2],
        shot()[:20] + b"\xff" * 5000 + shot()[20:],
        b"\xff\xd8" + b"\xff" * 100_000,
        b"\xff\xd8\xff\xe0\0\0" * 5000,
        b"\xff\xd8\xff\xe1\0\0" + bytes(5000),
        b"\xff\xd8\xff\xe1\0\x20Exif\0\0MM\0*" + b"\0\0\0\x08\0\x09" * 9 + shot()[2:],
    ],
)
def test_somebodys_photo_in_a_pictures_place_is_no_picture_cut_short(sdfast, theirs, policy):
    Path("p.txt").write_text("a cat\n")
    words = ("batch", "p.txt", "-s", "2", "-m", "tiny", "-o", "out/{slug}.jpg", "-q")
    assert sdfast(*words)[0] == 0
    Path("out/a-cat.jpg").write_bytes(theirs)
    assert look(Path("out/a-cat.jpg")) == look_into(Sparing(theirs)) == (True, None, False)
    assert sdfast(*words, "--exists", policy)[0] == 0
    assert (Path("out/a-cat.jpg").read_bytes() == theirs) == (policy != "overwrite")


@pytest.mark.parametrize("left", [b"", b"\x89P", None], ids=["nothing", "a beginning", "half"])
@pytest.mark.parametrize("policy", ["rename", "skip", "error", "overwrite"])
def test_what_is_left_of_a_picture_makes_room_for_it(sdfast, policy, left):
    Path("p.txt").write_text("a\nb\n")
    sdfast("batch", "p.txt", *QUICK)
    first, second = (Path("out", name) for name in pictures())
    whole = first.read_bytes()
    first.write_bytes(whole[: len(whole) // 2] if left is None else left)
    code, out, _ = sdfast("batch", "p.txt", *QUICK, "--exists", policy)
    assert (code, out.split()) == (0, [str(first)])
    assert first.read_bytes() == whole
    assert pictures() == [first.name, second.name]


def test_a_plain_name_is_a_folder(sdfast):
    Path("p.txt").write_text("a\n")
    words = ("batch", "p.txt", "-s", "1", "-m", "tiny", "-o")
    code, out, _ = sdfast(*words, "new/ones")
    assert (code, Path(out.strip()).parent) == (0, Path("new/ones"))
    assert sdfast(*words, "p.txt")[0] == 2
    Path("file").touch()
    code, _, err = sdfast(*words, "file")
    assert code == 2
    assert "neither a folder nor the name of a PNG" in err


@pytest.mark.parametrize("name", ["some.png", "."])
def test_what_is_no_text_is_refused_and_leaves_nothing(sdfast, name):
    Image.new("RGB", (300, 300)).save("some.png")
    code, _, err = sdfast("batch", name, "-o", "out/", "-s", "2")
    assert code == 2
    assert "is no text in UTF-8" in err or "is a folder" in err
    assert not Path("out").exists()


@pytest.mark.parametrize("more", [(), ("--no-safety",)])
def test_what_somebody_put_in_a_pictures_place_stays(sdfast, more):
    Path("p.txt").write_text("a\n")
    sdfast("batch", "p.txt", *QUICK)
    (name,) = pictures()
    Path("out", name).write_bytes(b"a letter")
    assert sdfast("batch", "p.txt", *QUICK, *more)[0] == 0
    assert Path("out", name).read_bytes() == b"a letter"
    assert len(pictures()) == 2


def test_a_picture_that_no_manifest_tells_of_is_found_by_its_key(sdfast):
    Path("p.txt").write_text("a\nb\n")
    sdfast("batch", "p.txt", *QUICK)
    Path("out/sdfast.jsonl").unlink()
    code, out, _ = sdfast("batch", "p.txt", *QUICK)
    assert (code, out) == (0, "")
    assert {line["key"] for line in told()} == {
        look(Path("out", name)).key.hex() for name in pictures()
    }


def test_a_torn_line_and_a_strangers_line_are_passed_over(sdfast):
    Path("p.txt").write_text("a\nb\n")
    sdfast("batch", "p.txt", *QUICK)
    manifest = Path("out/sdfast.jsonl")
    torn = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(torn[0] + b'[1]\n{"status": "done"}\n\xff\n' + torn[1] + torn[2][:30])
    code, out, _ = sdfast("batch", "p.txt", *QUICK)
    assert (code, out) == (0, "")
    assert len(pictures()) == 2
    json.loads(manifest.read_text(errors="replace").splitlines()[-1])


def test_bad_lines_and_unknown_models_fail_and_the_others_are_painted(sdfast):
    Path("p.jsonl").write_text(
        '{"prompt": "a", "seed": 1}\n{"prompt\n{"prompt": "b", "steps": 0}\n'
        '{"prompt": "c", "model": "tinny"}\n{"prompt": "d", "seed": 2}\n'
    )
    code, out, err = sdfast("batch", "p.jsonl", *QUICK)
    assert code == 5
    assert out.splitlines() == ["out/a-1.png", "out/d-2.png"]
    assert "error: p.jsonl:2: is not JSON" in err
    assert "error: p.jsonl:3: steps must be from 1 to 1000, not `0`" in err
    assert "error: p.jsonl:4: there is no model `tinny`\nhint: did you mean `tiny`?" in err
    assert "3 jobs have failed; out/sdfast.jsonl says why" in err
    assert [line["line"] for line in told(status="failed")] == [2, 3, 4]
    assert sdfast("batch", "p.jsonl", *QUICK)[0] == 5
    assert len(told(status="failed")) == 3  # and are not written down twice


def test_what_has_failed_is_tried_again_if_asked(sdfast, small):
    Path("p.jsonl").write_text('{"prompt": "a", "seed": 1, "model": "./late"}\n')
    assert sdfast("batch", "p.jsonl", *QUICK)[0] == 5
    Path("late").symlink_to(small)
    code, out, err = sdfast("batch", "p.jsonl", *QUICK)
    assert (code, out) == (5, "")
    assert "--retry-failed tries again" in err
    assert sdfast("batch", "p.jsonl", *QUICK, "--retry-failed")[:2] == (0, "out/a-1.png\n")
    assert sdfast("batch", "p.jsonl", *QUICK)[0] == 0


def test_a_broken_line_that_is_tried_again_is_told_again(sdfast):
    Path("p.jsonl").write_text('{"prompt\n')
    for words, told_again in (((), True), ((), False), (("--retry-failed",), True)):
        code, out, _ = sdfast("batch", "p.jsonl", *QUICK, "--json", *words)
        assert code == 5
        assert ("is not JSON" in out) == told_again
    assert sdfast("batch", "p.jsonl", *QUICK, "--dry-run", "--retry-failed")[0] == 5


def test_a_job_that_failed_once_and_was_painted_has_not_failed(sdfast, small):
    Path("p.jsonl").write_text('{"prompt": "a", "seed": 1, "model": "./late"}\n')
    sdfast("batch", "p.jsonl", *QUICK)
    Path("late").symlink_to(small)
    sdfast("batch", "p.jsonl", *QUICK, "--retry-failed")
    Path("out/a-1.png").unlink()
    assert sdfast("batch", "p.jsonl", *QUICK)[:2] == (0, "out/a-1.png\n")


def test_weights_that_are_broken_fail_their_jobs_alone(sdfast, small):
    shutil.copytree(small, "broken")
    weights = next(Path("broken", "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-999])
    lines = [{"prompt": "a", "seed": k, "model": m} for k, m in enumerate(["./broken", "tiny"] * 2)]
    Path("p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, out, err = sdfast("batch", "p.jsonl", *QUICK)
    assert (code, out.split()) == (5, ["out/a-1.png", "out/a-3.png"])
    assert "error: p.jsonl:1: " in err
    assert [line["line"] for line in told(status="failed")] == [1, 3]


@pytest.mark.parametrize("broken", ['"model": "tinny"', '"order": 0'])
@pytest.mark.parametrize("second", ['"seed": 1', '"order": 0'])
def test_fail_fast_ends_with_the_first_failure_and_tells_it_alone(sdfast, broken, second):
    Path("p.jsonl").write_text(f'{{"prompt": "a", {broken}}}\n{{"prompt": "b", {second}}}\n')
    code, out, err = sdfast("batch", "p.jsonl", *QUICK, "--fail-fast")
    assert (code, out) == (5, "")
    assert ("p.jsonl:1: " in err, "p.jsonl:2: " in err) == (True, False)
    assert not told(status="ended")


@pytest.mark.parametrize("flag", ["--lora", "--embedding", "--vae"])
def test_weights_that_are_not_there_end_a_batch_before_it_begins(sdfast, flag):
    Path("p.txt").write_text("a cat\n")
    code, out, err = sdfast("batch", "p.txt", *QUICK, flag, "no.safetensors")
    assert (code, out) == (3, "")
    assert "no.safetensors` is not there" in err
    assert not Path("out").exists()


def test_a_dry_run_that_fails_fast_prints_all_until_one_fails(sdfast):
    Path("p.jsonl").write_text(
        '{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": "c", "order": 0}\n{"prompt": "d"}\n'
    )
    code, out, _ = sdfast("batch", "p.jsonl", *QUICK, "--dry-run", "--fail-fast")
    assert code == 5
    assert [json.loads(line)["prompt"] for line in out.splitlines()] == ["a", "b"]


def test_jobs_of_one_model_run_together(sdfast, small):
    models = ["tiny", str(small), "tiny", str(small)]
    lines = [json.dumps({"prompt": "a", "seed": k, "model": m}) for k, m in enumerate(models)]
    Path("p.jsonl").write_text("\n".join(lines))
    _, out, _ = sdfast("batch", "p.jsonl", *QUICK, "--json", "--batch-size", "1")
    done = [json.loads(line) for line in out.splitlines()]
    assert [line["seed"] for line in done] == [0, 2, 1, 3]
    assert [line["load_s"] > 0 for line in done] == [True, False, True, False]


def test_shards_share_a_folder_and_the_whole_finds_nothing_left(sdfast):
    Path("p.txt").write_text("".join(f"p{k}\n" for k in range(7)))
    for i, count in ((1, 3), (2, 2), (3, 2)):
        _, out, _ = sdfast("batch", "p.txt", *QUICK, "--shard", f"{i}/3")
        assert len(out.splitlines()) == count
    code, out, _ = sdfast("batch", "p.txt", *QUICK)
    assert (code, out) == (0, "")
    assert len(pictures()) == 7


def test_the_number_of_shards_may_change_from_run_to_run(sdfast):
    Path("p.txt").write_text("".join(f"p{k}\n" for k in range(1, 8)))
    words = ("batch", "p.txt", "-s", "1", "-m", "tiny", "--json")
    for shard, made in (("1/2", "1357"), ("2/3", "2"), ("1/3", "4"), (None, "6")):
        more = () if shard is None else ("--shard", shard)
        code, out, _ = sdfast(
            *words, *more, "-o", f"out/{made}-{{slug}}.png"
        )  # never found by name
        assert code == 0
        assert [json.loads(line)["prompt"] for line in out.splitlines()] == [f"p{k}" for k in made]
    assert len(pictures()) == 7


def test_a_shards_pictures_are_painted_together(sdfast):
    Path("p.txt").write_text("".join(f"p{k}\n" for k in range(8)))
    _, out, _ = sdfast("batch", "p.txt", *QUICK, "--shard", "1/2", "--json")
    assert [json.loads(line)["together"] for line in out.splitlines()] == [4] * 4


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("64x64", 16),
        ("128x128", 16),
        ("136x128", 15),
        ("256x256", 4),
        ("512x512", 1),
        ("1024x64", 4),
        ("1024x1024", 1),
    ],
)
def test_on_a_processor_as_many_go_together_as_make_512_by_512_pixels(size, count):
    model = SimpleNamespace(device=torch.device("cpu"))
    job = Job(prompt="a cat", size=size)
    assert Room(model).holds(job) == count
    assert Room(model, wanted=9).holds(job) == 9


def test_what_a_killed_shard_has_left_is_cleared_by_the_whole(sdfast):
    Path("p.txt").write_text("a\nb\n")
    sdfast("batch", "p.txt", *QUICK, "--shard", "1/2")
    drafts = [Path("out", f".{name}+aa.tmp") for name in ("sdfast-1-of-2", "sdfast-2-of-2")]
    for draft in drafts:
        draft.write_bytes(b"torn")
    sdfast("batch", "p.txt", *QUICK, "--shard", "2/2")
    assert [draft.exists() for draft in drafts] == [True, False]
    sdfast("batch", "p.txt", *QUICK)
    assert not any(draft.exists() for draft in drafts)


def test_a_pipe_that_has_a_pictures_name_is_not_waited_for(sdfast):
    Path("out").mkdir()
    os.mkfifo("out/a.png")
    Path("p.txt").write_text("a\n")
    words = ("batch", "p.txt", "-s", "1", "-m", "tiny", "-o", "out/{slug}.png")
    assert sdfast(*words)[0] == 0
    assert Path("out/a.png").is_fifo()


def test_a_limit_leaves_the_rest_for_another_run(sdfast):
    Path("p.txt").write_text("".join(f"p{k}\n" for k in range(5)))
    counts = [len(sdfast("batch", "p.txt", *QUICK, "--limit", "2")[1].split()) for _ in range(4)]
    assert counts == [2, 2, 1, 0]


def test_a_dry_run_prints_what_is_missing_and_makes_nothing(sdfast, here):
    Path("p.txt").write_text("a\nb\n")
    code, out, _ = sdfast("batch", "p.txt", *QUICK, "--dry-run")
    assert code == 0
    assert [json.loads(line)["prompt"] for line in out.splitlines()] == ["a", "b"]
    assert [path.name for path in here.iterdir()] == ["p.txt"]
    sdfast("batch", "p.txt", *QUICK, "--limit", "1", "--batch-size", "1")
    _, out, _ = sdfast("batch", "p.txt", *QUICK, "--dry-run")
    assert [json.loads(line)["prompt"] for line in out.splitlines()] == ["b"]


@pytest.mark.parametrize(
    ("policy", "names"),
    [
        ("rename", {"a.png", "a-KEY.png"}),
        ("skip", {"a.png"}),
        ("error", {"a.png"}),
        ("overwrite", {"a.png"}),
    ],
)
def test_another_pictures_name_is_treated_as_told(sdfast, policy, names):
    Path("out").mkdir()
    Path("out/a.png").write_bytes(b"mine")
    Path("p.txt").write_text("a\n")
    words = ("batch", "p.txt", "-s", "1", "-m", "tiny", "-o", "out/{slug}.png", "--exists", policy)
    ended = sdfast(*words)[0]
    assert ended == (5 if policy == "error" else 0)
    key = next(iter(told() + told(status="kept") + told(status="failed")))["key"]
    assert set(pictures()) == {name.replace("KEY", key[:16]) for name in names}
    assert (Path("out/a.png").read_bytes() == b"mine") == (policy != "overwrite")
    assert sdfast(*words)[:2] == (ended, "")


def test_no_picture_of_a_batch_overwrites_another(sdfast):
    Path("p.txt").write_text("a\nb\nc\n")
    words = ("batch", "p.txt", "-s", "1", "-m", "tiny", "-o", "out/x.png", "--exists", "overwrite")
    assert sdfast(*words)[0] == 0
    assert len(pictures()) == 3
    assert sdfast(*words)[:2] == (0, "")


def test_a_black_picture_of_another_job_is_not_overwritten_either(sdfast):
    theirs = encode(Image.new("RGB", (64, 64)), texts({}, bytes(16), unsafe=True))
    Path("out").mkdir()
    Path("out/x.png").write_bytes(theirs)
    Path("p.txt").write_text("a\n")
    words = ("batch", "p.txt", "-s", "1", "-m", "tiny", "-o", "out/x.png", "--exists", "overwrite")
    assert sdfast(*words)[0] == 0
    assert Path("out/x.png").read_bytes() == theirs
    assert len(pictures()) == 2


def test_pictures_carry_their_recipe_or_their_key_alone(sdfast):
    Path("p.txt").write_text("a cat\n")
    _, out, _ = sdfast("batch", "p.txt", *QUICK)
    assert json.loads(sdfast("info", out.strip(), "--json")[1])["job"]["prompt"] == "a cat"
    _, out, _ = sdfast("batch", "p.txt", "-s", "1", "-m", "tiny", "-o", "bare/", "--no-metadata")
    assert sdfast("info", out.strip())[0] == 2
    assert look(Path(out.strip())).key is not None


def test_a_picture_to_begin_from_is_found_wherever_it_is_painted(sdfast):
    Path("p.jsonl").write_text('{"prompt": "a cat", "seed": 5}\n')
    sdfast("batch", "p.jsonl", *QUICK)
    Path("q.jsonl").write_text('{"prompt": "a dog", "seed": 5, "init": "out/a-cat-5.png"}\n')
    words = ("q.jsonl", "-s", "4", "-m", "tiny", "-o", "over/")
    code, out, _ = sdfast("batch", *words, "--json")
    assert code == 0
    assert json.loads(out)["init"] == str(Path("out/a-cat-5.png").absolute())
    assert sdfast("batch", *words)[:2] == (0, "")


def test_files_given_as_flags_are_for_every_line_that_names_none(sdfast):
    Path("p.jsonl").write_text('{"prompt": "a cat", "seed": 5}\n')
    sdfast("batch", "p.jsonl", *QUICK)
    shutil.copy("out/a-cat-5.png", "b.png")
    lines = ('{"prompt": "a dog", "seed": 5}', '{"prompt": "a fox", "seed": 5, "init": "b.png"}')
    Path("q.jsonl").write_text("\n".join(lines))
    words = ("q.jsonl", "-s", "4", "-m", "tiny", "-o", "over/", "--strength", "0.5", "--json")
    code, out, _ = sdfast("batch", *words, "--init", "out/a-cat-5.png")
    assert code == 0
    said = {one["prompt"]: one for one in map(json.loads, out.splitlines())}
    assert said["a dog"]["init"] == str(Path("out/a-cat-5.png").absolute())
    assert said["a fox"]["init"] == str(Path("b.png").absolute())
    assert [one["strength"] for one in said.values()] == [0.5, 0.5]
    dog = ("gen", "a dog", "--seed", "5", "-s", "4", "-m", "tiny", "--init", "b.png")
    assert sdfast(*dog, "--strength", "0.5", "-o", "g.png")[0] == 0
    assert (pixels("over/a-dog-5.png") == pixels("g.png")).all()


def test_a_flag_is_judged_with_the_line_that_it_is_for(sdfast):
    Path("p.jsonl").write_text('{"prompt": "a cat", "seed": 5}\n')
    sdfast("batch", "p.jsonl", *QUICK)
    own = {"prompt": "a dog", "init": "out/a-cat-5.png", "steps": 100, "lora": []}
    Path("own.jsonl").write_text(json.dumps(own))
    Path("style.yaml").write_text("lora: [nowhere.safetensors]\n")
    words = ("batch", "own.jsonl", "-p", "style.yaml", "-m", "tiny", "-o", "over/", "--dry-run")
    code, out, _ = sdfast(*words, "--strength", "0.02", "--mask", "out/a-cat-5.png")
    said = json.loads(out)
    assert (code, said["strength"], "lora" in said) == (0, 0.02, False)
    assert said["mask"] == said["init"] == str(Path("out/a-cat-5.png").absolute())
    code, _, err = sdfast(*words, "--strength", "2")
    assert (code, err) == (2, "error: strength must be above 0 and at most 1, not `2`\n")


def test_a_lora_that_is_not_there_is_found_before_anything_is_painted(sdfast):
    Path("p.jsonl").write_text('{"prompt": "a cat", "lora": "mine.safetensors"}\n')
    assert sdfast("batch", "p.jsonl", *QUICK, "--lora", "all.safetensors")[0] == 3
    assert not Path("out").exists()
    for words in (("--dry-run",), ()):
        code, out, err = sdfast("batch", "p.jsonl", *QUICK, *words)
        assert (code, out) == (5, "")
        assert f"{Path('mine.safetensors').absolute()}` is not there" in err


def test_each_kind_of_remark_is_made_once_a_run(sdfast):
    Path("p.txt").write_text("a cat\na zyx AND b\na wuv <lora:x:1>\n")
    _, _, err = sdfast("batch", "p.txt", *QUICK)
    assert err.count("note: p.txt:2: tiny knows ") == err.count(" things; ") == 1
    assert '"zyx" is not among them' in err
    assert err.count("note: p.txt:2: read as words and not followed: `AND`") == 1
    assert err.count("not followed") == 1
    assert "note:" not in sdfast("batch", "p.txt", *QUICK[:-1], "two/", "-q")[2]


def test_what_decoding_took_is_remarked_upon(capsys):
    from sdfast.batch.events import Painted, Picture
    from sdfast.cli.how import How
    from sdfast.cli.telling import Telling
    from sdfast.events import Times
    from sdfast.job import Job

    telling = Telling("p.txt", How(), as_json=False)
    times = Times(0.0, (0.0,), 0.0)
    picture = Picture(Job(prompt="a"), b"", times, 0.0, "cpu", "fp16", 1, True, 4)
    for number in (1, 2):
        telling.tell(Painted(bytes(16), number, "a.png", 0.0, picture))
    assert capsys.readouterr().err.splitlines() == [
        "note: p.txt:1: half precision overflowed; the picture was decoded again in float32",
        "note: p.txt:1: decoded in 4 tiles, as the memory is short",
    ]


def complaints(capsys, errors):
    """What is told of a run whose jobs fail so, line by line."""
    from sdfast.batch.events import Failed
    from sdfast.cli.how import How
    from sdfast.cli.telling import Telling

    telling = Telling("p.txt", How(), as_json=False)
    for number, error in enumerate(errors, start=1):
        telling.tell(Failed(bytes(16), number, JobError(error), before=False))
    telling.end()
    return capsys.readouterr().err.splitlines()


def test_errors_alike_are_told_three_times_and_then_counted(capsys):
    assert complaints(capsys, ["it is gone"] * 5) == [
        *(f"error: p.txt:{number}: it is gone" for number in (1, 2, 3)),
        "error: 2 more: it is gone",
        "0 painted; 0 there before, 5 failed",
        "error: 5 jobs have failed; . says why",
        "hint: --retry-failed tries again",
    ]


def test_a_hundred_kinds_of_errors_are_told_apart_and_the_rest_are_one_kind(capsys):
    told = complaints(capsys, [f"error {number}" for number in range(1, 106)])
    assert told[102] == "error: p.txt:103: error 103"
    assert told[103] == "error: 2 more: errors of other kinds"


def test_one_job_that_failed_is_told_as_one(capsys):
    assert "error: 1 job has failed; . says why" in complaints(capsys, ["it is gone"])


def test_vram_is_the_models_to_judge(sdfast):
    Path("p.txt").write_text("a cat\n")
    assert sdfast("batch", "p.txt", *QUICK, "--vram", "full")[0] == 0
    for named, says in (("min", "--vram min is for CUDA"), ("mni", "no --vram `mni`")):
        code, _, err = sdfast("batch", "p.txt", *QUICK[:-1], "two/", "--vram", named)
        assert code == 2
        assert f"error: {'' if named == 'min' else 'there is '}{says}" in err
        assert not pictures("two")


def screen(written):
    """What a terminal shows after all this, line by line."""
    shown, row = [""], 0
    for piece in re.findall(r"\x1b\[[?\d;]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", written):
        match piece:
            case "\n":
                row += 1
                shown += [""] * (row == len(shown))
            case "\x1b[1A":
                row -= 1
            case "\x1b[2K":
                shown[row] = ""
            case _ if piece[0] not in "\r\x1b":
                shown[row] += piece
    return [line for line in shown if line]


def test_a_terminal_counts_pictures_and_shows_no_rest_of_the_bar(here):
    Path("p.jsonl").write_text(
        '{"prompt": "a", "seed": "1..3"}\n{"pro\n{"prompt": "b", "seed": 4}\n'
    )
    command = [sys.executable, "-m", "sdfast", "batch", "p.jsonl", *QUICK, "--batch-size", "1"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    text = all_drawn(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    assert [f"{k}/5" in text for k in range(6)] == [True] * 6
    shown = screen(text)
    assert shown[:2] == [
        "error: p.jsonl:2: is not JSON",
        'hint: a line is {"prompt": "a cat", "seed": 1}',
    ]
    assert shown[2:6] == ["out/a-1.png", "out/a-2.png", "out/a-3.png", "out/b-4.png"]
    assert shown[6].startswith("4 painted, ")


def test_pictures_go_to_any_url(sdfast):
    Path("p.txt").write_text("a\nb\n")
    words = ("batch", "p.txt", "-s", "1", "-m", "tiny", "-o", "memory://far/{slug}.png")
    code, _, err = sdfast(*words)
    assert code == 2
    assert "--manifest FOLDER/" in err
    code, out, _ = sdfast(*words, "--manifest", "here/")
    assert (code, out) == (0, "memory://far/a.png\nmemory://far/b.png\n")
    assert sdfast(*words, "--manifest", "here/")[:2] == (0, "")
    far = fsspec.filesystem("memory")
    with far.open("/far/a.png") as file, Image.open(file) as picture:
        assert picture.size == (128, 128)
    far.pipe_file("/far/b.png", far.cat_file("/far/b.png")[:-9])
    Path("here/sdfast.jsonl").unlink()
    code, out, _ = sdfast(*words, "--manifest", "here/", "--exists", "overwrite")
    assert (code, out) == (0, "memory://far/b.png\n")
    code, _, err = sdfast(*words[:-1], "nothing://x/", "--manifest", "here/")
    assert code == 2
    assert "nothing" in err


class BreakingOff(io.BytesIO):
    """A file whose second read finds nobody any more."""

    def __init__(self, data, error):
        super().__init__(data)
        self.errors = [error, None]

    def read(self, *count):
        if self.errors and (error := self.errors.pop()):
            raise error
        return super().read(*count)


class Faulty(MemoryFileSystem):
    """Files at `faulty://`, of which some cannot be looked at for now."""

    protocol = "faulty"
    store: ClassVar = {}
    pseudo_dirs: ClassVar = [""]
    fault: ClassVar = {}

    def _look(self, how, path):
        if error := self.fault.get((how, path.rpartition("/")[2])):
            raise error

    def _open(self, path, mode="rb", **more):
        if mode == "rb":
            self._look("open", path)
        file = super()._open(path, mode, **more)
        breaks = mode == "rb" and self.fault.get(("read", path.rpartition("/")[2]))
        return BreakingOff(file.read(), breaks) if breaks else file

    def info(self, path, **more):
        self._look("info", path)
        return super().info(path, **more)


@pytest.fixture
def faults():
    """Names that cannot be opened or asked about, each with the error that it raises."""
    fsspec.register_implementation("faulty", Faulty, clobber=True)
    yield Faulty.fault
    Faulty.fault.clear()
    Faulty.store.clear()


@pytest.mark.parametrize("error", [TimeoutError("no answer"), OSError(5, "cut off"), KeyError()])
@pytest.mark.parametrize("manifest", ["here/", "new/"])
def test_a_picture_that_cannot_be_looked_at_is_not_one_that_is_not_there(
    sdfast, faults, manifest, error
):
    Path("p.txt").write_text("a\nb\nc\n")
    words = ("batch", "p.txt", *QUICK[:-1], "faulty://far/{slug}.png", "--manifest")
    assert sdfast(*words, "here/")[0] == 0
    faults["open", "b.png"] = error
    for more in ((), ("--dry-run",)):
        code, out, err = sdfast(*words, manifest, *more)
        assert (code, out) == (5, "")
        (told_of,) = (line for line in err.splitlines() if line.startswith("error: "))
        assert told_of.startswith("error: cannot look at `faulty://far/b.png`: ")
        assert "goes on once that is put right" in err
        assert "failed" not in Path(manifest, "sdfast.jsonl").read_text()
    faults.clear()
    assert sdfast(*words, manifest)[:2] == (0, "")
    Faulty.store.pop(next(path for path in Faulty.store if path.endswith("b.png")))
    assert sdfast(*words, manifest)[:2] == (0, "faulty://far/b.png\n")


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_picture_that_breaks_off_while_it_is_looked_at_is_not_one_cut_short(
    sdfast, faults, ending
):
    Path("p.txt").write_text("a\n")
    words = ("batch", "p.txt", *QUICK[:-1], f"faulty://far/{{slug}}.{ending}", "--manifest", "m/")
    assert sdfast(*words)[0] == 0
    faults["read", f"a.{ending}"] = TimeoutError("no answer")
    code, out, err = sdfast(*words)
    assert (code, out) == (5, "")
    assert f"cannot look at `faulty://far/a.{ending}`: no answer" in err
    faults.clear()
    assert sdfast(*words)[:2] == (0, "")


def test_a_name_that_was_skipped_is_painted_when_it_need_not_be_skipped_any_more(sdfast):
    Path("p.txt").write_text("a\n")
    Path("out").mkdir()
    Path("out/x.png").write_bytes(b"a letter")
    words = ("batch", "p.txt", "-s", "1", "-m", "tiny", "-o", "out/x.png", "--exists")
    for _ in range(2):
        assert sdfast(*words, "skip")[:2] == (0, "")
    code, out, _ = sdfast(*words, "rename")
    assert (code, len(out.split())) == (0, 1)
    assert out.strip() != "out/x.png"
    assert Path("out/x.png").read_bytes() == b"a letter"
    assert sdfast(*words, "rename")[:2] == (0, "")


def test_another_picture_that_cannot_be_asked_about_is_not_painted_over(sdfast, faults):
    Path("p.txt").write_text("a\n")
    files = fsspec.filesystem("faulty")
    files.pipe_file("faulty://far/a.png", b"another")
    faults["info", "a.png"] = TimeoutError("no answer")
    words = ("batch", "p.txt", *QUICK[:-1], "faulty://far/{slug}.png", "--manifest", "here/")
    for exists in ("rename", "skip"):
        code, out, err = sdfast(*words, "--exists", exists)
        assert (code, out) == (5, "")
        assert "cannot look at `faulty://far/a.png`: no answer" in err
    faults.clear()
    assert sdfast(*words, "--exists", "skip")[:2] == (0, "")
    assert files.cat_file("faulty://far/a.png") == b"another"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nothing.txt"], 2, "nothing.txt"),
        (["p.txt", "--shard", "3/2"], 2, "3/2"),
        (["p.txt", "--format", "yaml"], 2, "yaml"),
        (["p.txt", "-o", "{sed}.png"], 2, "did you mean `seed`"),
        (["p.txt", "-o", "x.gif"], 2, "x.gif"),
        (["p.txt", "-o", "-"], 2, "`-`"),
        (["p.txt", "-s", "0"], 2, "steps"),
        (["p.txt", "--seed", "foo"], 2, "`foo` is no seed"),
        (["p.txt", "--seed", "1..2", "-n", "2"], 2, "several seeds or a count"),
        (["p.txt", "-n", "0"], 2, "`n` must be"),
        (["p.csv"], 2, "names `a cat`, which is no key"),
        (["p.csv"], 2, "hint: the first line names the columns"),
        (["p.txt", "-m", "tinny"], 3, "did you mean `tiny`"),
        (["p.txt", "--device", "cuda:99"], 4, "cuda:99"),
        (["p.txt", "--gpus", "7"], 4, "--gpus all"),
        (["p.txt", "--gpus", "cpu", "--ray", "auto"], 2, "is for one machine and `--ray` for many"),
        (["p.txt", "--gpus", "cpu,cpu", "--device", "cpu"], 2, "--device"),
        (["p.txt", "--batch-size", "0"], 2, "batch-size"),
        (["p.txt", "--exists", "maybe"], 2, "maybe"),
        (["p.txt", "-o", "/proc/nowhere/"], 2, "/proc/nowhere"),
        (["."], 2, "`.`"),
    ],
)
def test_what_cannot_begin_is_one_clear_line(sdfast, words, code, says):
    Path("p.txt").write_text("a\n")
    Path("p.csv").write_text("a cat\na dog\n")
    before = sorted(Path().iterdir())
    ended, out, err = sdfast("batch", *words)
    assert sorted(Path().iterdir()) == before
    assert (ended, out) == (code, "")
    assert err.count("error: ") == 1
    assert says in err
    assert not pictures(".")


def test_a_manifest_that_another_run_has_just_begun_stays(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    with (tmp_path / "sdfast.jsonl").open("w") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another batch is painting"):
            open_manifest(tmp_path, WHOLE)
    assert (tmp_path / "sdfast.jsonl").exists()


def test_a_lines_preset_names_its_picture(sdfast, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("prompt,preset,steps\na cat,fast,2\na cat,,2\n")
    code, _, _ = sdfast("batch", "a.csv", "-p", "fine", "-m", "tiny", "-o", "{preset}-{steps}.png")
    assert (code, sorted(path.name for path in tmp_path.glob("*.png"))) == (
        0,
        ["fast-2.png", "fine-2.png"],
    )
