"""The first picture: what a side takes from nothing, in a process of its own.

There nobody else has imported anything, loaded anything or filled any memory. The process is
`python -m sdfast.bench.timing.start` with a record on stdin.
"""

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

from sdfast.bench.timing.entries import Entry, read_entry
from sdfast.bench.timing.processes import run
from sdfast.errors import SdfastError


class Start(NamedTuple):
    """Seconds until a side can paint, seconds of its first turn, and bytes while it painted."""

    load: float
    """Imports and weights."""
    first: float | None
    """From the job to the picture, all that only the first has to bear included; None for a row
    that was not painted itself, but another of its size."""
    peak: int | None
    """Of a GPU's memory what torch held at most, else what the process filled at most."""


def measure_start(entry: Entry, device: str) -> Start:
    """Start the entry's side in a process of its own."""
    asked = json.dumps({"entry": entry.record, "device": device})
    ended = run([sys.executable, "-P", "-m", __name__], asked)
    return Start(**json.loads(ended.out.splitlines()[-1]))


def _start(entry: Entry, device: str) -> Start:
    begun = time.perf_counter()
    from sdfast.bench.timing.sides import load_side

    side = load_side(entry, device)
    loaded = time.perf_counter()
    _forget_peak(side.device)
    ready = time.perf_counter()
    side.paint(entry.jobs)
    done = time.perf_counter()
    return Start(loaded - begun, done - ready, _peak(side.device))


def _forget_peak(device: str) -> None:
    """Let the high-water mark fall to what is filled now, where CUDA or Linux offers it.

    Loading may have filled more, such as weights in the precision they are stored in.
    """
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak(device: str) -> int | None:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_reserved(device)
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    filled = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return 1024 * int(filled["VmHWM"].split()[0])


def main() -> int:
    """Measure what stdin asks for, and print it."""
    asked = json.load(sys.stdin)
    try:
        start = _start(read_entry(asked["entry"]), asked["device"])
    except SdfastError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(start._asdict()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
