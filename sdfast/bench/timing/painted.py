"""What is timed: a side that paints, and what it has painted."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL.Image import Image
from torch import Tensor

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


class Side(NamedTuple):
    """Networks that are loaded, and a way to paint with them."""

    paint: Callable[[Sequence[Job]], Painted]
    """Jobs that differ in their seeds alone."""
    write: Callable[[Sequence[Job], Sequence[Image], Path], None]
    """Write their pictures, one over the other."""
    dtype: str
    device: str
