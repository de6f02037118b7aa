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
    "Normal": "normal",
    "Simple": "simple",
    "Polyexponential": "exponential",
}
"""The web UI's schedule types. Two are others by another name: its `Normal` is ComfyUI's copy of
what k-diffusion does unasked, and its `Polyexponential` has the power 1."""


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
    **_scheduled("DPM++ 2M SDE Heun", {**_SDE, "order": 2, "weights": "heun"}, "exponential"),
}
"""Those that walk here as there but for the numbers they draw. `Euler a` is DDPM in other words:
k-diffusion's sigma_up is the noise that DDPM draws; ours is another stream of it."""

_OWN_TIMES = {
    **_scheduled("DPM2", {"sampler": "dpm", "method": "midpoint"}, "karras"),
    **_scheduled("DPM2 a", {"sampler": "dpm", "method": "midpoint", "eta": 1.0}, "karras"),
    **_scheduled("DPM++ 3M SDE", {**_SDE, "order": 3}, "exponential"),
    **_scheduled("LCM", {"sampler": "lcm"}, "lcm"),
    **_scheduled("UniPC", {"sampler": "dpm++", "order": 2, "corrector": True}, "uniform"),
}
"""As in k-diffusion or by their authors; the web UI leaves the last but one of their times out,
spaces them otherwise, or takes UniPC's order 3."""

_FIELD: dict[str, Record] = {
    "DDIM": {"sampler": "ddim", "spacing": "leading", "final": "sigma_min"},
    "DDPM": {"sampler": "ddpm", "spacing": "trailing"},
    "PLMS": {"sampler": "pndm", "spacing": "leading", "final": "sigma_min"},
    "PNDM": {"sampler": "pndm", "spacing": "leading", "final": "sigma_min"},
    "RK45": {"sampler": "rk45"},
    **{a1111_name(*said): keys for said, keys in _OWN_TIMES.items()},
    **{
        f"{name} Beta": {**keys, "spacing": "beta"}
        for (name, kind), keys in (A1111 | NOISY | _OWN_TIMES).items()
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
"""Names the field knows, walked as their authors do; the web UI's DDIM leaves out the last call. In
`DPM fast` all calls go equally far in lam; its authors let all strides do so, however many calls
they have. `Beta` is ComfyUI's, in time; the web UI has one in sigma."""


ALIASES: dict[str, Record] = {
    a1111_name(*said): keys for said, keys in (A1111 | NOISY).items()
} | _FIELD
"""Samplers by the names other programs give them."""


COMFY = {
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_2m_sde_heun": "DPM++ 2M SDE Heun",
    "dpmpp_2s_ancestral": "DPM++ 2S a",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "dpmpp_sde": "DPM++ SDE",
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "heun": "Heun",
    "lcm": "LCM",
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

_NAMED = COMFY | {
    "dpm_2": "DPM2",
    "dpm_2_ancestral": "DPM2 a",
    "dpm_adaptive": "DPM adaptive",
    "dpm_fast": "DPM fast",
    "lms": "LMS",
    "uni_pc": "UniPC",
}
"""And those that it walks otherwise: its DPM2 and UniPC leave a time out, its LMS takes no more
than the last estimate to no noise at all."""

_SDCPP = {"dpm++2m": "DPM++ 2M", "dpm++2s_a": "DPM++ 2S a", "euler_a": "Euler a"}
"""stable-diffusion.cpp's names that are no other program's."""


def _comfys() -> dict[str, Record]:
    """ComfyUI's names, alone and with a schedule, and others of the kind.

    A solver's name alone is the solver.
    """
    plain = _NAMED | _SDCPP
    bare = {name: ours for name, ours in plain.items() if name not in get_args(Solver)}
    scheduled = {
        f"{name}_{kind}": f"{ours} {there}"
        for name, ours in _NAMED.items()
        for kind, there in COMFY_SCHEDULES.items()
        if f"{ours} {there}" in ALIASES
    }
    return {name: ALIASES[ours] for name, ours in (bare | scheduled).items()}


SOLVERS: dict[str, Record] = {solver: {"sampler": solver} for solver in get_args(Solver)}

_OTHERS = ALIASES | _comfys()
NAMES = SOLVERS | _OTHERS
"""Every name that a sampler has, and what it stands for: `ddim` is the bare solver, `DDIM` all of
what is called so."""

_IN_SMALL_LETTERS = {name.lower(): name for name in _OTHERS}


def nearest_walk(name: str, schedule: str) -> str | None:
    """Our name for another program's sampler that walks otherwise there, or None."""
    forms = (form.lower() for form in (f"{name} {schedule}", f"{name}_{schedule}", name))
    return next((_IN_SMALL_LETTERS[form] for form in forms if form in _IN_SMALL_LETTERS), None)


def keys_of(sampler: str) -> Record:
    """The keys that a sampler's name stands for; of an unknown one, that it is to be the solver."""
    if sampler in SOLVERS:
        return SOLVERS[sampler]
    name = _IN_SMALL_LETTERS.get(" ".join(sampler.lower().split()))
    return {"sampler": sampler} if name is None else _OTHERS[name]


def listed() -> list[tuple[str, str, Record]]:
    """The names without a schedule, the web UI's and ComfyUI's, and what they stand for.

    A star follows those that may have one.
    """
    kinds = tuple(f" {kind}" for kind in (*_SCHEDULES, *COMFY_SCHEDULES.values()))
    comfys = {ours: name for name, ours in _NAMED.items() if name in NAMES and name not in SOLVERS}
    return [
        (name + "*" * (f"{name} Karras" in ALIASES), comfys.get(name, ""), keys)
        for name, keys in sorted(ALIASES.items())
        if not name.endswith(kinds)
    ]
