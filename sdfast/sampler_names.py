"""Samplers by the names that other programs give them."""

from typing import Any, get_args

from sdfast.sampler import Solver

Record = dict[str, Any]
"""A job or a part of one as flat keys and plain values."""

_2M: Record = {"sampler": "dpm++", "order": 2, "weights": "reference"}
_SDE: Record = {"sampler": "sde-dpm++", "weights": "reference"}
_SCHEDULES = {
    "Karras": "karras",
    "Exponential": "exponential",
    "SGM Uniform": "uniform",
    "Uniform": "normal",
    "Simple": "simple",
}


def a1111_name(name: str, schedule: str) -> str:
    """The web UI's name and schedule type as one; `Automatic` goes without saying."""
    return name if schedule == "Automatic" else f"{name} {schedule}"


def _scheduled(name: str, keys: Record, automatic: str) -> dict[tuple[str, str], Record]:
    """A sampler with each of the web UI's schedule types, and the one it is given unasked."""
    kinds = {**_SCHEDULES, "Automatic": automatic}
    return {(name, kind): {**keys, "spacing": ours} for kind, ours in kinds.items()}


A1111: dict[tuple[str, str], Record] = {
    **_scheduled("DPM++ 2M", _2M, "karras"),
    **_scheduled("Euler", {"sampler": "euler"}, "normal"),
    **_scheduled("Heun", {"sampler": "heun"}, "normal"),
    **_scheduled("LMS", {"sampler": "lms"}, "normal"),
}
"""AUTOMATIC1111's samplers that walk here as there, by the web UI's name and schedule type."""

NOISY: dict[tuple[str, str], Record] = {
    **_scheduled("Euler a", {"sampler": "ddpm"}, "normal"),
    **_scheduled("DPM++ 2S a", {"sampler": "dpm++", "method": "midpoint", "eta": 1.0}, "karras"),
    **_scheduled("DPM++ SDE", {"sampler": "sde-dpm++", "method": "midpoint"}, "karras"),
    **_scheduled("DPM++ 2M SDE", {**_SDE, "order": 2}, "exponential"),
}
"""Those that walk here as there but for the noise that they draw. `Euler a` is DDPM in other words:
k-diffusion's sigma_up is the noise that DDPM draws; ours is another stream of it. Half-way in a
step of `DPM++ SDE`, too: there one draw is part of the other, here they are drawn apart."""

DRAWS = (*dict.fromkeys(name for name, _ in NOISY), "LCM")
"""The samplers of any program that do so."""

_ELSEWHERE = {
    **_scheduled("DPM2", {"sampler": "dpm", "method": "midpoint"}, "karras"),
    **_scheduled("DPM2 a", {"sampler": "dpm", "method": "midpoint", "eta": 1.0}, "karras"),
    **_scheduled("DPM++ 3M SDE", {**_SDE, "order": 3}, "exponential"),
    **_scheduled("LCM", {"sampler": "lcm"}, "lcm"),
}
_FIELD: dict[str, Record] = {
    "UniPC": {"sampler": "dpm++", "order": 2, "spacing": "uniform", "corrector": True},
    "DDIM": {"sampler": "ddim", "spacing": "leading", "final": "sigma_min"},
    "DDPM": {"sampler": "ddpm", "spacing": "trailing"},
    "PLMS": {"sampler": "pndm", "spacing": "leading", "final": "sigma_min"},
    "PNDM": {"sampler": "pndm", "spacing": "leading", "final": "sigma_min"},
    "RK45": {"sampler": "rk45"},
    **{a1111_name(*said): keys for said, keys in _ELSEWHERE.items()},
    **{
        f"{name} Beta": {**keys, "spacing": "beta"}
        for (name, kind), keys in (A1111 | NOISY | _ELSEWHERE).items()
        if kind == "Automatic"
    },
    "DPM fast": {
        "sampler": "dpm",
        "method": "fast",
        "order": 3,
        "weights": "reference",
        "spacing": "logsnr",
        "final": "sigma_min",
    },
    "DPM adaptive": {"sampler": "dpm", "method": "adaptive", "order": 3, "final": "sigma_min"},
}
"""Names the field knows, walked as their authors do; the web UI walks otherwise by the same names:
its UniPC is of order 3, its DDIM leaves out the last call, its DPM2, DPM2 a and 3M SDE the last but
one of their times. In `DPM fast` all calls go equally far in lam; its authors let all strides do
so, however many calls they have. `Beta` is ComfyUI's, in time; the web UI has one in sigma."""


ALIASES: dict[str, Record] = {
    a1111_name(*said): keys for said, keys in (A1111 | NOISY).items()
} | _FIELD
"""Samplers by the names other programs give them."""


COMFY = {
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_2s_ancestral": "DPM++ 2S a",
    "dpmpp_sde": "DPM++ SDE",
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "heun": "Heun",
    "lcm": "LCM",
    "lms": "LMS",
}
"""ComfyUI's samplers, named as in k-diffusion, that walk here as there."""

COMFY_SCHEDULES = {
    "normal": "Uniform",
    "karras": "Karras",
    "exponential": "Exponential",
    "sgm_uniform": "SGM Uniform",
    "simple": "Simple",
    "beta": "Beta",
}

_OTHERS = {
    "dpm_2": "DPM2",
    "dpm_2_ancestral": "DPM2 a",
    "dpm_adaptive": "DPM adaptive",
    "dpm_fast": "DPM fast",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "plms": "PLMS",
    "uni_pc": "UniPC",
}
"""Further names of the kind."""


def every_name() -> dict[str, Record]:
    """All names of other programs, as they write them, and what they stand for."""
    known = dict(ALIASES)
    for name, ours in (COMFY | _OTHERS).items():
        if name not in get_args(Solver):
            known[name] = ALIASES[ours]
        for kind, there in COMFY_SCHEDULES.items():
            if f"{ours} {there}" in ALIASES:
                known[f"{name}_{kind}"] = ALIASES[f"{ours} {there}"]
    return known


def listed() -> list[tuple[str, str, Record]]:
    """The names without a schedule, the web UI's and ComfyUI's, and what they stand for.

    A star follows those that may have one.
    """
    comfys = {ours: name for name, ours in (COMFY | _OTHERS).items()}
    starred = {name: "*" if f"{name} Karras" in ALIASES else "" for name in ALIASES}
    kinds = tuple(f" {kind}" for kind in COMFY_SCHEDULES.values())
    return [
        (name + starred[name], comfys.get(name, ""), keys)
        for name, keys in sorted(ALIASES.items())
        if not name.endswith(kinds)
    ]


def keys_of(sampler: str) -> Record:
    """The keys that a sampler's name stands for; `ddim` is the bare solver, `DDIM` all of it."""
    if sampler in get_args(Solver):
        return {"sampler": sampler}
    known = {name.lower(): keys for name, keys in every_name().items()}
    return known.get(" ".join(sampler.lower().split()), {"sampler": sampler})
