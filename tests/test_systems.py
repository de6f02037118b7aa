"""What Windows, macOS and MPS do otherwise, as far as it can be had here."""

import errno
import io
import os
import subprocess
import sys

import pytest
import torch

from sdfast import cli
from sdfast.cli import streams
from sdfast.models import cache, device, malloc
from sdfast.models.networks import onednn
from sdfast.solver import draw


class Event:
    """A moment of a GPU; of two with nothing between them, MPS may tell the order wrong."""

    def __init__(self, moment):
        self.moment = moment

    def elapsed_time(self, end):
        if end.moment <= self.moment:
            raise RuntimeError("End event 2 was not recorded after start event 1")
        return end.moment - self.moment


@pytest.fixture
def on_windows(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")


def clock(kind, monkeypatch):
    made = device.Clock(torch.device("cpu"))
    made._device = torch.device(kind)
    made._backend = torch.mps
    monkeypatch.setattr(torch.mps, "synchronize", lambda: None)
    return made


def test_moments_with_nothing_between_them_are_no_time_apart_on_mps(monkeypatch):
    marks = [Event(at) for at in (0, 1000, 1000, 3000)]
    assert clock("mps", monkeypatch).between(marks) == [1.0, 0.0, 2.0]


def test_pictures_lie_as_the_device_is_right_with():
    lie = {kind: device.layout(torch.device(kind)) for kind in ("cpu", "cuda", "mps")}
    assert lie == {
        "cpu": torch.channels_last,
        "cuda": torch.channels_last,
        "mps": torch.contiguous_format,
    }


def test_without_onednn_nothing_is_laid_out_anew(monkeypatch):
    monkeypatch.setattr(onednn, "operators", lambda: None)
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert not onednn.packs(torch.zeros(2, 2, dtype=torch.bfloat16))
    assert not onednn.packs(torch.zeros(2, 2))


def test_noise_is_waited_for_but_on_cuda(monkeypatch):
    waited = []
    to = torch.Tensor.to

    def spied(self, *place, non_blocking=False):
        waited.append(not non_blocking)
        return to(self, *place)

    monkeypatch.setattr(torch.Tensor, "to", spied)
    draw.drawn_alone(torch.zeros(1, 4), torch.Generator())()
    assert waited == [True]


def test_memory_is_given_back_without_waking_torch():
    script = "import sys; from sdfast.models.malloc import tidy; tidy(); "
    script += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.skipif(malloc._glibc() is None, reason="glibc's own ways")
@pytest.mark.parametrize(
    ("said", "stays"),
    [({}, True), ({"MALLOC_ARENA_MAX": "8"}, False), ({"MALLOC_PERTURB_": "0"}, False)],
    ids=str,
)
def test_what_is_freed_stays_with_who_has_loaded_a_model_unless_glibc_is_told_its_ways(said, stays):
    script = """
import resource
from pathlib import Path
from sdfast import load_model

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

load_model("tiny", device="cpu")
block = b"x" * 2**27  # larger than any that glibc keeps by itself
full = resident()
del block
print(full - resident() < 2**26)
"""
    others = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    told = subprocess.run(
        [sys.executable, "-c", script],
        env=others | said,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == f"{stays}\n"


def test_a_file_that_is_there_by_two_names_counts_once(tmp_path):
    (tmp_path / "blobs").mkdir()
    (blob := tmp_path / "blobs" / "hash").write_bytes(bytes(100))
    (tmp_path / "name").hardlink_to(blob)
    (tmp_path / "other").symlink_to(blob)
    assert sum(cache._files(tmp_path).values()) == 100


@pytest.mark.parametrize(
    ("error", "closed"),
    [
        (BrokenPipeError(), True),
        (OSError(errno.EINVAL, "Invalid argument"), True),
        (OSError(errno.EINVAL, "Invalid argument", "a.png"), False),
        (OSError(errno.ENOSPC, "full"), False),
        (ValueError(), False),
        (None, False),
    ],
)
def test_a_closed_pipe_is_known(on_windows, error, closed):
    assert cli._nobody_reads(error) is closed


def test_what_is_no_argument_elsewhere_is_no_closed_pipe():
    assert not cli._nobody_reads(OSError(errno.EINVAL, "Invalid argument"))


@pytest.mark.parametrize("said", ["", "cp1252"])
def test_pipes_carry_utf8_on_windows_unless_told_otherwise(on_windows, monkeypatch, said):
    monkeypatch.setitem(os.environ, "PYTHONIOENCODING", said)
    pipes = {
        name: io.TextIOWrapper(io.BytesIO("Löwe".encode()), "cp1252")
        for name in ("stdin", "stdout", "stderr")
    }
    for name, pipe in pipes.items():
        monkeypatch.setattr(sys, name, pipe)
    streams.set_up_streams()
    assert sys.stdin.read() == ("Löwe" if not said else "Löwe".encode().decode("cp1252"))
    assert sys.stdout.encoding == sys.stderr.encoding == (said or "utf-8")


@pytest.mark.parametrize("asked", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_whoever_says_how_many_threads_there_are_has_as_many(monkeypatch, asked):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    monkeypatch.setattr(device.Path, "read_text", lambda path: "0\n")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert device._threads_for_cores() == 1
    monkeypatch.setenv(asked, "7")
    assert device._threads_for_cores() == 7


def test_a_stream_that_would_have_to_wait_has_taken_what_it_was_given():
    class Full(io.RawIOBase):
        def write(self, data, /):
            return None

    assert streams._Unheard(Full()).write(b"abc") == 3
