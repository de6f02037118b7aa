"""What a batch lives through: kills, interrupts, full disks, too little memory."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from sdfast.batch.crew import Alone
from sdfast.batch.studio import Order, Picture, Setting, Studio
from sdfast.batch.whole import carried_key
from sdfast.errors import DeviceError, ModelError
from sdfast.job import Job

QUICK = ("-s", "1", "-m", "tiny", "-o", "out/", "--batch-size", "1")
KILLED = Path(__file__).with_name("killed.py")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test stands in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def begin():
    """Begin a batch as a process of its own."""
    begun = []

    def start(*words, **given):
        process = subprocess.Popen(
            [sys.executable, "-m", "sdfast", "batch", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # a shell lets what it runs in the background ignore SIGINT, and so would its children
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
            **given,
        )
        begun.append(process)
        return process

    yield start
    for process in begun:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def batch(*words):
    """A batch from its beginning to its end: exit code, lines on stdout, stderr."""
    command = [sys.executable, "-m", "sdfast", "batch", *words]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return ran.returncode, ran.stdout.splitlines(), ran.stderr


def prompts(count):
    Path("p.txt").write_text("".join(f"picture {k}\n" for k in range(count)))


def done(folder="out"):
    lines = Path(folder, "sdfast.jsonl").read_text(errors="replace").splitlines()
    parsed = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    return [line for line in parsed if line["status"] == "done"]


def pixels(folder):
    found = {}
    for path in Path(folder).glob("*.png"):
        with Image.open(path) as picture:
            found[path.name] = picture.tobytes()
    return found


def killed_and_restarted(jobs, kills, longest):
    prompts(jobs)
    calm = batch("p.txt", *QUICK[:-3], "calm/", "--batch-size", "1")
    assert calm[0] == 0
    words = [sys.executable, str(KILLED), "7", str(kills), str(longest), "batch", "p.txt", *QUICK]
    ran = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=900, check=True)
    assert int(ran.stdout) >= kills // 2
    assert pixels("out") == pixels("calm")
    assert len(pixels("out")) == jobs
    assert all(carried_key(path) for path in Path("out").glob("*.png"))
    times = Counter(line["key"] for line in done())
    assert len(times) == jobs
    assert set(times.values()) == {1}
    assert {path.suffix for path in Path("out").iterdir()} == {".png", ".jsonl"}


def test_a_batch_killed_at_any_moment_is_finished_by_others():
    killed_and_restarted(jobs=20, kills=6, longest=0.7)


@pytest.mark.slow
def test_a_batch_killed_fifty_times_is_finished_by_others():
    killed_and_restarted(jobs=200, kills=50, longest=1.0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_picture_in_hand_be_finished(begin, number):
    prompts(500)
    process = begin("p.txt", *QUICK)
    first = process.stdout.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.rstrip().endswith("interrupted")
    assert "finishing what is in hand" in err
    assert len(pixels("out")) == len(done()) == len([first, *out.splitlines()])
    assert not list(Path("out").glob(".*"))


def test_a_second_interrupt_ends_at_once(begin):
    prompts(2)
    process = begin("p.txt", "-m", "tiny", "-o", "out/", "-s", "1000")
    while not Path("out/sdfast.jsonl").exists():
        time.sleep(0.05)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 130
    assert not pixels("out")


def test_a_picture_appears_as_its_line_arrives(begin):
    process = begin("-", *QUICK, stdin=subprocess.PIPE)
    for prompt in ("a cat", "a dog"):
        process.stdin.write(f"{prompt}\n")
        process.stdin.flush()
        assert prompt.replace(" ", "-") in process.stdout.readline()
    process.stdin.close()
    assert process.wait(timeout=60) == 0


def test_an_interrupt_while_nothing_arrives_ends_it(begin):
    process = begin("-", *QUICK, stdin=subprocess.PIPE)
    process.stdin.write("a cat\n")
    process.stdin.flush()
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 130


def test_two_at_once_do_not_paint_the_same(begin):
    prompts(200)
    first = begin("p.txt", *QUICK)
    first.stdout.readline()
    for words in ((), ("--shard", "1/2")):
        code, out, err = batch("p.txt", *QUICK, *words)
        assert (code, out) == (2, [])
        assert "another batch is painting into `out`" in err
    first.kill()
    first.wait()
    assert batch("p.txt", *QUICK, "--limit", "1")[0] == 0


def test_a_folder_taken_away_in_mid_run_ends_it_and_the_next_goes_on(begin):
    prompts(200)
    process = begin("p.txt", *QUICK)
    process.stdout.readline()
    Path("out").rename("aside")
    Path("out").mkdir()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "error: cannot write" in err
    assert not list(Path("out").iterdir())
    shutil.rmtree("out")
    assert batch("p.txt", *QUICK, "--limit", "2")[0] == 0


@pytest.fixture
def disk(here):
    """A disk of 150 kB; its folder."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk")
    Path("out").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=150k", "tmpfs", "out"]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    yield Path("out")
    subprocess.run(["umount", "-l", str(here / "out")], check=True)


def test_a_full_disk_ends_it_and_room_lets_it_go_on(disk):
    prompts(20)
    code, out, err = batch("p.txt", *QUICK)
    assert code == 5
    assert "no space left on device" in err
    assert "hint: the same command goes on once that is put right" in err
    assert 3 < len(out) == len(pixels("out")) == len(done()) < 20
    assert not list(disk.glob(".*"))
    subprocess.run(["mount", "-o", "remount,size=2M", "out"], check=True)
    code, more, _ = batch("p.txt", *QUICK)
    assert code == 0
    assert len(out) + len(more) == len(pixels("out")) == 20


def test_a_disk_that_lets_nothing_be_written_is_told_before_and_in_mid_run(begin, disk):
    prompts(200)
    subprocess.run(["mount", "-o", "remount,size=9M", "out"], check=True)
    process = begin("p.txt", *QUICK)
    process.stdout.readline()
    # a file that is open for writing keeps a disk from it, so the folder is covered by another
    subprocess.run(["mount", "--bind", "-o", "ro", "out", "out"], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", "out"], check=True)
    try:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 5
        assert "read-only" in err
        code, out, err = batch("p.txt", *QUICK)
        assert (code, out) == (2, [])
        assert "read-only" in err
    finally:
        subprocess.run(["umount", "out"], check=True)
    assert batch("p.txt", *QUICK, "--limit", "1")[0] == 0


def orders(count):
    jobs = (Job(prompt=f"p{k}", seed=k, model="tiny") for k in range(count))
    return [
        Order(bytes([k] * 16), job.model_copy(update={"size": (64, 64)}))
        for k, job in enumerate(jobs)
    ]


@pytest.fixture
def crowded(monkeypatch):
    """An engine that has memory for three pictures, and refuses the prompt `p5`."""
    from sdfast import engine

    asked = []
    together = engine.generate_together

    def generate_together(model, jobs):
        asked.append(len(jobs))
        if len(jobs) > 3:
            raise DeviceError("out of memory on cpu while painting")
        if any(job.prompt == "p5" for job in jobs):
            raise ModelError("not finite")
        quick = [
            job.model_copy(update={"sampler": job.sampler.model_copy(update={"steps": 1})})
            for job in jobs
        ]
        return together(model, quick)

    monkeypatch.setattr(engine, "generate_together", generate_together)
    return asked


def test_too_little_memory_halves_the_batch_from_then_on(crowded):
    studio = Studio(Setting(together=8))
    answer = studio.paint(orders(5))
    assert [type(outcome) for outcome in answer.outcomes] == [Picture] * 5
    assert answer.most == 2
    assert crowded == [5, 2, 2, 1]
    studio.paint(orders(4))
    assert crowded[4:] == [2, 2]


def test_a_job_that_fails_takes_no_other_with_it(crowded):
    answer = Studio(Setting(together=2)).paint(orders(7))
    kinds = [type(outcome) for outcome in answer.outcomes]
    assert kinds == [Picture] * 5 + [ModelError, Picture]
    assert answer.most == 2


def test_one_picture_too_large_for_memory_fails_alone(crowded, monkeypatch):
    from sdfast import engine

    def refuse(model, jobs):
        raise DeviceError("out of memory on cpu while painting")

    monkeypatch.setattr(engine, "generate_together", refuse)
    answer = Studio(Setting()).paint(orders(2))
    assert all(isinstance(outcome, DeviceError) for outcome in answer.outcomes)


def test_no_such_device_ends_it_all():
    crew = Alone(Setting(device="cuda:99"))
    crew.give(0, orders(1))
    with pytest.raises(DeviceError):
        crew.ready(None)
