"""What the network is told: a job's prompts as numbers, call by call, and guidance by them."""

from collections.abc import Callable, Sequence
from itertools import count
from math import ceil
from typing import Any, NamedTuple

from torch import Tensor

from sdfast.job import PARTS, Job
from sdfast.protocols import Model
from sdfast.solver import NoiseSchedule, classifier_free
from sdfast.solver.guidance import Condition, changing, joined, length
from sdfast.solver.predict import Network


class Words(NamedTuple):
    """What a network is guided to and, if it is, away from."""

    prompted: Condition
    plain: Condition | None

    @property
    def shape(self) -> tuple[int, int]:
        """How many words there are to guide to, and away from."""
        return length(self.prompted), 0 if self.plain is None else length(self.plain)


class Turn(NamedTuple):
    """What the network is told up to a call."""

    last: int
    words: Words


class Prompted(NamedTuple):
    """A job whose prompts have become numbers."""

    job: Job
    turns: list[Turn]
    marks: list[Any]
    """The moments before and after."""

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Those of its turns' words."""
        return [turn.words.shape for turn in self.turns]

    @property
    def kind(self) -> object:
        """What jobs must agree in to be asked for in the same calls."""
        return tuple(turn.last for turn in self.turns), tuple(self.shapes)


def encode(model: Model, job: Job) -> Prompted:
    """A complete job's prompts as the model is told them, each read once."""
    before = model.clock.mark()
    alone = _is_alone(model, job.guidance)
    texts = dict.fromkeys(turn.prompt for turn in job.turns)
    texts |= {} if alone else dict.fromkeys(turn.negative for turn in job.turns)
    read = dict(zip(texts, model.encode_all([*texts], job.clip_skip, job.guidance), strict=True))
    turns = [
        Turn(turn.last, Words(read[turn.prompt], None if alone else read[turn.negative]))
        for turn in job.turns
    ]
    return Prompted(job, turns, [before, model.clock.mark()])


def words_of(model: Model, prompt: str, negative: str, scale: float) -> Words:
    """A prompt and, where the model does not guide itself, what to guide away from."""
    texts = [prompt] if _is_alone(model, scale) else [prompt, negative]
    prompted, *away = model.encode_all(texts, guidance=scale)
    return Words(prompted, away[0] if away else None)


def _is_alone(model: Model, scale: float | None) -> bool:
    """Whether there is nothing to guide away from."""
    return scale == 1 or model.guides_itself


Ask = Callable[[Tensor, float, Any], Tensor]
"""A model's call: x, [n, c, h, w], at a time, with a condition of n or 2 n rows."""


def guided(
    ask: Ask,
    each: Sequence[Words],
    scale: float,
    during: tuple[float, float] | None = None,
    rescale: float = 0.0,
) -> Network:
    """The network as the solver sees it, told these words of a batch's pictures, one a picture.

    `during` and `rescale` are as `classifier_free` has them.
    """
    away = [words.plain for words in each if words.plain is not None]
    plain = joined(away) if away else None
    prompted = joined([words.prompted for words in each])
    return classifier_free(ask, prompted, plain, scale, during, rescale=rescale, repeats=True)


def in_turns(ask: Ask, schedule: NoiseSchedule, encoded: Sequence[Prompted]) -> Network:
    """The guided network, told at each call what the prompts then say."""
    job = encoded[0].job
    assert job.guidance is not None
    during = _times(job.guidance_interval, schedule)
    known: dict[tuple[int, ...], Network] = {}  # what comes again is worked out once
    networks: list[tuple[int, Network]] = []
    for together in zip(*(one.turns for one in encoded), strict=True):
        key = tuple(id(part) for turn in together for part in turn.words)
        if key not in known:
            words = [turn.words for turn in together]
            known[key] = guided(ask, words, job.guidance, during, job.guidance_rescale or 0.0)
        networks.append((together[0].last, known[key]))
    made = None if job.calls is None else count((job.sampler.calls or 0) - job.calls)

    def call(t: float) -> int:
        if made is not None:
            return next(made)
        return ceil(PARTS * (schedule.first - t) / (schedule.first - schedule.last))

    return changing(networks, call)


def _times(
    interval: tuple[float, float] | None, schedule: NoiseSchedule
) -> tuple[float, float] | None:
    """Shares of the way as times on the schedule's clock, which falls."""
    if interval is None:
        return None
    begin, end = (schedule.first - share * (schedule.first - schedule.last) for share in interval)
    return begin, end


def calls_of(model: Model, job: Job) -> object:
    """What a complete job's calls of the network look like; jobs that agree in it share them."""
    return job.size, job.guidance_interval is None, frozenset(encode(model, job).shapes)


def prepare(model: Model, job: Job, together: int = 1) -> None:
    """Ask the network as so many complete jobs will, so that what a first call costs is behind."""
    assert job.size is not None
    assert job.guidance is not None
    x = model.noise(0, job.size).repeat(together, 1, 1, 1)
    for words in {turn.words.shape: turn.words for turn in encode(model, job).turns}.values():
        network = guided(model.predict, [words] * together, job.guidance, (0.0, 0.0))
        network(x, 0.0)
        if job.guidance_interval is not None:
            network(x, 1.0)  # out of it
    model.clock.between([model.clock.mark()])  # when a GPU is done, too
