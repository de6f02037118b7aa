"""Samplers by the names that other programs give them."""

from typing import Any, get_args

from sdfast.sampler import Solver

Record = dict[str, Any]
"""A job or a part of one as flat keys and plain values."""

_2M: Record = {"sampler": "dpm++", "order": 2, "weights": "reference"}
_SCHEDULES = {
    "Karras": "karras",
    "Exponential": "exponential",
    "SGM Uniform": "uniform",
    "Uniform": "normal",
    "Simple": "simple",
}
NOISY = "Euler a"
"""The web UI's sampler that walks here as there but for the noise that it draws."""
DRAWS = (NOISY, "LCM")
"""The samplers of any program that do so."""


def a1111_name(name: str, schedule: str) -> str:
    """The web UI's name and schedule type as one; `Automatic` goes without saying."""
    return name if schedule == "Automatic" else f"{name} {schedule}"


A1111: dict[tuple[str, str], Record] = {
    **{("DPM++ 2M", kind): {**_2M, "spacing": ours} for kind, ours in _SCHEDULES.items()},
    ("DPM++ 2M", "Automatic"): {**_2M, "spacing": "karras"},
    **{
        (name, kind): {"sampler": name.lower(), "spacing": ours}
        for name in ("Euler", "Heun")
        for kind, ours in {**_SCHEDULES, "Automatic": "normal"}.items()
    },
}
"""AUTOMATIC1111's samplers that walk here as there, by the web UI's name and schedule type."""

_FIELD: dict[str, Record] = {
    "UniPC": {"sampler": "dpm++", "order": 2, "spacing": "uniform", "corrector": True},
    "DDIM": {"sampler": "ddim", "spacing": "leading", "final": "sigma_min"},
    "DDPM": {"sampler": "ddpm", "spacing": "trailing"},
    "PLMS": {"sampler": "pndm", "spacing": "leading", "final": "sigma_min"},
    "PNDM": {"sampler": "pndm", "spacing": "leading", "final": "sigma_min"},
    "RK45": {"sampler": "rk45"},
    **{
        a1111_name(NOISY, kind): {"sampler": "ddpm", "spacing": ours}
        for kind, ours in {**_SCHEDULES, "Automatic": "normal"}.items()
    },
    **{
        a1111_name("LCM", kind): {"sampler": "lcm", "spacing": ours}
        for kind, ours in {**_SCHEDULES, "Automatic": "lcm"}.items()
    },
    "DPM++ 2M Beta": {**_2M, "spacing": "beta"},
    **{
        f"{name} Beta": {"sampler": ours, "spacing": "beta"}
        for name, ours in {"Euler": "euler", "Heun": "heun", NOISY: "ddpm", "LCM": "lcm"}.items()
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
    "DPM++ 2M SDE": {"sampler": "sde-dpm++", "order": 2, "spacing": "uniform"},
    "DPM++ 2M SDE Karras": {"sampler": "sde-dpm++", "order": 2, "spacing": "karras"},
}
"""Names the field knows, walked as their authors do; the web UI walks otherwise by the same names
(its UniPC is of order 3, and its DDIM leaves out the last call). In `DPM fast` all calls go equally
far in lam; its authors let all strides do so, however many calls they have. `Euler a` is DDPM in
other words: k-diffusion's sigma_up is the noise that DDPM draws; ours is another stream of it.
`Beta` is ComfyUI's, in time; the web UI has one in sigma."""


ALIASES: dict[str, Record] = {a1111_name(*said): keys for said, keys in A1111.items()} | _FIELD
"""Samplers by the names other programs give them."""


def keys_of(sampler: str) -> Record:
    """The keys that a sampler's name stands for; `ddim` is the bare solver, `DDIM` all of it."""
    if sampler in get_args(Solver):
        return {"sampler": sampler}
    by_name = {name.lower(): keys for name, keys in ALIASES.items()}
    return by_name.get(" ".join(sampler.lower().split()), {"sampler": sampler})
