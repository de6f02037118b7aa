"""Sides that take turns on one machine, and what each turn took.

Every round lets each row run once, and the next round in the reverse order, so that no side always
follows the same other. Turns come out as events; what becomes of them is not this module's concern.
"""

import gc
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor

from sdfast.bench.timing.apart import Apart
from sdfast.bench.timing.entries import Entry, pairs
from sdfast.bench.timing.start import Start
from sdfast.bench.timing.turn import Lap, Painted, Side

Turn = Callable[[Entry], tuple[Lap, Painted | None]]


@dataclass(frozen=True, slots=True)
class Doing:
    """What comes next: `loading`, `starting`, `warming up` or `timing`, of a row."""

    what: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class Started:
    """What a row's side took in a process of its own."""

    entry: Entry
    start: Start


@dataclass(frozen=True, slots=True)
class Loaded:
    """A side is here, in this precision and on this device."""

    entry: Entry
    dtype: str
    device: str


@dataclass(frozen=True, slots=True)
class Timed:
    """A turn that counts."""

    entry: Entry
    lap: Lap


@dataclass(frozen=True, slots=True)
class Compared:
    """How near two sides' pictures of the same jobs are."""

    ours: Entry
    theirs: Entry
    cosine: float
    """Of the latents: 1 if they point the same way."""
    pixels: int
    """The most that a channel of a pixel differs by, of 255."""


Event = Doing | Started | Loaded | Timed | Compared


def race(entries: Sequence[Entry], turn: Turn, runs: int, warmup: int) -> Iterator[Event]:
    """Let every row run `warmup` times uncounted, then `runs` times, taking turns."""
    last: dict[Entry, Painted] = {}
    for index in range(warmup + runs):
        for entry in entries if index % 2 == 0 else reversed(entries):
            yield Doing("timing" if index >= warmup else "warming up", entry)
            gc.collect()  # so that nobody clears up after another
            lap, painted = turn(entry)
            if painted is not None:
                last[entry] = painted
            if index >= warmup:
                yield Timed(entry, lap)
    for ours, theirs in pairs(entries):
        if ours in last and theirs in last:
            yield Compared(ours, theirs, *nearness(last[ours], last[theirs]))


def pictures(
    entries: Sequence[Entry], load: Callable[[Entry], Side | Apart], runs: int, warmup: int
) -> Iterator[Event]:
    """Load every side and let them paint in turns, writing to a folder that is gone afterwards."""
    sides: dict[object, Side | Apart] = {}
    with ExitStack() as stack:
        for entry in entries:
            if entry.side not in sides:
                yield Doing("loading", entry)
                sides[entry.side] = side = load(entry)
                stack.callback(side.close)
            yield Loaded(entry, sides[entry.side].dtype, sides[entry.side].device)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sdfast-bench-"))
        place = Path(folder) / "picture.png"
        yield from race(entries, lambda entry: sides[entry.side].lap(entry, place), runs, warmup)


def started(
    entries: Sequence[Entry], measure: Callable[[Entry], Start]
) -> Iterator[Doing | Started]:
    """Start each side in a process of its own, once for every size, and paint a first picture."""
    kinds: dict[object, Start] = {}
    for entry in entries:
        kind = (entry.side, entry.batch, entry.job.size, entry.job.guidance == 1)
        if kind in kinds:
            yield Started(entry, kinds[kind]._replace(first=None))
            continue
        yield Doing("starting", entry)
        kinds[kind] = measure(entry)
        yield Started(entry, kinds[kind])


def nearness(ours: Painted, theirs: Painted) -> tuple[float, int]:
    """The latents' cosine, and the most that a channel of a pixel differs by."""
    a, b = (one.latents.flatten().double() for one in (ours, theirs))
    sizes = ([image.size for image in one.images] for one in (ours, theirs))
    if a.shape != b.shape or len({*map(tuple, sizes)}) > 1:
        return float("nan"), 255
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=0).item()
    apart = (
        (_pixels(one) - _pixels(other)).abs().max()
        for one, other in zip(ours.images, theirs.images, strict=True)
    )
    return cosine, int(max(apart))


def _pixels(image: Image) -> Tensor:
    flat = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
    return flat.to(torch.int16)
