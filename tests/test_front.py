"""Calls that a worker's front runs, beside the same calls run alone: nobody can tell them apart.

The worker is a real one, of the built-in model.
"""

import contextlib
import io
import json
import os
import pty
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from processes import all_drawn, hears_ctrl_c, soon
from quick import QUICK

import sdfast
from sdfast.warm import client, control
from sdfast.warm.handover import _encodings, front_path
from sdfast.warm.place import find_place

ALONE = "import sys; sys.argv[0] = 'sdfast'; from sdfast.cli import main; main()"
HANDED = """
import sys
sys.argv[0] = "sdfast"
from sdfast.warm.handover import hand_over
code = hand_over(sys.argv)
sys.exit("it ran alone" if code is None else code)
"""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    """A runtime folder where a worker lives whose front is ready."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        subprocess.run(
            [sys.executable, "-m", "sdfast", "warm", "start", "-m", "tiny"],
            check=True,
            capture_output=True,
        )
        assert soon(find_place().front.exists)
        yield folder
        control.stop(find_place())


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, runtime):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    return tmp_path


@contextlib.contextmanager
def begun(how, *words, **more):
    more = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, "env": dict(os.environ)} | more
    command = [sys.executable, "-c", how, *words]
    shared = {"stdout": subprocess.PIPE, "preexec_fn": hears_ctrl_c}
    with subprocess.Popen(command, **shared, **more) as process:
        try:
            yield process
        except BaseException:  # a stopped one would be waited for without end
            process.kill()
            raise


def ran(how, *words, said=b"", **more):
    with begun(how, *words, stdin=subprocess.PIPE, **more) as process:
        out, errors = process.communicate(said)
    return process.returncode, out, errors or b""


def timeless(said):
    code, out, errors = said
    times = rb"\d+\.\d+ s: .*|\"seconds\": .*"
    return code, re.sub(times, b"", out), re.sub(times, b"", errors)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (QUICK, b""),
        ((*QUICK, "--json", "-v"), b""),
        ((*QUICK, "-q", "-o", "-"), b""),
        (("gen", "-", "--dry-run", "--seed", "1..2"), "eine Möwe\nzwei\n".encode()),
        (("gen", "a cat", "-", "--dry-run", "--seed", "1"), b"\xff\n"),
        (("gen", "@missing.txt"), b""),
        (("gen", "a cat", "--sampler", "bogus"), b""),
        (("gen", "a cat", "--stpes", "9"), b""),
        (("gen", "a cat", "-m", "nothing-here", "--offline"), b""),
        (("gen",), b""),
        (("gen", "--help"), b""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_call_says_and_leaves_what_it_would_alone(words, said, here):
    for name in ("alone", "handed"):
        (here / name).mkdir()
    alone = ran(ALONE, *words, said=said, cwd=here / "alone")
    handed = ran(HANDED, *words, said=said, cwd=here / "handed")
    assert timeless(handed) == timeless(alone)
    files = [
        {p.name: p.read_bytes() for p in (here / name).iterdir()} for name in ("alone", "handed")
    ]
    assert files[0] == files[1]


def test_environment_folder_and_umask_are_the_callers(here):
    (here / "inside").mkdir()
    (here / "settings").mkdir()
    (here / "settings" / "config.yaml").write_text("out: here-{seed}.png\n")
    environment = os.environ | {"SDFAST_CONFIG": str(here / "settings")}
    code, out, _ = ran(HANDED, *QUICK, "-q", cwd=here / "inside", env=environment, umask=0o027)
    assert (code, out) == (0, b"here-1.png\n")
    assert (here / "inside" / "here-1.png").stat().st_mode & 0o777 == 0o640


def test_a_closed_pipe_ends_the_call_as_it_would_alone():
    for how in (ALONE, HANDED):
        with begun(how, "gen", "a cat", "--dry-run", "--seed", "1..200") as process:
            process.stdout.close()
            assert process.wait() == 141
            assert process.stderr.read() == b""


def waiting():
    return client.greeting(find_place()).waiting


def test_ctrl_c_ends_the_call_and_its_picture(here):
    with begun(HANDED, *QUICK[:2], "--steps", "1000", "-o", "cat.png") as process:
        assert soon(waiting)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.endswith(b"interrupted\n")
    assert soon(lambda: not waiting())
    assert not [*here.iterdir()]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_who_kills_the_caller_kills_the_call(how, here):
    with begun(HANDED, *QUICK[:2], "--steps", "1000", "-o", "cat.png") as process:
        assert soon(waiting)
        process.send_signal(how)
        assert process.wait(20) == -how
    assert soon(lambda: not waiting())
    assert not [*here.iterdir()]


def test_a_call_whose_caller_is_killed_leaves_the_cursor_as_it_was():
    leader, follower = pty.openpty()
    words = (*QUICK[:2], "--steps", "1000", "-o", "cat.png")
    with begun(HANDED, *words, stderr=follower) as process:
        os.close(follower)
        drawn = b""
        while b"ms/step" not in drawn:
            drawn += os.read(leader, 65536)
        process.kill()
        drawn = drawn.decode(errors="replace") + all_drawn(leader)
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h") == 1


_FILES, _MOST_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)
_FEWER_FILES = (_FILES - 1, _MOST_FILES)


@pytest.mark.parametrize(
    "other",
    [
        {"env": {**os.environ, "LC_TIME": "another"}},
        {"env": {**os.environ, "PYTHONWARNINGS": "error"}},
        {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, _FEWER_FILES)},
        {"preexec_fn": lambda: os.close(0)},
        {"preexec_fn": lambda: os.nice(1)},
        pytest.param(
            {"preexec_fn": lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})},
            marks=pytest.mark.skipif(
                len(os.sched_getaffinity(0)) == 1, reason="there is one core alone"
            ),
        ),
    ],
    ids=["locale", "Python", "limits", "a stream is closed", "nice", "cores"],
)
def test_a_call_in_other_surroundings_runs_alone(other, runtime):
    if "env" in other:
        other["env"]["XDG_RUNTIME_DIR"] = str(runtime)
    command = [sys.executable, "-c", HANDED, *QUICK, "-q"]
    ended = subprocess.run(command, capture_output=True, **other)
    assert ended.stderr == b"it ran alone\n"


@pytest.mark.parametrize(
    "words",
    [
        ("gen", "@/dev/fd/0", "--dry-run", "--seed", "1"),
        ("gen", "a cat", "-o", "/proc/self/cwd/x.png", "--seed", "1"),
        ("gen", "a cat", "--out=/proc/self/cwd/x.png", "--seed", "1"),
        ("gen", "a cat", "-o/proc/self/cwd/x.png", "--seed", "1"),
    ],
)
def test_a_path_of_ones_own_is_not_handed_over(words):
    assert ran(HANDED, *words)[2] == b"it ran alone\n"


def test_a_folder_that_is_called_dev_is_one_as_any_other(here):
    (here / "dev").mkdir()
    assert ran(HANDED, *QUICK, "-q", "-o", str(here / "dev" / "x.png"))[0] == 0


def test_a_call_in_the_plain_locale_is_taken_where_the_worker_was_begun_in_it(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG"))}
    plain |= {"XDG_RUNTIME_DIR": str(folder)}
    start = [sys.executable, "-m", "sdfast", "warm", "start", "-m", "tiny"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        subprocess.run(start, check=True, capture_output=True, env=plain)
        try:
            assert soon(find_place().front.exists)
            said = "ein Löwe\n".encode()
            code, out, err = ran(
                HANDED, "gen", "-", "--dry-run", "--seed", "1", said=said, env=plain
            )
        finally:
            control.stop(find_place())
    assert (code, err) == (0, b"")
    assert json.loads(out)["prompt"] == "ein Löwe"


def test_the_front_stands_in_no_folder(runtime):
    (front,) = (
        folder
        for folder in Path("/proc").glob("[0-9]*")
        if b"sdfast.cli.front" in read(folder / "cmdline")
        and f"XDG_RUNTIME_DIR={runtime}".encode() in read(folder / "environ").split(b"\0")
    )
    assert (front / "cwd").readlink() == Path("/")


def read(file):
    try:
        return file.read_bytes()
    except OSError:
        return b""


def test_a_runtime_folder_that_others_can_enter_is_not_looked_into(tmp_path, monkeypatch):
    for mode in (0o700, 0o755):
        folder = tmp_path / f"{mode:o}"
        folder.mkdir()
        folder.chmod(mode)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
        assert front_path() == str(find_place().front)


def test_what_a_stream_does_with_letters_it_cannot_spell_is_part_of_how_it_speaks(monkeypatch):
    spoken = []
    for errors in ("strict", "replace"):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii", errors))
        spoken.append(_encodings())
    assert spoken[0] != spoken[1]


def test_the_time_is_the_callers_zones(here):
    code, out, _ = ran(
        HANDED, *QUICK, "-q", "-o", "{time}.png", env=os.environ | {"TZ": "Asia/Tokyo"}
    )
    zone = datetime.now(ZoneInfo("Asia/Tokyo"))
    assert code == 0
    assert out.decode()[:2] in (f"{zone:%H}", f"{zone - timedelta(minutes=1):%H}")


@pytest.mark.parametrize("word", ["--bogus", "--seed"])
def test_errors_that_cannot_be_said_end_the_call_as_they_would_alone(word):
    codes = []
    for how in (ALONE, HANDED):
        with Path("/dev/full").open("wb") as full:
            command = [sys.executable, "-c", how, "gen", "a cat", word]
            codes.append(subprocess.run(command, stdin=subprocess.DEVNULL, stderr=full).returncode)
    assert codes[0] == codes[1]


def test_ctrl_c_at_any_moment_ends_the_call():
    """130, or as Python ends that has not yet got to the command line."""
    for wait in range(0, 100, 4):
        with begun(HANDED, *QUICK[:2], "--steps", "1000", "-o", "cat.png") as process:
            time.sleep(wait / 1000)
            process.send_signal(signal.SIGINT)
            time.sleep(0.002)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
        assert process.returncode in (130, 1, -signal.SIGINT), errors
        assert b"killed" not in errors
    assert soon(lambda: not waiting())


def state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def children():
    """The front of this module's worker, and what it runs."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            here = f"XDG_RUNTIME_DIR={os.environ['XDG_RUNTIME_DIR']}".encode()
            if b"sdfast.cli.front" in (place / "cmdline").read_bytes() and state(place.name) != "Z":
                found |= {int(place.name)} if here in (place / "environ").read_bytes() else set()
    return found


def test_ctrl_z_stops_the_call_until_it_is_woken(here):
    before, words = children(), (*QUICK[:2], "--steps", "100", "-q", "-o", "cat.png")
    with begun(HANDED, *words, process_group=0) as process:  # others may be out of ctrl-Z's reach
        assert soon(waiting)
        (runner,) = children() - before
        process.send_signal(signal.SIGTSTP)
        assert soon(lambda: state(process.pid) == state(runner) == "T")
        process.send_signal(signal.SIGCONT)
        assert process.wait(60) == 0
    assert (here / "cat.png").exists()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_who_ends_a_stopped_caller_ends_the_call(how):
    before, words = children(), (*QUICK[:2], "--steps", "1000", "-o", "cat.png")
    with begun(HANDED, *words, process_group=0) as process:
        assert soon(waiting)
        process.send_signal(signal.SIGTSTP)
        assert soon(lambda: state(process.pid) == "T")
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)
        assert process.wait(20) == -how
    assert soon(lambda: children() == before)


def test_a_front_that_hangs_is_given_nothing():
    (front,) = children()
    os.kill(front, signal.SIGSTOP)
    try:
        code, out, errors = ran(HANDED, "gen", "a cat", "--dry-run", "--seed", "1")
        assert (code, out, errors) == (1, b"", b"it ran alone\n")
    finally:
        os.kill(front, signal.SIGCONT)
    assert soon(lambda: children() == {front})


def test_a_call_that_is_killed_before_it_goes_runs_alone():
    lost = HANDED.replace(
        "code = hand",
        """
import os, time
from sdfast.warm import handover
taken = handover._taken
def then_killed(*asked):
    runner = taken(*asked)
    os.kill(runner, 9)
    time.sleep(0.2)
    return runner
handover._taken = then_killed
code = hand""",
    )
    assert ran(lost, *QUICK, "-q") == (1, b"", b"it ran alone\n")


def test_a_call_that_is_killed_says_so():
    before = children()
    with begun(HANDED, *QUICK[:2], "--steps", "1000", "-o", "cat.png") as process:
        assert soon(waiting)
        for runner in children() - before:
            os.kill(runner, signal.SIGKILL)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 137
    assert errors.endswith(b"error: the process that ran this call was killed\n")


def test_nobody_upsets_the_front():
    for said in (b"", b"\0" * 8, b"\xff" * 64, (9).to_bytes(8, "big") + b"1 1 1\0\0\0\0"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(find_place().front))
            connection.sendall(said)
    assert ran(HANDED, *QUICK, "-q")[0] == 0


@pytest.mark.slow
def test_a_front_whose_files_have_changed_runs_nothing_and_goes_with_its_worker(
    tmp_path, monkeypatch, request
):
    house = tmp_path / "house"
    for part in ("sdfast", "presets"):
        shutil.copytree(Path(sdfast.__file__).parent.parent / part, house / part)
    monkeypatch.setenv("PYTHONPATH", str(house))
    assert ran(HANDED, *QUICK, "-q")[2] == b"it ran alone\n"  # another's front

    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    place = find_place()
    request.addfinalizer(lambda: control.stop(place))
    command = [sys.executable, "-m", "sdfast", "warm", "start", "-m", "tiny"]
    subprocess.run(command, check=True, capture_output=True)
    assert soon(place.front.exists)
    assert ran(HANDED, *QUICK, "-q")[::2] == (0, b"")
    os.utime(house / "sdfast" / "job.py")
    assert ran(HANDED, *QUICK, "-q")[2] == b"it ran alone\n"

    control.stop(place)
    assert soon(lambda: not answers(place.front))
    assert ran(HANDED, *QUICK, "-q")[2] == b"it ran alone\n"
    assert ran("from sdfast.entry import main; main()", *QUICK, "-q")[0] == 0


def answers(path):
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0


def test_each_call_of_many_at_once_gets_its_own_picture():
    with contextlib.ExitStack() as stack:
        calls = [
            stack.enter_context(
                begun(HANDED, "gen", "a cat", "--steps", "2", "--seed", f"{seed}", "--json")
            )
            for seed in range(1, 7)
        ]
        said = [json.loads(call.communicate()[0]) for call in calls]
    assert [one["seed"] for one in said] == [*range(1, 7)]
