"""sdfast's walks in other people's pipelines: a scheduler as diffusers has them.

    from sdfast.interop import SdfastScheduler

    pipe.scheduler = SdfastScheduler.from_config(pipe.scheduler.config, preset="fast")
    image = pipe("a cat", num_inference_steps=10).images[0]

A pipeline asks the network itself and hands on what it said. So the walk of `solver.walk` stands
here turned inside out: the same plan, one call's rows at a time, and between two calls a `_Walk`
that remembers. Of sdfast only `bench` imports this module, to walk with diffusers as it walks here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any, cast

import torch
from diffusers.configuration_utils import (
    ConfigMixin,
    register_to_config,  # pyright: ignore[reportUnknownVariableType]
)
from diffusers.schedulers.scheduling_utils import (
    KarrasDiffusionSchedulers,
    SchedulerMixin,
    SchedulerOutput,
)
from torch import Tensor

from sdfast.job import read_sampler, sampler_record
from sdfast.layering import layered
from sdfast.presets import Preset, load_preset
from sdfast.sampler import Sampler
from sdfast.solver import NoiseSchedule, Prediction
from sdfast.solver.draw import Draw, Generators, drawn_alone
from sdfast.solver.plans import ancestral
from sdfast.solver.predict import read, thresholded
from sdfast.solver.schedule import Node, has_betas
from sdfast.solver.spacing import grid
from sdfast.solver.step import mixture
from sdfast.solver.table import HERE, Plan, Row, Standing, follow
from sdfast.solver.walk import plan, target_of


@dataclass(frozen=True, slots=True)
class _Walk:
    """A walk under way, as it stands between two network calls."""

    calls: tuple[Plan, ...]
    """The rows that each call still to come serves."""
    anchor: Tensor
    draw: Draw
    drawn: Tensor
    """What was drawn last."""
    past: tuple[Tensor, ...] = ()
    lost: Tensor | None = None
    """What rounding to the pipeline's precision took away from where the walk stands."""


class SdfastScheduler(SchedulerMixin, ConfigMixin):
    """A sampler of sdfast as a scheduler of diffusers.

    num_train_timesteps to rescale_betas_zero_snr
                the network's, as in any scheduler's config
    preset      a preset, its name or the path of one; only its sampler counts
    sampler     a Sampler; or a sampler's name, such as `DPM++ 2M Karras`, or a record of sampler
                keys, on top of the preset

    Raises PresetError for an unknown preset, JobError for a record that is none, and ValueError for
    betas or a prediction that sdfast does not know and for adaptive samplers: a pipeline has to
    know beforehand how often it is to ask.
    """

    _compatibles = [e.name for e in KarrasDiffusionSchedulers]  # noqa: RUF012  (as diffusers reads it)
    order: int = 1
    """Entries of `timesteps` for a step, by which pipelines count them: 2 where it asks twice."""

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: Any = None,
        prediction_type: str = "epsilon",
        rescale_betas_zero_snr: bool = False,
        preset: Preset | str = "default",
        sampler: Sampler | dict[str, Any] | str | None = None,
    ) -> None:
        self._betas: dict[str, Any] = {
            "num_train_timesteps": num_train_timesteps,
            "beta_start": beta_start,
            "beta_end": beta_end,
            "beta_schedule": beta_schedule,
            "trained_betas": trained_betas,
            "rescale_betas_zero_snr": rescale_betas_zero_snr,
        }
        self._prediction = Prediction(prediction_type)
        beneath = preset if isinstance(preset, Preset) else load_preset(preset)
        given = {"sampler": sampler} if isinstance(sampler, str) else sampler or {}
        given = sampler_record(given) if isinstance(given, Sampler) else given
        self._record = layered(sampler_record(beneath.sampler), given)
        if isinstance(preset, Preset) or isinstance(sampler, Sampler):  # a config is plain values
            own, told = cast("Any", self), {"preset": "default", "sampler": self._record}
            unsaid = [key for key in own.config.get("_use_default_values", ()) if key not in told]
            own.register_to_config(**told, _use_default_values=unsaid)
        self._sampler = read_sampler(self._record)
        if self._sampler.method == "adaptive":
            raise ValueError("an adaptive sampler is no scheduler: its steps are not known before")

        self._schedule = schedule = NoiseSchedule.from_config(self._betas)
        times = range(int(schedule.first) + 1)
        self._log_alpha = torch.tensor([schedule.log_alpha(t) for t in times], dtype=torch.float64)
        self.alphas_cumprod = (2 * self._log_alpha).exp().float()
        steps = torch.diff(self._log_alpha, prepend=torch.zeros(1, dtype=torch.float64))
        self.betas = (-torch.expm1(2 * steps)).float()
        self.init_noise_sigma = 1.0
        self.order = 1 + self._sampler.twice
        self.num_inference_steps: int | None = None
        self.timesteps = torch.arange(len(times) - 1, -1, -1, dtype=torch.float32)
        self._asked = self.timesteps
        self._plan: Plan = ()
        self._begin_index: int | None = None
        self._step_index: int | None = None
        self._walk: _Walk | None = None

    @classmethod
    def from_config(cls, config: Any = None, return_unused_kwargs: bool = False, **how: Any) -> Any:
        """As diffusers' own; a preset that is asked for takes the place of a config's sampler.

        Raises ValueError for the config of a scheduler that has no betas, as of flows.
        """
        if isinstance(config, Mapping):
            said = {**cast("Mapping[str, Any]", config), **how}
            if not has_betas(said):
                raise ValueError("this scheduler's config has no betas: sdfast cannot walk for it")
            NoiseSchedule.from_config(said)
        if "preset" in how:
            how.setdefault("sampler", None)
        made: Any = super()
        return made.from_config(config, return_unused_kwargs, **how)

    @property
    def begin_index(self) -> int | None:
        """The call that a walk begins with, if a pipeline has said so."""
        return self._begin_index

    @property
    def step_index(self) -> int | None:
        """The call that comes next, once a walk has begun."""
        return self._step_index

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin with this entry of `timesteps`, as image-to-image does."""
        self._begin_index = begin_index

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: Sequence[float] | None = None,
    ) -> None:
        """Plan a walk of so many steps, or through these times; without either, of the preset's.

        `timesteps` then holds when to ask, one entry a network call, fractions included. Times and
        corrections that a preset has for its own number of steps are left out at another.
        """
        if num_inference_steps is not None and timesteps is not None:
            raise ValueError("either num_inference_steps or timesteps must be given, not both")
        self._sampler = self._walked_in(num_inference_steps, timesteps)
        self._plan = plan(self._sampler, self._schedule)
        self.num_inference_steps = self._sampler.steps
        # single precision is what UNets make of a time whichever way they are told it
        times = torch.tensor([row.node.t for row in self._plan], dtype=torch.float32)
        self.timesteps = self._asked = times.to(device)
        self._begin_index = self._step_index = self._walk = None

    def _walked_in(self, steps: int | None, times: Sequence[float] | None) -> Sampler:
        own = read_sampler(self._record)
        if times is not None:
            return read_sampler(layered(self._record, {"timesteps": [float(t) for t in times]}))
        if steps is None or steps == own.steps:
            return own
        return read_sampler(layered(self._record, {"steps": int(steps)}))

    def index_for_timestep(self, timestep: float | Tensor) -> int:
        """The call that asks nearest to this time; of two that ask at one, the later."""
        if isinstance(timestep, Tensor) and _storage(timestep) == _storage(self._asked):
            return int(timestep.storage_offset())  # known by its place, without asking the device
        t = float(timestep)
        return min(range(len(self._plan)), key=lambda i: (abs(self._plan[i].node.t - t), -i))

    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        generator: Generators = None,
        return_dict: bool = True,
    ) -> SchedulerOutput | tuple[Tensor]:
        """Where to ask next, given what the network said of `sample`; at last, the image.

        The first call finds by `timestep` where the walk begins, unless the pipeline has set a
        begin; the next ones follow it. A sampler that draws noise draws from the generator which
        the first call was given. Raises ValueError before `set_timesteps`, and where a walk cannot
        begin.
        """
        x = sample.to(torch.promote_types(sample.dtype, torch.float32))
        walk = self._walk or self._begun(timestep, x, generator)
        rows, *ahead = walk.calls
        if walk.lost is not None:
            x = x + walk.lost
        standing, seen, past = Standing(x, walk.anchor, walk.drawn), x, walk.past
        for row in rows:
            past = (*past, self._heard(model_output, seen, row.node))
            standing = follow(row, standing, past, walk.draw)
        x, anchor, drawn = standing
        there = x.to(sample.dtype)
        lost = None if there.dtype == x.dtype else x - there
        kept = past[max(0, len(past) - _reach(ahead)) :]
        self._walk = replace(
            walk, calls=tuple(ahead), anchor=anchor, drawn=drawn, past=kept, lost=lost
        )
        if not ahead:
            self._walk = None
        self._step_index = len(self._plan) - len(ahead)
        return SchedulerOutput(prev_sample=there) if return_dict else (there,)

    def _begun(self, timestep: float | Tensor, x: Tensor, generator: Generators) -> _Walk:
        if self.num_inference_steps is None:
            raise ValueError("set_timesteps must be called before step")
        begin = self._begin_index
        index = self.index_for_timestep(timestep) if begin is None else begin
        if not 0 <= index < len(self._plan):
            raise ValueError(f"a walk of {len(self._plan)} calls cannot begin with call {index}")
        noisy = self._sampler.noisy
        draw = drawn_alone(x, generator) if noisy else partial(torch.zeros_like, x)
        return _Walk(self._calls(index), x, draw, x)

    def _calls(self, index: int) -> tuple[Plan, ...]:
        """The rows that each call from this one on serves.

        In the middle the walk is planned anew from there on. Where the pipeline will ask once at a
        time that the new plan asks at twice (the first step of PNDM), its one answer serves both;
        where it will ask twice at the first time, the first answer serves none. Half-way in a step
        it serves a plain one to the step's end.
        """
        if not index:
            return tuple((row,) for row in self._plan)
        if self._sampler.method == "midpoint":
            begin = (index + 1) // 2
            left = begin < self._sampler.steps
            rows = plan(self._sampler, self._schedule, begin) if left else ()
            first = (self._from_half(index),) if index % 2 else ()
            return tuple((row,) for row in (*first, *rows))
        asked = [row.node for row in self._plan[index:]]
        if asked[0] in asked[1:2]:
            return (), *self._calls(index + 1)
        begin = len({row.node for row in self._plan[:index]} - {asked[0]})
        rows = plan(self._sampler, self._schedule, begin)
        if len(rows) == len(asked):
            return tuple((row,) for row in rows)
        return tuple(tuple(group) for _, group in groupby(rows, lambda row: row.node))

    def _from_half(self, index: int) -> Row:
        """A step of one estimate from half-way to where the whole step ends."""
        half = self._plan[index].node
        there = grid(self._schedule, self._sampler)[(index + 1) // 2]
        target, eta = target_of(self._sampler), self._sampler.noisy
        if self._sampler.solver == "sde-dpm++":
            return Row(half, HERE, mixture(half, [half], there, target, eta=eta))
        down, noise = ancestral(half, there, eta)
        return Row(half, HERE, mixture(half, [half], down, target)._replace(noise=noise))

    def _heard(self, output: Tensor, x: Tensor, node: Node) -> Tensor:
        """What the network said, as the sampler integrates it."""
        estimate = read(output.to(x.dtype), x, node, self._prediction, target_of(self._sampler))
        quantile = self._sampler.thresholding
        return estimate if quantile is None else thresholded(estimate, quantile)

    def scale_model_input(self, sample: Tensor, *_: Any, **__: Any) -> Tensor:
        """The sample as it is: the walk keeps to the scale that networks are trained in."""
        return sample

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The samples under as much noise as there is at these times, fractions included."""
        alpha, sigma = self._shares(timesteps, original_samples)
        return (alpha * original_samples + sigma * noise).to(original_samples.dtype)

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What a network that predicts velocity is trained to say."""
        alpha, sigma = self._shares(timesteps, sample)
        return (alpha * noise - sigma * sample).to(sample.dtype)

    def _shares(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma at each time, shaped to be multiplied with each picture."""
        ahead = like.is_cuda  # MPS may read a source late, when it is gone
        table = self._log_alpha.float().to(like.device, non_blocking=ahead)
        t = timesteps.to(like.device, torch.float32, non_blocking=ahead).clamp(0, len(self) - 1)
        below = t.long().clamp_max(len(self) - 2)
        log_alpha = torch.lerp(table[below], table[below + 1], t - below)
        log_alpha = log_alpha.view(-1, *(1 for _ in like.shape[1:]))
        return log_alpha.exp(), (-torch.expm1(2 * log_alpha)).sqrt()

    def __len__(self) -> int:
        return len(self._log_alpha)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _reach(calls: Sequence[Plan]) -> int:
    """How many estimates of the past the calls still to come may look back on."""
    mixtures = [m for rows in calls for row in rows for m in (row.settle, row.go) if m]
    return max((len(mixture.weights) for mixture in mixtures), default=0)
