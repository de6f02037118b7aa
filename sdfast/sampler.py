"""A sampler: which solver walks from noise to image, and how.

Plain values, checked once. Each solver takes some of the keys; the table of them stands here, so a
key that a solver would not use is refused by name instead of being ignored.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import pairwise
from typing import Annotated, Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Value(BaseModel):
    """A frozen record that knows its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def replace(self, **values: Any) -> Self:
        """The record with other values, checked as a new one. Raises pydantic's ValidationError."""
        drawn = {key for key, field in type(self).model_fields.items() if field.default_factory}
        given = {key: getattr(self, key) for key in self.model_fields_set | drawn}
        return type(self)(**given | values)


Spacing = Literal[
    "uniform",
    "normal",
    "rho",
    "beta",
    "logsnr",
    "karras",
    "exponential",
    "ays",
    "linspace",
    "leading",
    "trailing",
    "simple",
    "lcm",
]
Solver = Literal[
    "dpm++", "dpm", "sde-dpm++", "ddim", "ddpm", "pndm", "euler", "heun", "lms", "rk45", "lcm"
]
Method = Literal["multistep", "singlestep", "midpoint", "fast", "adaptive"]

_ALL = frozenset({"method", "order", "corrector", "weights", "corrections", "tolerance", "eta"})
TAKES: dict[Solver, frozenset[str]] = {
    "dpm++": _ALL | {"thresholding"},
    "dpm": _ALL,
    "sde-dpm++": frozenset({"method", "order", "weights", "eta", "thresholding"}),
    "ddim": frozenset({"eta"}),
    "ddpm": frozenset(),
    "pndm": frozenset(),
    "euler": frozenset(),
    "heun": frozenset(),
    "lms": frozenset(),
    "rk45": frozenset(),
    "lcm": frozenset(),
}
"""Which of the keys that not every solver takes each of them takes."""


_SOME = tuple(dict.fromkeys(key for keys in TAKES.values() for key in sorted(keys)))


def idle(solver: object) -> frozenset[str]:
    """The keys that a solver has no use for; none of what is no solver."""
    return frozenset(_SOME) - TAKES[solver] if solver in TAKES else frozenset()


_MULTISTEP_ONLY = {
    "corrector": "a corrector needs",
    "corrections": "corrections need",
}

FROM_PAST = 5
"""A correction weighs the anchor and at most so many estimates."""

Times = tuple[Annotated[float, Field(ge=0)], ...]
MOST_CORRECTION = 10.0
"""How far a correction may be from 0."""

SHAPES: dict[str, tuple[Spacing, ...]] = {
    "rho": ("rho", "karras"),
    "alpha": ("beta",),
    "beta": ("beta",),
}
"""The keys that shape a spacing, and the spacings that they shape."""

Weight = Annotated[float, Field(ge=-MOST_CORRECTION, le=MOST_CORRECTION)]
Row = Annotated[tuple[Weight, ...], Field(min_length=2, max_length=FROM_PAST + 1)]


class Sampler(Value):
    """How to walk from noise to image. Equal samplers walk alike.

    `sdfast presets schema` says what each key is, as the source does below it.
    """

    solver: Solver = "dpm++"
    """`dpm++` integrates the image, `dpm` the noise; `sde-dpm++` puts noise back on the way. `ddim`
    is the first order of them all without that noise, `ddpm` with it; `pndm` mixes the noise of up
    to four of `ddim`'s steps; `euler`, `heun`, `lms` and `rk45` take the walk for any differential
    equation, the first three in sigma / alpha, the last in time. `lcm` is for consistency models:
    all the way to the image in each step, and back with new noise."""
    method: Method = "multistep"
    """`multistep` looks behind; `singlestep` looks ahead, in strides of `order` calls with the rest
    in front; `fast` has the rest behind (DPM-Solver-fast); `adaptive` chooses its own steps.
    Where a stride is long its order falls, unless `weights` is `reference`. `midpoint` asks once
    more in each step, half-way in log-SNR, whatever its length."""
    order: Annotated[int, Field(ge=1, le=3)] = 2
    """How many estimates a step of the solver mixes, and the power of its step that its error falls
    with; adaptive walks compare it with the order below (12 or 23)."""
    steps: Annotated[int, Field(ge=1, le=1000)] = 20
    """Network calls, but for `heun` and the method `midpoint`, which take two a step, `pndm`, which
    takes one more, and adaptive walks, which decide."""
    spacing: Spacing = "uniform"
    """Where the times lie between noise and image. Evenly: `uniform` in time, `normal` the same
    with the cleanest node among them, `logsnr` and `exponential` in log-SNR. By a power: `rho` in
    time, `karras` in sigma. `beta`: at quantiles of a beta distribution (arXiv 2407.12173). `ays`:
    Align Your Steps (arXiv 2404.14507). Of whole training steps, as other programs count them:
    `linspace`, `leading`, `trailing` (diffusers), `simple` (the web UIs), `lcm` (consistency
    models)."""
    rho: Annotated[float, Field(ge=0.5, le=20)] | None = None
    """The power of the spacings `rho` (2 unless given) and `karras` (7); others have none."""
    alpha: Annotated[float, Field(ge=0.1, le=10)] | None = None
    """Of the spacing `beta` (0.6 unless given): the less, the shorter are the last steps."""
    beta: Annotated[float, Field(ge=0.1, le=10)] | None = None
    """Of the spacing `beta` (0.6 unless given): the less, the shorter are the first steps."""
    corrector: bool = False
    """Take each step again once the next call is known (UniPC); multistep only."""
    final: Literal["zero", "sigma_min"] = "zero"
    """Where the walk ends: no noise at all, or the least noise the network was trained on."""
    eta: Annotated[float, Field(ge=0, le=2)] | None = None
    """How much noise a step puts back, as a share of what DDPM does; 1 for `sde-dpm++` unless
    given, 0 for `ddim`, and for `dpm` and `dpm++`, which take it with the method `midpoint` only,
    and up to 1."""
    thresholding: Annotated[float, Field(ge=0.5, le=1)] | None = None
    """Dynamic thresholding (arXiv 2205.11487): clip the image to this quantile of its values, or to
    1 if that is more, and scale by it. For networks that paint pixels."""
    tolerance: Annotated[float, Field(ge=1e-6, le=1)] | None = None
    """Relative error that an adaptive step may make (0.05 unless given)."""
    weights: Literal["exact", "reference", "heun"] = "exact"
    """`reference` weighs and lowers a multistep walk as the authors' code and diffusers do, one of
    the SDE as k-diffusion, and keeps the order of the other methods' strides whole. `heun` is the
    same for a multistep walk, but for the second order's weights: those of diffusers' and
    k-diffusion's solver type `heun`."""
    timesteps: Annotated[Times, Field(min_length=1, max_length=1000)] | None = None
    """Explicit times to ask at, noisiest first; fractions are allowed. Overrides `spacing`."""
    corrections: Annotated[tuple[Row, ...], Field(min_length=1, max_length=1000)] | None = None
    """What to add to each step's theoretical weights: of the anchor, then of the newest estimates,
    oldest first. Fitted to one model by `sdfast tune`; multistep only."""

    @model_validator(mode="before")
    @classmethod
    def _follow(cls, given: Any) -> Any:
        """What one key says about another that is not given."""
        if not isinstance(given, Mapping):
            return given
        values = dict(cast("Mapping[str, Any]", given))
        times: object = values.get("timesteps")
        if not isinstance(times, str):
            with suppress(TypeError):  # what has no length is no list of times
                values.setdefault("steps", len(cast("list[Any]", times)))
        solver: object = values.get("solver")
        if isinstance(solver, str) and solver in TAKES and "order" not in TAKES[solver]:
            values.setdefault("order", 1)
        if solver == "rk45":
            values.setdefault("final", "sigma_min")
        return values

    def replace(self, **values: Any) -> Self:
        """The sampler with other values, as flags change a preset.

        What was meant for the walk that they change is dropped: another spacing has a shape of its
        own, weights that were fitted to a walk are for that walk alone. Raises pydantic's
        ValidationError.
        """
        given = {k: v for k, v in values.items() if v is not None}
        changed = {k for k, v in given.items() if v != getattr(self, k, None)}
        if self.timesteps and "spacing" in given:  # which they stand above
            changed.add("spacing")
        kept = self.model_fields_set - voided(given, changed, self.solver)
        return type(self)(**{key: getattr(self, key) for key in kept} | values)

    @property
    def calls(self) -> int | None:
        """Network calls from noise to image; None where the walk decides on its way."""
        if self.solver == "pndm":
            return self.steps + (self.steps > 1)
        if self.twice:
            return 2 * self.steps - (self.final == "zero")
        return None if self.method == "adaptive" else self.steps

    @property
    def twice(self) -> bool:
        """Whether each step asks twice, but for one to no noise at all."""
        return self.solver == "heun" or self.method == "midpoint"

    @property
    def noisy(self) -> float:
        """How much noise each step puts back."""
        given = {"sde-dpm++": 1.0, "ddpm": 1.0, "lcm": 1.0}.get(self.solver, 0.0)
        return given if self.eta is None else self.eta

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self._takes_its_keys()
        self._fits_its_method()
        self._fits_its_times()
        return self

    def _takes_its_keys(self) -> None:
        untouched = _BARE | ({} if "order" in TAKES[self.solver] else {"order": 1})
        for key in _SOME:
            if key not in TAKES[self.solver] and getattr(self, key) != untouched[key]:
                other = "; `ddim` does" if (self.solver, key) == ("ddpm", "eta") else ""
                raise ValueError(f"{self.solver} takes no {key}{other}")
        if self.solver == "rk45" and self.final != "sigma_min":
            raise ValueError("rk45 must end at `sigma_min`; no slope is known where no noise is")
        if self.solver == "rk45" and (self.spacing != "uniform" or self.timesteps is not None):
            raise ValueError("rk45 takes neither a spacing nor timesteps")

    def _fits_its_method(self) -> None:
        if self.weights == "heun" and self.method != "multistep":
            raise ValueError("weights `heun` need the method multistep")
        for key, needs in _MULTISTEP_ONLY.items():
            if getattr(self, key) != _BARE[key] and self.method != "multistep":
                raise ValueError(f"{needs} the method multistep")
        if self.solver == "sde-dpm++" and self.method not in ("multistep", "midpoint"):
            raise ValueError(f"sde-dpm++ walks multistep or midpoint, not {self.method}")
        if self.method in ("adaptive", "midpoint") and self.weights != "exact":
            raise ValueError(f"the method {self.method} takes no `reference` weights")
        if self.method == "midpoint" and self.order != 2:
            raise ValueError("the method midpoint is of order 2; multistep takes 1 to 3")
        if self.solver in ("dpm++", "dpm") and self.eta is not None:
            if self.method != "midpoint":
                raise ValueError(f"{self.solver} takes an eta with the method midpoint only")
            if self.eta > 1:
                raise ValueError(f"{self.solver} takes an eta of at most 1")
        if self.method == "adaptive" and self.order == 1:
            raise ValueError("an adaptive walk must be of order 2 or 3")
        if self.method == "adaptive" and (self.timesteps or self.spacing != "uniform"):
            raise ValueError("an adaptive walk takes neither a spacing nor timesteps")
        if self.tolerance is not None and self.method != "adaptive":
            raise ValueError("a tolerance needs the method adaptive")
        if self.corrections is not None and (self.corrector or self.weights != "exact"):
            raise ValueError("corrections go with neither a corrector nor `weights`")

    def _fits_its_times(self) -> None:
        for key, spacings in SHAPES.items():
            if getattr(self, key) is None:
                continue
            if self.timesteps is not None:
                raise ValueError(f"{key} needs a spacing, and explicit timesteps have none")
            if self.spacing not in spacings:
                needed = " or ".join(f"`{spacing}`" for spacing in spacings)
                raise ValueError(f"{key} needs the spacing {needed}, not `{self.spacing}`")
        for key, rows in (("timesteps", self.timesteps), ("corrections", self.corrections)):
            if rows is not None and len(rows) != self.steps:
                raise ValueError(f"there are {len(rows)} {key}, but steps is {self.steps}")
        times = self.timesteps or ()
        if any(a <= b for a, b in pairwise(times)):
            raise ValueError("timesteps must fall from one to the next")
        for i, row in enumerate(self.corrections or ()):
            if len(row) > i + 2:
                raise ValueError(f"the corrections of step {i + 1} weigh more than it knows")


_BARE = {key: Sampler.model_fields[key].default for key in _SOME}

SAMPLER_KEYS = tuple("sampler" if k == "solver" else k for k in Sampler.model_fields)
"""The keys of a record that are a sampler's."""

_STARTS_AFRESH: dict[str, tuple[str, ...]] = {
    "solver": tuple(k for k in Sampler.model_fields if k not in ("solver", "steps")),
    "method": ("corrector", "weights", "corrections", "tolerance"),
    "order": ("corrections",),
    "corrector": ("corrections",),
    "weights": ("corrections",),
    "corrections": ("corrector", "weights"),
    "spacing": (*SHAPES, "timesteps", "corrections"),
    "steps": ("timesteps", "corrections"),
    "timesteps": ("steps", "spacing", *SHAPES, "corrections"),
    "final": ("corrections",),
}
"""A key that is given another value makes these void, which were meant for another walk."""


def voided(given: Mapping[str, Any], changed: Iterable[str], solver: object) -> set[str]:
    """The keys that values which are given make void in a walk of this solver.

    changed   those that it has otherwise: to say again what is in force drops nothing, so fitted
              steps and weights stay
    """
    changed = {*changed}
    stale = {key for name in changed for key in _STARTS_AFRESH.get(name, ())}
    if given.get("method") == "adaptive":  # it chooses its own steps
        stale |= {"spacing", *SHAPES, "timesteps"}
    if "method" in changed:
        if given["method"] == "midpoint":  # it has an order of its own
            stale.add("order")
        if solver != "sde-dpm++":  # the others' eta is for one method
            stale.add("eta")
    return stale


DEFAULT = Sampler(spacing="beta", alpha=0.48, beta=0.9, corrector=True, final="sigma_min")
"""What a job is painted with that asks for nothing else: the preset `default`."""
