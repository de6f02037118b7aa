"""The same pictures by one process, by several and by a cluster, whoever dies on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import hears_ctrl_c, soon

QUICK = ("-s", "2", "-m", "tiny", "--batch-size", "1")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test stands in an empty folder, before jobs that one process has painted."""
    monkeypatch.chdir(tmp_path)
    Path("p.txt").write_text("".join(f"picture {k}\n" for k in range(20)))


def begin(*words, **given):
    command = [sys.executable, "-m", "sdfast", "batch", "p.txt", *QUICK, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, **given)


def pictures(folder):
    return {path.name: path.read_bytes() for path in Path(folder).glob("*.png")}


def workers(pid, named):
    """The processes beneath one, by what their command line says."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = (int(stat[1]), (folder / "cmdline").read_text())
        except OSError:
            continue
    beneath, found = {pid}, []
    while more := {child for child, (parent, _) in parents.items() if parent in beneath} - beneath:
        beneath |= more
        found += more
    return [child for child in found if named in parents[child][1]]


def painted_alike(sdfast, *words, named, kill):
    """Whether the pictures are those of one process, though one worker is killed on the way."""
    assert sdfast("batch", "p.txt", *QUICK, "-o", "alone/")[0] == 0
    with begin("-o", "many/", *words) as many:
        first = many.stdout.readline()
        killed = []
        # its name is given to a worker some time after its start
        while kill and not killed and many.poll() is None:
            killed = workers(many.pid, named)[:1]
        for worker in killed:
            os.kill(worker, signal.SIGKILL)
        out, err = many.communicate(timeout=240)
    assert many.returncode == 0, err
    assert len(killed) == kill
    assert ("another takes over" in err) == kill
    assert len([first, *out.splitlines()]) == 20
    assert pictures("many") == pictures("alone")
    lines = [json.loads(line) for line in Path("many/sdfast.jsonl").read_text().splitlines()]
    assert len([line for line in lines if line["status"] == "done"]) == 20


def test_two_processes_paint_what_one_does_though_one_is_killed(sdfast):
    painted_alike(sdfast, "--gpus", "cpu,cpu", named="spawn_main", kill=True)


DIES = """
import os, sys

if any("spawn_main" in word for word in sys.orig_argv):
    with open("starts", "a") as file:
        file.write("x")
        died = file.tell()
    if died <= {most}:
        os._exit(7)
"""


@pytest.mark.parametrize(
    ("deaths", "code"), [(2, 0), pytest.param(10**9, 4, marks=pytest.mark.slow)]
)
def test_a_process_that_only_ever_dies_as_it_begins_ends_the_run_and_fails_no_job(
    monkeypatch, deaths, code
):
    Path("begins").mkdir()
    Path("begins/sitecustomize.py").write_text(DIES.format(most=deaths))
    folders = (Path("begins").absolute(), os.environ.get("PYTHONPATH"))
    with monkeypatch.context() as dying:
        dying.setenv("PYTHONPATH", os.pathsep.join(str(folder) for folder in folders if folder))
        with begin("-o", "many/", "--gpus", "cpu") as many:
            _, err = many.communicate(timeout=120)
    assert many.returncode == code
    assert ("error: no worker can be started: the process for cpu" in err) == (code == 4)
    assert "failed" not in Path("many/sdfast.jsonl").read_text()
    assert len(Path("starts").read_text()) == 3
    if code:
        with begin("-o", "many/") as after:
            after.communicate(timeout=120)
        assert after.returncode == 0
    assert len(pictures("many")) == 20


def test_processes_end_with_the_one_that_began_them():
    with begin("-o", "many/", "--gpus", "cpu,cpu", "-s", "1000") as many:
        while many.poll() is None and len(found := workers(many.pid, "spawn_main")) < 2:
            time.sleep(0.05)
        time.sleep(0.5)
        many.kill()
        many.communicate()
    assert len(found) == 2
    assert soon(lambda: not any(Path(f"/proc/{pid}").exists() for pid in found))


@pytest.mark.parametrize(
    "moment", [0, 2, *(pytest.param(m, marks=pytest.mark.slow) for m in (1, 3))]
)
def test_ctrl_c_is_heard_by_the_one_that_began_them_alone(moment):
    """A terminal sends it to all, as they begin, too."""
    words = ("-o", "many/", "--gpus", "cpu,cpu")
    with begin(*words, start_new_session=True, preexec_fn=hears_ctrl_c) as many:
        while many.poll() is None and not workers(many.pid, "spawn_main"):
            time.sleep(0.01)
        time.sleep(moment / 20)
        os.killpg(many.pid, signal.SIGINT)
        _, err = many.communicate(timeout=60)
    assert many.returncode == 130
    assert "Traceback" not in err
    assert err.endswith("interrupted\n")


def test_what_is_in_hand_is_finished_when_the_terminal_is_closed():
    """It tells all of them, and may do so twice."""
    with begin("-o", "many/", "--gpus", "cpu,cpu", start_new_session=True) as many:
        first = many.stdout.readline()
        for _ in "twice":
            os.killpg(many.pid, signal.SIGHUP)
        out, err = many.communicate(timeout=60)
    assert many.returncode == 130
    assert "finishing what is in hand" in err
    assert "killed" not in err
    assert len([first, *out.splitlines()]) == len([*Path("many").glob("*.png")])


@pytest.mark.ray
@pytest.mark.parametrize("kill", [False, True])
def test_two_workers_of_ray_paint_what_one_process_does(sdfast, kill):
    painted_alike(
        sdfast, "--ray", "local", "--cpus-per-worker", "1", named="ray::Studio", kill=kill
    )


@pytest.mark.ray
def test_a_cluster_that_is_not_there_or_too_small_is_one_line():
    large = ("--ray", "local", "--cpus-per-worker", "99")
    for words, says, hint in (
        (("--ray", "auto"), "no Ray cluster at `auto`", "RAY_AUTH_MODE=token joins one"),
        (("--ray", "127.0.0.1:1"), "no Ray cluster at `127.0.0.1:1`: ", "RAY_AUTH_MODE=token"),
        (large, "no node of the cluster has 99 processors", "--cpus-per-worker"),
    ):
        with begin("-o", "many/", *words) as many:
            _, err = many.communicate(timeout=120)
        assert many.returncode == 2
        assert f"error: {says}" in err
        assert hint in err.partition("hint: ")[2]
        assert not Path("many").exists()
