"""What happens to the jobs of a batch, as values that travel one way."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sdfast.errors import SdfastError
from sdfast.events import Times
from sdfast.job import Job


class Picture(NamedTuple):
    """A finished picture as a file's bytes, and what it took."""

    job: Job
    file: bytes
    times: Times
    load: float
    """Seconds that the model took to load; 0 if it was there."""
    device: str
    dtype: str
    together: int
    """Pictures that were painted in the same network calls."""
    decoded_again: bool
    """Half precision overflowed, and the picture was decoded once more in float32."""
    tiles: int = 1
    """In how many it was decoded."""
    unsafe: bool | None = None
    """Whether the model's safety checker flagged it, and it is black; None if there is none."""


@dataclass(frozen=True, slots=True)
class Painted:
    """A picture is written, and recorded."""

    key: bytes
    number: int
    """The line, from 1."""
    path: str
    """As it is told to others: a path or a URL."""
    write: float
    """Seconds."""
    picture: Picture


@dataclass(frozen=True, slots=True)
class Kept:
    """A picture was there already."""

    key: bytes
    number: int
    path: Path | None = None
    """Where it was found, if no manifest has told of it."""
    own: bool = True
    """It is the job's own, and not another that has its name."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Of a line, or of a job, no picture was made."""

    key: bytes
    number: int
    error: SdfastError
    before: bool
    """It had failed in an earlier run, and was not tried again."""


@dataclass(frozen=True, slots=True)
class Noted:
    """Something worth knowing, which ends nothing."""

    text: str


@dataclass(frozen=True, slots=True)
class BrokeOff:
    """Pictures can be written or looked for no more; the rest is left for another run."""

    error: SdfastError


GOES_ON = "the same command goes on once that is put right"
"""What to do where a run has ended before its time."""


BatchEvent = Painted | Kept | Failed | Noted | BrokeOff
