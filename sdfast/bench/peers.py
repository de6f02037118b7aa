"""diffusers' own schedulers, walked as its pipelines walk them.

Each starts at its own first timestep, from the same unit noise at that timestep's noise level, and
is held against the exact end of its own kind.
"""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Tensor

from sdfast.bench.accuracy import End, Posed, Row, Walk
from sdfast.models.libraries import quiet
from sdfast.solver.predict import Network
from sdfast.solver.schedule import NoiseSchedule


class Peer(NamedTuple):
    """A scheduler, where its walk ends and what it is set to."""

    scheduler: str
    end: End = "zero"
    settings: Mapping[str, Any] = MappingProxyType({})
    scale: Literal["x", "z"] = "x"
    """What it walks in: x = alpha z, or z under noise of sigma / alpha."""


_MULTI, _SINGLE, _UNIPC = (
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
)
_DEIS, _DDIM, _PNDM = "DEISMultistepScheduler", "DDIMScheduler", "PNDMScheduler"
_MIN: dict[str, Any] = {"final_sigmas_type": "sigma_min"}
_NOISE: dict[str, Any] = {"algorithm_type": "dpmsolver", **_MIN}
_SHIPPED: dict[str, Any] = {"timestep_spacing": "leading", "steps_offset": 1}
"""As Stable Diffusion 1.5's own scheduler_config.json has it."""


def _no_noise(t: float) -> float:
    """How much noise SA-Solver puts back: none, so that it walks the ODE."""
    del t
    return 0.0


def _spaced(how: str) -> dict[str, Any]:
    return {f"use_{how}": True}


PEERS: dict[str, Peer] = {
    "DPM++2M": Peer(_MULTI),
    "DPM++2M karras": Peer(_MULTI, "zero", _spaced("karras_sigmas")),
    "DPM++2M lu_lambdas": Peer(_MULTI, "zero", _spaced("lu_lambdas")),
    "DPM++2M exponential": Peer(_MULTI, "zero", _spaced("exponential_sigmas")),
    "DPM++2M beta": Peer(_MULTI, "zero", _spaced("beta_sigmas")),
    "DPM++2M sigma_min": Peer(_MULTI, "sigma_min", _MIN),
    "DPM++2M karras sigma_min": Peer(_MULTI, "sigma_min", _MIN | _spaced("karras_sigmas")),
    "DPM++2M lu_lambdas sigma_min": Peer(_MULTI, "sigma_min", _MIN | _spaced("lu_lambdas")),
    "DPM++2M trailing": Peer(_MULTI, "zero", {"timestep_spacing": "trailing"}),
    "DPM++2M leading": Peer(_MULTI, "zero", _SHIPPED),
    "DPM++2M heun": Peer(_MULTI, "zero", {"solver_type": "heun"}),
    "DPM++2M heun sigma_min": Peer(_MULTI, "sigma_min", {"solver_type": "heun"} | _MIN),
    "DPM++3M": Peer(_MULTI, "zero", {"solver_order": 3}),
    "DPM++3M karras": Peer(_MULTI, "zero", {"solver_order": 3} | _spaced("karras_sigmas")),
    "DPM++3M lu_lambdas": Peer(_MULTI, "zero", {"solver_order": 3} | _spaced("lu_lambdas")),
    "DPM++3M sigma_min": Peer(_MULTI, "sigma_min", {"solver_order": 3} | _MIN),
    "DPM++1": Peer(_MULTI, "zero", {"solver_order": 1}),
    "DPM2M": Peer(_MULTI, "sigma_min", _NOISE),
    "DPM3M": Peer(_MULTI, "sigma_min", {"solver_order": 3} | _NOISE),
    "DPM2M karras": Peer(_MULTI, "sigma_min", _NOISE | _spaced("karras_sigmas")),
    "DPM++2S": Peer(_SINGLE),
    "DPM++3S": Peer(_SINGLE, "zero", {"solver_order": 3}),
    "DPM++2S karras": Peer(_SINGLE, "zero", _spaced("karras_sigmas")),
    "DPM++3S karras": Peer(_SINGLE, "zero", {"solver_order": 3} | _spaced("karras_sigmas")),
    "DPM2S": Peer(_SINGLE, "sigma_min", _NOISE),
    "DPM3S": Peer(_SINGLE, "sigma_min", {"solver_order": 3} | _NOISE),
    "UniPC2": Peer(_UNIPC),
    "UniPC2 karras": Peer(_UNIPC, "zero", _spaced("karras_sigmas")),
    "UniPC2 exponential": Peer(_UNIPC, "zero", _spaced("exponential_sigmas")),
    "UniPC2 sigma_min": Peer(_UNIPC, "sigma_min", _MIN),
    "UniPC2 karras sigma_min": Peer(_UNIPC, "sigma_min", _MIN | _spaced("karras_sigmas")),
    "UniPC2 bh1": Peer(_UNIPC, "zero", {"solver_type": "bh1"}),
    "UniPC2 bh1 sigma_min": Peer(_UNIPC, "sigma_min", {"solver_type": "bh1"} | _MIN),
    "UniPC3": Peer(_UNIPC, "zero", {"solver_order": 3}),
    "UniPC3 karras": Peer(_UNIPC, "zero", {"solver_order": 3} | _spaced("karras_sigmas")),
    "UniPC3 sigma_min": Peer(_UNIPC, "sigma_min", {"solver_order": 3} | _MIN),
    "DEIS2": Peer(_DEIS, "sigma_min"),
    "DEIS3": Peer(_DEIS, "sigma_min", {"solver_order": 3}),
    "DEIS2 karras": Peer(_DEIS, "sigma_min", _spaced("karras_sigmas")),
    "DEIS3 karras": Peer(_DEIS, "sigma_min", {"solver_order": 3} | _spaced("karras_sigmas")),
    "SA": Peer("SASolverScheduler", "zero", {"tau_func": _no_noise}),
    "PNDM shipped": Peer(_PNDM, "sigma_min", {"skip_prk_steps": True} | _SHIPPED),
    "PNDM trailing": Peer(
        _PNDM, "sigma_min", {"skip_prk_steps": True, "timestep_spacing": "trailing"}
    ),
    "DDIM shipped": Peer(
        _DDIM, "sigma_min", {"clip_sample": False, "set_alpha_to_one": False} | _SHIPPED
    ),
    "DDIM trailing": Peer(_DDIM, "zero", {"clip_sample": False, "timestep_spacing": "trailing"}),
    "Euler": Peer("EulerDiscreteScheduler", scale="z"),
    "Euler karras": Peer("EulerDiscreteScheduler", "zero", _spaced("karras_sigmas"), "z"),
    "Heun": Peer("HeunDiscreteScheduler", scale="z"),
    "Heun karras": Peer("HeunDiscreteScheduler", "zero", _spaced("karras_sigmas"), "z"),
    "LMS": Peer("LMSDiscreteScheduler", scale="z"),
    "LMS karras": Peer("LMSDiscreteScheduler", "zero", _spaced("karras_sigmas"), "z"),
    "KDPM2": Peer("KDPM2DiscreteScheduler", scale="z"),
    "KDPM2 karras": Peer("KDPM2DiscreteScheduler", "zero", _spaced("karras_sigmas"), "z"),
}


def peers() -> list[Row]:
    """Every scheduler as a row."""
    return [Row(name, "diffusers", peer.end, partial(_walk, peer)) for name, peer in PEERS.items()]


@quiet()
def scheduler(peer: Peer, schedule: NoiseSchedule, prediction: str = "epsilon") -> Any:
    """diffusers' scheduler of a peer, on this noise schedule. Raises what diffusers raises."""
    import diffusers

    if schedule.steps is None:
        raise ValueError("diffusers' schedulers know discrete time only")
    signal = np.exp([2 * schedule.log_alpha(t) for t in range(schedule.steps)])
    betas = 1 - signal / np.concatenate([[1.0], signal[:-1]])
    return getattr(diffusers, peer.scheduler)(
        num_train_timesteps=schedule.steps,
        trained_betas=betas,
        prediction_type=prediction,
        **peer.settings,
    )


@quiet()
def _walk(peer: Peer, calls: int, posed: Posed) -> Walk | None:
    """The walk of the most steps that ask at no more timesteps."""
    for steps in range(calls, 0, -1):
        one = scheduler(peer, posed.schedule, posed.prediction)
        one.set_timesteps(steps)
        if len(one.timesteps) <= calls:
            return partial(_ended, one, peer, posed.schedule.end.alpha)
    return None


@quiet()
def _ended(walker: Any, peer: Peer, alpha: float, network: Network, noise: Tensor) -> Tensor:
    """Where the scheduler leads the noise, asked as a pipeline asks."""
    of_z = peer.scale == "z"
    x = noise * (float(walker.sigmas[0]) ** 2 + 1) ** 0.5 if of_z else noise
    for t in walker.timesteps:
        asked = walker.scale_model_input(x, t)
        said = network(asked.to(noise.dtype), float(t))
        x = walker.step(said, t, x, return_dict=False)[0].to(noise.dtype)
    return x if of_z or peer.end == "zero" else x / alpha
