"""The samplers of ours that are compared: every preset, and a catalogue of what can be combined.

A row is a sampler without its number of steps; steps are found for each number of calls.
"""

import contextlib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from itertools import product
from typing import Any

from torch import Tensor

from sdfast.bench.accuracy import Posed, Row, Walk
from sdfast.errors import PresetError, UsageError
from sdfast.presets import load_preset, names
from sdfast.sampler import Sampler
from sdfast.solver import solve
from sdfast.solver.predict import Network
from sdfast.solver.schedule import NoiseSchedule
from sdfast.tune import Fitted, Lesson, tune
from sdfast.wording import nearest, quoted

Keys = dict[str, Any]

KINDS: dict[str, Keys] = {
    "ddim": {"solver": "ddim"},
    "dpm++2M": {"solver": "dpm++", "order": 2},
    "dpm++3M": {"solver": "dpm++", "order": 3},
    "dpm++2M-unic": {"solver": "dpm++", "order": 2, "corrector": True},
    "dpm++3M-unic": {"solver": "dpm++", "order": 3, "corrector": True},
    "dpm++2S": {"solver": "dpm++", "order": 2, "method": "singlestep"},
    "dpm++3S": {"solver": "dpm++", "order": 3, "method": "singlestep"},
    "dpm2M": {"solver": "dpm", "order": 2},
    "dpm3M": {"solver": "dpm", "order": 3},
    "dpm2M-unic": {"solver": "dpm", "order": 2, "corrector": True},
    "dpm3M-unic": {"solver": "dpm", "order": 3, "corrector": True},
    "dpm2S": {"solver": "dpm", "order": 2, "method": "singlestep"},
    "dpm3S": {"solver": "dpm", "order": 3, "method": "singlestep"},
    "dpm++2-midpoint": {"solver": "dpm++", "method": "midpoint"},
    "dpm2-midpoint": {"solver": "dpm", "method": "midpoint"},
    "dpm3-fast": {"solver": "dpm", "order": 3, "method": "fast"},
    "euler": {"solver": "euler"},
    "heun": {"solver": "heun"},
    "lms": {"solver": "lms"},
}
SPACINGS: dict[str, Keys] = {
    "uniform": {"spacing": "uniform"},
    **{f"rho{rho:g}": {"spacing": "rho", "rho": rho} for rho in (1.25, 1.5, 1.75, 2, 2.25, 2.5, 3)},
    "beta": {"spacing": "beta"},
    "karras": {"spacing": "karras"},
    "logsnr": {"spacing": "logsnr"},
}
ENDS: dict[str, Keys] = {"min": {"final": "sigma_min"}, "zero": {"final": "zero"}}

AS_ELSEWHERE: dict[str, Keys] = {
    "dpm++2M-reference": {"solver": "dpm++", "order": 2, "weights": "reference"},
    "dpm++3M-reference": {"solver": "dpm++", "order": 3, "weights": "reference"},
    "dpm3M-reference": {"solver": "dpm", "order": 3, "weights": "reference"},
    **{
        f"{kind}-reference": KINDS[kind] | {"weights": "reference"}
        for kind in ("dpm++2S", "dpm++3S", "dpm2S", "dpm3S", "dpm3-fast")
    },
}
"""Multistep walks weighed and lowered as the authors' code and diffusers do, whole strides, and all
spaced as there."""
SPACINGS_ELSEWHERE: dict[str, Keys] = {
    spacing: {"spacing": spacing} for spacing in ("linspace", "karras", "logsnr")
}


def _combined(kinds: dict[str, Keys], spacings: dict[str, Keys]) -> dict[str, Sampler]:
    return {
        f"{kind}:{spacing}:{end}": Sampler(**kinds[kind], **spacings[spacing], **ENDS[end])
        for kind, spacing, end in product(kinds, spacings, ENDS)
    }


CATALOGUE: dict[str, Sampler] = {
    **_combined(KINDS, SPACINGS),
    **_combined(AS_ELSEWHERE, SPACINGS_ELSEWHERE),
    "rk45": Sampler(solver="rk45"),
}
"""Samplers by names such as `dpm++2M-unic:rho1.75:min`."""

USUAL = ("dpm*M*:min",)
USUAL_ON_A_MODEL = ("dpm++2M-unic:*:min", "dpm++3M-unic:*:min")
"""What of the catalogue is measured, besides the presets, when nobody says what to measure.

Each row costs time, and gives chance one more to be chosen by. The others can be asked for.
"""


TUNED = "tuned"
"""A row whose sampler is fitted, for each number of calls, to the noises it may be chosen by."""


def presets() -> dict[str, Sampler]:
    """Every preset that can be read."""
    found: dict[str, Sampler] = {}
    for name in sorted({*names()} - {TUNED}):
        with contextlib.suppress(PresetError):  # whoever names it is told
            found[name] = load_preset(name).sampler
    return found


def fitted(sampler: Sampler, calls: int) -> Sampler | None:
    """The sampler with the most steps that make no more calls; None if there is none."""
    if sampler.timesteps is not None or sampler.corrections is not None:
        return sampler if sampler.calls == calls else None
    ladder = (sampler.model_copy(update={"steps": steps}) for steps in range(calls, 0, -1))
    return next((one for one in ladder if one.calls and one.calls <= calls), None)


def row(name: str, sampler: Sampler) -> Row:
    """A sampler as a row."""
    return Row(name, "sdfast", sampler.final, partial(_walk, sampler))


def _walk(sampler: Sampler, calls: int, posed: Posed) -> Walk | None:
    if sampler.noisy:
        raise ValueError("puts noise back on its way, so there is no one picture to end at")
    if sampler.calls is None:
        raise ValueError("decides its calls on its way, so it cannot be given a number of them")
    fit = fitted(sampler, calls)
    return None if fit is None else partial(_ended, fit, posed.schedule, posed.prediction)


def _ended(
    sampler: Sampler, schedule: NoiseSchedule, prediction: str, network: Network, noise: Tensor
) -> Tensor:
    x = solve(network, noise, sampler, schedule, prediction=prediction)
    return x if sampler.final == "zero" else x / schedule.end.alpha


def tuned() -> Row:
    """What `sdfast tune` makes of the problem."""
    fits: dict[tuple[str, int], Sampler] = {}

    def walk(calls: int, posed: Posed) -> Walk:
        if not posed.training:
            raise ValueError("is fitted to the noises to choose by, and there are none")
        key = posed.name, calls
        if key not in fits:
            lessons = [Lesson(case.network, case.noise) for case in posed.training]
            *_, last = tune(lessons, posed.schedule, posed.prediction, calls)
            assert isinstance(last, Fitted)
            fits[key] = last.sampler
        return partial(_ended, fits[key], posed.schedule, posed.prediction)

    return Row(TUNED, "sdfast", "sigma_min", walk)


def ours() -> list[Row]:
    """All presets, the whole catalogue and the tuned row."""
    rows = [row(name, sampler) for name, sampler in (presets() | CATALOGUE).items()]
    return [*rows, tuned()]


def usual(rows: Sequence[Row], patterns: Sequence[str]) -> list[Row]:
    """The presets, what fits the patterns, and everything of other families."""
    plain = {n for n, s in presets().items() if s.calls is not None and not s.noisy}
    kept = {*plain, *(one.name for word in patterns for one in _named(word, rows))}
    return [one for one in rows if one.family != "sdfast" or one.name in kept]


def picked(wanted: Sequence[str], rows: Sequence[Row], unasked: Sequence[Row]) -> list[Row]:
    """The rows that names, patterns (`dpm++*:min`) and preset files ask for.

    Of a family that nobody asks for come the `unasked`. Raises UsageError for what names no row.
    """
    found = dict.fromkeys(one for word in wanted for one in _named(word, rows))
    asked = {one.family for one in found}
    return [*found, *(one for one in unasked if one.family not in asked)]


def _named(word: str, rows: Sequence[Row]) -> Iterator[Row]:
    unread = word in names() and all(one.name != word for one in rows)
    if word.endswith((".yaml", ".yml")) or unread:
        yield row(word, load_preset(word).sampler)
        return
    fits = [one for one in rows if fnmatchcase(one.name, word)] or [
        one for one in rows if fnmatchcase(one.name.lower(), word.lower())
    ]
    if not fits:
        hint = nearest(word, [one.name for one in rows])
        raise UsageError(
            f"there is no row {quoted(word)}",
            hint if hint.startswith("did you mean") else "presets, and `dpm++2M:*` or the like",
        )
    yield from fits
