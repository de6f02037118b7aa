"""From a job to a picture, one event at a time."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL.Image import new as new_image
from torch import Tensor

from sdfast.canvas import Canvas, covering, read_canvas
from sdfast.conditioning import Ask, Prompted, encode, in_turns
from sdfast.errors import JobError, ModelError
from sdfast.events import Encoded, Event, Finished, Stepped, Times
from sdfast.job import Job
from sdfast.models.find import stands_for
from sdfast.models.room import Room
from sdfast.protocols import Model
from sdfast.solver import inpainting, noised
from sdfast.solver.draw import slerp
from sdfast.solver.predict import Network
from sdfast.solver.spacing import grid
from sdfast.solver.walk import trajectory
from sdfast.wording import quoted


def generate(model: Model, job: Job) -> Iterator[Event]:
    """Make the picture, telling each stage as it is done: Encoded, a Stepped a call, Finished.

    Nothing runs until the next event is asked for. Raises JobError for files and times that the job
    names and that cannot be, and for another model; ModelError where weights are broken or the walk
    ends in numbers that are not finite; and DeviceError, of which OutOfMemoryError is one.
    """
    yield from _together(model, [_own(model, job)])


def paint(model: Model, job: Job) -> Finished:
    """Make the picture, and tell nothing until it is done. Raises what `generate` raises."""
    *_, finished = generate(model, job)
    assert isinstance(finished, Finished)
    return finished


def paint_all(model: Model, jobs: Iterable[Job], together: int | None = None) -> Iterator[Finished]:
    """Make pictures in their order, up to so many of them `together` in each network call.

    Those are neighbours that agree in all but prompt, negative prompt, clip_skip and the noise that
    they begin with. Each is the picture it would be alone but for rounding; it takes less time and
    more memory. None is as many as there is room for, 16 at the most. Jobs are drawn as they are
    needed. Raises what `generate` raises.
    """
    if together is not None and together < 1:
        raise ValueError(f"together must be at least 1, not {together}")
    room = Room(model, together)
    for some in _walks((_own(model, job) for job in jobs), room):
        with room.watched(some[0], len(some)):
            events = list(_together(model, some))
        yield from (event for event in events if isinstance(event, Finished))


def _walks(jobs: Iterable[Job], room: Room) -> Iterator[list[Job]]:
    """Neighbours that one walk can paint, as many as there is room for."""
    some: list[Job] = []
    for job in jobs:
        if some and (job.way != some[0].way or len(some) >= room.holds(some[0])):
            yield some
            some = []
        some.append(job)
    if some:
        yield some


def _own(model: Model, job: Job) -> Job:
    """The job with what it leaves open filled in. Raises JobError for one of another model."""
    if job.model is not None and not stands_for(job.model, model.name):
        raise JobError(
            f"the job is for {quoted(job.model)}, and {quoted(model.name)} is loaded",
            "load_model(job) loads what it wants, job.replace(model=None) leaves it open",
            key="model",
        )
    return model.complete(job)


def generate_together(model: Model, jobs: Sequence[Job]) -> Iterator[Event]:
    """Make several pictures in one walk, which asks the network for all of them at once.

    They must agree in all but prompt, negative prompt, clip_skip and noise: see `Job.way`. Each
    is the picture it would be alone but for rounding, and has its own Encoded and, in the order of
    the jobs, Finished; steps are of all of them. Where the prompts fill unlike numbers of chunks,
    or change at other calls, those alike in it have a walk of their own.
    """
    yield from _together(model, [model.complete(job) for job in jobs])


def _together(model: Model, jobs: Sequence[Job]) -> Iterator[Event]:
    """The same, of complete jobs."""
    if len({job.way for job in jobs}) != 1:
        raise ValueError("jobs must agree in size, guidance and sampler to be painted together")
    encoded = [encode(model, job) for job in jobs]
    adaptive = jobs[0].sampler.calls is None  # each picture decides on its own steps
    alike: dict[object, list[int]] = {}
    for place, one in enumerate(encoded):
        alike.setdefault(place if adaptive else one.kind, []).append(place)
    finished: dict[int, Finished] = {}
    for places in alike.values():
        ahead = iter(places)
        for event in _painted(model, [encoded[place] for place in places]):
            if isinstance(event, Finished):
                finished[next(ahead)] = event
            else:
                yield event
    yield from (finished[place] for place in sorted(finished))


def _painted(model: Model, encoded: Sequence[Prompted]) -> Iterator[Event]:
    mark = model.clock.mark
    jobs = [one.job for one in encoded]
    before = mark()
    canvas = read_canvas(jobs[0])
    ground = None if canvas is None else _seen(model, canvas)
    looked = [[before, mark()]]
    for job in jobs:
        yield Encoded(job)

    passes = list(zip(*(job.passes for job in jobs), strict=True))
    total = jobs[0].all_calls
    walked: list[list[Any]] = []
    """The moments of each pass."""
    index = count(1)
    x = torch.empty(0)
    for some in passes:
        if some is not passes[0]:
            before = mark()
            ground = _enlarged(model, x, some[0])
            looked.append([before, mark()])
        walked.append([mark()])
        asked = [one._replace(job=job) for one, job in zip(encoded, some, strict=True)]
        for x in _finite(_walk(model, asked, ground)):  # noqa: B007  (the last x is the latents)
            walked[-1].append(mark())
            yield Stepped(next(index), total)

    between = model.clock.between
    looking = sum(map(sum, map(between, looked))) / len(jobs)
    steps = tuple(seconds / len(jobs) for marks in walked for seconds in between(marks))
    for (job, _, reading), latents in zip(encoded, torch.split(x, 1), strict=True):
        before = mark()
        image, again, tiles = model.decode(latents)
        unsafe = model.is_unsafe(image)
        (spent,), (decoding,) = map(between, (reading, [before, mark()]))
        if unsafe:  # outside a mask, too, as diffusers' inpainting has it
            image = new_image(image.mode, image.size)
        elif canvas is not None:
            image = canvas.pasted(image)
        times = Times(spent + looking, steps, decoding)
        yield Finished(job, image, times, again, tiles, unsafe, together=len(jobs))


class _Ground(NamedTuple):
    """A canvas as the model sees it, or several without a mask."""

    image: Tensor
    """Latents of the picture, [1, c, h, w], or of as many as are painted."""
    repaint: Tensor | None
    """Where the mask is white, or all is if there is none: bool, [1, 1, h, w]."""
    hole: Tensor | None
    """What an inpainting model is shown besides."""


def _seen(model: Model, canvas: Canvas) -> _Ground:
    image, mask = model.look(canvas.picture), canvas.repainted()
    if mask is None:
        return _Ground(image, None, None)
    white = torch.tensor(np.array(mask))[None, None].to(image)
    factor = white.shape[-1] // image.shape[-1]
    repaint = torch.nn.functional.max_pool2d(white, factor) > 0
    return _Ground(image, repaint, model.hole(canvas.picture, mask))


def _enlarged(model: Model, x: Tensor, job: Job) -> _Ground:
    """What these latents are as pictures, enlarged to the job's size."""
    assert job.size is not None
    small = (model.decode(latents)[0] for latents in torch.split(x, 1))
    seen = [model.look(covering(image, job.size)) for image in small]
    return _Ground(torch.cat(seen), None, None)


def _walk(model: Model, encoded: Sequence[Prompted], ground: _Ground | None) -> Iterator[Tensor]:
    """Where all the latents stand after each network call. Raises JobError."""
    jobs = [one.job for one in encoded]
    job = jobs[0]
    network = in_turns(_ask(model, ground), model.schedule, encoded)
    noise = torch.cat([_noise(model, job) for job in jobs])
    generators = [torch.Generator().manual_seed(job.seed) for job in jobs]
    walk = (job.sampler, model.schedule, model.prediction, generators, job.begin)
    try:
        if ground is not None:
            network, noise = _over(ground, network, noise, job, model)
        return trajectory(network, noise, *walk)
    except ValueError as error:  # the sampler names nodes that this schedule has not
        raise JobError(str(error)) from error


def _noise(model: Model, job: Job) -> Tensor:
    """What a walk begins with, [1, c, h, w]."""
    assert job.size is not None
    noise = model.noise(job.seed, job.size, job.rng)
    if job.variation_seed is None or job.variation_strength is None:
        return noise
    other = model.noise(job.variation_seed, job.size, job.rng)
    return slerp(noise, other, job.variation_strength)


def _ask(model: Model, ground: _Ground | None) -> Ask:
    """The model, an inpainting one shown its hole in each call."""
    if ground is None or (hole := ground.hole) is None:
        return model.predict
    return lambda x, t, context: model.predict(
        torch.cat([x, hole.expand(len(x), -1, -1, -1)], 1), t, context
    )


def _over(
    ground: _Ground, network: Network, noise: Tensor, job: Job, model: Model
) -> tuple[Network, Tensor]:
    """The network and where the walk begins, over a picture instead of from noise alone.

    At full strength nothing of what is repainted shines through. Raises ValueError for nodes that
    the schedule has not.
    """
    image, repaint, hole = ground
    start = grid(model.schedule, job.sampler)[job.begin]
    x = noised(image, noise, start)
    if repaint is None:
        return network, x
    if hole is not None:
        return network, noise if job.strength == 1 else x
    if job.strength == 1:
        x = torch.where(repaint, noise, x)
    prediction = model.prediction
    return inpainting(network, image, repaint, model.schedule, prediction=prediction), x


def _finite(steps: Iterator[Tensor]) -> Iterator[Tensor]:
    """The same. Raises ModelError if they end in what is not finite, which is looked for then."""
    x = None
    try:
        for x in steps:
            yield x
        if x is not None and not bool(torch.isfinite(x).all()):
            raise FloatingPointError
    except FloatingPointError as error:
        raise ModelError(
            "the walk ended in numbers that are not finite; no picture was made",
            "more --steps, less --guidance or --dtype fp32 may help",
        ) from error
