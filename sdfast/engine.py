"""From a job to a picture, one event at a time."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from PIL.Image import Image
from torch import Tensor

from sdfast.errors import JobError, ModelError
from sdfast.events import Encoded, Event, Finished, Stepped, Times
from sdfast.job import Job
from sdfast.solver import NoiseSchedule, Prediction, classifier_free
from sdfast.solver.walk import Network, trajectory


class Words(Protocol):
    """A prompt as a model reads it."""

    @property
    def states(self) -> Tensor: ...
    @property
    def dropped(self) -> str: ...


class Timer(Protocol):
    """Marks moments on a device, and tells the seconds between them afterwards."""

    def mark(self) -> Any: ...
    def between(self, marks: Sequence[Any]) -> list[float]: ...


class Model(Protocol):
    """A latent diffusion model, on its device and ready to be asked."""

    schedule: NoiseSchedule
    prediction: Prediction

    @property
    def clock(self) -> Timer: ...
    def complete(self, job: Job) -> Job: ...
    def encode(self, prompt: str) -> Words: ...
    def noise(self, seed: int, size: tuple[int, int]) -> Tensor: ...
    def predict(self, x: Tensor, t: float, context: Tensor) -> Tensor: ...
    def decode(self, x: Tensor) -> tuple[Image, bool]: ...


def generate(model: Model, job: Job) -> Iterator[Event]:
    """Make the picture, telling each stage as it is done. Nothing runs until asked for."""
    mark = model.clock.mark
    job = model.complete(job)
    assert job.size is not None
    assert job.guidance is not None
    marks = [mark()]
    prompted = model.encode(job.prompt)
    plain = model.encode(job.negative) if job.guidance != 1 else None
    network = guided(model, prompted, plain, job.guidance)
    marks.append(mark())
    yield Encoded(job, " ... ".join(w.dropped for w in (prompted, plain) if w and w.dropped))

    x = noise = model.noise(job.seed, job.size)
    try:
        walk = trajectory(
            network,
            noise,
            job.sampler,
            model.schedule,
            model.prediction,
            torch.Generator().manual_seed(job.seed),
        )
    except ValueError as error:  # the sampler names nodes that this schedule has not
        raise JobError(str(error)) from error
    try:
        for index, x in enumerate(walk, start=1):  # noqa: B007  (the last x is the latents)
            marks.append(mark())
            yield Stepped(index, job.sampler.calls)
    except FloatingPointError as error:
        raise _not_finite() from error

    if not bool(torch.isfinite(x).all()):
        raise _not_finite()
    before = mark()
    image, again = model.decode(x)
    after = mark()
    encode, *steps = model.clock.between(marks)
    (decode,) = model.clock.between([before, after])
    yield Finished(job, image, Times(encode, tuple(steps), decode), again)


def guided(model: Model, prompted: Words, plain: Words | None, scale: float) -> Network:
    """The model as the solver sees it, guided if there is something to guide away from."""
    away = None if plain is None else plain.states
    return classifier_free(model.predict, prompted.states, away, scale)


def _not_finite() -> ModelError:
    return ModelError(
        "the walk ended in numbers that are not finite; no picture was made",
        "more --steps, less --guidance or --dtype fp32 may help",
    )
