"""What is timed: a side that paints, and what a turn of it took."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL.Image import Image
from torch import Tensor

from sdfast.bench.timing.entries import Entry
from sdfast.events import Times
from sdfast.job import Job


class Painted(NamedTuple):
    """Pictures painted at once, and where the time went that they took together."""

    images: tuple[Image, ...]
    latents: Tensor
    """Where the walk ended, float32 on the CPU."""
    times: Times
    network: tuple[float, ...]
    """Seconds within each network call; empty where they could not be told apart."""


class Phases(NamedTuple):
    """A turn's seconds, part by part."""

    encode: float
    steps: tuple[float, ...]
    network: tuple[float, ...]
    decode: float
    write: float


@dataclass(frozen=True, slots=True)
class Lap:
    """One turn, in seconds; `others` is processor time that did not go to it."""

    wall: float
    user: float
    system: float
    others: float | None = None
    phases: Phases | None = None
    peak: int | None = None
    """Bytes of memory that it filled at most, where it had a process of its own."""


class Side(NamedTuple):
    """Networks that are loaded in this process, and a way to paint with them."""

    paint: Callable[[Sequence[Job]], Painted]
    """Jobs that differ in their seeds alone."""
    write: Callable[[Sequence[Job], Sequence[Image], Path], None]
    """Write their pictures, one over the other."""
    dtype: str
    device: str

    def lap(self, entry: Entry, place: Path) -> tuple[Lap, Painted]:
        """Paint a row's pictures and write them."""
        before, since = spent(), time.perf_counter()
        painted = self.paint(entry.jobs)
        done = time.perf_counter()
        self.write(entry.jobs, painted.images, place)
        end, after = time.perf_counter(), spent()
        times = painted.times
        phases = Phases(times.encode, times.steps, painted.network, times.decode, end - done)
        user, system = after.user - before.user, after.system - before.system
        busy = others(before, after, user + system)
        return Lap(end - since, user, system, busy, phases), painted

    def close(self) -> None:
        """Nothing: it stays until this process ends."""


class Spent(NamedTuple):
    """Processor seconds so far, of this process and of the whole machine."""

    user: float
    system: float
    everyone: float | None


def spent() -> Spent:
    """What has been spent up to now."""
    mine = os.times()
    return Spent(mine.user, mine.system, everyone())


def everyone() -> float | None:
    """Processor seconds that this machine has spent since it was started; Linux tells."""
    try:
        line = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
        ticks = [int(word) for word in line.split()[1:9]]
    except (OSError, ValueError):
        return None
    idle = sum(ticks[3:5])
    return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK")


def others(before: Spent, after: Spent, own: float) -> float | None:
    """Processor seconds that went to anybody else, in between."""
    if before.everyone is None or after.everyone is None:
        return None
    return max(0.0, after.everyone - before.everyone - own)
