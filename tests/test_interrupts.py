"""What Ctrl-C and other signals end, and what they leave behind."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from processes import all_drawn, broken_off
from quick import QUICK, pixels

from sdfast.errors import ModelError

pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize("error", [ImportError("half imported"), ModelError("cannot be loaded")])
@pytest.mark.usefixtures("interruptible")
def test_whatever_ctrl_c_makes_of_what_it_breaks_off_is_an_interrupt(
    sdfast, monkeypatch, here, error
):
    def broken(*_, **__):
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        raise error

    monkeypatch.setattr("sdfast.models.load_model", broken)
    assert sdfast(*QUICK, "-q") == (130, "", "interrupted\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not list(here.iterdir())


def test_the_exit_code_is_130_wherever_ctrl_c_was_heard(here):
    """With -m, Python ends by the signal if it broke off what is executed from a string."""
    (here / "broken.py").write_text(
        "import sys, sdfast.models; from sdfast.cli import run_command\n"
        "sdfast.models.load_model = lambda *_, **__: exec('raise KeyboardInterrupt')\n"
        f"sys.argv = {['sdfast', *QUICK]!r}; sys.exit(run_command())"
    )
    ran = subprocess.run([sys.executable, "-m", "broken"], check=False, capture_output=True)
    assert ran.returncode == 130


@pytest.mark.parametrize(
    ("program", "module"),
    [("main()", "sdfast.warm.handover"), ("main()", "typer"), ("main(alone=True)", "typer")],
)
def test_an_interrupt_while_it_still_wakes_is_one_word(here, program, module):
    wakes = f"""import os, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == {module!r}:
            exec("os.kill(os.getpid(), signal.SIGINT)")
sys.meta_path.insert(0, Finder())
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a background job has not
from sdfast import entry
entry.{program}"""
    words = [sys.executable, "-c", wakes, *QUICK]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "interrupted\n")


def test_an_interrupt_keeps_what_is_finished_and_leaves_no_scraps(here):
    code, first, err = broken_off(*QUICK, "-n", "500")
    assert code == 130
    assert err.rstrip().endswith("interrupted")
    assert pixels(first)
    assert all(p.suffix == ".png" and pixels(p) for p in here.iterdir())


def _terminated(leader, process, number, seen=b""):
    """What a command drew that was ended, twice, once it had begun to walk."""
    while b"ms/step" not in seen:
        seen += os.read(leader, 65536)
    process.send_signal(number)
    process.send_signal(number)  # as `timeout` does
    return seen.decode(errors="replace") + all_drawn(leader)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_who_is_ended_by_a_signal_leaves_the_cursor_as_it_was(number, here):
    leader, follower = pty.openpty()
    words = ("gen", "a cat", "--steps", "1000", "-m", "tiny")
    process = subprocess.Popen([sys.executable, "-m", "sdfast", *words], stderr=follower)
    os.close(follower)
    drawn = _terminated(leader, process, number)
    assert process.wait(20) == -number
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h") == 1
    assert not [*here.iterdir()]


def test_who_swallows_a_signal_is_ended_by_the_next(here):
    deaf = "import os, signal; import sdfast.cli as c\n"
    deaf += "class Deaf:\n    def __del__(self): os.kill(os.getpid(), signal.SIGTERM)\n"
    deaf += "app = c._app\n"
    deaf += "def begun(words):\n    Deaf()\n    print('on', flush=True)\n    return app(words)\n"
    deaf += "c._app = begun\nc.main()"
    words = ("gen", "a cat", "--steps", "1000", "-m", "tiny", "-o", "cat.png")
    with subprocess.Popen(
        [sys.executable, "-c", deaf, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout.readline() == b"on\n"  # the first was lost in `__del__`
        time.sleep(1.1)  # another within a second is taken for the same one, sent twice
        process.terminate()
        assert process.wait(20) == -signal.SIGTERM


def test_who_is_ended_while_writing_leaves_no_draft(here):
    slow = "import os, time; os.fsync = lambda file: time.sleep(20)"
    words = [sys.executable, "-c", f"{slow}; from sdfast.cli import main; main()", *QUICK]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        while not [*here.iterdir()]:
            assert process.poll() is None
            time.sleep(0.02)
        process.terminate()
        assert process.wait(10) == -signal.SIGTERM
    assert not [*here.iterdir()]
