"""However long a batch is, it is never held in memory."""

import gc
import os
import resource
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
from costless import Costless

from sdfast import Job
from sdfast.batch.blocks import opened
from sdfast.batch.events import Painted
from sdfast.batch.lines import Form, read
from sdfast.batch.manifest import known, open_manifest
from sdfast.batch.pictures import Naming
from sdfast.batch.run import Books, Rules, run
from sdfast.batch.shards import WHOLE
from sdfast.batch.sources import Sources
from sdfast.batch.store import Folder
from sdfast.batch.tasks import Beneath, read_tasks
from sdfast.naming import Exists

MB = 2**20
PAGE = resource.getpagesize()


def resident(process="self"):
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE


def prompts(path, count, more=""):
    with path.open("w") as file:
        for k in range(count):
            file.write(f"a picture of thing number {k} in the style of painter {k % 97}{more}\n")


@contextmanager
def on_stdin(file):
    """A file's bytes come through a pipe on stdin, whether they are read or not."""
    before = os.dup(0)
    with subprocess.Popen(["cat", file], stdout=subprocess.PIPE) as cat:
        os.dup2(cat.stdout.fileno(), 0)
        try:
            yield
        finally:
            os.dup2(before, 0)
            os.close(before)


def painted(name, folder):
    """The events of a batch of such pictures."""
    stop = threading.Event()
    naming = Naming(Folder(folder), f"{folder}/{{i}}.png", "sdfast", Exists.RENAME, "default", 0)
    manifest = open_manifest(folder, WHOLE)
    knows = known(folder, naming.store)
    pictures = naming.pictures(datetime.now(), knows.cut)
    books = Books(manifest, knows, pictures, Sources({}, True, False))
    with opened(name, stop) as blocks:
        tasks = read_tasks(read(blocks, Form.TXT), Beneath({}, "tiny"))
        yield from run(tasks, books, Costless(), Rules(), stop)
    manifest.close()


def jobs_there():
    return sum(isinstance(one, Job) for one in gc.get_objects())


def grown(name, folder, count):
    """Bytes of memory between the first thousand pictures and the last, and jobs that stayed."""
    first = last = held = done = 0
    before = jobs_there()
    for event in painted(name, folder):
        done += isinstance(event, Painted)
        if done == 1000:
            first = resident()
        if done == count:
            last, held = resident(), jobs_there() - before
    assert done == count
    return last - first, held


@pytest.mark.parametrize("name", [pytest.param("p.txt", marks=pytest.mark.slow), "-"])
@pytest.mark.parametrize("count", [1500, pytest.param(100_000, marks=pytest.mark.slow)])
def test_painting_takes_no_more_memory_in_the_end_than_in_the_beginning(
    tmp_path, monkeypatch, name, count
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda file: None)
    prompts(Path("p.txt"), count)
    with on_stdin("p.txt"):
        growth, held = grown(name, Path("out"), count)
    print(f"painted {count} from {name}: {growth / MB:.1f} MB more, {held} jobs stayed")
    assert growth < 50 * MB
    assert held < 50
    with on_stdin("p.txt"):
        again = list(painted(name, Path("out")))
    assert len(again) == count
    assert not any(isinstance(event, Painted) for event in again)


@pytest.mark.parametrize("name", [pytest.param("p.txt", marks=pytest.mark.slow), "-"])
@pytest.mark.parametrize(
    ("count", "letters", "most"),
    [(3000, 15_000, 8 * MB), pytest.param(100_000, 0, 50 * MB, marks=pytest.mark.slow)],
)
def test_reading_takes_no_more_memory_in_the_end_than_in_the_beginning(
    tmp_path, name, count, letters, most
):
    prompts(tmp_path / "p.txt", count, "," * letters)
    command = [sys.executable, "-m", "sdfast", "batch", name, "-m", "tiny", "--dry-run"]
    first = last = seen = 0
    with (
        (tmp_path / "p.txt").open() as file,
        subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE, cwd=tmp_path) as process,
    ):
        for _ in process.stdout:
            seen += 1
            if seen == 1000:
                first = resident(process.pid)
            if seen == count - 1000:
                last = resident(process.pid)
    print(f"read {count} from {name}: {(last - first) / MB:.1f} MB more")
    assert seen == count
    assert process.returncode == 0
    assert last - first < most


def test_a_pipe_that_does_not_wait_by_itself_is_waited_for(tmp_path):
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    before = os.dup(0)
    os.dup2(reader, 0)
    try:
        stop = threading.Event()
        with opened("-", stop) as blocks:
            assert next(blocks) == b""
            os.write(writer, b"a cat\n")
            assert next(block for block in blocks if block) == b"a cat\n"
            os.close(writer)
            assert not any(blocks)
    finally:
        os.dup2(before, 0)
        for file in (before, reader):
            os.close(file)


def test_a_reader_that_is_left_early_leaves_no_thread(tmp_path):
    reader, writer = os.pipe()
    before = os.dup(0)
    os.dup2(reader, 0)
    os.close(reader)
    try:
        others = {*threading.enumerate()}
        with opened("-", threading.Event()) as blocks:
            os.write(writer, b"a cat\n")
            next(block for block in blocks if block)
            (thread,) = {*threading.enumerate()} - others
        os.write(writer, b"a dog\n")  # for which it waits, and is nobody's any more
        thread.join(20)
        assert not thread.is_alive()
    finally:
        os.dup2(before, 0)
        for file in (before, writer):
            os.close(file)
