"""What a GPU paints and how fast, as benchmarks/MACHINE.json and benchmarks/MACHINE.md.

    scripts/gpu_report                  # everything
    scripts/gpu_report --no-compile     # without what has to be compiled, which takes most of it
    scripts/gpu_report --only-compile   # and that alone, as MACHINE-compiled

First the tests that hold CUDA's pictures against the CPU's, then each of BENCHES; what has to be
compiled comes last, its test before its benches. The report is written anew after each, so what
has been measured is kept when the time runs out. `--limit` interrupts a test or bench that takes
longer, `--within` all of it, and SIGTERM does so at once: what has been printed by then goes into
the report. The exit code is 1 if a test or a bench failed or had no time; the report says which.
"""

import argparse
import contextlib
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

HOUSE = Path(__file__).parent.parent
PATIENCE = 15.0
"""Seconds from an interrupt to the end, where a program does not heed it."""


class Bench(NamedTuple):
    """A command of `sdfast bench`, and whether something has to be compiled for it."""

    title: str
    words: str
    compiles: bool


_SD15 = "-m random:sd15 --size 512x512 -s 20"
_SDXL = "-m random:sdxl --size 1024x1024 -s 20"
BENCHES = [
    Bench(
        "Stable Diffusion 1.5, 512x512, one picture and eight",
        f"{_SD15} -r 10 -w 3 --batch-size 1,8 --no-start --vs diffusers:bf16",
        compiles=False,
    ),
    Bench(
        "Stable Diffusion XL, 1024x1024, one picture",
        f"{_SDXL} -r 5 -w 2 --no-start --vs diffusers:bf16",
        compiles=False,
    ),
    Bench(
        "Stable Diffusion 1.5, 512x512, load, first picture and memory",
        f"{_SD15} -r 1 -w 1 --vs diffusers:bf16",
        compiles=False,
    ),
    Bench(
        "Stable Diffusion 1.5, 512x512, beside diffusers, compiled and not",
        f"{_SD15} -r 10 -w 3 --no-start --vs diffusers:bf16 --vs diffusers:bf16,compile",
        compiles=True,
    ),
    Bench(
        "Stable Diffusion 1.5, 512x512, both compiled",
        f"{_SD15} -r 10 -w 3 --no-start --compile --vs diffusers:bf16,compile",
        compiles=True,
    ),
    Bench(
        "Stable Diffusion XL, 1024x1024, beside diffusers, compiled and not",
        f"{_SDXL} -r 5 -w 2 --no-start --vs diffusers:bf16 --vs diffusers:bf16,compile",
        compiles=True,
    ),
]
"""Shapes are the true ones and weights random: times are as with trained ones."""


class Report:
    """What is known so far, and the two files that say it."""

    def __init__(self, name: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._stem = folder / name
        self.found: dict[str, Any] = {"machine": name, "tests": [], "benches": []}
        self._pages: list[str] = [f"# {name}\n"]

    def add(self, page: str) -> None:
        """A part of the page; both files are written anew."""
        self._pages.append(page)
        whole = json.dumps(self.found, indent=1, ensure_ascii=False) + "\n"
        self._stem.with_suffix(".json").write_text(whole, encoding="utf-8")
        self._stem.with_suffix(".md").write_text("\n".join(self._pages), encoding="utf-8")


class Ended(NamedTuple):
    """A program that is over, and what it printed."""

    code: int
    said: str
    stops: bool
    """Whether this program was interrupted meanwhile, and is to end, too."""
    late: bool
    """Whether its time was up."""

    @property
    def verdict(self) -> str:
        """How it went, in a word or two."""
        if self.code == 0:
            return "passed"
        return "OUT OF TIME" if self.late else f"FAILED (exit {self.code})"


@dataclass
class Time:
    """The seconds that each program may take, and all of them together."""

    each: float
    end: float

    def left(self) -> float:
        """What the next may take and still end in time; not above 0 if there is no time."""
        return min(self.each, self.end - time.monotonic() - PATIENCE)


def run(words: Sequence[str | Path], limit: float) -> Ended:
    """Run a program, showing on stderr what it says; interrupted after `limit` seconds.

    What has not ended some seconds later is killed, with all that it has begun.
    """
    said: list[str] = []
    stops, late = False, threading.Event()
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as program:

        def end() -> None:
            late.set()
            program.send_signal(signal.SIGINT)

        def kill() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)

        timers = [threading.Timer(limit, end), threading.Timer(limit + PATIENCE, kill)]
        for timer in timers if math.isfinite(limit) else ():
            timer.start()
        try:
            for line in program.stdout or ():
                said.append(line)
                print(line, end="", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            stops = True
            timers.append(threading.Timer(PATIENCE, kill))
            timers[-1].start()
            program.send_signal(signal.SIGINT)
            try:
                said += program.stdout or ()
            except KeyboardInterrupt:  # who asks twice
                kill()
        finally:
            for timer in timers:
                timer.cancel()
    return Ended(program.returncode, "".join(said), stops, late.is_set())


def interrupted(*_: object) -> None:
    """SIGTERM is as Ctrl-C."""
    raise KeyboardInterrupt


def tests(report: Report, limit: float, *, compiled: bool) -> bool:
    """Run the tests that need a GPU: those that compile, or all others."""
    words = ["scripts/test-gpu", "-k", "compiled" if compiled else "not compiled"]
    words += ["tests/test_gpu.py"] if compiled else []
    ended = run([HOUSE / words[0], *words[1:]], limit)
    last = (ended.said.strip().splitlines() or ["nothing"])[-1].strip("= ")
    command = shlex.join(words)
    report.found["tests"].append({"command": command, "exit": ended.code, "said": last})
    what = (
        "what is compiled beside what is not"
        if compiled
        else "CUDA beside the CPU, every other fast path beside the plain one, and no waiting in "
        "the walk"
    )
    report.add(f"## Pictures: {what}\n\n{ended.verdict}: {last}\n\n    {command}\n")
    if ended.stops:
        raise KeyboardInterrupt
    return ended.code == 0


def measured(bench: Bench, device: str, report: Report, limit: float) -> bool:
    """Run one bench, and put what it exported into the report."""
    words = [*bench.words.split(), "--device", device]
    command = " ".join(["sdfast bench", *words])
    print(command, file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        exports = Path(folder) / "bench.json", Path(folder) / "bench.md"
        asked = ["--export-json", str(exports[0]), "--export-markdown", str(exports[1])]
        ended = run([sys.executable, "-m", "sdfast", "--debug", "bench", *words, *asked], limit)
        found: dict[str, Any] = {"title": bench.title, "command": command, "exit": ended.code}
        if ended.code == 0:
            found["said"] = json.loads(exports[0].read_text(encoding="utf-8"))
            page = re.sub("^#", "###", exports[1].read_text(encoding="utf-8"), flags=re.MULTILINE)
        else:
            found["printed"] = ended.said
            shown = "".join(f"    {line}\n" for line in ended.said.splitlines())
            page = f"{ended.verdict}: `{command}`\n\n{shown}"
    report.found["benches"].append(found)
    report.add(f"## {bench.title}\n\n{page}")
    if ended.stops:
        raise KeyboardInterrupt
    return ended.code == 0


def machine(device: str) -> str:
    """The device's name, as a file's."""
    import torch

    named = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return re.sub(r"[^a-z0-9]+", "-", named.lower()).strip("-")


def main() -> int:
    """Test, measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--no-compile", action="store_true", help="leave out what is compiled")
    part.add_argument("--only-compile", action="store_true", help="leave out the rest")
    parser.add_argument("--no-tests", action="store_true", help="leave out the tests")
    seconds = {"type": float, "metavar": "SECONDS", "default": math.inf}
    parser.add_argument("--limit", **seconds, help="for each test and bench")
    parser.add_argument("--within", **seconds, help="for all of them together")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--bench", action="append", metavar="FLAGS", help="instead of BENCHES")
    parser.add_argument("--to", type=Path, default=HOUSE / "benchmarks", help="the folder")
    given = parser.parse_args()
    own = [Bench(flags, flags, compiles=False) for flags in given.bench or []]
    name = machine(given.device) + "-compiled" * given.only_compile
    name += "-part" * bool(given.no_tests or own)  # which is not to stand in the whole's place
    report = Report(name, given.to)
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells ignore behind an &
    clock = Time(given.limit, time.monotonic() + given.within)
    jobs: list[Callable[..., bool]] = []
    for compiles, left_out in ((False, given.only_compile), (True, given.no_compile)):
        if own or left_out:
            continue
        if not given.no_tests:
            jobs.append(partial(tests, compiled=compiles))
        todo = [bench for bench in BENCHES if bench.compiles == compiles]
        jobs += [partial(measured, bench, given.device) for bench in todo]
    jobs += [partial(measured, bench, given.device) for bench in own]
    fine: list[bool] = []
    for begun, job in enumerate(jobs):
        if (left := clock.left()) <= 0:
            report.add(f"OUT OF TIME: {len(jobs) - begun} of {len(jobs)} were not begun.\n")
            return 1
        fine.append(job(report=report, limit=left))
    return 0 if all(fine) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
