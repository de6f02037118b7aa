"""What is asked for: plain values, checked once, never changed.

A picture is a `Job`, and a job has one schema. The flags of `sdfast gen`, the keys of a preset, a
line of a batch file and the recipe inside a PNG are views of it: a flat record of the same names.
Nothing here imports torch, so a command line can read, check and print a job long before a model is
loaded.
"""

import random
from contextlib import suppress
from typing import Annotated, Any, NamedTuple, Self, TypeVar, cast, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from sdfast.errors import JobError
from sdfast.fields import (
    LEAST_SIDE,
    File,
    Interval,
    Name,
    NamedFiles,
    Rng,
    ScaledFiles,
    Size,
    begun_size,
)
from sdfast.layering import layered
from sdfast.prompt_edits import Turn, turns
from sdfast.sampler import DEFAULT, SAMPLER_KEYS, Sampler, Spacing, Value
from sdfast.sampler_names import NAMES, SOLVERS, Record
from sdfast.wording import in_our_words, nearest_key, quoted

SEEDS = 2**64
"""Seeds run from 0 to here, as torch's and ComfyUI's do. Torch's generator on the processor, which
draws the noise, knows their lowest 32 bits alone."""
DRAWN_SEEDS = 2**32
"""Those that are drawn where none is given run to here: every other program reads them."""

FILE_LISTS = ("lora", "embedding")
"""Keys that name any number of files."""
VARIATION = ("variation_seed", "variation_strength")
"""Keys that lead from a seed's noise towards another's."""
BEGINNINGS = ("init", "mask")
"""Keys that name a picture to begin from."""
FILES = (*FILE_LISTS, "vae", *BEGINNINGS)
"""Keys that name files; where a job is to be without, the value is an empty text."""
OF_ONE_PICTURE = (*VARIATION, *BEGINNINGS, "hires", "strength")
"""Keys that say what one picture begins from, besides its seed."""

PARTS = 100
"""What an adaptive walk counts instead of calls, where prompts change: hundredths of its way."""

_V = TypeVar("_V", bound=Value)


def _number(value: Any) -> float | None:
    """A number or a text that is one; None for anything else."""
    with suppress(TypeError, ValueError, OverflowError):
        return None if isinstance(value, bool) else float(value)
    return None


class Weights(NamedTuple):
    """What decides a job's weights, as its keys have it."""

    model: str | None
    lora: tuple[str, ...]
    embedding: tuple[str, ...]
    vae: str | None


class Job(Value):
    """One picture to make. The same job makes the same picture."""

    prompt: Annotated[str, Field(max_length=20_000)]
    """What the picture should show, in the web UI's grammar."""
    negative: Annotated[str, Field(max_length=20_000)] = ""
    """What the picture should not show."""
    model: Name | None = None
    """An alias, a Hub id or a folder; None leaves the choice to the command line."""
    lora: ScaledFiles = ()
    """Low-rank changes to the model's weights (arXiv 2106.09685), each `FILE` or `FILE:SCALE`."""
    embedding: NamedFiles = ()
    """Words that textual inversion has taught (arXiv 2208.01618), each `FILE` or `FILE:TOKEN`."""
    vae: File | None = None
    """A folder or file whose autoencoder takes the place of the model's. Files may be the Hub's."""
    seed: Annotated[int, Field(ge=0, lt=SEEDS)] = Field(
        default_factory=lambda: random.randrange(DRAWN_SEEDS)
    )
    """Of the noise that the walk begins with, and of what it draws on its way."""
    variation_seed: Annotated[int, Field(ge=0, lt=SEEDS)] | None = None
    """Of another noise, which the walk begins nearer to the more `variation_strength` says."""
    variation_strength: Annotated[float, Field(ge=0, le=1)] | None = None
    """How far the noise it begins with is from that of `seed`: at 1 it is that of `variation_seed`,
    0 is None. Between them lie pictures that resemble both."""
    rng: Rng = "cpu"
    """Whose noise the seed stands for at the beginning: PyTorch's on a processor, or on an NVIDIA
    GPU, which is the web UI's unless it says otherwise. It is drawn on any machine."""
    size: Size | None = None
    """Width and height in pixels; None is the model's own."""
    guidance: Annotated[float, Field(ge=0, le=100)] | None = None
    """The scale of classifier-free guidance (arXiv 2207.12598), how strongly to follow the prompt:
    at 1 there is none, None is the model's own."""
    guidance_interval: Interval | None = None
    """Guide only on this part of the way, as shares of the schedule's time: 0 is all noise, 1 the
    image. Outside of it a step asks for the prompt alone, at half the cost (arXiv 2404.07724)."""
    guidance_rescale: Annotated[float, Field(ge=0, le=1)] | None = None
    """How much of what is guided has the spread of what the prompt alone gives: strong guidance
    then burns pictures less (arXiv 2305.08891, which gives 0.7); None is 0."""
    init: File | None = None
    """A picture to begin from instead of from noise alone."""
    mask: File | None = None
    """A picture that is white where that one is to be repainted."""
    hires: Annotated[float, Field(gt=1, le=8)] | None = None
    """Begin from a picture of this job's own, so many times smaller a side and then enlarged: the
    web UI's hires fix. A model repeats things where there is more room than it was trained on. 1
    is None."""
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    """How far from that picture to begin: 1 is at the very start, at noise; None is 0.75, 0.5 from
    one of its own, and 1 with a mask."""
    clip_skip: Annotated[int, Field(ge=1, le=100)] | None = None
    """The text encoder's layer that is listened to, counted from the last, which is 1; None is the
    one that the model was trained on."""
    sampler: Sampler = DEFAULT

    @field_validator("prompt")
    @classmethod
    def _says_something(cls, prompt: str) -> str:
        if not prompt.strip():
            raise ValueError("must not be empty")
        return prompt

    @model_validator(mode="before")
    @classmethod
    def _means_something(cls, values: object) -> object:
        """The values without those that come to nothing, and what would be of these.

        With `hires` 1 nothing is enlarged, with `variation_strength` 0 nothing is varied.
        """
        if not isinstance(values, dict):
            return values
        given = cast("dict[str, Any]", values)
        void: set[str] = set()
        if _number(given.get("hires")) == 1:
            void.add("hires")
            if given.get("init") is None and 0 < (_number(given.get("strength")) or 0) <= 1:
                void.add("strength")
        if _number(given.get("variation_strength")) == 0:
            void.update(VARIATION)
        return {key: value for key, value in given.items() if key not in void}

    @model_validator(mode="after")
    def _varies(self) -> Self:
        given, other = VARIATION if self.variation_strength is None else VARIATION[::-1]
        if (getattr(self, given) is None) != (getattr(self, other) is None):
            raise ValueError(f"{given} needs a {other} beside it")
        return self

    @model_validator(mode="after")
    def _begins_somewhere(self) -> Self:
        if self.mask is not None and self.init is None:
            raise ValueError("mask needs a picture to begin from: init")
        if self.strength is not None and not self.begins_from_picture:
            raise ValueError("strength needs a picture to begin from: init, or hires")
        if self.init is not None and self.hires is not None:
            raise ValueError("hires begins from a picture of its own, so not from init, too")
        if self.hires is not None and self.size is not None:
            begun = begun_size(self.size, self.hires)
            if min(begun) < LEAST_SIDE:
                small = "{}x{}".format(*begun)
                raise ValueError(
                    f"hires {self.hires:g} would begin at {small}; a side has at least {LEAST_SIDE}"
                )
        if not self.walked:
            raise ValueError(
                f"strength {self.how_strong:g} of {self.sampler.steps} steps is no step at all"
            )
        if self.begin and (self.sampler.calls is None or self.sampler.solver == "rk45"):
            raise ValueError("this sampler cannot begin in the middle; strength must be 1")
        return self

    @property
    def weights(self) -> Weights:
        """What decides the weights: jobs that agree in it are painted by the same loaded model."""
        return Weights(self.model, self.lora, self.embedding, self.vae)

    @property
    def way(self) -> tuple[object, ...]:
        """What jobs of one model must agree in to be painted in one walk."""
        begun = self.init, self.mask, self.hires, self.strength
        guided = self.guidance, self.guidance_interval, self.guidance_rescale
        return self.size, self.sampler, guided, begun

    @property
    def walked(self) -> int:
        """How many of the sampler's n steps are walked: the last int(n * strength), as diffusers.

        AUTOMATIC1111's web UI walks one more.
        """
        return int(self.sampler.steps * self.how_strong)

    @property
    def how_strong(self) -> float:
        """The strength, or what it is where none was given."""
        if self.strength is not None:
            return self.strength
        if self.hires is not None:
            return 0.5
        return 1.0 if self.init is None or self.mask is not None else 0.75

    @property
    def begins_from_picture(self) -> bool:
        """Whether its walk begins from a picture, another's or one of its own."""
        return self.init is not None or self.hires is not None

    @property
    def begin(self) -> int:
        """The step that the walk begins with, counted from 0."""
        return self.sampler.steps - self.walked

    @property
    def passes(self) -> tuple["Job", ...]:
        """The job itself and, before it, that of the smaller picture it begins from, if `hires`.

        That one has a size if this one has.
        """
        if self.hires is None:
            return (self,)
        size = None if self.size is None else begun_size(self.size, self.hires)
        return self.model_copy(update={"hires": None, "strength": None, "size": size}), self

    @property
    def turns(self) -> list[Turn]:
        """What the prompts say, up to which of the sampler's calls; adaptive, part of the way.

        A sampler that asks twice a step counts the call that its last may leave out, as in the web
        UI.
        """
        asked = 2 * self.sampler.steps if self.sampler.twice else self.sampler.calls
        return turns(self.prompt, self.negative, asked or PARTS)

    @property
    def calls(self) -> int | None:
        """Network calls of its own walk; None where it decides on its way."""
        return self.sampler.model_copy(update={"steps": self.walked}).calls

    @property
    def all_calls(self) -> int | None:
        """Network calls of all its passes."""
        calls = [one.calls for one in self.passes]
        return None if None in calls else sum(filter(None, calls))

    @property
    def record(self) -> Record:
        """The job as flat keys and plain values, whatever stands at its default left out."""
        own = self.model_dump(exclude={"sampler"}, exclude_none=True)
        for key in ("negative", *FILE_LISTS):
            if not own[key]:
                del own[key]
        if self.rng == "cpu":
            del own["rng"]
        return own | sampler_record(self.sampler)


def sampler_record(sampler: Sampler) -> Record:
    """A sampler as flat keys; `steps` and `sampler` always, the rest where it differs."""
    values = sampler.model_dump(mode="json", exclude_defaults=True, exclude={"solver", "steps"})
    return {"steps": sampler.steps, "sampler": sampler.solver, **values}


JOB_KEYS = (*(k for k in Job.model_fields if k != "sampler"), "sampler")
KEYS = tuple(dict.fromkeys((*JOB_KEYS, *SAMPLER_KEYS)))
"""Every key of a record."""


def read_job(record: Record) -> Job:
    """The job of a flat record, upon the default sampler.

    Raises JobError that names the key and what it may be.
    """
    record = layered(sampler_record(DEFAULT), record)
    _know(record, KEYS)
    own = {k: v for k, v in record.items() if k in JOB_KEYS and k != "sampler"}
    shape = {k: v for k, v in record.items() if k in SAMPLER_KEYS}
    return _checked(Job, {**own, "sampler": read_sampler(shape)})


def read_sampler(record: Record | str) -> Sampler:
    """The sampler of a name or a flat record. Raises JobError that names the key and its values."""
    record = layered({"sampler": record} if isinstance(record, str) else record)
    _know(record, SAMPLER_KEYS)
    if "sampler" in record:
        record["solver"] = record.pop("sampler")
    return _checked(Sampler, record)


def _know(record: Record, keys: tuple[str, ...]) -> None:
    for key in record:
        if key not in keys:
            hint = nearest_key(str(key), keys)
            raise JobError(f"there is no key {quoted(key)}", hint, key=str(key))


_NO_VALUE = object()
"""Takes the place of a stray boolean, which pydantic would read as 0 or 1."""


def _checked(kind: type[_V], values: Record) -> _V:
    stray = {
        key: _NO_VALUE
        for key, value in values.items()
        if isinstance(value, bool) and kind.model_fields[key].annotation is not bool
    }
    try:
        return kind.model_validate(values | stray)
    except ValidationError as error:
        raise in_our_words(
            error, values, samplers=[*(NAMES.keys() - SOLVERS)], spacings=get_args(Spacing)
        ) from error
