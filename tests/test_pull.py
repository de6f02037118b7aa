"""Models from a Hub on this machine: whole, broken off and gone on with, and refused."""

import hashlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from huggingface_hub.errors import HfHubHTTPError
from original import write_both
from PIL import Image
from processes import all_drawn
from safetensors.torch import load_file, save_file
from small import write_checked_model

from sdfast import load_model, paint
from sdfast.bench.rows import CATALOGUE
from sdfast.cli.fetching import _told
from sdfast.cli.model import find_model
from sdfast.config import Config
from sdfast.errors import ModelError
from sdfast.job import read_job
from sdfast.models.cache import size_of
from sdfast.models.download import Fetched, Planned
from sdfast.models.download import pull as fetched
from sdfast.models.folder import check_files, open_folder
from sdfast.models.hub import Listing, Remote
from sdfast.models.hub import _remotes as hub_files
from sdfast.models.hub_errors import is_passing

REPO = "some/model"
UNET = "unet/diffusion_pytorch_model.fp16.safetensors"
COMMIT, NEWER = "0123456789abcdef" * 2 + "01234567", "fedcba9876543210" * 2 + "fedcba98"


class Hub:
    """A Hub in another process, what it has, and what it was asked."""

    def __init__(self, home, port):
        self.home, self.address, self.run = home, f"http://127.0.0.1:{port}", 0

    def has(self, folder, **settings):
        """Let `REPO` be the files of a folder."""
        about = {"folder": str(folder), "commit": COMMIT}
        about |= {k: settings.pop(k) for k in ("commit", "gated", "says") if k in settings}
        self.be(repos={REPO: about}, **settings)

    def be(self, **settings):
        self.run += 1  # what is still asked for from earlier is not counted
        new = self.home / "settings.new"
        new.write_text(json.dumps({"repos": {}, "run": self.run} | settings))
        new.replace(self.home / "settings.json")

    def asked(self, of=""):
        """What was asked of paths that begin so, since it is as it is."""
        log = self.home / "asked.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        said = [json.loads(line) for line in lines]
        return [s for s in said if s["run"] == self.run and s["path"].startswith(of)]

    def sent(self):
        """Bytes of large files that went out."""
        return sum(said["sent"] for said in self.asked("/cdn/"))


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    home = tmp_path_factory.mktemp("hub")
    words = [sys.executable, str(Path(__file__).with_name("hub.py")), str(home)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        yield Hub(home, int(process.stdout.readline()))
        process.kill()


@pytest.fixture
def hub(running, model):
    running.has(model)
    return running


@pytest.fixture(scope="module")
def model(small, tmp_path_factory):
    """The small model as models lie on the Hub: in two precisions, with pickles and much else."""
    folder = shutil.copytree(small, tmp_path_factory.mktemp("models") / "model")
    for plain in list(folder.rglob("*.safetensors")):
        half = {name: tensor.half() for name, tensor in load_file(plain).items()}
        save_file(half, plain.with_suffix(".fp16.safetensors"), {"format": "pt"})
        plain.with_suffix(".bin").write_bytes(b"a pickle")
    (folder / "README.md").write_text("a model")
    (folder / "v1-5.ckpt").write_bytes(b"a pickle")
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker" / "model.fp16.safetensors").write_bytes(bytes(30_000))
    return folder


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def start(hub, cache, tmp_path):
    """Begin a command in a process that finds the Hub there."""
    finds = {"HF_ENDPOINT": hub.address, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "0"}

    with ExitStack() as stack:

        def start(*words, code=("-m", "sdfast"), **others):
            process = subprocess.Popen(
                [sys.executable, *code, *words],
                env=os.environ | finds | {"NO_PROXY": "127.0.0.1,localhost"},
                cwd=tmp_path,
                **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | others,
                text=True,
            )
            stack.callback(process.kill)
            return stack.enter_context(process)

        yield start


@pytest.fixture
def run(hub, cache, monkeypatch, sdfast):
    """Run a command in this process, to whose libraries the Hub is there: code, stdout, stderr."""
    from huggingface_hub import constants

    frozen = {"ENDPOINT": hub.address, "HF_HUB_OFFLINE": False}
    frozen["HUGGINGFACE_CO_URL_TEMPLATE"] = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in frozen.items():  # read from the environment once, at its import
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")

    return sdfast


@pytest.fixture
def pull(run):
    return lambda *words: run("models", "pull", *words or (REPO,))


def part(cache):
    """The file that is on its way, and its bytes so far."""
    parts = list(cache.glob("models--*/blobs/*.incomplete"))
    return (parts[0], size_of(parts[0]) or 0) if parts else (None, 0)  # it may be whole by now


def killed(start, cache, hub, model, after=200_000):
    """Pull, and kill without warning once so many bytes of the UNet are there."""
    hub.has(model, hold=after)
    process = start("models", "pull", REPO)
    while part(cache)[1] < after // 4096 * 4096:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return part(cache)[1]


def refused(said, code=3):
    """A pull that failed as it should: what it said in its one line, and the hint."""
    ended, out, err = said
    lines = [line for line in err.splitlines() if not line.startswith("fetching")]
    assert (ended, out) == (code, ""), err
    problem, hint = lines
    assert problem.startswith("error: ")
    assert hint.startswith("hint: ")
    return problem.removeprefix("error: "), hint.removeprefix("hint: ")


def names(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_half_precision_and_its_configs_are_fetched_and_nothing_else(pull, hub, model):
    code, out, err = pull()
    assert code == 0, err
    folder = Path(out.removesuffix("\n"))
    unneeded = {"README.md", "v1-5.ckpt", "safety_checker/model.fp16.safetensors"}
    meant = {n for n in names(model) - unneeded if not n.endswith(".bin")}
    meant -= {n for n in meant if n.endswith(".safetensors") and ".fp16." not in n}
    assert names(folder) == meant
    assert all((folder / name).read_bytes() == (model / name).read_bytes() for name in meant)
    weights = [name for name in meant if name.endswith(".safetensors")]
    assert hub.sent() == sum((model / name).stat().st_size for name in weights)


CHECKER = "safety_checker/model.safetensors"


@pytest.fixture
def checked(hub, tmp_path_factory):
    """A model with a safety checker, on the Hub."""
    folder = write_checked_model(tmp_path_factory.mktemp("models") / "checked")
    hub.has(folder)
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "odd.safetensors"])
def test_a_safety_checker_is_fetched_if_it_can_be_loaded_and_else_told(
    pull, run, checked, name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (checked / CHECKER).rename((checked / CHECKER).with_name(name))
    code, out, err = pull()
    assert code == 0, err
    pulled = Path(out.strip())
    apart = {n for n in names(checked) if n.startswith(("safety_checker/", "feature_extractor/"))}
    assert len(apart) == 3
    known = name == "model.safetensors"
    assert names(pulled) & apart == (apart if known else set())
    source = open_folder("it", pulled)
    assert ((source.checker is None), source.lacks_checker) == (not known, not known)
    assert ("note: some/model names a safety checker, of which the Hub has no" in err) != known
    _, _, err = run("gen", "fog", "-s", "2", "-m", REPO)
    assert ("(`sdfast models pull some/model` fetches them, if the Hub has any)" in err) != known


def test_no_safety_fetches_no_checker_and_the_next_picture_does(
    run, hub, checked, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    size = (checked / CHECKER).stat().st_size
    asked = ("gen", "fog", "-s", "2", "-m", REPO, "--json")
    code, out, err = run(*asked, "--no-safety")
    assert code == 0, err
    every = sum(path.stat().st_size for path in checked.rglob("*.safetensors"))
    assert hub.sent() == every - size
    hub.has(checked)
    assert run(*asked, "--no-safety")[0] == 0
    assert run(*asked, "--dry-run")[0] == 0
    for environment, flags in ((False, ["--offline"]), (True, [])):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", environment)
        code, out, err = run(*asked, *flags)
        assert (code, hub.asked()) == (0, [])
        assert "names a safety checker and has no safetensors of it; none is asked" in err
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    code, out, err = run(*asked)
    assert code == 0, err
    assert "note: some/model lacks its safety checker; --no-safety paints without it" in err
    assert "nsfw" in json.loads(out)
    assert hub.sent() == size
    hub.has(checked)
    assert "nsfw" in json.loads(run(*asked)[1])
    assert not hub.asked()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("flag", "code"), [("--dry-run", 0), ("--offline", 5)])
def test_a_batch_that_is_tried_or_offline_fetches_no_model_that_its_lines_name(
    run, hub, flag, code
):
    Path("jobs.jsonl").write_text(json.dumps({"prompt": "fog", "model": REPO}))
    assert run("batch", "jobs.jsonl", flag)[0] == code
    assert hub.asked() == []


def test_what_paints_is_given_a_checker_and_what_measures_fetches_none(
    run, hub, checked, monkeypatch
):
    quick = CATALOGUE["dpm++3M:logsnr:zero"].model_copy(update={"steps": 3})
    monkeypatch.setattr("sdfast.bench.poses.CONVERGED", quick)
    words = ("--accuracy", "fast", "-m", REPO, "--calls", "2", "--prompts")
    (prompts := checked.parent / "prompts").write_text("fog")
    code, _, err = run("bench", *words, str(prompts))
    assert (code, sent_of(hub, checked)) == (0, 0), err
    assert find_model(REPO, Config(), print).checker is not None
    assert sent_of(hub, checked) > 0


def test_a_batch_fetches_a_checker_as_gen_does(run, hub, checked, tmp_path, monkeypatch):
    """Of a model that a flag names, and of one that a line does."""
    monkeypatch.chdir(tmp_path)
    lines = {"flag": {"prompt": "fog"}, "line": {"prompt": "fog", "model": REPO}}
    for name, line in lines.items():
        Path(f"{name}.jsonl").write_text(json.dumps(line))
    asked = ("-s", "2", "--seed", "1", "-o")
    code, _, err = run("batch", "line.jsonl", *asked, "a/", "--no-safety")
    assert code == 0, err
    assert sent_of(hub, checked) == 0
    code, _, err = run("batch", "flag.jsonl", "-m", REPO, *asked, "b/", "--no-safety")
    assert (code, sent_of(hub, checked)) == (0, 0), err
    code, _, err = run("batch", "line.jsonl", *asked, "c/")
    assert (code, sent_of(hub, checked) > 0) == (0, True), err


def sent_of(hub, folder):
    """Bytes of a checker's weights that went out."""
    blob = hashlib.sha256((folder / CHECKER).read_bytes()).hexdigest()
    return sum(said["sent"] for said in hub.asked(f"/cdn/{blob}"))


def test_full_precision_is_fetched_when_asked_for_and_used_by_fp32(pull):
    pull()
    code, out, err = pull(REPO, "--full")
    assert code == 0, err
    folder = Path(out.strip())
    assert (folder / UNET.replace(".fp16", "")).exists()
    assert (folder / UNET).exists()
    part = open_folder("it", folder).parts["unet"]
    assert ([file.name for file in part.files], [file.name for file in part.full]) == (
        [Path(UNET).name],
        [Path(UNET).name.replace(".fp16", "")],
    )


def test_what_was_pulled_is_painted_with_offline(pull, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pull()
    words = ["gen", "a cat", "-m", REPO, "--steps", "4", "--seed", "1", "-o", "cat.png"]
    code, out, err = run(*words, "--offline")
    assert (code, out) == (0, "cat.png\n"), err
    assert (tmp_path / "cat.png").read_bytes().startswith(b"\x89PNG")


def test_gen_fetches_the_model_it_is_asked_for_by_name(run, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run("gen", "a cat", "-m", REPO, "--steps", "4", "--seed", "1", "-o", "c.png")
    assert (code, out) == (0, "c.png\n"), err
    assert hub.sent() > 0
    assert "fetching `some/model` into" in err


def test_huggingface_hub_finds_what_was_pulled_and_fetches_none_of_it_again(
    pull, start, hub, model
):
    folder = Path(pull()[1].strip())
    wanted = sorted(names(folder))
    hub.has(model)
    code = (
        "import sys, huggingface_hub as h;"
        f"print(h.snapshot_download({REPO!r}, allow_patterns=sys.argv[1:]))"
    )
    process = start(*wanted, code=("-c", code))
    out, err = process.communicate(timeout=60)
    assert out == f"{folder}\n", err
    assert hub.asked("/api/models/")
    assert not hub.sent()


def test_what_huggingface_hub_fetched_is_not_fetched_again(pull, start, hub, model):
    code = f"import huggingface_hub as h; print(h.hf_hub_download({REPO!r}, {UNET!r}))"
    process = start(code=("-c", code))
    process.communicate(timeout=60)
    assert hub.sent() == (model / UNET).stat().st_size
    hub.has(model)
    code, out, err = pull()
    assert code == 0, err
    rest = [n for n in names(Path(out.strip())) if n.endswith(".safetensors") and n != UNET]
    assert hub.sent() == sum((model / name).stat().st_size for name in rest)


def test_of_a_model_a_few_files_can_be_fetched_which_are_no_model(run, hub, cache):
    *_, pulled = fetched(REPO, only=["tokenizer/*"])
    assert names(pulled.folder) == {f"tokenizer/{n}" for n in names(pulled.folder / "tokenizer")}
    assert (pulled.folder / "tokenizer" / "merges.txt").exists()
    assert not hub.sent()
    assert not (cache / "models--some--model" / "refs").exists()


def test_pulling_what_is_whole_fetches_no_weights(pull, hub, model):
    pull()
    hub.has(model)
    code, _, err = pull()
    assert (code, hub.sent()) == (0, 0)
    assert "in the cache already" in err


def test_what_is_cut_or_gone_in_the_cache_is_mended(pull, hub, model):
    folder = Path(pull()[1].strip())
    vae = "vae/diffusion_pytorch_model.fp16.safetensors"
    os.truncate(folder / vae, 1000)
    (folder / UNET).unlink()
    (folder / "unet" / "config.json").unlink()
    hub.has(model)
    assert pull()[1] == f"{folder}\n"
    assert hub.sent() == (model / vae).stat().st_size
    check_files("it", folder)


def test_a_killed_pull_goes_on_where_it_was_to_the_byte(start, pull, hub, cache, model):
    there = killed(start, cache, hub, model)
    hub.has(model)
    code, out, err = pull()
    assert code == 0, err
    (asked,) = hub.asked("/cdn/")
    size = (model / UNET).stat().st_size
    assert 0 < there < size
    assert (asked["range"], asked["sent"]) == (f"bytes={there}-", size - there)
    assert (Path(out.strip()) / UNET).read_bytes() == (model / UNET).read_bytes()
    assert not list(cache.rglob("*.incomplete"))


def test_what_was_broken_off_is_not_a_model_yet_and_listed_as_such(start, run, hub, cache, model):
    there = killed(start, cache, hub, model)
    line = run("models", "list")[1].splitlines()[1]
    assert line.startswith(REPO)
    assert line.endswith(f"parts are missing; `sdfast models pull {REPO}` goes on")
    entry = json.loads(run("models", "list", "--json")[1].splitlines()[1])
    assert (entry["whole"], entry["interrupted_bytes"]) == (False, there)
    code, out, err = run("gen", "a", "-m", REPO, "--offline")
    assert (code, out) == (3, "")
    assert "offline, so `some/model` cannot be fetched" in err


def test_a_cut_line_is_mended_within_one_pull(pull, hub, model):
    hub.has(model, cut=150_000)
    code, out, err = pull()
    assert code == 0, err
    assert "the connection broke" in err
    assert (Path(out.strip()) / UNET).read_bytes() == (model / UNET).read_bytes()
    ranges = [asked["range"] for asked in hub.asked("/cdn/") if asked["range"]]
    assert ranges == [f"bytes={37 * 4096}-"]  # the first packet's end beyond 150 000
    whole = [n for n in names(Path(out.strip())) if n.endswith(".safetensors")]
    assert hub.sent() == sum((model / name).stat().st_size for name in whole)


def test_a_hub_that_knows_no_ranges_sends_it_all_again(start, pull, hub, cache, model):
    killed(start, cache, hub, model)
    hub.has(model, ranges=False)
    code, out, err = pull()
    assert code == 0, err
    assert (Path(out.strip()) / UNET).read_bytes() == (model / UNET).read_bytes()


def test_a_file_that_changed_meanwhile_is_fetched_anew(start, pull, hub, cache, model, tmp_path):
    killed(start, cache, hub, model)
    changed = shutil.copytree(model, tmp_path / "changed")
    bytes_ = bytearray((changed / UNET).read_bytes())
    bytes_[-1] ^= 1
    (changed / UNET).write_bytes(bytes_)
    hub.has(changed, commit=NEWER)
    code, out, err = pull()
    assert code == 0, err
    assert out.endswith(f"{NEWER}\n")
    assert (Path(out.strip()) / UNET).read_bytes() == bytes_
    assert hub.sent() == len(bytes_)
    assert not list(cache.rglob("*.incomplete"))


def test_a_model_stays_usable_while_a_newer_one_is_on_its_way(start, pull, hub, cache, model):
    pull()
    old = (cache / "models--some--model" / "refs" / "main").read_text()
    newer = shutil.copytree(model, cache.parent / "newer")
    bytes_ = bytearray((newer / UNET).read_bytes())
    bytes_[-1] ^= 1
    (newer / UNET).write_bytes(bytes_)
    hub.has(newer, commit=NEWER, hold=200_000)
    process = start("models", "pull", REPO)
    while part(cache)[1] < 190_000:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert (cache / "models--some--model" / "refs" / "main").read_text() == old == COMMIT
    check_files("it", cache / "models--some--model" / "snapshots" / COMMIT)


def test_what_does_not_match_its_hash_is_thrown_away(pull, hub, cache, model):
    hub.has(model, spoil=True)
    problem, _ = refused(pull())
    assert "came with a wrong hash" in problem
    assert not list(cache.rglob("*.incomplete"))
    hub.has(model)
    assert pull()[0] == 0


def test_a_part_that_is_not_of_the_file_is_thrown_away_and_mended(start, pull, hub, cache, model):
    killed(start, cache, hub, model)
    broken, size = part(cache)
    broken.write_bytes(bytes(size))
    hub.has(model)
    code, out, err = pull()
    assert code == 0, err
    assert (Path(out.strip()) / UNET).read_bytes() == (model / UNET).read_bytes()


def test_two_pulls_at_once_fetch_every_file_once(start, hub, model):
    both = [start("models", "pull", REPO) for _ in range(2)]
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    weights = [f for f in model.rglob("*.fp16.safetensors") if f.parent.name != "safety_checker"]
    assert hub.sent() == sum(file.stat().st_size for file in weights)


def test_a_disk_too_small_is_told_before_the_first_byte(pull, hub, cache, model):
    hub.has(model, says={UNET: 10**15})
    problem, hint = refused(pull())
    free = shutil.disk_usage(cache.parent).free / 1e9
    told = re.fullmatch(
        r"`some/model` needs 1000000\.\d\d GB more, and .* has ([\d.]+) GB free", problem
    )
    assert told, problem
    assert float(told[1]) == pytest.approx(free, rel=0.05)
    assert "HF_HUB_CACHE" in hint
    assert not hub.sent()
    assert not cache.exists()


def test_a_gated_model_is_told_with_the_way_in(pull, hub, cache, model, monkeypatch):
    hub.has(model, gated=True, token="mine")
    problem, hint = refused(pull())
    assert "`some/model` is gated: its owner asks you to accept terms first" in problem
    assert hint.startswith(f"accept them at {hub.address}/{REPO}")
    monkeypatch.setenv("HF_TOKEN", "mine")
    problem, _ = refused(pull())
    assert "your account has not been let in" in problem
    assert not cache.exists()


def test_a_token_goes_to_the_hub_and_nowhere_else(pull, hub, model, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "mine")
    hub.has(model, token="mine")
    assert pull()[0] == 0
    assert {asked["token"] for asked in hub.asked() if asked["path"][:5] != "/cdn/"} == {
        "Bearer mine"
    }
    assert {asked["token"] for asked in hub.asked("/cdn/")} == {None}


def test_a_wrong_token_is_told(pull, hub, model, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "theirs")
    hub.has(model, token="mine")
    problem, hint = refused(pull())
    assert problem.startswith("the Hub does not accept your token")
    assert "HF_TOKEN" in hint


@pytest.mark.parametrize("token", ["", "mine"])
def test_a_model_that_is_not_there_is_told(pull, hub, model, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    hub.has(model, token="mine")
    problem, hint = refused(pull("some/other"))
    assert problem == "`some/other` is not on the Hub"
    assert "is the name right?" in hint


def test_of_a_model_that_was_taken_down_its_successor_is_named(pull):
    _, hint = refused(pull("runwayml/stable-diffusion-v1-5"))
    assert "-m sd15" in hint


def test_offline_nothing_is_asked(pull, hub, monkeypatch):
    def judge(said):
        problem, hint = refused(said)
        assert problem == "offline, so `some/model` cannot be fetched"
        assert hint == "online: sdfast models pull some/model"
        assert not hub.asked()

    judge(pull(REPO, "--offline"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    judge(pull())


def test_a_hub_that_cannot_be_reached_is_told_with_its_address(pull, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        monkeypatch.setattr(
            "huggingface_hub.constants.ENDPOINT", f"http://ann:word@127.0.0.1:{port}"
        )
        problem, hint = refused(pull())
    assert "word" not in problem + hint
    assert problem.startswith(f"the Hub cannot be reached at 127.0.0.1:{port}: ")
    assert hint.endswith("sdfast models pull some/model")


@pytest.mark.parametrize(("status", "says"), [(503, "answered 503"), (429, "too many requests")])
def test_a_hub_that_fails_is_told(pull, hub, model, status, says):
    hub.has(model, fail=status)
    assert says in refused(pull())[0]


def test_another_kind_of_pipeline_is_refused_before_its_weights(pull, hub, model, tmp_path):
    other = shutil.copytree(model, tmp_path / "other")
    index = json.loads((other / "model_index.json").read_text())
    (other / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxPipeline"}))
    hub.has(other)
    code, _, err = pull()
    assert (code, "is a FluxPipeline" in err) == (3, True)
    assert not hub.sent()


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        ("unet/*.safetensors", "has its `unet` only as a pickle"),
        ("model_index.json", "is no model in diffusers' layout"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused_before_its_weights(
    pull, hub, model, tmp_path, gone, says
):
    other = shutil.copytree(model, tmp_path / "other")
    for file in other.glob(gone):
        file.unlink()
    hub.has(other)
    assert says in refused(pull())[0]
    assert not hub.sent()


@pytest.fixture
def autoencoder(model, hub, tmp_path):
    """An autoencoder by itself, as it lies on the Hub."""
    folder = shutil.copytree(model / "vae", tmp_path / "autoencoder")
    (folder / "README.md").write_text("an autoencoder")
    (folder / "older.safetensors").write_bytes(bytes(30_000))
    hub.has(folder)
    return folder


def test_an_autoencoder_by_itself_is_fetched_and_found_by_its_name(
    pull, run, autoencoder, small, here
):
    name = "diffusion_pytorch_model.fp16.safetensors"
    code, out, err = pull()
    assert code == 0, err
    folder = Path(out.removesuffix("\n"))
    assert names(folder) == {"config.json", name}
    assert (folder / name).read_bytes() == (autoencoder / name).read_bytes()
    gen = ("gen", "a cat", "-m", str(small), "-s", "10", "--seed", "1", "--size", "64x64", "-q")
    assert run(*gen, "--vae", REPO, "-o", "a.png")[0] == 0
    assert run(*gen, "--vae", str(folder), "-o", "b.png")[0] == 0
    assert run(*gen[:1], "--from", "a.png", *gen[2:4], "-o", "c.png")[0] == 0
    a, b, c = (Image.open(here / f"{one}.png") for one in "abc")
    assert a.tobytes() == b.tobytes() == c.tobytes()
    assert json.loads(a.text["sdfast"])["job"]["vae"] == REPO


def test_a_picture_of_the_library_names_it_too_and_a_newer_one_disturbs_none(
    pull, hub, autoencoder, small, here
):
    assert pull()[0] == 0
    model = load_model(str(small), device="cpu", vae=REPO)
    job = read_job({"prompt": "a cat", "steps": 4, "size": "64x64", "seed": 1})
    picture = paint(model, job)
    assert picture.job.vae == REPO
    hub.has(autoencoder, commit=NEWER)
    assert pull()[0] == 0
    again = paint(model, job.replace(vae=REPO))
    assert again.image.tobytes() == picture.image.tobytes()


def test_a_whole_model_of_the_cache_lends_its_autoencoder(pull, run, hub, model, small, here):
    assert pull()[0] == 0
    gen = ("gen", "a cat", "-m", str(small), "-s", "10", "--seed", "1", "--size", "64x64", "-q")
    assert run(*gen, "--vae", REPO, "-o", "a.png")[0] == 0


def test_an_autoencoder_is_fetched_as_no_model(run, hub, autoencoder):
    said = run("gen", "a cat", "-m", REPO)
    assert "is no model in diffusers' layout" in refused(said)[0]
    assert not hub.sent()


@pytest.mark.parametrize("said", ["[]", "{", '{"model_type": "bert"}'])
def test_a_config_that_says_nothing_of_use_is_refused(pull, hub, autoencoder, said):
    (autoencoder / "config.json").write_text(said)
    code, out, err = pull()
    assert (code, out) == (3, "")
    assert "config.json" in err or "is no model in diffusers' layout" in err
    assert not hub.sent()


@pytest.mark.parametrize("kind", ["UNet2DConditionModel", None, ["AutoencoderKL"]])
def test_another_network_by_itself_is_refused_before_its_weights(pull, hub, autoencoder, kind):
    (autoencoder / "config.json").write_text(json.dumps({"_class_name": kind}))
    assert "is no model in diffusers' layout" in refused(pull())[0]
    assert not hub.sent()


def test_an_autoencoder_that_is_not_in_the_cache_is_told_with_the_way_to_it(run, small):
    said = run("gen", "a cat", "-m", str(small), "--vae", "some/other")
    assert refused(said) == (
        "`some/other` is neither on this disk nor in the cache",
        "`sdfast models pull some/other` fetches it",
    )


@pytest.fixture
def loras(hub, small, tmp_path):
    """A repository with LoRAs, whose files a test may take away."""
    folder = tmp_path / "loras"
    folder.mkdir()
    for number, name in enumerate(("a.safetensors", "pytorch_lora_weights.safetensors"), 1):
        layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k"
        width = load_file(small / "unet" / "diffusion_pytorch_model.safetensors")[
            f"{layer.removeprefix('unet.')}.weight"
        ].shape[0]
        torch.manual_seed(number)
        down, up = torch.randn(2, width), torch.randn(width, 2)
        save_file({f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}, folder / name)
    (folder / "README.md").write_text("LoRAs")
    hub.has(folder)
    return folder


def test_a_lora_is_fetched_and_found_by_its_name(pull, run, loras, small, here):
    code, out, err = pull()
    assert code == 0, err
    assert "1 file," in err
    file = Path(out.removesuffix("\n"))
    assert names(file.parent) == {"pytorch_lora_weights.safetensors"}
    assert file.read_bytes() == (loras / file.name).read_bytes()
    gen = ("gen", "a cat", "-m", str(small), "-s", "10", "--seed", "1", "--size", "64x64", "-q")
    for name, words in {
        "a": ("--lora", f"{REPO}:0.7"),
        "b": ("--lora", f"{file}:0.7"),
        "c": ("--lora", f"{REPO}/{file.name}:0.7"),
        "d": (),
    }.items():
        assert run(*gen, *words, "-o", f"{name}.png")[0] == 0
    a, b, c, d = (Image.open(here / f"{one}.png") for one in "abcd")
    assert a.tobytes() == b.tobytes() == c.tobytes() != d.tobytes()
    assert json.loads(a.text["sdfast"])["job"]["lora"] == [f"{REPO}:0.7"]
    assert run("gen", "--from", "a.png", "-m", str(small), "-o", "e.png", "-q")[0] == 0
    assert (here / "e.png").read_bytes() == (here / "a.png").read_bytes()


def test_of_several_files_one_is_fetched_by_its_own_name(pull, loras):
    (loras / "pytorch_lora_weights.safetensors").rename(loras / "b.safetensors")
    problem, hint = refused(pull())
    assert (problem, hint) == (
        f"`{REPO}` has 2 files of weights",
        f"name one, such as `{REPO}/a.safetensors`",
    )
    code, out, err = pull(f"{REPO}/b.safetensors")
    assert code == 0, err
    assert names(Path(out.removesuffix("\n")).parent) == {"b.safetensors"}


def test_a_file_that_is_pulled_again_is_the_newer_one(pull, run, hub, loras, small, here):
    name = f"{REPO}/a.safetensors"
    assert pull(name)[0] == 0
    assert pull()[0] == 0  # from here on, this commit is the one that counts
    gen = ("gen", "a cat", "-m", str(small), "-s", "10", "--seed", "1", "--size", "64x64", "-q")
    assert run(*gen, "--lora", name, "-o", "a.png")[0] == 0
    shutil.copy(loras / "pytorch_lora_weights.safetensors", loras / "a.safetensors")
    hub.has(loras, commit=NEWER)
    code, out, _ = pull(name)
    assert (code, Path(out.strip()).parent.name) == (0, NEWER)
    assert run(*gen, "--lora", name, "-o", "b.png")[0] == 0
    assert run(*gen, "--lora", out.strip(), "-o", "c.png")[0] == 0
    a, b, c = (Image.open(here / f"{one}.png").tobytes() for one in "abc")
    assert a != b == c


def test_beside_a_lora_of_peft_its_strength_is_fetched(pull, hub, loras):
    inside = loras / "in"
    inside.mkdir()
    (loras / "a.safetensors").rename(inside / "a.safetensors")
    for folder in (loras, inside):
        (folder / "adapter_config.json").write_text('{"lora_alpha": 64, "r": 2}')
    file = Path(pull()[1].removesuffix("\n"))
    assert names(file.parent) == {"adapter_config.json", file.name}
    file = Path(pull(f"{REPO}/in/a.safetensors")[1].removesuffix("\n"))
    assert names(file.parent) == {"adapter_config.json", "a.safetensors"}


def test_what_a_name_means_does_not_hang_on_what_else_was_pulled(pull, run, loras, small):
    (loras / "pytorch_lora_weights.safetensors").rename(loras / "b.safetensors")
    assert pull(f"{REPO}/a.safetensors")[0] == 0
    problem, hint = refused(run("gen", "a cat", "-m", str(small), "--lora", REPO))
    assert problem == f"what the cache has of `{REPO}` is no one file of weights"
    assert hint == f"name a file, as `{REPO}/FILE.safetensors`, or `sdfast models pull {REPO}`"


def test_a_scale_that_is_none_is_told_of_a_lora_of_the_hub(pull, run, loras, small):
    assert pull()[0] == 0
    problem, _ = refused(run("gen", "a cat", "-m", str(small), "--lora", f"{REPO}:half"))
    assert problem == f"`half` is no scale for `{REPO}`"


@pytest.mark.parametrize("name", ["a[9].safetensors", "a*.safetensors", "in/a b.safetensors"])
def test_a_file_of_an_odd_name_is_that_file(pull, loras, name):
    file = loras / name
    file.parent.mkdir(exist_ok=True)
    (loras / "a.safetensors").rename(file)
    code, out, err = pull(f"{REPO}/{name}")
    assert code == 0, err
    assert Path(out.removesuffix("\n")).read_bytes() == file.read_bytes()
    assert names(Path(out.removesuffix("\n")).parent) == {file.name}


def test_a_file_beside_a_model_does_not_hide_it(pull, run, hub, model, tmp_path):
    assert pull()[0] == 0
    other = shutil.copytree(model, tmp_path / "other")
    shutil.copy(other / UNET, other / "extra.safetensors")
    hub.has(other, commit=NEWER)
    assert pull(f"{REPO}/extra.safetensors")[0] == 0
    listed = map(json.loads, run("models", "list", "--json")[1].splitlines())
    (entry,) = (e for e in listed if e["kind"] == "cached")
    assert (entry["family"], entry["whole"]) == ("Stable Diffusion", True)
    code, _, err = run("models", "rm", f"{REPO}/extra.safetensors", "-y")
    assert (code, f"`sdfast models rm {REPO}` removes all" in err) == (2, True)


def test_the_way_on_names_the_file(pull, hub, loras):
    name = f"{REPO}/a.safetensors"
    assert refused(pull(name, "--offline")) == (
        f"offline, so `{name}` cannot be fetched",
        f"online: sdfast models pull {name}",
    )
    hub.has(loras, fail=503)
    assert refused(pull(name))[1] == f"later: sdfast models pull {name}"


def test_a_file_that_the_hub_has_not_is_told_and_nothing_else_is_fetched(pull, loras, cache):
    (loras / "adapter_config.json").write_text("{}")
    code, out, err = pull(f"{REPO}/c.safetensors")
    assert (code, out, err) == (3, "", f"error: `{REPO}` has no file `c.safetensors`\n")
    assert not cache.exists()


def test_a_file_beside_a_model_is_not_meant_by_its_name(pull, run, hub, model, small, tmp_path):
    other = shutil.copytree(model, tmp_path / "other")
    shutil.copy(other / UNET, other / "extra.safetensors")
    hub.has(other)
    assert pull()[0] == pull(f"{REPO}/extra.safetensors")[0] == 0
    problem, _ = refused(run("gen", "a cat", "-m", str(small), "--lora", REPO))
    assert problem == f"what the cache has of `{REPO}` is no one file of weights"


def test_an_autoencoder_that_is_broken_on_the_hub_is_told(pull, autoencoder):
    (autoencoder / "diffusion_pytorch_model.fp16.safetensors").write_bytes(bytes(30_000))
    code, out, err = pull()
    assert (code, out) == (3, "")
    assert "is broken or no safetensors file" in err


def test_what_a_pulled_name_is_of_is_said_where_a_model_is_wanted(run, pull, autoencoder):
    assert pull()[0] == 0
    for words in ((), ("--offline",)):
        assert refused(run("gen", "a cat", "-m", REPO, *words)) == (
            f"`{REPO}` is an autoencoder",
            "--vae takes it",
        )


def test_a_model_of_one_file_is_found_by_its_repository_too(pull, run, hub, both, tmp_path, here):
    folder = tmp_path / "alone"
    folder.mkdir()
    shutil.copy(both.file, folder / "model.safetensors")
    hub.has(folder)
    tokenizer = Path(pull()[1].removesuffix("\n")).parent / "tokenizer"
    shutil.copytree(both.folder / "tokenizer", tokenizer)
    gen = ("gen", "a cat", "-s", "10", "--seed", "1", "--size", "64x64", "-q", "-m", REPO)
    assert run(*gen, "-o", "a.png", "--offline")[0] == 0


def test_a_file_that_was_broken_off_is_listed_and_removed(start, run, hub, cache, loras):
    (loras / "a.safetensors").write_bytes(bytes(900_000))
    hub.has(loras, hold=200_000)
    process = start("models", "pull", f"{REPO}/a.safetensors")
    while part(cache)[1] < 196_608:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert "parts are missing" in run("models", "list")[1]
    assert run("models", "rm", REPO, "-y")[0] == 0
    assert not [*cache.glob("models--*")]


def test_a_name_that_is_too_long_is_told(pull, run, loras, small):
    assert pull()[0] == 0
    long = "o/" + "x" * 300
    assert f"`{long}` is neither" in refused(run("gen", "a", "-m", str(small), "--lora", long))[0]


@pytest.mark.parametrize("flag", ["--lora", "--embedding"])
def test_a_file_of_the_hub_that_was_not_fetched_is_told_with_the_way_to_it(run, small, flag):
    said = run("gen", "a cat", "-m", str(small), flag, "some/other/x.safetensors")
    assert refused(said) == (
        "`some/other/x.safetensors` is neither on this disk nor in the cache",
        "`sdfast models pull some/other/x.safetensors` fetches it",
    )


def test_weights_in_the_cache_are_listed_and_removed(pull, run, loras):
    (loras / "in").mkdir()
    (loras / "a.safetensors").rename(loras / "in" / "a.safetensors")
    assert pull(f"{REPO}/in/a.safetensors")[0] == 0
    listed = run("models", "list", "--json")[1].splitlines()
    (entry,) = (e for e in map(json.loads, listed) if e["kind"] == "cached")
    assert (entry["name"], entry["family"], entry["whole"]) == (REPO, "weights", True)
    assert run("models", "rm", REPO, "-y")[0] == 0
    assert REPO not in run("models", "list")[1]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return write_both(tmp_path_factory.mktemp("models") / "both", "sd15")


def test_a_model_of_one_file_is_fetched_and_found_by_its_name(pull, run, hub, both, here):
    hub.has(both.file.parent)
    name = f"{REPO}/{both.file.name}"
    gen = ("gen", "a cat", "-s", "10", "--seed", "1", "--size", "64x64", "-q", "-m")
    problem, hint = refused(run(*gen, name))
    assert (problem, hint) == (
        f"`{name}` does not exist",
        f"`sdfast models pull {name}` fetches a file of the Hub",
    )
    code, out, err = pull(name)
    assert code == 0, err
    tokenizer = Path(out.removesuffix("\n")).parent / "tokenizer"
    shutil.copytree(both.folder / "tokenizer", tokenizer)
    assert run(*gen, name, "-o", "a.png")[0] == 0
    assert run(*gen, str(both.folder), "-o", "b.png")[0] == 0
    a, b = (Image.open(here / f"{one}.png") for one in "ab")
    assert np.abs(np.int16(a) - np.int16(b)).max() <= 1
    assert json.loads(a.text["sdfast"])["job"]["model"] == name
    assert run("gen", "--from", "a.png", "-o", "c.png", "-q")[0] == 0


@pytest.mark.parametrize("name", ["tiny", "random:sd15", "."])
def test_what_is_here_need_not_be_pulled(pull, name):
    assert "there is nothing to pull" in pull(name)[2]


def test_lines_are_written_where_there_is_no_terminal(pull):
    first, *tenths = pull()[2].splitlines()
    assert first.startswith("fetching `some/model` into ")
    assert first.endswith(" MB in fp16")
    assert re.fullmatch(r"100 %, 0\.\d MB of 0\.\d MB, [\d.]+ [MG]B/s", tenths[-1])


@pytest.mark.parametrize(
    ("status", "passes"),
    [*((n, True) for n in (408, 429, 500, 502, 503, 504)), *((n, False) for n in (403, 404, 501))],
)
def test_a_hub_that_is_busy_is_asked_again_and_one_that_refuses_is_not(status, passes):
    answer = SimpleNamespace(status_code=status, headers={}, request=None)
    assert is_passing(HfHubHTTPError("no", response=answer)) == passes


def test_the_pace_is_that_of_what_comes_and_not_of_what_was_there(monkeypatch):
    large = Remote("unet/model.safetensors", 1_000_000_000, "0" * 64)
    listing = Listing(REPO, COMMIT, (large,), "fp16", frozenset())
    clock = iter((0.0, 2.0, 4.0))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    said = []
    events = iter((Fetched(700_000_000), Fetched(750_000_000), Fetched(800_000_000)))
    assert len([*_told(events, Planned(listing, 600_000_000), said.append, False)]) == 3
    assert said == ["70 %, 700.0 MB of 1.0 GB, 50.0 MB/s", "80 %, 800.0 MB of 1.0 GB, 50.0 MB/s"]


@pytest.mark.parametrize(
    "words",
    [
        ("models", "pull", REPO),
        ("bench", "-m", REPO, "-s", "1", "-r", "1", "-w", "0", "--no-start"),
    ],
    ids=["pull", "bench"],
)
def test_a_bar_is_drawn_on_a_terminal(hub, start, words):
    leader, follower = pty.openpty()
    process = start(*words, stderr=follower)
    os.close(follower)
    drawn = all_drawn(leader)
    process.communicate()
    assert process.returncode == 0
    assert "━" in drawn
    assert "B/s" in drawn
    assert " %, " not in drawn


@pytest.mark.parametrize("path", ["tokenizer/../../rc", "/etc/rc", "unet//x", "a\\..\\b", "./x"])
def test_a_hub_that_names_places_outside_of_a_model_is_not_believed(path):
    file = SimpleNamespace(rfilename=path, lfs=None, blob_id="0" * 40, size=1)
    with pytest.raises(ModelError, match="cannot be read"):
        list(hub_files("some/model", [file]))
