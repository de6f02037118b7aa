"""From a job to a picture, one event at a time."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from PIL.Image import Image
from torch import Tensor

from sdfast.errors import JobError, ModelError
from sdfast.events import Encoded, Event, Finished, Stepped, Times
from sdfast.job import Job
from sdfast.sampler import Sampler
from sdfast.solver import NoiseSchedule, Prediction, classifier_free
from sdfast.solver.guidance import Condition, joined
from sdfast.solver.walk import Network, trajectory


class Words(Protocol):
    """A prompt as a model reads it."""

    @property
    def states(self) -> Condition: ...
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
    def predict(self, x: Tensor, t: float, context: Any) -> Tensor: ...
    def decode(self, x: Tensor) -> tuple[Image, bool]: ...


def generate(model: Model, job: Job) -> Iterator[Event]:
    """Make the picture, telling each stage as it is done. Nothing runs until asked for."""
    return generate_together(model, [job])


def generate_together(model: Model, jobs: Sequence[Job]) -> Iterator[Event]:
    """Make several pictures in one walk, which asks the network for all of them at once.

    They must agree in all but prompt, negative prompt and seed. Each is the picture it would be
    alone but for rounding, and has its own Encoded and Finished; steps are of all of them.
    """
    jobs = [model.complete(job) for job in jobs]
    walks = {walk_of(job) for job in jobs}
    if len(walks) != 1:
        raise ValueError("jobs must agree in size, guidance and sampler to be painted together")
    ((_, sampler, *_),) = walks
    if sampler.calls is None:  # each picture decides on its own steps
        for job in jobs:
            yield from _painted(model, [job])
    else:
        yield from _painted(model, jobs)


def walk_of(job: Job) -> tuple[object, Sampler, object, object]:
    """What jobs must agree in to be painted together."""
    return job.size, job.sampler, job.guidance, job.guidance_interval


def _painted(model: Model, jobs: Sequence[Job]) -> Iterator[Event]:
    mark = model.clock.mark
    encoded: list[tuple[Words, Words | None]] = []
    readings = [mark()]
    for job in jobs:
        plain = model.encode(job.negative) if job.guidance != 1 else None
        encoded.append((model.encode(job.prompt), plain))
        readings.append(mark())
    for job, words in zip(jobs, encoded, strict=True):
        yield Encoded(job, " ... ".join(w.dropped for w in words if w and w.dropped))

    first = jobs[0]
    marks = [mark()]
    steps = _walk(model, jobs, encoded)
    x = torch.empty(0)
    try:
        for index, x in enumerate(steps, start=1):  # noqa: B007  (the last x is the latents)
            marks.append(mark())
            yield Stepped(index, first.sampler.calls)
    except FloatingPointError as error:
        raise _not_finite() from error
    if not bool(torch.isfinite(x).all()):
        raise _not_finite()

    reading = model.clock.between(readings)
    walked = tuple(seconds / len(jobs) for seconds in model.clock.between(marks))
    for job, encode, latents in zip(jobs, reading, torch.split(x, 1), strict=True):
        before = mark()
        image, again = model.decode(latents)
        (decode,) = model.clock.between([before, mark()])
        yield Finished(job, image, Times(encode, walked, decode), again)


def _walk(
    model: Model, jobs: Sequence[Job], encoded: Sequence[tuple[Words, Words | None]]
) -> Iterator[Tensor]:
    """Where all the latents stand after each network call. Raises JobError."""
    job = jobs[0]
    size = job.size
    assert size is not None
    assert job.guidance is not None
    told = joined([prompted.states for prompted, _ in encoded])
    away = [plain.states for _, plain in encoded if plain is not None]
    network = classifier_free(
        model.predict,
        told,
        joined(away) if away else None,
        job.guidance,
        _times(job.guidance_interval, model.schedule),
    )
    noise = torch.cat([model.noise(job.seed, size) for job in jobs])
    generators = [torch.Generator().manual_seed(job.seed) for job in jobs]
    try:
        return trajectory(network, noise, job.sampler, model.schedule, model.prediction, generators)
    except ValueError as error:  # the sampler names nodes that this schedule has not
        raise JobError(str(error)) from error


def _times(
    interval: tuple[float, float] | None, schedule: NoiseSchedule
) -> tuple[float, float] | None:
    """Shares of the way as times on the schedule's clock, which falls."""
    if interval is None:
        return None
    begin, end = (schedule.first - share * (schedule.first - schedule.last) for share in interval)
    return begin, end


def guided(model: Model, prompted: Words, plain: Words | None, scale: float) -> Network:
    """The model as the solver sees it, guided if there is something to guide away from."""
    away = None if plain is None else plain.states
    return classifier_free(model.predict, prompted.states, away, scale)


def _not_finite() -> ModelError:
    return ModelError(
        "the walk ended in numbers that are not finite; no picture was made",
        "more --steps, less --guidance or --dtype fp32 may help",
    )
