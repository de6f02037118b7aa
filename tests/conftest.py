"""Every test runs offline, with an empty Hugging Face cache and nobody's settings or worker."""

import gc
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

import sdfast as package

settings.register_profile("sdfast", deadline=None)  # how long one takes is the machine's affair
settings.load_profile("sdfast")

_HOME = tempfile.TemporaryDirectory(prefix="sdfast-tests-")
os.environ |= {  # read once, when huggingface_hub and torch are imported
    "HF_HOME": _HOME.name,
    "HF_HUB_CACHE": f"{_HOME.name}/hub",
    "HF_HUB_OFFLINE": "1",
    "XDG_RUNTIME_DIR": _HOME.name,  # where nobody's own worker is asked
    "PYTHONPATH": str(Path(package.__file__).parent.parent),  # other processes run what is tested
    "OMP_NUM_THREADS": "1",  # networks as small as these only wait for each other's threads
    "TERM": "xterm-256color",  # a bar is not drawn on a dumb one
}
for _name in ("HF_TOKEN", "HF_ENDPOINT", "SDFAST_MODEL", "SDFAST_OUTPUT", "SDFAST_LORAS"):
    os.environ.pop(_name, None)  # which are somebody's own


def pytest_collection_finish():
    gc.collect()
    gc.freeze()  # what is imported stays, and need not be looked through whenever a model goes


def pytest_unconfigure():
    _HOME.cleanup()


@pytest.fixture(autouse=True)
def _nothing_settled(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SDFAST_CONFIG", str(tmp_path_factory.mktemp("config")))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Stand in an empty folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def sdfast(monkeypatch, capsys):
    """Run a command in this process: its exit code, stdout and stderr."""
    from sdfast.cli import run_command

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["sdfast", *words])
        code = run_command()
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def bench(sdfast):
    """Run `sdfast bench` with words, paths and numbers: its exit code, stdout and stderr."""
    return lambda *words: sdfast("bench", *map(str, words))


@pytest.fixture
def interruptible():
    """SIGINT is heard as in a terminal; a shell lets what it runs in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The folder of a small Stable Diffusion 1.x with random weights; copy it to change it."""
    from small import write_model

    return write_model(tmp_path_factory.mktemp("models") / "small")
