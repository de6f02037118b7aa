"""The Hugging Face cache: what an interrupted download leaves, and how it is mended."""

import json
import os
import pty
import shutil
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sdfast.cli import run_command
from sdfast.config import load_config
from sdfast.models.find import find, is_cached, target_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def put(small):
    """Put the small model into the cache as one of the Hub; the folder of its files."""
    cache = Path(os.environ["HF_HUB_CACHE"])

    def put(repo, kind="models"):
        home = cache / f"{kind}--{repo.replace('/', '--')}"
        (home / "refs").mkdir(parents=True)
        (home / "refs" / "main").write_text(COMMIT)
        return shutil.copytree(small, home / "snapshots" / COMMIT)

    yield put
    shutil.rmtree(cache, ignore_errors=True)


@pytest.fixture
def hub(small):
    """A Hub on this machine, with the small model under every name: its address."""
    files = {str(f.relative_to(small)): f.read_bytes() for f in small.rglob("*") if f.is_file()}
    tree = [{"type": "file", "path": n, "size": len(b), "oid": n} for n, b in files.items()]
    about = {"id": "any/model", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.partition(f"/resolve/{COMMIT}/")[2]
            said = json.dumps(tree if "/tree/" in self.path else about).encode()
            body = files[name] if name else said
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{name.replace("/", "-")}"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def sdfast(monkeypatch, *words):
    """Run a command in this process: its exit code."""
    monkeypatch.setattr(sys, "argv", ["sdfast", *words])
    return run_command()


def online(address, *words):
    """Run a command as a process that finds the Hub at that address."""
    return subprocess.run(
        [sys.executable, "-m", "sdfast", *words],
        env=os.environ | {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def cut(path):
    """Leave half a file."""
    os.truncate(path, path.stat().st_size // 2)


def drop_tokenizer(path):
    for file in path.iterdir():
        file.unlink()


LEFT = {
    "a network's weights": (Path.unlink, UNET),
    "half of its weights": (cut, UNET),
    "its config": (Path.unlink, "unet/config.json"),
    "the schedule": (Path.unlink, "scheduler/scheduler_config.json"),
    "the tokenizer": (drop_tokenizer, "tokenizer"),
}
"""What may be missing of a model in the cache: what to do to which file."""


def test_a_whole_model_in_the_cache_is_found_without_the_network(put):
    folder = put("some/model")
    assert is_cached("some/model")
    assert find("some/model", offline=True).path == folder


@pytest.mark.parametrize("missing", LEFT)
def test_what_is_not_whole_is_neither_cached_nor_listed_as_usable(
    put, monkeypatch, capsys, missing
):
    folder = put(target_of("sd15"))
    assert is_cached("sd15")
    do, file = LEFT[missing]
    do(folder / file)
    assert not is_cached("sd15")
    assert sdfast(monkeypatch, "models") == 0
    listed = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "parts are missing" in listed[target_of("sd15")]
    assert "not in the cache" in listed["sd15"]


def test_pulling_mends_what_an_interrupted_download_left(put, hub):
    folder = put("some/model")
    (folder / UNET).unlink()
    (folder / "unet" / "config.json").unlink()
    kept = (folder / "vae" / "config.json").stat().st_mtime_ns
    pulled = online(hub, "models", "pull", "some/model")
    assert pulled.stdout == f"{folder}\n", pulled.stderr
    assert find("some/model", offline=True).path == folder
    assert (folder / "vae" / "config.json").stat().st_mtime_ns == kept


def test_a_machine_without_a_network_is_told_in_one_line():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    pulled = online(f"http://127.0.0.1:{port}", "models", "pull", "some/model")
    assert pulled.returncode == 3
    said, hint = pulled.stderr.splitlines()
    assert said.startswith("error: `some/model` could not be fetched: ")
    assert hint == "hint: once that is put right: sdfast models pull some/model"


def test_removing_a_model_leaves_its_mirror_and_the_dataset_of_its_name(put, monkeypatch):
    model, mirror = put("some/thing"), put("another/thing")
    dataset = put("some/thing", "datasets")
    assert sdfast(monkeypatch, "models", "rm", "some/thing", "--yes") == 0
    assert (model.exists(), mirror.exists(), dataset.exists()) == (False, True, True)


def test_a_model_is_kept_if_the_answer_is_no(put):
    folder = put("some/model")
    leader, follower = pty.openpty()
    os.write(leader, b"n\n")
    asked = subprocess.run(
        [sys.executable, "-m", "sdfast", "models", "rm", "some/model"],
        stdin=follower,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(leader)
    os.close(follower)
    assert (asked.returncode, folder.exists()) == (0, True)
    assert "kept some/model" in asked.stderr


def test_an_alias_of_an_alias_keeps_what_that_stands_for(monkeypatch):
    assert sdfast(monkeypatch, "models", "alias", "mine", "sd15") == 0
    assert sdfast(monkeypatch, "models", "alias", "ours", "mine") == 0
    assert load_config().aliases == dict.fromkeys(("mine", "ours"), target_of("sd15"))


def test_an_alias_of_a_folder_is_found_from_everywhere(small, monkeypatch, tmp_path):
    monkeypatch.chdir(small.parent)
    assert sdfast(monkeypatch, "models", "alias", "mine", small.name) == 0
    monkeypatch.chdir(tmp_path)
    assert find("mine", load_config().aliases).path == small


@pytest.mark.parametrize("target", ["sd51", "no-such-folder", "/no/such/folder", "", "a\0b"])
def test_an_alias_of_nothing_is_refused(monkeypatch, capsys, target):
    assert sdfast(monkeypatch, "models", "alias", "mine", target) == 3
    assert "is neither a Hub id nor a path" in capsys.readouterr().err
    assert load_config().aliases == {}
