"""From a job to a picture, one event at a time."""

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL.Image import new as new_image
from torch import Tensor

from sdfast.canvas import Canvas, read_canvas
from sdfast.errors import JobError, ModelError
from sdfast.events import Encoded, Event, Finished, Stepped, Times
from sdfast.job import PARTS, Job
from sdfast.protocols import Model
from sdfast.solver import NoiseSchedule, classifier_free, inpainting, noised
from sdfast.solver.guidance import Condition, changing, joined, length
from sdfast.solver.predict import Network
from sdfast.solver.spacing import grid
from sdfast.solver.walk import trajectory


def generate(model: Model, job: Job) -> Iterator[Event]:
    """Make the picture, telling each stage as it is done. Nothing runs until asked for.

    Raises JobError for files and times that the job names and that cannot be, ModelError where
    weights are broken or the walk ends in numbers that are not finite, and DeviceError,
    OutOfMemoryError for one.
    """
    return generate_together(model, [job])


def generate_together(model: Model, jobs: Sequence[Job]) -> Iterator[Event]:
    """Make several pictures in one walk, which asks the network for all of them at once.

    They must agree in all but prompt, negative prompt, clip_skip and seed: see `Job.way`. Each is
    the picture it would be alone but for rounding, and has its own Encoded and, in the order of the
    jobs, Finished; steps are of all of them. Where the prompts fill unlike numbers of chunks, or
    change at other calls, those alike in it have a walk of their own.
    """
    jobs = [model.complete(job) for job in jobs]
    if len({job.way for job in jobs}) != 1:
        raise ValueError("jobs must agree in size, guidance and sampler to be painted together")
    read = [_read(model, job) for job in jobs]
    adaptive = jobs[0].sampler.calls is None  # each picture decides on its own steps
    alike: dict[object, list[int]] = {}
    for place, words in enumerate(read):
        alike.setdefault(place if adaptive else words.kind, []).append(place)
    finished: dict[int, Finished] = {}
    for places in alike.values():
        ahead = iter(places)
        for event in _painted(model, [read[place] for place in places]):
            if isinstance(event, Finished):
                finished[next(ahead)] = event
            else:
                yield event
    yield from (finished[place] for place in sorted(finished))


class _Turn(NamedTuple):
    """What the network is told up to a call."""

    last: int
    prompted: Condition
    plain: Condition | None


class _Read(NamedTuple):
    """A job whose prompts have become numbers."""

    job: Job
    turns: list[_Turn]
    marks: list[Any]
    """The moments before and after."""

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """How many words each turn has to guide to, and away from."""
        return [
            (length(turn.prompted), 0 if turn.plain is None else length(turn.plain))
            for turn in self.turns
        ]

    @property
    def kind(self) -> object:
        """What jobs must agree in to be asked for in the same calls."""
        return tuple(turn.last for turn in self.turns), tuple(self.shapes)


def _read(model: Model, job: Job) -> _Read:
    before = model.clock.mark()
    alone = _is_alone(model, job.guidance)
    texts = dict.fromkeys(turn.prompt for turn in job.turns)
    texts |= {} if alone else dict.fromkeys(turn.negative for turn in job.turns)
    read = dict(zip(texts, model.encode_all([*texts], job.clip_skip, job.guidance), strict=True))
    turns = [
        _Turn(turn.last, read[turn.prompt], None if alone else read[turn.negative])
        for turn in job.turns
    ]
    return _Read(job, turns, [before, model.clock.mark()])


def _painted(model: Model, read: Sequence[_Read]) -> Iterator[Event]:
    mark = model.clock.mark
    jobs = [words.job for words in read]
    first = jobs[0]
    before = mark()
    canvas = read_canvas(first)
    ground = None if canvas is None else _seen(model, canvas)
    looked = [before, mark()]
    for job in jobs:
        yield Encoded(job)

    total = first.calls
    marks = [mark()]
    steps = _walk(model, read, ground)
    x = torch.empty(0)
    try:
        for index, x in enumerate(steps, start=1):  # noqa: B007  (the last x is the latents)
            marks.append(mark())
            yield Stepped(index, total)
    except FloatingPointError as error:
        raise _not_finite() from error
    if not bool(torch.isfinite(x).all()):
        raise _not_finite()

    (looking,) = model.clock.between(looked)
    looking /= len(jobs)
    walked = tuple(seconds / len(jobs) for seconds in model.clock.between(marks))
    for (job, *_, reading), latents in zip(read, torch.split(x, 1), strict=True):
        before = mark()
        image, again, tiles = model.decode(latents)
        unsafe = model.is_unsafe(image)
        (encode,), (decode,) = map(model.clock.between, (reading, [before, mark()]))
        if unsafe:  # outside a mask, too, as diffusers' inpainting has it
            image = new_image(image.mode, image.size)
        elif canvas is not None:
            image = canvas.pasted(image)
        spent = Times(encode + looking, walked, decode)
        yield Finished(job, image, spent, again, tiles, unsafe, together=len(jobs))


class _Ground(NamedTuple):
    """A canvas as the model sees it."""

    image: Tensor
    """Latents of the picture, [1, c, h, w]."""
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


def _walk(model: Model, read: Sequence[_Read], ground: _Ground | None) -> Iterator[Tensor]:
    """Where all the latents stand after each network call. Raises JobError."""
    jobs = [words.job for words in read]
    job = jobs[0]
    size = job.size
    assert size is not None
    assert job.guidance is not None
    network = _in_turns(model, _ask(model, ground), read)
    noise = torch.cat([model.noise(job.seed, size) for job in jobs])
    generators = [torch.Generator().manual_seed(job.seed) for job in jobs]
    walk = (job.sampler, model.schedule, model.prediction, generators, job.begin)
    try:
        if ground is not None:
            network, noise = _over(ground, network, noise, job, model)
        return trajectory(network, noise, *walk)
    except ValueError as error:  # the sampler names nodes that this schedule has not
        raise JobError(str(error)) from error


def _in_turns(
    model: Model, ask: Callable[[Tensor, float, Any], Tensor], read: Sequence[_Read]
) -> Network:
    """The guided network, told at each call what the prompts then say."""
    job, schedule = read[0].job, model.schedule
    assert job.guidance is not None
    during = _times(job.guidance_interval, schedule)
    known: dict[tuple[int, ...], Network] = {}  # what comes again is worked out once
    networks: list[tuple[int, Network]] = []
    for together in zip(*(words.turns for words in read), strict=True):
        key = tuple(id(part) for turn in together for part in turn[1:])
        if key not in known:
            told = joined([turn.prompted for turn in together])
            away = [turn.plain for turn in together if turn.plain is not None]
            plain = joined(away) if away else None
            known[key] = classifier_free(ask, told, plain, job.guidance, during, repeats=True)
        networks.append((together[0].last, known[key]))
    made = None if job.calls is None else count((job.sampler.calls or 0) - job.calls)

    def call(t: float) -> int:
        if made is not None:
            return next(made)
        return ceil(PARTS * (schedule.first - t) / (schedule.first - schedule.last))

    return changing(networks, call)


def _ask(model: Model, ground: _Ground | None) -> Callable[[Tensor, float, Any], Tensor]:
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
    planned = job.sampler.calls is not None and job.sampler.solver != "rk45"
    start = grid(model.schedule, job.sampler)[job.begin] if planned else model.schedule.start
    x = noised(image, noise, start)
    if repaint is None:
        return network, x
    if hole is not None:
        return network, noise if job.strength == 1 else x
    if job.strength == 1:
        x = torch.where(repaint, noise, x)
    prediction = model.prediction
    return inpainting(network, image, repaint, model.schedule, prediction=prediction), x


def _times(
    interval: tuple[float, float] | None, schedule: NoiseSchedule
) -> tuple[float, float] | None:
    """Shares of the way as times on the schedule's clock, which falls."""
    if interval is None:
        return None
    begin, end = (schedule.first - share * (schedule.first - schedule.last) for share in interval)
    return begin, end


def _is_alone(model: Model, scale: float | None) -> bool:
    """Whether there is nothing to guide away from."""
    return scale == 1 or model.guides_itself


def words_of(
    model: Model, prompt: str, negative: str, scale: float
) -> tuple[Condition, Condition | None]:
    """What the model is guided to and, where it does not guide itself, away from."""
    texts = [prompt] if _is_alone(model, scale) else [prompt, negative]
    prompted, *away = model.encode_all(texts, guidance=scale)
    return prompted, away[0] if away else None


def guided(model: Model, prompted: Condition, plain: Condition | None, scale: float) -> Network:
    """The model as the solver sees it, guided if there is something to guide away from."""
    return classifier_free(model.predict, prompted, plain, scale, repeats=True)


def calls_of(model: Model, job: Job) -> object:
    """What a complete job's calls of the network look like; jobs that agree in it share them."""
    return job.size, job.guidance_interval is None, frozenset(_read(model, job).shapes)


def prepare(model: Model, job: Job, together: int = 1) -> None:
    """Ask the network as so many complete jobs will, so that what a first call costs is behind."""
    assert job.size is not None
    assert job.guidance is not None
    read = _read(model, job)
    x = model.noise(0, job.size).repeat(together, 1, 1, 1)
    for turn in dict(zip(read.shapes, read.turns, strict=True)).values():
        told = joined([turn.prompted] * together)
        away = None if turn.plain is None else joined([turn.plain] * together)
        during = (0.0, 0.0)
        network = classifier_free(model.predict, told, away, job.guidance, during, repeats=True)
        network(x, 0.0)
        if job.guidance_interval is not None:
            network(x, 1.0)  # out of it
    model.clock.between([model.clock.mark()])  # when a GPU is done, too


def _not_finite() -> ModelError:
    return ModelError(
        "the walk ended in numbers that are not finite; no picture was made",
        "more --steps, less --guidance or --dtype fp32 may help",
    )
