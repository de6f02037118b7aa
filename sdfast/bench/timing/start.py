"""The first picture: what a side takes from nothing, in a process of its own.

There nobody else has imported anything, loaded anything or filled any memory.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sdfast.bench.timing.apart import Process
from sdfast.bench.timing.entries import Entry


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
    with contextlib.closing(Process(_start, entry, device)) as process:
        return process.heard()


def _start(entry: Entry, device: str, _: object) -> Iterator[Start]:
    begun = time.perf_counter()
    from sdfast.bench.timing.sides import load_side

    side = load_side(entry, device)
    loaded = time.perf_counter()
    _forget_peak(side.device)
    ready = time.perf_counter()
    side.paint(entry.jobs)
    done = time.perf_counter()
    yield Start(loaded - begun, done - ready, _peak(side.device))


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
