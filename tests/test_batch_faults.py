"""What a batch lives through: kills, interrupts, full disks, too little memory."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections import Counter
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from itertools import count, cycle
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from costless import Costless
from PIL import Image
from processes import hears_ctrl_c

from sdfast.batch import crew, manifest, shards
from sdfast.batch.crew import Alone
from sdfast.batch.events import Picture
from sdfast.batch.seen import look
from sdfast.batch.store import Folder
from sdfast.batch.studio import Answer, Order, Setting, Studio
from sdfast.cli.batching import _signals
from sdfast.errors import DeviceError, ModelError, OutOfMemoryError, UsageError
from sdfast.job import Job
from sdfast.naming import exists_already

QUICK = ("-s", "1", "-m", "tiny", "-o", "out/", "--batch-size", "1")
KILLED = Path(__file__).with_name("killed.py")


pytestmark = pytest.mark.usefixtures("here")


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
            preexec_fn=hears_ctrl_c,
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


@pytest.fixture
def batch(sdfast):
    """A batch in this process, to its end: exit code, lines on stdout, stderr."""

    def run(*words):
        code, out, err = sdfast("batch", *words)
        return code, out.splitlines(), err

    return run


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


def killed_and_restarted(batch, jobs, kills):
    prompts(jobs)
    calm = batch("p.txt", *QUICK[:-3], "calm/", "--batch-size", "1")
    assert calm[0] == 0
    words = [sys.executable, str(KILLED), "7", str(kills), "out", "p.txt", *QUICK, "-q"]
    ran = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=900, check=True)
    seen = json.loads(ran.stdout)
    print(seen)
    assert seen["ended"]
    assert seen["kills"] == kills
    assert seen["in painting"] >= kills // 2
    assert pixels("out") == pixels("calm")
    assert len(pixels("out")) == jobs
    assert all(look(path).of(black=True) for path in Path("out").glob("*.png"))
    times = Counter(line["key"] for line in done())
    assert len(times) == jobs
    assert set(times.values()) == {1}
    assert {path.suffix for path in Path("out").iterdir()} == {".png", ".jsonl"}


def test_a_batch_killed_at_any_moment_is_finished_by_others(batch):
    killed_and_restarted(batch, jobs=8, kills=2)


@pytest.mark.slow
def test_a_batch_killed_fifty_times_is_finished_by_others(batch):
    killed_and_restarted(batch, jobs=200, kills=50)


@pytest.fixture
def costless(monkeypatch, batch):
    """`sdfast batch` in this process, with a network that costs nothing: its exit code."""
    monkeypatch.setattr(crew, "Alone", lambda setting: Costless())
    return lambda *words: batch(*words)[0]


def killed_at(nth, run):
    """Whether a run was killed just before its nth call that changes the disk."""
    calls = count(1)

    def deadly(call):
        def called(*words, **named):
            if next(calls) == nth:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*words, **named)

        return called

    with warnings.catch_warnings(action="ignore"):  # of threads, which nobody has
        child = os.fork()
    if child == 0:
        for name in ("write", "fsync", "link", "unlink", "mkdir", "ftruncate"):
            setattr(os, name, deadly(getattr(os, name)))
        os._exit(run())
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def test_a_kill_at_any_change_of_the_disk_loses_nothing_and_doubles_nothing(costless):
    prompts(2)
    run = partial(costless, "p.txt", *QUICK, "-q")
    for nth in count(1):
        if not killed_at(nth, run):
            break
        assert run() == 0
        times = Counter(line["key"] for line in done())
        keys = Counter(look(path).of(black=True).hex() for path in Path("out").glob("*.png"))
        assert times == keys
        assert sorted(times.values()) == [1, 1]
        assert {path.suffix for path in Path("out").iterdir()} == {".png", ".jsonl"}
        shutil.rmtree("out")
    assert nth > 12


def test_a_clock_that_jumps_changes_no_name_and_paints_nothing_twice(costless, monkeypatch):
    moments = cycle([datetime(2026, 5, 1, 12), datetime(1970, 1, 1), datetime(2199, 12, 31, 23)])
    jumping = SimpleNamespace(now=lambda: next(moments), fromisoformat=datetime.fromisoformat)
    monkeypatch.setattr(manifest, "datetime", jumping)
    monkeypatch.setattr(time, "time", lambda: next(moments).timestamp())
    prompts(3)
    words = ("p.txt", *QUICK[:-4], "-o", "out/{date}-{time}-{i}.png")
    for _ in range(5):
        assert costless(*words, "--limit", "1") == 0
    assert costless(*words) == 0
    names = [path.name for path in Path("out").glob("*.png")]
    assert len(names) == len(done()) == 3
    assert len({name[:17] for name in names}) == 1


class Unlucky:
    """Two hands, of which one fails its first job and the other is lost over its own."""

    hands, most = 2, 1

    def __init__(self):
        self.given = []
        self.busy = set()

    @property
    def idle(self):
        return [hand for hand in (0, 1) if hand not in self.busy]

    def give(self, hand, orders):
        self.given.append(hand)
        self.busy.add(hand)

    def ready(self, within):
        hand = min(self.busy)
        self.busy.discard(hand)
        return [(hand, crew.Lost("gone") if hand else Answer([ModelError("broken")], 1))]

    def close(self):
        pass


def test_a_worker_that_is_lost_after_the_first_failure_has_no_successor(costless, monkeypatch):
    unlucky = Unlucky()
    monkeypatch.setattr(crew, "Alone", lambda setting: unlucky)
    prompts(9)
    assert costless("p.txt", *QUICK, "--fail-fast") == 5
    assert unlucky.given == [0, 1]


class Doomed(Costless):
    """A hand that is lost over whatever it is given."""

    def __init__(self):
        super().__init__()
        self.lost = 0

    def ready(self, within):
        self.orders = []
        self.lost += 1
        return [(0, crew.Lost("gone"))]


def test_a_job_that_has_cost_three_workers_costs_the_next_run_none(costless, monkeypatch):
    doomed = Doomed()
    monkeypatch.setattr(crew, "Alone", lambda setting: doomed)
    prompts(1)
    for _ in range(2):
        assert costless("p.txt", *QUICK) == 5
        assert doomed.lost == 3


class Pair(Costless):
    """Two hands, each of which has room for one picture of what it is given."""

    hands = 2

    def __init__(self):
        super().__init__()
        self.given = {}
        self.painted = []

    @property
    def idle(self):
        return [hand for hand in (0, 1) if hand not in self.given]

    def give(self, hand, orders):
        self.given[hand] = orders

    def ready(self, within):
        hand = next(iter(self.given))  # who has waited longest
        self.orders = self.given.pop(hand)[:1]
        self.painted.append(hand)
        ((_, answer),) = super().ready(within)
        return [(hand, answer)]


def test_the_last_jobs_are_for_all_hands(costless, monkeypatch):
    pair = Pair()
    monkeypatch.setattr(crew, "Alone", lambda setting: pair)
    prompts(16)
    assert costless("p.txt", *QUICK) == 0
    assert [pair.painted.count(hand) for hand in (0, 1)] == [8, 8]
    assert len([*Path("out").glob("*.png")]) == 16


class Nowhere(Costless):
    """Hands that never come up, as those of a cluster whose last node is gone; then, a signal."""

    idle = ()

    def ready(self, within):
        assert within is not None
        os.kill(os.getpid(), signal.SIGTERM)
        return []


def test_a_signal_ends_the_waiting_for_hands_that_never_come(costless, monkeypatch):
    monkeypatch.setattr(crew, "Alone", lambda setting: Nowhere())
    prompts(2)
    assert costless("p.txt", *QUICK) == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert said.endswith("interrupted\n")
    assert process.returncode == 130
    assert not pixels("out")


@pytest.mark.parametrize(
    ("come", "ends"), [("INT", False), ("TERM", False), ("TERM TERM", False), ("TERM INT", True)]
)
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_at_once_what_has_been_asked_to_end(come, ends):
    stop, said = threading.Event(), []
    with pytest.raises(KeyboardInterrupt) if ends else nullcontext(), _signals(stop, said.append):
        for name in come.split():
            os.kill(os.getpid(), signal.Signals[f"SIG{name}"])
    assert stop.is_set()
    assert len(said) == 1


@pytest.mark.usefixtures("interruptible")
def test_a_signal_that_comes_while_another_is_heard_waits_for_nothing():
    class Stop(threading.Event):
        def set(self):
            os.kill(os.getpid(), signal.SIGTERM)
            assert not self.is_set()
            super().set()

    said = []
    with _signals(stop := Stop(), said.append):
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.is_set()
    assert len(said) == 1


@pytest.mark.usefixtures("interruptible")
def test_that_nobody_reads_stderr_any_more_ends_nothing():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as nobody:
        with _signals(stop := threading.Event(), partial(print, file=nobody)):
            os.kill(os.getpid(), signal.SIGINT)
        with contextlib.suppress(BrokenPipeError):
            nobody.close()
    assert stop.is_set()


def interrupt_twice_and_swallow():
    for _ in range(2):
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.usefixtures("interruptible")
def test_what_an_interrupt_breaks_off_has_not_failed(sdfast, monkeypatch):
    prompts(2)

    def broken(*_, **__):
        interrupt_twice_and_swallow()
        raise ModelError("`tiny`: unet cannot be loaded")

    with monkeypatch.context() as patch:
        patch.setattr("sdfast.batch.studio.load_model", broken)
        code, out, err = sdfast("batch", "p.txt", *QUICK)
    assert (code, out) == (130, "")
    assert "line 1: `tiny`: unet cannot be loaded; the next run tries it again" in err
    assert "has failed" not in err
    assert sdfast("batch", "p.txt", *QUICK)[0] == 0
    assert len(pixels("out")) == 2


class Orders(list):
    """A list that can be referred to weakly."""


def test_of_a_model_that_was_refused_nothing_stays_in_memory(monkeypatch):
    loaded = []

    def broken(*_, **__):
        network = torch.nn.Identity()
        loaded.append(weakref.ref(network))
        raise ModelError("the last of its parts is broken")

    monkeypatch.setattr("sdfast.batch.studio.load_model", broken)
    studio = Studio(Setting())
    given = []
    for _ in range(3):
        orders = Orders([Order(b"", Job(prompt="a cat", model="tiny"))])
        given.append(weakref.ref(orders))
        assert isinstance(studio.paint(orders).outcomes[0], ModelError)
    del orders
    assert len(loaded) == 1
    assert [one() for one in loaded + given] == [None] * 4


@pytest.mark.usefixtures("interruptible")
def test_whatever_an_interrupt_makes_of_an_import_is_an_interrupt(sdfast, monkeypatch):
    prompts(2)

    def broken(*_, **__):
        interrupt_twice_and_swallow()
        raise ImportError("cannot load module more than once per process")

    monkeypatch.setattr("sdfast.batch.studio.load_model", broken)
    code, out, err = sdfast("batch", "p.txt", *QUICK)
    assert (code, out) == (130, "")
    assert err.endswith("interrupted\n")
    assert "a bug" not in err


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


def test_half_a_line_is_no_broken_line_when_an_interrupt_ends_it(begin):
    process = begin("-", *QUICK, "--format", "jsonl", stdin=subprocess.PIPE)
    process.stdin.write('{"prompt": "a cat"}\n{"prompt": "a d')
    process.stdin.flush()
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "error" not in err
    assert "failed" not in Path("out/sdfast.jsonl").read_text()


def test_those_who_look_whether_a_manifest_is_held_do_not_see_each_other(here):
    manifest.open_manifest(here, shards.read_shard("1/3")).close()
    looking = os.open(here / "sdfast-1-of-3.jsonl", os.O_RDWR)  # as another shard does just now
    assert manifest._lock(looking, shared=True)
    manifest.open_manifest(here, shards.read_shard("1/2")).close()
    os.close(looking)


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ("1/2", "2/2", True),
        ("1/2", "1/2", False),
        ("1/2", "2/3", False),  # some pictures belong to both
        ("2/3", "1/2", False),
        (None, "2/2", False),
        ("2/2", None, False),
    ],
)
def test_two_runs_at_once_are_shards_of_one_number_or_refused(here, first, second, together):
    with contextlib.closing(manifest.open_manifest(here, shards.read_shard(first))):
        refused = pytest.raises(UsageError, match="another batch is painting into")
        with contextlib.nullcontext() if together else refused:
            manifest.open_manifest(here, shards.read_shard(second)).close()


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize(
    ("form", "text"), [("csv", "promt,seed\na cat,1\n"), ("jsonl", '["a cat"]\n')]
)
def test_a_pipe_that_is_no_batch_leaves_nothing(begin, here, there, form, text):
    if there:
        Path("out").mkdir()
    process = begin("-", *QUICK, "--format", form, stdin=subprocess.PIPE)
    _, err = process.communicate(text, timeout=60)
    assert (process.returncode, err.count("error: ")) == (2, 1)
    assert [path.name for path in here.rglob("*")] == ["out"] * there


def test_two_at_once_do_not_paint_the_same(begin, batch):
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


def test_two_at_once_with_manifests_apart_make_one_picture_of_each_job(begin):
    prompts(16)
    both = [begin("p.txt", *QUICK, "--manifest", folder) for folder in ("one", "two")]
    for process in both:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    keys = Counter(look(path).of(black=True) for path in Path("out").glob("*.png"))
    assert len(keys) == 16
    assert set(keys.values()) == {1}
    assert {path.suffix for path in Path("out").iterdir()} == {".png"}


def test_a_folder_taken_away_in_mid_run_ends_it_and_the_next_goes_on(begin, batch):
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


def test_a_folder_put_in_the_place_of_another_is_not_taken_for_it(here):
    out, aside = here / "out", here / "aside"
    with contextlib.closing(manifest.open_manifest(out, shards.WHOLE)) as whole:
        out.rename(aside)
        shutil.copytree(aside, out)
        before = (aside / "sdfast.jsonl").read_bytes()
        with pytest.raises(UsageError, match="another put there"):
            whole.add({"status": "done"})
    assert (aside / "sdfast.jsonl").read_bytes() == before


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


def test_a_full_disk_ends_it_and_room_lets_it_go_on(batch, disk):
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


def test_a_line_that_finds_no_room_leaves_nothing_of_itself(here, monkeypatch):
    with contextlib.closing(manifest.open_manifest(here, shards.WHOLE)) as whole:
        before, write = whole.path.read_bytes(), os.write
        monkeypatch.setattr(os, "write", lambda file, line: write(file, line[: len(line) // 2]))
        with pytest.raises(UsageError, match="no space left"):
            whole.add({"status": "done"})
        assert whole.path.read_bytes() == before


def test_a_disk_that_is_full_from_the_first_leaves_no_manifest(batch, disk):
    prompts(2)
    with contextlib.suppress(OSError):
        Path("out/ballast").write_bytes(bytes(2**20))
    with contextlib.suppress(OSError), Path("out/more").open("wb", buffering=0) as file:
        while file.write(bytes(64)):
            pass
    code, _, err = batch("p.txt", *QUICK)
    assert code == 5
    assert "no space left on device" in err
    assert not Path("out/sdfast.jsonl").exists()


def test_a_disk_that_lets_nothing_be_written_is_told_before_and_in_mid_run(begin, batch, disk):
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
            raise OutOfMemoryError("out of memory on cpu while painting")
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
    assert [type(outcome) for outcome in answer.outcomes] == [Picture] * 2
    assert answer.most == 2
    assert crowded == [5, 2]
    assert len(studio.paint(orders(4)).outcomes) == 2
    assert crowded[2:] == [2]


def test_a_job_that_fails_takes_no_other_with_it(crowded):
    answer = Studio(Setting(together=3)).paint(orders(7)[4:])
    assert [type(outcome) for outcome in answer.outcomes] == [Picture, ModelError, Picture]
    assert answer.most == 3
    assert crowded == [3, 1, 2, 1, 1]


def test_no_picture_waits_for_others_that_find_no_room_beside_it(sdfast, monkeypatch):
    from sdfast import engine

    there = []
    together = engine.generate_together

    def generate_together(model, jobs):
        there.append(len(list(Path("out").glob("*.png"))))
        return together(model, jobs)

    monkeypatch.setattr(engine, "generate_together", generate_together)
    prompts(5)
    words = ("batch", "p.txt", "-m", "tiny", "-s", "1", "-o", "out/")
    assert sdfast(*words, "--size", "512x256", "--limit", "3")[0] == 0
    assert there == [0, 2]
    assert sdfast(*words, "--size", "512x256")[0] == 0
    assert there[2:] == [3]
    assert sdfast(*words, "--size", "64x64", "--method", "adaptive", "-n", "2")[0] == 0
    assert there[3:] == [*range(5, 15)]


def test_a_dry_run_wakes_no_torch(here):
    prompts(2)
    code = (
        "import sys; sys.argv = ['sdfast', 'batch', 'p.txt', '-m', 'tiny', '--dry-run'];"
        "from sdfast.cli import run_command; code = run_command();"
        "import sdfast.batch.crew;"  # which says how many threads torch is to have
        "sys.exit(code or 10 * ('torch' in sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert len(ran.stdout.splitlines()) == 2


def test_one_picture_too_large_for_memory_fails_alone(crowded, monkeypatch):
    from sdfast import engine

    def refuse(model, jobs):
        raise OutOfMemoryError("out of memory on cpu while painting")

    monkeypatch.setattr(engine, "generate_together", refuse)
    answer = Studio(Setting()).paint(orders(1))
    assert isinstance(answer.outcomes[0], DeviceError)
    assert answer.most == Setting().most  # smaller ones are painted together as before


def test_no_such_device_ends_it_all():
    alone = Alone(Setting(device="cuda:99"))
    alone.give(0, orders(1))
    with pytest.raises(DeviceError):
        alone.ready(None)


TIGHT = """
import os, resource, sys
from sdfast.cli import run_command
from sdfast.models import load_model

load_model("tiny")  # imports everything that painting needs
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 300 * 2**20,) * 2)
sys.argv = ["sdfast", "batch", *sys.argv[1:]]
sys.exit(run_command())
"""


@pytest.mark.slow
def test_a_process_that_is_refused_memory_halves_the_batch_and_paints_all():
    prompts(200)
    ran = subprocess.run(
        [sys.executable, "-c", TIGHT, "p.txt", *QUICK[:-1], "200"],
        # blocks that are freed go back to the system at once, as a limit on addresses needs
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert "note: memory is short: from now on 50 at a time" in ran.stderr
    assert ran.returncode == 0, ran.stderr
    assert len(pixels("out")) == 200


def test_a_place_of_links_that_lead_to_each_other_is_refused(here, batch):
    Path("loop").symlink_to("loop")
    Path("p.txt").write_text("a cat\n")
    code, out, err = batch("p.txt", *QUICK, "--manifest", "loop/")
    assert (code, out) == (2, [])
    assert "cannot write" in err


def test_a_file_that_cannot_be_asked_for_fails_its_own_job_alone(sdfast):
    jobs = [{"prompt": "a", "lora": "x" * 300}, {"prompt": "b", "vae": "y" * 300}, {"prompt": "c"}]
    Path("p.jsonl").write_text("\n".join(map(json.dumps, jobs)))
    code, out, err = sdfast("batch", "p.jsonl", *QUICK)
    assert code == 5
    assert len(out.splitlines()) == len(done()) == 1
    assert err.count("cannot be read: File name too long") == 2


def told(name, *records):
    lines = [{"status": "begun", "at": "2026-01-02T03:04:05"}, *records]
    Path("out").mkdir(exist_ok=True)
    Path("out", name).write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_what_another_manifest_has_painted_since_has_not_failed():
    failed = {"status": "failed", "key": "0" * 32, "line": 1}
    made = {"status": "done", "key": "0" * 32, "path": "gone.png", "line": 1}
    folder = Folder(Path("out"))
    for records, has_failed in (([made], False), ([made, failed], True), ([failed, made], False)):
        told("sdfast-1-of-2.jsonl", *records)
        told("sdfast.jsonl", failed)
        knows = manifest.known(Path("out"), folder)
        assert (bytes(16) in knows.failed) == has_failed
        assert knows.cut == {bytes(16): "gone.png"}


def test_other_shards_go_on_under_the_date_of_a_batch_that_was_broken_off(here):
    told("sdfast-1-of-2.jsonl")
    with contextlib.closing(manifest.open_manifest(here / "out", shards.WHOLE)) as whole:
        assert whole.begun == datetime(2026, 1, 2, 3, 4, 5)


def test_of_two_that_begin_at_once_one_sees_the_other(here, monkeypatch):
    listed = manifest.manifests

    def meanwhile(folder):
        found = listed(folder)
        with monkeypatch.context() as patch:
            patch.setattr(manifest, "manifests", listed)
            with pytest.raises(UsageError, match="another batch is painting"):
                manifest.open_manifest(folder, shards.read_shard("1/2"))
        return found

    monkeypatch.setattr(manifest, "manifests", meanwhile)
    manifest.open_manifest(here, shards.WHOLE).close()


def test_a_name_that_somebody_has_taken_meanwhile_is_no_loss_of_the_folder(here):
    assert not Folder(here).is_lost(exists_already(here / "a.png"))


@pytest.mark.parametrize("policy", ["skip", "rename", "error", "overwrite"])
def test_an_empty_file_is_nobodys_picture(sdfast, policy):
    """Where a file system has no links, a kill leaves one under a picture's name."""
    prompts(1)
    assert sdfast("batch", "p.txt", *QUICK)[0] == 0
    (picture,) = Path("out").glob("*.png")
    wanted = picture.read_bytes()
    picture.write_bytes(b"")
    Path("out/sdfast.jsonl").unlink()
    assert sdfast("batch", "p.txt", *QUICK, "--exists", policy)[0] == 0
    assert [path.read_bytes() for path in Path("out").glob("*.png")] == [wanted]
