"""What happens while a picture is made, as values that travel one way: engine to screen."""

from dataclasses import dataclass

from PIL.Image import Image

from sdfast.job import Job


@dataclass(frozen=True, slots=True)
class Times:
    """Where the time went, in seconds: of a GPU by its events, else of the clock on the wall."""

    encode: float
    """Reading the prompts, and looking at a picture to begin from."""
    steps: tuple[float, ...]
    """One per network call; where pictures were painted together, a picture's share of it."""
    decode: float

    @property
    def total(self) -> float:
        return self.encode + sum(self.steps) + self.decode


@dataclass(frozen=True, slots=True)
class Encoded:
    """The prompt has become numbers; the walk begins."""

    job: Job
    """The job with everything filled in that was left to the model."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """The walk has made another network call."""

    index: int
    total: int | None
    """None where the sampler decides on its way."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The picture is here."""

    job: Job
    image: Image
    times: Times
    decoded_again: bool
    """Half precision overflowed, and the picture was decoded once more in float32."""
    tiles: int = 1
    """Pieces that the picture was decoded in; more than one where the memory wanted it."""
    unsafe: bool | None = None
    """Whether the model's safety checker flagged it, and it is black; None if there is none."""
    together: int = 1
    """Pictures that were painted in the same network calls."""


def judged(unsafe: bool | None) -> dict[str, bool]:
    """What a safety checker said, for programs; nothing where there is none."""
    return {} if unsafe is None else {"nsfw": unsafe}


Event = Encoded | Stepped | Finished
