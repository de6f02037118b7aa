"""What a GPU paints and how fast, as benchmarks/MACHINE.json and benchmarks/MACHINE.md.

    scripts/gpu_report                  # everything
    scripts/gpu_report --no-compile     # without what has to be compiled, which takes most of it
    scripts/gpu_report --only-compile   # and that alone, as MACHINE-compiled

First the tests that hold CUDA's pictures against the CPU's, then each of BENCHES; what has to be
compiled comes last. The report is written anew after each, so what has been measured is kept when
the time runs out. `--limit` interrupts what takes longer, and so does SIGTERM: what that has
printed by then goes into the report. The exit code is 1 if a test or a bench failed; the report
says which.
"""

import argparse
import json
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

HOUSE = Path(__file__).parent.parent


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
        "Stable Diffusion 1.5, 512x512, beside diffusers compiled",
        f"{_SD15} -r 10 -w 3 --no-start --vs diffusers:bf16,compile",
        compiles=True,
    ),
    Bench(
        "Stable Diffusion 1.5, 512x512, both compiled",
        f"{_SD15} -r 10 -w 3 --no-start --compile --vs diffusers:bf16,compile",
        compiles=True,
    ),
    Bench(
        "Stable Diffusion XL, 1024x1024, beside diffusers compiled",
        f"{_SDXL} -r 5 -w 2 --no-start --vs diffusers:bf16,compile",
        compiles=True,
    ),
]
"""Shapes are the true ones and weights random: times are as with trained ones."""


class Report:
    """What is known so far, and the two files that say it."""

    def __init__(self, name: str, folder: Path) -> None:
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


def run(words: Sequence[str | Path], limit: float | None) -> Ended:
    """Run a program, showing on stderr what it prints; interrupted after `limit` seconds."""
    said: list[str] = []
    stops = False
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as program:
        ring = threading.Timer(limit or 0, program.send_signal, [signal.SIGINT])
        if limit:
            ring.start()
        try:
            for line in program.stdout or ():
                said.append(line)
                print(line, end="", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            stops = True
            program.send_signal(signal.SIGINT)
            said += program.stdout or ()
        finally:
            ring.cancel()
    return Ended(program.returncode, "".join(said), stops)


def interrupted(*_: object) -> None:
    """SIGTERM is as Ctrl-C."""
    raise KeyboardInterrupt


def tests(report: Report, limit: float | None, *, compiled: bool) -> bool:
    """Run the tests that need a GPU: those that compile, or all others."""
    words = ["scripts/test-gpu", "-k", "compiled" if compiled else "not compiled"]
    code, said, stops = run([HOUSE / words[0], *words[1:]], limit)
    last = (said.strip().splitlines() or ["nothing"])[-1].strip("= ")
    command = shlex.join(words)
    report.found["tests"].append({"command": command, "exit": code, "said": last})
    verdict = "passed" if code == 0 else f"FAILED (exit {code})"
    what = (
        "what is compiled beside what is not"
        if compiled
        else "CUDA beside the CPU, every other fast path beside the plain one, and no waiting in "
        "the walk"
    )
    report.add(f"## Pictures: {what}\n\n{verdict}: {last}\n\n    {command}\n")
    if stops:
        raise KeyboardInterrupt
    return code == 0


def measured(bench: Bench, device: str, report: Report, limit: float | None) -> bool:
    """Run one bench, and put what it exported into the report."""
    words = [*bench.words.split(), "--device", device]
    command = " ".join(["sdfast bench", *words])
    print(command, file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        exports = Path(folder) / "bench.json", Path(folder) / "bench.md"
        asked = ["--export-json", str(exports[0]), "--export-markdown", str(exports[1])]
        code, printed, stops = run([sys.executable, "-m", "sdfast", "bench", *words, *asked], limit)
        if code == 0:
            said = json.loads(exports[0].read_text(encoding="utf-8"))
            page = re.sub("^#", "###", exports[1].read_text(encoding="utf-8"), flags=re.MULTILINE)
        else:
            shown = "".join(f"    {line}\n" for line in printed.splitlines())
            said, page = None, f"FAILED (exit {code}): `{command}`\n\n{shown}"
    report.found["benches"].append({"title": bench.title, "command": command, "said": said})
    report.add(f"## {bench.title}\n\n{page}")
    if stops:
        raise KeyboardInterrupt
    return code == 0


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
    parser.add_argument("--no-compile", action="store_true", help="leave out what is compiled")
    parser.add_argument("--only-compile", action="store_true", help="leave out the rest")
    parser.add_argument("--no-tests", action="store_true", help="leave out the tests")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="for each test and bench")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--bench", action="append", metavar="FLAGS", help="instead of BENCHES")
    parser.add_argument("--to", type=Path, default=HOUSE / "benchmarks", help="the folder")
    given = parser.parse_args()
    own = [Bench(flags, flags, compiles=False) for flags in given.bench or []]
    name = machine(given.device) + "-compiled" * given.only_compile
    report = Report(name, given.to)
    plain, compiled = not given.only_compile, not given.no_compile
    asked = not (given.no_tests or own)
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells ignore behind an &
    fine = True
    for compiles in [False] * plain + [True] * compiled:
        if asked:
            fine = tests(report, given.limit, compiled=compiles) and fine
        for bench in () if own else BENCHES:
            if bench.compiles == compiles:
                fine = measured(bench, given.device, report, given.limit) and fine
    for bench in own:
        fine = measured(bench, given.device, report, given.limit) and fine
    return 0 if fine else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
