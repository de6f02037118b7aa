"""The worker and who asks it, with real processes and real sockets.

Most workers here are honest but paint in one colour: what they load costs nothing, so each test can
have its own. One test asks a real one.
"""

import contextlib
import dataclasses
import io
import json
import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import Queue

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from processes import hears_ctrl_c, soon
from quick import QUICK

from sdfast import Job
from sdfast.cli.warm import lasting
from sdfast.errors import DeviceError, JobError, UsageError
from sdfast.events import Encoded, Finished, Stepped, Times
from sdfast.models.find import find
from sdfast.warm import client, control, wire
from sdfast.warm.client import AbsentError, GoneError
from sdfast.warm.greeting import circumstances, holding, read_greeting, stamp
from sdfast.warm.place import find_place, holder
from sdfast.warm.worker import Shop, _keep_the_door, _welcome

ONE_COLOUR = """
import sys, time
from PIL import Image
from sdfast.errors import OutOfMemoryError
from sdfast.events import Encoded, Finished, Stepped, Times
from sdfast.models.find import find
from sdfast.warm.greeting import circumstances, holding, stamp
from sdfast.warm.worker import work

name, idle, pace = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])

def load():
    found = find(name)
    kinds = {"wanted": ("auto", "auto"), "given": ("cpu", "fp32")}
    return paint, holding(found, stamp(found), circumstances(), **kinds, idle=idle)

def paint(job):
    begun = time.monotonic()
    yield Encoded(job)
    if job.prompt == "too much":
        raise OutOfMemoryError("out of memory on cpu while painting", "--size asks for less")
    if job.prompt == "a bug":
        raise ZeroDivisionError
    for i in range(job.sampler.steps):
        time.sleep(pace)
        yield Stepped(i + 1, job.sampler.steps)
    spent = Times(begun, (0.5,) * job.sampler.steps, time.monotonic())  # when, not how long
    yield Finished(job, Image.new("RGB", job.size, (job.seed, 2, 3)), spent, False)

work(load)
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test stands in an empty folder and has a runtime folder, and no worker, of its own."""
    for name in ("here", "run"):
        (tmp_path / name).mkdir(mode=0o700)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    yield tmp_path / "here"
    control.stop(find_place())


@pytest.fixture
def worker():
    """Begin a worker that paints in one colour; its greeting."""
    with contextlib.ExitStack() as stack:

        def begin(name="tiny", idle=60.0, pace=0.0):
            command = [sys.executable, "-c", ONE_COLOUR, str(name), str(idle), str(pace)]
            log = stack.enter_context(find_place().log.open("a"))
            process = stack.enter_context(
                subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=log, start_new_session=True
                )
            )
            stack.callback(process.kill)
            record = wire.read_frame(process.stdout.read).record
            return record if "is" in record else read_greeting(record)

        yield begin


def painted_by_worker(path):
    with Image.open(path) as picture:
        return picture.getpixel((0, 0)) == (1, 2, 3) and len(picture.getcolors()) == 1


def shell(*words):
    return subprocess.Popen(
        [sys.executable, "-m", "sdfast", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hears_ctrl_c,
    )


def job(seed=1, steps=2, **said):
    return (
        find("tiny")
        .complete(Job(prompt="a cat", seed=seed, **said))
        .model_copy(update={"sampler": Job(prompt="x").sampler.model_copy(update={"steps": steps})})
    )


def test_a_picture_is_the_same_with_a_real_worker_and_without(sdfast, here):
    code, out, err = sdfast("warm", "start", "-m", "tiny", "--idle", "90s")
    assert (code, out) == (0, "")
    assert "keeps tiny fp32 on cpu; it leaves after 1 min 30 s" in err
    asks = ("gen", "a cat", "a red dog", "-s", "3", "--seed", "1", "-m", "tiny", "--json")
    _, with_worker, told = sdfast(*asks, "-o", "warm/", "-v")
    assert "kept warm by worker" in told
    assert "load 0.00" in told
    wakes_torch = (
        f"import sys; sys.argv = ['sdfast', *{asks!r}, '-o', 'lean/'];"
        "from sdfast.cli import run_command; code = run_command();"
        "heavy = {'torch', 'numpy', 'diffusers', 'transformers', 'rich', 'sdfast.cli.batch'};"
        "print(code, *(heavy & set(sys.modules)), file=sys.stderr)"
    )
    lean = subprocess.run(
        [sys.executable, "-c", wakes_torch], capture_output=True, text=True, check=True
    )
    assert lean.stderr.splitlines()[-1] == "0"
    _, status, _ = sdfast("warm", "status", "--json")
    seen = json.loads(status)
    assert (seen["painted"], seen["model"], seen["dtype"]) == (4, "tiny", "fp32")
    assert 80 < seen["left"] <= 90
    _, _, gone = sdfast("warm", "stop")
    assert gone == f"worker {seen['pid']} is gone\n"
    assert sdfast("warm", "status") == (0, "no worker is running\n", "")
    _, without, _ = sdfast(*asks, "-o", "cold/")
    for name in ("a-cat-1.png", "a-red-dog-1.png"):
        cold = (here / "cold" / name).read_bytes()
        assert (here / "warm" / name).read_bytes() == cold
        assert (here / "lean" / name).read_bytes() == cold
    for warm, cold in zip(with_worker.splitlines(), without.splitlines(), strict=True):
        timings = ("path", "seconds", "load_s", "encode_s", "steps_ms", "decode_s", "write_s")
        mine, other = json.loads(warm), json.loads(cold)
        assert mine.keys() == other.keys()
        assert mine["load_s"] == 0
        assert {k: v for k, v in mine.items() if k not in timings} == {
            k: v for k, v in other.items() if k not in timings
        }


def test_what_is_settled_leaves_a_worker_behind_for_the_next_picture(sdfast, monkeypatch):
    (Path(os.environ["SDFAST_CONFIG"]) / "config.yaml").write_text("keep_warm: 2m\nmodel: tiny\n")
    _, _, err = sdfast("gen", "a cat", "-s", "2", "-v")
    assert "left a worker behind" in err
    seen = []
    assert soon(lambda: seen.append(control.look(find_place())) or (seen[-1] and seen[-1].greeting))
    assert seen[-1].greeting.idle == 120
    log = find_place().log.read_text()
    assert "ready with tiny" in log
    assert "a cat" not in log
    _, _, err = sdfast("gen", "a cat", "-s", "2", "-v")
    assert "kept warm by worker" in err
    assert "left a worker" not in err


def test_a_picture_that_no_worker_could_have_painted_leaves_none_behind(sdfast):
    (Path(os.environ["SDFAST_CONFIG"]) / "config.yaml").write_text("keep_warm: 2m\nmodel: tiny\n")
    _, _, err = sdfast("gen", "a cat", "-s", "1", "-v", "--vram", "full")
    assert "not asking for a worker: --vram is for this process" in err
    assert "worker behind" not in err
    assert holder(find_place()) is None


def test_start_loads_the_model_that_is_settled_where_none_is_named(sdfast):
    (Path(os.environ["SDFAST_CONFIG"]) / "config.yaml").write_text("model: nosuch\n")
    code, _, err = sdfast("warm", "start")
    assert code == 3
    assert "nosuch" in err


def test_what_loading_says_is_said_by_start_and_the_worker_before_is_gone(sdfast, worker):
    worker()
    code, out, err = sdfast("warm", "start", "-m", "tiny", "--device", "abacus")
    assert (code, out) == (2, "")
    assert err.splitlines()[0] == "error: there is no device `abacus`"
    assert holder(find_place()) is None


def test_starting_twice_is_once(sdfast, worker):
    pid = worker().pid
    code, _, err = sdfast("warm", "start", "-m", "tiny")
    assert (code, err) == (0, f"worker {pid} keeps tiny fp32 on cpu already\n")
    assert worker() == {"is": "taken"}
    _, out, _ = sdfast("warm")
    assert f"{pid}, sdfast" in out


def test_a_worker_that_has_not_written_its_number_yet_is_ended_too(monkeypatch):
    place, seen, sent = find_place(), iter([0, 0, 4321, 4321, None]), []
    with monkeypatch.context() as patched:
        patched.setattr(control, "holder", lambda place: next(seen))
        patched.setattr(os, "kill", lambda *said: sent.append(said))
        assert control.stop(place) == 4321
    assert {pid for pid, _ in sent} == {4321}


def test_where_a_worker_lives_none_is_left_behind(worker):
    worker()
    order = control.Order(find("tiny"), "auto", "auto", 60.0)
    assert not control.leave_behind(find_place(), order)


@pytest.mark.parametrize("words", [["start", "-m", "tinny"], ["start", "-m", "no/such"]])
def test_a_model_that_is_not_to_be_had_is_told_as_by_gen(sdfast, words):
    code, _, err = sdfast("warm", *words)
    assert (code, err.count("error: ")) == (3, 1)


@pytest.mark.parametrize("idle", ["", "10", "m", "0s", "-1s", "1d", "ten", "1.5h", "999999999h"])
def test_a_time_that_is_none_is_one_line(sdfast, idle):
    code, _, err = sdfast("warm", "start", "--idle", idle)
    assert code == 2
    assert err == f"error: --idle must be a time such as `90s`, `10m` or `1h`, not `{idle}`\n"


def test_nobody_else_can_come_in(worker):
    worker()
    place = find_place()
    assert stat.S_IMODE(place.folder.stat().st_mode) == 0o700
    for path in (place.socket, place.lock):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_folder_that_others_could_enter_is_closed_to_them():
    folder = find_place().folder
    folder.chmod(0o777)
    assert stat.S_IMODE(find_place().folder.stat().st_mode) == 0o700


def test_a_link_in_the_folders_place_is_refused(sdfast, tmp_path):
    folder = find_place().folder
    folder.rmdir()
    folder.symlink_to(tmp_path)
    code, _, err = sdfast("warm", "status")
    assert (code, err.count("error: ")) == (2, 1)
    assert sdfast(*QUICK)[0] == 0
    folder.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_somebody_elses_folder_is_refused(sdfast):
    os.chown(find_place().folder, 12345, 12345)
    code, _, err = sdfast("warm", "status")
    assert code == 2
    assert "belongs to somebody else" in err
    os.chown(os.environ["XDG_RUNTIME_DIR"] + "/sdfast", 0, 0)


def test_a_path_too_long_for_a_socket_moves_to_a_short_one(tmp_path, monkeypatch, worker, sdfast):
    long = tmp_path / ("x" * 120)
    long.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    worker()
    folder = find_place().folder
    assert len(str(find_place().socket)) < 104
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    sdfast(*QUICK)
    assert painted_by_worker("a-cat-1.png")
    sdfast("warm", "stop")
    shutil.rmtree(folder)


def test_where_there_are_no_unix_sockets_gen_paints_and_warm_says_so(sdfast, monkeypatch):
    with monkeypatch.context() as patch:
        patch.delattr(socket, "AF_UNIX")
        code, _, err = sdfast("warm", "start")
        assert code == 2
        assert "Unix sockets" in err
        assert sdfast(*QUICK)[0] == 0


def test_a_worker_leaves_by_itself_and_takes_its_socket_along(worker):
    worker(idle=0.3)
    place = find_place()
    assert soon(lambda: holder(place) is None)
    assert not place.socket.exists()


def test_a_worker_that_cannot_be_found_any_more_leaves(worker):
    first = worker()
    place = find_place()
    place.lock.unlink()
    second = worker()  # which takes the other's place
    assert client.greeting(place).pid == second.pid
    assert soon(lambda: gone(first.pid))
    assert client.greeting(place).pid == second.pid
    place.socket.unlink()
    assert soon(lambda: holder(place) is None)
    assert "left, as its files were removed" in place.log.read_text()


def test_a_worker_whose_lock_is_gone_leaves_though_its_socket_is_there(worker):
    pid = worker().pid
    place = find_place()
    place.lock.unlink()
    assert soon(lambda: gone(pid))
    assert not place.socket.exists()


def test_what_keeps_a_worker_from_its_folder_is_told(sdfast, tmp_path):
    place = find_place()
    (place.socket / "in the way").mkdir(parents=True)
    code, _, err = sdfast("warm", "start", "-m", "tiny")
    assert code == 2
    assert err.startswith(f"error: cannot write `{place.socket}`: is a directory\n")
    assert holder(place) is None


def test_a_worker_that_is_told_to_stop_before_it_has_loaded_says_so(sdfast):
    place, started = find_place(), shell("warm", "start", "-m", "tiny")
    assert soon(lambda: holder(place))
    control.stop(place)
    _, err = started.communicate(timeout=60)
    assert started.returncode == 4
    assert "the worker was told to stop before it had loaded its model" in err


def gone(pid):
    """Whether a process has ended, be it that nobody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_worker_of_another_container_is_named_by_no_number(sdfast, worker):
    held = worker()
    place = find_place()
    place.lock.write_text(f"{os.getppid()} pid:[1]\n")
    for command in ("start", "status", "stop"):
        code, _, err = sdfast("warm", command)
        assert code == 2
        assert "error: the worker runs in another container\n" in err
    place.lock.write_text(f"{held.pid}\n")  # as earlier versions wrote it


def test_a_door_that_cannot_begin_a_thread_opens_again(worker, monkeypatch):
    listener = socket.create_server(("127.0.0.1", 0))
    held = worker()
    started = []

    class Scarce(threading.Thread):
        def start(self):
            started.append(self)
            if len(started) == 1:
                raise RuntimeError("can't start new thread")
            super().start()

    with monkeypatch.context() as patch:
        keeper = threading.Thread(target=_keep_the_door, args=(listener, Shop(held)), daemon=True)
        keeper.start()
        patch.setattr("sdfast.warm.worker.threading.Thread", Scarce)
        said = []
        for _ in range(2):
            with socket.create_connection(listener.getsockname()) as visitor:
                visitor.settimeout(20)
                said.append(visitor.recv(1))
    listener.close()
    assert said[0] == b""
    assert len(started) == 2


def test_a_picture_keeps_a_worker_from_leaving(worker):
    held = worker(idle=2.0, pace=0.5)
    with client.ask(find_place(), held, job(steps=5)) as turn:
        assert isinstance([*turn.events][-1], Finished)


def test_stopping_ends_a_worker_that_paints(sdfast, worker):
    held = worker(pace=0.05)
    place = find_place()
    with client.ask(place, held, job(steps=1000)) as turn:
        assert isinstance(next(turn.events), Encoded)
        assert control.stop(place) == held.pid
        with pytest.raises(GoneError):
            list(turn.events)
    assert not place.socket.exists()
    assert sdfast("warm", "stop") == (0, "", "no worker is running\n")


def test_a_workers_error_is_the_same_error(sdfast, worker):
    worker()
    code, out, err = sdfast("gen", "too much", "-m", "tiny")
    assert (code, out) == (4, "")
    assert err.splitlines()[-2:] == [
        "error: out of memory on cpu while painting",
        "hint: --size asks for less",
    ]
    assert sdfast(*QUICK)[0] == 0


def test_a_workers_bug_is_left_to_the_client(sdfast, worker):
    worker()
    code, _, err = sdfast("gen", "a bug", "--seed", "1", "-s", "2", "-m", "tiny")
    assert code == 0
    assert "note: the worker is lost (it has ended); painting without it" in err
    assert not painted_by_worker("a-bug-1.png")
    assert "ZeroDivisionError" in find_place().log.read_text()


def test_a_worker_killed_in_the_midst_costs_only_time(sdfast, here, worker):
    sdfast(*QUICK, "-o", "alone.png")
    held = worker(pace=60)

    def kill():
        if soon(lambda: client.greeting(find_place()).waiting):
            os.kill(held.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    code, out, err = sdfast(*QUICK)
    killer.join()
    assert (code, out) == (0, "a-cat-1.png\n")
    assert err.count("note: the worker is lost") == 1
    assert (here / "a-cat-1.png").read_bytes() == (here / "alone.png").read_bytes()


def test_a_dead_workers_socket_is_no_worker(sdfast, worker):
    os.kill(worker().pid, signal.SIGKILL)
    place = find_place()
    assert soon(lambda: holder(place) is None)
    assert place.socket.exists()
    code, _, err = sdfast(*QUICK, "-v")
    assert code == 0
    assert "worker" not in err
    assert sdfast("warm", "status")[1] == "no worker is running\n"
    worker()
    sdfast(*QUICK, "--exists", "overwrite")
    assert painted_by_worker("a-cat-1.png")


@contextlib.contextmanager
def peer(answer, silent=False):
    """Somebody who listens in a worker's place, and answers everybody so."""
    place = find_place()
    place.socket.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place.socket))
        listener.listen()
        listener.settimeout(5)

        def serve():
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                connection.sendall(answer)
                if silent:
                    connection.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield place
        thread.join()


def a_greeting():
    found = find("tiny")
    kinds = {"wanted": ("auto", "auto"), "given": ("cpu", "fp32")}
    return holding(found, stamp(found), circumstances(), **kinds, idle=9.0)


def test_a_worker_has_the_less_time_left_the_longer_it_rests_and_all_while_somebody_waits():
    shop = Shop(a_greeting(), rested=time.monotonic() - 100)

    def left():
        return read_greeting(wire.read_frame(io.BytesIO(shop.greet()).read).record).left

    assert left() == 0
    shop.rested += 95
    assert 0 <= left() <= 4
    shop.line.put(None)
    assert left() == 9


FRAMES = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda n, m, b: struct.pack(">II", n, m) + b,
        *[st.integers(0, 2**32 - 1)] * 2,
        st.binary(max_size=50),
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["wire", "is", "job", "pid", "ahead"]), inner)
        ),
        max_leaves=9,
    ).map(wire.packed),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=FRAMES)
def test_whoever_answers_nonsense_is_no_worker(answer):
    with peer(answer) as place, pytest.raises(GoneError):
        client.greeting(place)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rest=FRAMES)
def test_a_worker_that_goes_on_in_nonsense_is_lost(rest):
    held = a_greeting()
    queued = wire.packed({"is": "queued", "ahead": 0})
    with (
        peer(wire.packed(held.record) + queued + rest) as place,
        pytest.raises(GoneError),
        client.ask(place, held, job()) as turn,
    ):
        list(turn.events)


def test_events_out_of_turn_are_nonsense():
    held = a_greeting()
    queued = wire.packed({"is": "queued", "ahead": 0})
    encoded, stepped = wire.told(Encoded(job())), wire.told(Stepped(1, 2))
    painted = Finished(job(), Image.new("RGB", job().size), Times(0.1, (0.1,), 0.1), False)
    small = dataclasses.replace(painted, image=Image.new("RGB", (64, 64)))
    for events in (
        [wire.told(painted)],
        [stepped],
        [encoded, encoded],
        [encoded, wire.told(small)],
        [encoded, wire.told(dataclasses.replace(painted, times=Times(0.1, (), 0.1)))],
        [encoded, stepped],
    ):
        with (
            peer(b"".join([wire.packed(held.record), queued, *events])) as place,
            pytest.raises(GoneError),
            client.ask(place, held, job()) as turn,
        ):
            list(turn.events)


def test_one_that_listens_and_says_nothing_does_not_hold_anybody_up(sdfast, monkeypatch):
    monkeypatch.setattr(client, "PATIENCE", 0.2)
    with peer(b"", silent=True):
        code, _, err = sdfast(*QUICK, "-v")
    assert code == 0
    assert "not asking the worker: it does not answer" in err
    assert not painted_by_worker("a-cat-1.png")


def test_one_that_is_killed_while_it_greets_is_none(sdfast):
    with peer(wire.packed(a_greeting().record)[:50]):
        code, _, err = sdfast(*QUICK, "-v")
    assert code == 0
    assert "not asking the worker: it has ended" in err


def test_garbage_does_not_trouble_a_worker(sdfast, worker):
    held = worker()
    place = find_place()

    @settings(max_examples=60)
    @given(FRAMES)
    def send(garbage):
        with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
            connection.connect(str(place.socket))
            connection.sendall(garbage)

    send()
    assert client.greeting(place).pid == held.pid
    sdfast(*QUICK)
    assert painted_by_worker("a-cat-1.png")


def test_those_who_only_stand_at_the_door_keep_nobody_out_for_long(worker):
    held = worker()
    place = find_place()
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.connect(str(place.socket))
    assert soon(lambda: control.look(place).greeting)
    with client.ask(place, held, job()) as turn:
        assert isinstance([*turn.events][-1], Finished)


def test_a_job_that_cannot_be_is_refused_with_its_own_error(worker):
    worker()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(find_place().socket))
        wire.receive(connection, 5)
        connection.sendall(wire.packed({"job": {"prompt": "a cat", "steps": 0}}))
        with pytest.raises(JobError, match="steps must be from 1 to 1000"):
            wire.hear_event(connection, job())


def test_who_has_been_told_to_wait_is_counted_by_whoever_asks_next():
    class Slow(Queue):
        def put(self, *args, **kwargs):
            time.sleep(0.1)
            super().put(*args, **kwargs)

    found = find("tiny")
    wanted, given = ("auto", "auto"), ("cpu", "fp32")
    held = holding(found, stamp(found), circumstances(), wanted=wanted, given=given, idle=60.0)
    shop = Shop(held, Slow())
    ours, theirs = socket.socketpair()
    room = threading.BoundedSemaphore()
    room.acquire()
    welcome = threading.Thread(target=_welcome, args=(theirs, shop, room))
    with ours, theirs:
        welcome.start()
        assert read_greeting(wire.receive(ours, 5).record).waiting == 0
        ours.sendall(wire.packed({"job": job().record}))
        assert wire.receive(ours, 5).record == {"is": "queued", "ahead": 0}
        now = io.BytesIO(shop.greet())
        assert read_greeting(wire.read_frame(now.read).record).waiting == 1
        welcome.join()


def test_two_clients_are_served_in_turn_each_walk_whole(worker):
    held = worker(pace=0.5)
    place = find_place()
    heard = {}

    def listen(name, turn):
        heard[name] = [*turn.events]

    long = job(1, steps=6)  # until all have come
    with client.ask(place, held, long) as first, client.ask(place, held, job(2)) as second:
        with client.ask(place, held, job(3)) as third:
            assert (first.ahead, second.ahead, third.ahead) == (0, 1, 2)
            assert client.greeting(place).waiting == 3
        threads = [threading.Thread(target=listen, args=a) for a in ((2, second), (1, first))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name, steps in ((1, 6), (2, 2)):
        kinds = [type(event) for event in heard[name]]
        assert kinds == [Encoded, *[Stepped] * steps, Finished]
    assert heard[1][-1].times.decode <= heard[2][-1].times.encode
    assert soon(lambda: client.greeting(place).waiting == 0)
    assert soon(lambda: client.greeting(place).painted == 2)


def test_ctrl_c_cancels_only_ones_own_picture(here, worker):
    held = worker(pace=0.05)
    place = find_place()
    process = shell("gen", "a cat", "-s", "1000", "--seed", "1", "-m", "tiny", "-v")
    assert soon(lambda: client.greeting(place).waiting == 1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.rstrip().endswith("interrupted")
    assert not list(here.iterdir())
    assert soon(lambda: client.greeting(place).waiting == 0)
    with client.ask(place, held, job()) as turn:
        assert isinstance([*turn.events][-1], Finished)
    assert soon(lambda: client.greeting(place).painted == 1)


def test_what_a_worker_holds_must_be_what_is_asked_for(small, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    shutil.copytree(small, folder)
    found = find(str(folder))
    kinds = {"wanted": ("auto", "auto"), "given": ("cuda:0", "fp16")}
    held = holding(found, stamp(found), circumstances(), **kinds, idle=9.0)
    for device, dtype in (("auto", "auto"), ("cuda", "fp16"), ("cuda:0", "auto")):
        assert held.unlike(found, device, dtype) == ""
    assert held.unlike(found, "cpu", "auto") == "it is on cuda:0"
    assert held.unlike(found, "auto", "fp32") == "it computes in fp16"
    on_purpose = dataclasses.replace(held, wanted_device="cuda", wanted_dtype="fp16")
    assert on_purpose.unlike(found, "auto", "fp16") == "it is on cuda:0"
    assert on_purpose.unlike(found, "cuda:0", "auto") == "it computes in fp16"
    assert held.unlike(find("tiny"), "auto", "auto") == f"it holds `{folder}`"
    other = dataclasses.replace(held, code="another")
    assert other.unlike(found, "auto", "auto") == "it runs another version of sdfast"
    with monkeypatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "3")
        assert held.unlike(found, "auto", "auto") == "it has another CUDA_VISIBLE_DEVICES"
        patch.setenv("ATEN_CPU_CAPABILITY", "default")
        assert held.unlike(found, "auto", "auto") == (
            "it has another ATEN_CPU_CAPABILITY and another CUDA_VISIBLE_DEVICES"
        )
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    here = circumstances()
    os.sched_setaffinity(0, cores)
    narrow = dataclasses.replace(held, circumstances=here)
    assert bool(narrow.unlike(found, "auto", "auto")) == (len(cores) > 1)
    elsewhere = dataclasses.replace(
        held, circumstances=held.circumstances | {"mount namespace": "mnt:[1]"}
    )
    assert elsewhere.unlike(found, "auto", "auto") == "it has another mount namespace"
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    os.utime(weights, ns=(1, 1))
    assert held.unlike(find(str(folder)), "auto", "auto") == (
        f"the files of `{folder}` have changed since"
    )


def test_a_file_that_is_another_to_each_process_is_not_left_to_the_worker(sdfast, worker):
    worker()
    Image.new("RGB", (128, 128), "blue").save("begin.png")
    begin = Path("/proc/self/cwd/begin.png")
    code, out, err = sdfast(*QUICK, "--init", str(begin), "-v")
    assert code == 0
    assert "not asking for a worker: a file in /dev or /proc is for this process" in err
    assert not painted_by_worker(out.strip())


@pytest.mark.parametrize(
    ("words", "flag"),
    [(["--batch-size", "2", "-n", "2"], "--batch-size"), (["--vram", "full"], "--vram")],
)
def test_a_call_with_such_a_flag_runs_by_itself_and_says_why(sdfast, worker, words, flag):
    worker()
    code, out, err = sdfast(*QUICK, *words, "-v")
    assert code == 0
    assert f"not asking for a worker: {flag} is for this process" in err
    assert not any(map(painted_by_worker, out.split()))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--dtype", "bf16"], "it computes in fp32"),
        (["-m", "{small}"], "it holds `tiny`"),
    ],
)
def test_a_worker_that_holds_something_else_is_left_alone(sdfast, worker, small, words, why):
    held = worker()
    words = [word.format(small=small) for word in words]
    code, out, err = sdfast("gen", "a cat", "-s", "1", "--seed", "1", "-m", "tiny", *words, "-v")
    assert code == 0
    assert f"not asking the worker: {why}" in err
    assert not painted_by_worker(out.strip())
    assert client.greeting(find_place()).pid == held.pid


def test_a_worker_of_another_protocol_is_left_alone_and_told(sdfast):
    with peer(wire.packed({"wire": 2, "hello": "you"})):
        code, _, err = sdfast(*QUICK, "-v")
    assert code == 0
    assert "it speaks as another version of sdfast does" in err


def test_a_frame_comes_out_as_it_went_in():
    event = Finished(
        job(),
        Image.effect_noise((128, 128), 99).convert("RGB"),
        Times(0.1, (0.2, 1e-9), 3.0),
        True,
        4,
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for sent in (Encoded(job()), Stepped(3, None), Stepped(1, 20), event):
            ours.sendall(wire.told(sent))
            heard = wire.hear_event(theirs, job())
            assert type(heard) is type(sent)
            if isinstance(sent, Finished):
                assert heard.image.tobytes() == sent.image.tobytes()
                assert (heard.times, heard.decoded_again, heard.tiles) == (sent.times, True, 4)
            else:
                assert heard == sent
        ours.sendall(wire.told_error(DeviceError("no room", "less")))
        with pytest.raises(DeviceError, match="no room") as caught:
            wire.hear_event(theirs, job())
        assert (caught.value.hint, caught.value.exit_code) == ("less", 4)


@pytest.mark.parametrize("size", [(64, 256), (128, 64)])
def test_a_picture_of_another_size_than_was_asked_for_is_garbled(size):
    event = Finished(job(), Image.new("RGB", size), Times(0.1, (0.2,), 3.0), False, 1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(wire.told(event))
        with pytest.raises(wire.GarbledError):
            wire.hear_event(theirs, job())


@pytest.mark.parametrize("field", ["pid", "model", "circumstances", "since", "left"])
def test_a_greeting_with_a_value_of_another_kind_is_garbled(field):
    found = find("tiny")
    kinds = {"wanted": ("auto", "auto"), "given": ("cpu", "fp32")}
    record = holding(found, stamp(found), circumstances(), **kinds, idle=9.0).record
    assert read_greeting(record).idle == 9.0
    for other in (None, [], True if field != "pid" else "1"):
        with pytest.raises(wire.GarbledError):
            read_greeting(record | {field: other})


def test_a_folder_may_be_told_from_where_one_stands(sdfast, small, tmp_path, monkeypatch, worker):
    monkeypatch.chdir(small.parent)
    worker("small")
    monkeypatch.chdir(small)
    out = tmp_path / "here" / "x.png"
    assert (
        sdfast("gen", "a cat", "-s", "1", "--seed", "1", "-m", "../small", "-o", str(out))[0] == 0
    )
    assert painted_by_worker(out)


def test_a_frame_of_as_much_as_may_be_is_read_and_of_more_is_refused_by_its_head():
    most = struct.pack(">II", 2**20, 3) + b"{}".ljust(2**20) + b"rgb"
    assert wire.read_frame(io.BytesIO(most).read, 3) == ({}, b"rgb")
    for words, pixels in ((2**20 + 1, 3), (2, 4)):
        heard = iter([struct.pack(">II", words, pixels)])
        with pytest.raises(wire.GarbledError, match=f"a frame of {words + pixels} bytes"):
            wire.read_frame(lambda _, heard=heard: next(heard), 3)


def test_where_no_worker_is_one_is_told_so():
    with pytest.raises(AbsentError):
        client.greeting(find_place())
    assert control.look(find_place()) is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (90, "1 min 30 s"),
        (3600, "1 h"),
        (5400, "1 h 30 min"),
        (7199, "1 h 59 min"),
    ],
)
def test_a_time_is_said_in_its_two_largest_units(seconds, said):
    assert lasting(seconds) == said


def test_a_runtime_folder_that_cannot_be_is_a_usage_error(monkeypatch):
    monkeypatch.setattr("sdfast.warm.place._runtime_folder", lambda: Path("/proc/nowhere"))
    with pytest.raises(UsageError, match="cannot hold a worker's socket"):
        find_place()
    monkeypatch.undo()
