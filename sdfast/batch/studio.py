"""A model and its brush: jobs of one walk in, files out, wherever this runs.

A studio keeps the model it has loaded until it is asked for another. Where memory does not suffice
for the jobs it was given, it paints half of them at a time from then on.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from sdfast.batch.events import Picture
from sdfast.batch.pictures import texts
from sdfast.errors import ModelError, OutOfMemoryError, SdfastError
from sdfast.events import Finished
from sdfast.image_files import check_room, encode_all, is_photo
from sdfast.job import Job
from sdfast.models import load_model
from sdfast.models.malloc import tidy
from sdfast.models.room import MOST, Room
from sdfast.saving import recipe_of

if TYPE_CHECKING:
    from sdfast.models.stable_diffusion import StableDiffusion


@dataclass(frozen=True, slots=True)
class Setting:
    """How studios paint."""

    device: str = "auto"
    dtype: str = "auto"
    offline: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict[str, str])
    together: int | None = None
    """Pictures in one network call; None is as many as memory has room for."""
    metadata: bool = True
    vram: str = "auto"
    ending: str = ".png"
    """What the files' names end in: their kind."""
    safety: bool = True
    """Whether a model's own safety checker blackens pictures."""

    @property
    def most(self) -> int:
        """Pictures in one network call, at the most."""
        return self.together or MOST


class Order(NamedTuple):
    """One picture that a studio is asked for."""

    key: bytes
    job: Job


class Answer(NamedTuple):
    """What has become of the first of a studio's orders, each in its place; the rest stays."""

    outcomes: list[Picture | SdfastError]
    most: int
    """How many pictures the studio paints together from now on."""


class _Held(NamedTuple):
    weights: tuple[object, ...]
    model: "StableDiffusion"
    room: Room


class Studio:
    """Loads models and paints with them."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._most = setting.most
        self._held: _Held | None = None
        self._refused: dict[tuple[object, ...], SdfastError] = {}

    def paint(self, orders: Sequence[Order]) -> Answer:
        """Paint pictures of one model and one walk, the first few, as many as there is room for.

        What goes wrong is the answer, for each job.
        Raises DeviceError if there is no such device and UsageError if there can be none: nothing
        at all could be painted then.
        """
        job = orders[0].job
        load = 0.0
        if self._held is None or self._held.weights != job.weights:
            try:
                load = self._load(job)
            except (ModelError, OutOfMemoryError) as error:
                return Answer([_bare(error) for _ in orders], self._most)
        assert self._held is not None
        fitting = min(self._held.room.holds(job), self._most)
        outcomes = self._painted(self._held, orders[:fitting])
        first = next((k for k, out in enumerate(outcomes) if isinstance(out, Picture)), None)
        if first is not None:
            outcomes[first] = cast("Picture", outcomes[first])._replace(load=load)
        return Answer(outcomes, self._most)

    def _load(self, job: Job) -> float:
        """Exchange the model; the seconds it took. Raises ModelError and DeviceError."""
        if job.weights in self._refused:
            raise _bare(self._refused[job.weights])
        setting = self._setting
        if self._held:
            self._held = None
            tidy()
        begun = time.perf_counter()
        try:
            model = load_model(
                job.model or "tiny",
                device=setting.device,
                dtype=setting.dtype,
                vram=setting.vram,
                aliases=setting.aliases,
                offline=setting.offline,
                lora=job.lora,
                embedding=job.embedding,
                vae=job.vae,
                safety=setting.safety,
            )
        except ModelError as error:
            self._refused[job.weights] = _bare(error)
            raise
        self._held = _Held(job.weights, model, Room(model, setting.together))
        self._most = setting.most
        return time.perf_counter() - begun

    def _painted(self, held: _Held, orders: Sequence[Order]) -> list[Picture | SdfastError]:
        try:
            with held.room.watched(orders[0].job, len(orders)):
                return list(_attempt(held.model, orders, self._setting))
        except SdfastError as error:
            problem = error
        except Exception as error:  # a bug of ours ends one job, not the night
            problem = SdfastError(f"{type(error).__name__}: {error}", "this is a bug")
        held.model.forget()
        tidy()
        if len(orders) == 1:  # which says nothing of others, that may be smaller
            return [problem]
        half = len(orders) // 2
        if isinstance(problem, OutOfMemoryError):
            self._most = half
            return self._painted(held, orders[:half])
        return self._painted(held, orders[:half]) + self._painted(held, orders[half:])


def _attempt(
    model: "StableDiffusion", orders: Sequence[Order], setting: Setting
) -> Iterator[Picture]:
    """All the pictures in one walk, or an error and none of them."""
    from sdfast.engine import generate_together

    jobs = [model.complete(order.job) for order in orders]
    place = Path("any").with_suffix(setting.ending)
    for order, job in zip(orders, jobs, strict=True) if is_photo(place) else ():
        assert job.size is not None
        check_room(_told(order.key, job, True, setting), place, job.size)
    events = list(generate_together(model, jobs))
    painted = [event for event in events if isinstance(event, Finished)]
    told = [
        _told(order.key, done.job, done.unsafe, setting)
        for order, done in zip(orders, painted, strict=True)
    ]
    files = encode_all([(done.image, t) for done, t in zip(painted, told, strict=True)], place)
    for done, file in zip(painted, files, strict=True):
        yield Picture(
            job=done.job,
            file=file,
            times=done.times,
            load=0.0,
            device=str(model.device),
            dtype=model.dtype_name,
            together=done.together,
            decoded_again=done.decoded_again,
            tiles=done.tiles,
            unsafe=done.unsafe,
        )


def _told(key: bytes, job: Job, unsafe: bool | None, setting: Setting) -> dict[str, str]:
    """What a picture's file tells of it."""
    return texts(recipe_of(job, setting.aliases) if setting.metadata else {}, key, unsafe)


def _bare(error: SdfastError) -> SdfastError:
    """The error without what it was caused by, which would keep tensors alive."""
    return type(error)(str(error), error.hint)
