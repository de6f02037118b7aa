"""Commands as processes of their own: what they hear and draw, and what comes of them soon."""

import os
import pty
import signal
import subprocess
import sys
import time
from functools import partial

hears_ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
"""What a process does first: a shell lets what it runs in the background ignore SIGINT, and so
would its children."""


def shell(*words, **given):
    """Run `sdfast` with these words as a process of its own, to its end."""
    command = [sys.executable, "-m", "sdfast", *words]
    return subprocess.run(command, capture_output=True, check=False, timeout=120, **given)


def broken_off(*words):
    """Run `sdfast` and press Ctrl-C once it has said a line: exit code, that line and stderr."""
    with subprocess.Popen(
        [sys.executable, "-m", "sdfast", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hears_ctrl_c,
    ) as process:
        first = process.stdout.readline().strip()
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    return process.returncode, first, err


def on_a_terminal(*words, **given):
    """Run `sdfast` with a terminal for stderr: its exit code, stdout and what is drawn there."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "sdfast", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower, **given) as process:
        os.close(follower)
        drawn = all_drawn(leader)
        out, _ = process.communicate(timeout=120)
    return process.returncode, out.decode(), drawn


def all_drawn(leader):
    """What is written to a terminal until nobody holds it any more, which closes it."""
    seen = b""
    with os.fdopen(leader, "rb", buffering=0) as terminal:
        try:
            while part := terminal.read(65536):
                seen += part
        except OSError:  # Linux: the end
            pass
    return seen.decode(errors="replace")


def soon(holds):
    """What it says once it is true, or after twenty seconds."""
    end = time.monotonic() + 20
    while not (so := holds()) and time.monotonic() < end:
        time.sleep(0.02)
    return so
