"""Files that are there whole or not at all, wherever their name leads."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sdfast.errors import FullError, UsageError
from sdfast.writing import check_folder, write_whole


def test_a_file_takes_the_place_of_another_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"what was there before, and was longer")
    write_whole(path, b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.json", b"new")]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path, there):
    far, link = tmp_path / "far" / "b", tmp_path / "link"
    far.parent.mkdir()
    if there:
        far.write_bytes(b"before")
    link.symlink_to(Path("far") / "b")
    write_whole(link, b"new")
    assert link.is_symlink()
    assert far.read_bytes() == b"new"
    assert len([*far.parent.iterdir()]) == 1


def test_a_pipe_is_written_into(tmp_path):
    pipe, heard = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: heard.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_whole(pipe, b"new")
    reader.join(10)
    assert heard == [b"new"]
    assert pipe.is_fifo()


def test_a_device_stays_one_and_a_full_one_is_a_full_disk(tmp_path):
    link = tmp_path / "full"
    link.symlink_to("/dev/full")
    with pytest.raises(FullError, match=r"cannot write `.*full`: no space left on device"):
        write_whole(link, b"new")
    assert Path("/dev/full").is_char_device()


@pytest.mark.parametrize("place", ["/dev/stdout", "log.txt"])
@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_what_stdout_leads_to_is_written_on(tmp_path, monkeypatch, place, mode):
    log = tmp_path / "log.txt"
    log.write_text("precious\n")
    script = "from sdfast.writing import write_whole; from pathlib import Path; print('before');"
    script += f"write_whole(Path({place!r}), b'new\\n'); print('after')"
    with log.open(mode) as out:
        subprocess.run([sys.executable, "-c", script], stdout=out, cwd=tmp_path, check=True)
    kept = "precious\n" if mode == "ab" else ""
    assert log.read_text() == f"{kept}before\nnew\nafter\n"
    assert [*tmp_path.iterdir()] == [log]


@pytest.fixture
def _nobody():
    """Run as one whom folders can be closed to; none is to root."""
    root = os.getuid() == 0
    if root:
        os.setreuid(65534, 0)
    yield
    if root:
        os.setreuid(0, 0)


@pytest.mark.usefixtures("_nobody")
def test_a_folder_that_is_closed_to_us_is_refused_before():
    with pytest.raises(UsageError, match="cannot write `/no/such`: permission denied"):
        check_folder(Path("/no/such"))


@pytest.mark.parametrize("name", ["no/such", "folder", "\0", "a" * 300, "circle"])
def test_what_cannot_be_written_is_named_and_nothing_is_left(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(UsageError, match="cannot write"):
        write_whole(tmp_path / name, b"new")
    assert {path.name for path in tmp_path.rglob("*")} == {"folder", "circle"}
    assert (tmp_path / "circle").is_symlink()
