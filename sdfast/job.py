"""What is asked for: plain values, checked once, never changed.

A picture is a `Job`, and a job has one schema. The flags of `sdfast gen`, the keys of a preset, a
line of a batch file and the recipe inside a PNG are views of it: a flat record of the same names.
Nothing here imports torch, so a command line can read, check and print a job long before a model is
loaded.
"""

import random
from collections.abc import Iterable, Iterator
from typing import Annotated, Self, TypeVar, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from sdfast.errors import JobError
from sdfast.fields import File, Interval, NamedFiles, ScaledFiles, Size
from sdfast.prompt_edits import Turn, turns
from sdfast.sampler import DEFAULT, SHAPES, TAKES, Sampler, Spacing, Value
from sdfast.sampler_names import A1111, NAMES, NOISY, SOLVERS, Record, keys_of
from sdfast.wording import in_our_words, nearest_key, quoted

SEEDS = 2**64
"""Seeds run from 0 to here, as torch's and ComfyUI's do. Torch's generator on the processor, which
draws the noise, knows their lowest 32 bits alone."""
DRAWN_SEEDS = 2**32
"""Those that are drawn where none is given run to here: every other program reads them."""

PARTS = 100
"""What an adaptive walk counts instead of calls, where prompts change: hundredths of its way."""

_V = TypeVar("_V", bound=Value)


class Job(Value):
    """One picture to make. The same job makes the same picture."""

    prompt: Annotated[str, Field(max_length=20_000)]
    negative: Annotated[str, Field(max_length=20_000)] = ""
    """What the picture should not show."""
    model: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """An alias, a Hub id or a folder; None leaves the choice to the command line."""
    lora: ScaledFiles = ()
    """Low-rank changes to the model's weights (arXiv 2106.09685), each `PATH` or `PATH:SCALE`."""
    embedding: NamedFiles = ()
    """Words that textual inversion has taught (arXiv 2208.01618), each `PATH` or `PATH:TOKEN`."""
    vae: File | None = None
    """A folder or file whose autoencoder takes the place of the model's."""
    seed: Annotated[int, Field(ge=0, lt=SEEDS)] = Field(
        default_factory=lambda: random.randrange(DRAWN_SEEDS)
    )
    size: Size | None = None
    """Width and height in pixels; None is the model's own."""
    guidance: Annotated[float, Field(ge=0, le=100)] | None = None
    """How strongly to follow the prompt; 1 is not at all beyond it, None is the model's own."""
    guidance_interval: Interval | None = None
    """Guide only on this part of the way, as shares of the schedule's time: 0 is all noise, 1 the
    image. Outside of it a step asks for the prompt alone, at half the cost (arXiv 2404.07724)."""
    init: File | None = None
    """A picture to begin from instead of from noise alone."""
    mask: File | None = None
    """A picture that is white where that one is to be repainted."""
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    """How far from that picture to begin: 1 is at the very start, at noise; None is 0.75, and 1
    with a mask."""
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

    @model_validator(mode="after")
    def _begins_somewhere(self) -> Self:
        for key in ("mask", "strength"):
            if self.init is None and getattr(self, key) is not None:
                raise ValueError(f"{key} needs a picture to begin from: init")
        if not self.walked:
            raise ValueError(
                f"strength {self.how_strong:g} of {self.sampler.steps} steps is no step at all"
            )
        if self.begin and (self.sampler.calls is None or self.sampler.solver == "rk45"):
            raise ValueError("this sampler cannot begin in the middle; strength must be 1")
        return self

    @property
    def weights(self) -> tuple[object, ...]:
        """What decides the weights: jobs that agree in it are painted by the same loaded model."""
        return self.model, self.lora, self.embedding, self.vae

    @property
    def walked(self) -> int:
        """How many of the sampler's n steps are walked: the last int(n * strength), as diffusers.

        AUTOMATIC1111's web UI walks one more.
        """
        return int(self.sampler.steps * self.how_strong)

    @property
    def how_strong(self) -> float:
        """The strength, or what it is where none was given."""
        given = 1.0 if self.init is None or self.mask is not None else 0.75
        return given if self.strength is None else self.strength

    @property
    def begin(self) -> int:
        """The step that the walk begins with, counted from 0."""
        return self.sampler.steps - self.walked

    @property
    def turns(self) -> list[Turn]:
        """What the prompts say, up to which of the sampler's calls; adaptive, part of the way."""
        return turns(self.prompt, self.negative, self.sampler.calls or PARTS)

    @property
    def calls(self) -> int | None:
        """Network calls of the walk; None where it decides on its way."""
        return self.sampler.model_copy(update={"steps": self.walked}).calls

    @property
    def record(self) -> Record:
        """The job as flat keys and plain values, whatever stands at its default left out."""
        own = self.model_dump(exclude={"sampler"}, exclude_none=True)
        for key in ("negative", "lora", "embedding"):
            if not own[key]:
                del own[key]
        return own | sampler_record(self.sampler)


def sampler_record(sampler: Sampler) -> Record:
    """A sampler as flat keys; `steps` and `sampler` always, the rest where it differs."""
    values = sampler.model_dump(mode="json", exclude_defaults=True, exclude={"solver", "steps"})
    return {"steps": sampler.steps, "sampler": sampler.solver, **values}


JOB_KEYS = (*(k for k in Job.model_fields if k != "sampler"), "sampler")
SAMPLER_KEYS = tuple("sampler" if k == "solver" else k for k in Sampler.model_fields)
KEYS = tuple(dict.fromkeys((*JOB_KEYS, *SAMPLER_KEYS)))
"""Every key of a record."""

_STARTS_AFRESH: dict[str, tuple[str, ...]] = {
    "sampler": tuple(k for k in SAMPLER_KEYS if k not in ("sampler", "steps")),
    "method": ("corrector", "weights", "corrections", "tolerance"),
    "order": ("corrections",),
    "corrector": ("corrections",),
    "weights": ("corrections",),
    "corrections": ("corrector", "weights"),
    "spacing": (*SHAPES, "timesteps", "corrections"),
    "steps": ("timesteps", "corrections"),
    "timesteps": ("steps", "spacing", *SHAPES, "corrections"),
    "final": ("corrections",),
    "model": ("corrections",),
    "init": ("mask",),
}
"""A key given by one layer drops these keys of the layers beneath, which were meant for another.

Fitted steps and weights are meant for a number of steps, an end and a model: to say these again
drops nothing.
"""

_SAID_AGAIN = ("steps", "timesteps", "final", "model")


def layered(*layers: Record) -> Record:
    """One record from several, the later ones on top; None counts as not given."""
    merged: Record = {}
    for given in _parted(layers):
        for key, value in given.items():
            if key in _SAID_AGAIN and key in merged and merged[key] == value:
                continue
            if key == "steps" and len(merged.get("timesteps") or ()) == value:
                continue
            if key == "method" and merged.get(key, DEFAULT.method) == value:
                continue
            if key == "init" and "mask" in merged and merged.get("strength") == 1:
                del merged["strength"]  # that of the mask, which goes
            for stale in _STARTS_AFRESH.get(key, ()):
                merged.pop(stale, None)
        if given.get("method") == "adaptive":  # it chooses its own steps
            for stale in ("spacing", *SHAPES, "timesteps"):
                merged.pop(stale, None)
        if given.get("method") not in (None, merged.get("method", DEFAULT.method)):
            if given["method"] == "midpoint":  # it has an order of its own
                merged.pop("order", None)
            if merged.get("sampler") != "sde-dpm++":  # the others' eta is for one method
                merged.pop("eta", None)
        merged |= given
    return merged


def on_top(beneath: Record, given: Record) -> Record:
    """Flags upon a settled record. To name the solver that is in force already changes nothing.

    Nor does naming the spacing alone; beside a solver it is one without the shape of that in force.
    """
    known = set[str]()
    if given.get("sampler") == beneath.get("sampler", DEFAULT.solver):
        known.add("sampler")
    if given.get("sampler") is None and not beneath.get("timesteps"):
        known |= {"spacing"} if given.get("spacing") == beneath.get("spacing") else set()
    return layered(beneath, {k: v for k, v in given.items() if k not in known})


def _parted(layers: Iterable[Record]) -> Iterator[Record]:
    """What layers give, what a sampler's name stands for beneath what stands beside it."""
    for layer in layers:
        given = {k: v for k, v in layer.items() if v is not None}
        if isinstance(given.get("sampler"), str):
            yield keys_of(given.pop("sampler"))
        yield given


_LETTERS = {
    "multistep": "M",
    "singlestep": "S",
    "midpoint": " midpoint",
    "fast": " fast",
    "adaptive": " adaptive",
}


def schedule_name(sampler: Sampler) -> tuple[str, str]:
    """A sampler's name and schedule type: AUTOMATIC1111's where it walks so, or ours.

    Ours begin with a small letter, so that none is taken for one of the web UI's. The numbers that
    a sampler draws on its way are its own in each program.
    """
    of_karras = (sampler.spacing, sampler.rho) == ("karras", 7)
    plain = sampler.model_copy(update={"rho": None}) if of_karras else sampler
    for said, keys in (A1111 | NOISY).items():
        if plain == read_sampler({"steps": sampler.steps, **keys}):
            return said
    order = f" {sampler.order}{_LETTERS[sampler.method]}"
    name = sampler.solver + (order if "order" in TAKES[sampler.solver] else "")
    if sampler.eta is not None and sampler.noisy != sampler.model_copy(update={"eta": None}).noisy:
        name += f" eta {sampler.eta:g}"
    name += " UniC" * sampler.corrector + " tuned" * bool(sampler.corrections)
    return name, sampler.spacing if sampler.timesteps is None else "timesteps"


def read_job(record: Record) -> Job:
    """The job of a flat record, upon the default sampler.

    Raises JobError that names the key and what it may be.
    """
    record = layered(sampler_record(DEFAULT), record)
    _know(record, KEYS)
    own = {k: v for k, v in record.items() if k in JOB_KEYS and k != "sampler"}
    shape = {k: v for k, v in record.items() if k in SAMPLER_KEYS}
    return _checked(Job, {**own, "sampler": read_sampler(shape)})


def read_sampler(record: Record) -> Sampler:
    """The sampler of a flat record. Raises JobError that names the key and what it may be."""
    record = layered(record)
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
