"""Processes that are measured from outside: how they ended, how long they took, what they filled.

What they say on stderr is kept for the one message there is if they fail.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from tempfile import TemporaryFile
from typing import NamedTuple

from sdfast.errors import DeviceError, ModelError, SdfastError, UsageError

_KINDS: dict[int, type[SdfastError]] = {2: UsageError, 3: ModelError, 4: DeviceError}
_KILLED = -9


class Ended(NamedTuple):
    """A process that is over; seconds, and bytes of memory it filled at most.

    Windows tells neither what the processor spent, which is 0 then, nor the memory.
    """

    wall: float
    user: float
    system: float
    peak: int | None


def run(words: Sequence[str], more: Mapping[str, str] | None = None) -> Ended:
    """Run a program to its end, with `more` environment.

    The Hub is not asked. Raises what it failed with: an SdfastError of its exit code, or
    RuntimeError with its last line.
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **(more or {})}
    nothing = subprocess.DEVNULL
    with TemporaryFile() as errors:
        begun = time.perf_counter()
        process = subprocess.Popen(
            words, stdin=nothing, stdout=nothing, stderr=errors, env=environment
        )
        try:
            spent = _waited(process)
        except BaseException:
            process.kill()
            process.wait()
            raise
        wall = time.perf_counter() - begun
        if process.returncode:
            errors.seek(0)
            raise _failure(process.returncode, errors.read().decode(errors="replace"))
    return Ended(wall, *spent)


def _waited(process: subprocess.Popen[bytes]) -> tuple[float, float, int | None]:
    """What a process has spent when it is over: user's and system's seconds, and bytes."""
    if not hasattr(os, "wait4"):
        process.wait()
        return 0.0, 0.0, None
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return used.ru_utime, used.ru_stime, peak


def _failure(code: int, errors: str) -> Exception:
    lines = [line for line in errors.splitlines() if line.strip()] or ["it said nothing"]
    last = next((line for line in lines if line.startswith("error: ")), lines[-1])
    last = last.removeprefix("error: ")
    if code == _KILLED:
        return DeviceError("a process was killed while it painted; was there too little memory?")
    kind = _KINDS.get(code)
    return kind(last) if kind else RuntimeError(f"a process left with {code}: {last}")
