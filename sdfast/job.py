"""What is asked for: plain values, checked once, never changed.

A picture is a `Job`, and a job has one schema. The flags of `sdfast gen`, the keys of a preset, a
line of a batch file and the recipe inside a PNG are views of it: a flat record of the same names.
Nothing here imports torch, so a command line can read, check and print a job long before a model is
loaded.
"""

import random
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar, cast, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
    model_validator,
)

from sdfast.errors import JobError
from sdfast.wording import in_our_words, nearest, quoted, typed

Record = dict[str, Any]
"""A job or a part of one as flat keys and plain values."""

SEEDS = 2**32
"""Seeds run from 0 to here; more would not fit where other programs read them."""

Spacing = Literal[
    "uniform",
    "rho",
    "logsnr",
    "karras",
    "exponential",
    "ays",
    "linspace",
    "leading",
    "trailing",
]
Solver = Literal["dpm++", "dpm", "ddim"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


_V = TypeVar("_V", bound=_Value)


class Sampler(_Value):
    """How to walk from noise to image. Equal samplers walk alike."""

    solver: Solver = "dpm++"
    """`dpm++` integrates the image, `dpm` the noise; `ddim` is their first order."""
    method: Literal["multistep", "singlestep"] = "multistep"
    order: Annotated[int, Field(ge=1, le=3)] = 2
    steps: Annotated[int, Field(ge=1, le=1000)] = 20
    """Network calls from noise to image."""
    spacing: Spacing = "uniform"
    rho: Annotated[float, Field(ge=0.5, le=20)] | None = None
    """The power of the spacings `rho` (2 unless given) and `karras` (7)."""
    corrector: bool = False
    """Take each step again once the next call is known (UniPC); multistep only."""
    final: Literal["zero", "sigma_min"] = "zero"
    """Where the walk ends: no noise at all, or the least noise the network was trained on."""
    weights: Literal["exact", "reference"] = "exact"
    """`reference` weighs and lowers order 3 as the authors' code and diffusers do."""
    timesteps: (
        Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1, max_length=1000)]
        | None
    ) = None
    """Explicit times to ask at, noisiest first; fractions are allowed. Overrides `spacing`."""

    @model_validator(mode="before")
    @classmethod
    def _follow(cls, given: Any) -> Any:
        """What one key says about another that is not given."""
        if not isinstance(given, Mapping):
            return given
        values = dict(cast("Mapping[str, Any]", given))
        times: object = values.get("timesteps")
        if isinstance(times, list | tuple):
            values.setdefault("steps", len(cast("list[Any]", times)))
        if values.get("solver") == "ddim":
            values.setdefault("order", 1)
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.solver == "ddim" and (self.order, self.corrector) != (1, False):
            raise ValueError("ddim is of order 1 and takes no corrector")
        if self.corrector and self.method != "multistep":
            raise ValueError("a corrector needs the method multistep")
        if self.timesteps is not None:
            if len(self.timesteps) != self.steps:
                raise ValueError(
                    f"there are {len(self.timesteps)} timesteps, but steps is {self.steps}"
                )
            falling = all(a > b for a, b in zip(self.timesteps, self.timesteps[1:], strict=False))
            if not falling:
                raise ValueError("timesteps must fall from one to the next")
        return self


def _size(value: Any) -> Any:
    match value:
        case str() if found := re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", value.strip()):
            return int(found[1]), int(found[2])
        case [int(), int()]:
            return cast("Any", value)
        case _:
            raise ValueError("must be WIDTHxHEIGHT, such as 512x768")


def _paintable(size: tuple[int, int]) -> tuple[int, int]:
    if any(side % 8 or not 64 <= side <= 4096 for side in size):
        raise ValueError("must be two multiples of 8 from 64 to 4096")
    return size


Size = Annotated[
    tuple[int, int],
    BeforeValidator(_size),
    AfterValidator(_paintable),
    PlainSerializer(lambda size: f"{size[0]}x{size[1]}"),
]


class Job(_Value):
    """One picture to make. The same job makes the same picture."""

    prompt: Annotated[str, Field(max_length=20_000)]
    negative: Annotated[str, Field(max_length=20_000)] = ""
    model: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """An alias, a Hub id or a folder; None leaves the choice to the command line."""
    seed: Annotated[int, Field(ge=0, lt=SEEDS)] = Field(
        default_factory=lambda: random.randrange(SEEDS)
    )
    size: Size | None = None
    """Width and height in pixels; None is the model's own."""
    guidance: Annotated[float, Field(ge=0, le=100)] | None = None
    """How strongly to follow the prompt; 1 is not at all beyond it, None is the model's own."""
    sampler: Sampler = Sampler()

    @field_validator("prompt")
    @classmethod
    def _says_something(cls, prompt: str) -> str:
        if not prompt.strip():
            raise ValueError("must not be empty")
        return prompt

    @property
    def record(self) -> Record:
        """The job as flat keys and plain values, whatever stands at its default left out."""
        own = self.model_dump(exclude={"sampler"}, exclude_none=True)
        if not self.negative:
            del own["negative"]
        return own | sampler_record(self.sampler)


def sampler_record(sampler: Sampler) -> Record:
    """A sampler as flat keys; `steps` and `sampler` always, the rest where it differs."""
    values = sampler.model_dump(mode="json", exclude_defaults=True, exclude={"solver", "steps"})
    return {"steps": sampler.steps, "sampler": sampler.solver, **values}


JOB_KEYS = (*(k for k in Job.model_fields if k != "sampler"), "sampler")
SAMPLER_KEYS = tuple("sampler" if k == "solver" else k for k in Sampler.model_fields)
KEYS = tuple(dict.fromkeys((*JOB_KEYS, *SAMPLER_KEYS)))
"""Every key of a record."""

_A1111 = {
    "DPM++ 2M": {"sampler": "dpm++", "order": 2},
    "DPM++ 3M": {"sampler": "dpm++", "order": 3, "weights": "reference"},
    "DPM++ 2S": {"sampler": "dpm++", "order": 2, "method": "singlestep"},
    "UniPC": {"sampler": "dpm++", "order": 2, "corrector": True},
    "DDIM": {"sampler": "ddim", "spacing": "leading", "final": "sigma_min"},
}
_SCHEDULE_TYPES = {
    "": "linspace",
    "Uniform": "linspace",
    "Karras": "karras",
    "Exponential": "exponential",
    "SGM Uniform": "trailing",
    "Align Your Steps": "ays",
}
ALIASES: dict[str, Record] = {
    f"{name} {kind}".strip(): {"spacing": spacing, **keys}
    for name, keys in _A1111.items()
    for kind, spacing in _SCHEDULE_TYPES.items()
}
"""Samplers by the names AUTOMATIC1111's web UI gives them."""

_STARTS_AFRESH: dict[str, tuple[str, ...]] = {
    "sampler": tuple(k for k in SAMPLER_KEYS if k not in ("sampler", "steps")),
    "method": ("corrector",),
    "spacing": ("rho", "timesteps"),
    "steps": ("timesteps",),
    "timesteps": ("steps", "spacing", "rho"),
}
"""A key given by one layer drops these keys of the layers beneath, which were meant for another."""


def layered(*layers: Record) -> Record:
    """One record from several, the later ones on top; None counts as not given."""
    merged: Record = {}
    for layer in layers:
        given = {k: v for k, v in layer.items() if v is not None}
        if isinstance(given.get("sampler"), str):
            given = _named(given["sampler"]) | {k: v for k, v in given.items() if k != "sampler"}
        for key in given:
            for stale in _STARTS_AFRESH.get(key, ()):
                merged.pop(stale, None)
        merged |= given
    return merged


def _named(sampler: str) -> Record:
    """The keys that a sampler's name stands for; `ddim` is ours, `DDIM` is A1111's."""
    if sampler in get_args(Solver):
        return {"sampler": sampler}
    by_name = {name.lower(): keys for name, keys in ALIASES.items()}
    return by_name.get(sampler.strip().lower(), {"sampler": sampler})


def schedule_name(sampler: Sampler) -> tuple[str, str]:
    """A sampler's name and schedule type as AUTOMATIC1111 would write them, or ours."""
    base = sampler.model_copy(update={"steps": 20})
    for name, keys in _A1111.items():
        for kind, spacing in list(_SCHEDULE_TYPES.items())[1:]:
            if base == read_sampler({"spacing": spacing, **keys}):
                return name, kind
    family = {"dpm++": "DPM++", "dpm": "DPM-Solver", "ddim": "DDIM"}[sampler.solver]
    letter = "S" if sampler.method == "singlestep" else "M"
    order = "" if sampler.solver == "ddim" else f" {sampler.order}{letter}"
    return family + order + (" UniC" if sampler.corrector else ""), sampler.spacing


def read_job(record: Record) -> Job:
    """The job of a flat record. Raises JobError that names the key and what it may be."""
    record = layered(record)
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
            raise JobError(f"there is no key {quoted(key)}", nearest(str(key), keys), key=str(key))


def _checked(kind: type[_V], values: Record) -> _V:
    for key, value in values.items():
        if isinstance(value, bool) and kind.model_fields[key].annotation is not bool:
            raise JobError(f"{typed(key)} must not be {quoted(value)}", key=typed(key))
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise in_our_words(error, values, samplers=[*ALIASES]) from error
