"""Pictures from words in as few network calls as the mathematics allows.

    from sdfast import Job, load_model, paint, save

    save(paint(load_model("tiny"), Job(prompt="a cat")), "cat.png")

Each name below is imported when it is first asked for, so that `import sdfast` wakes no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdfast.engine import generate, paint, paint_all
    from sdfast.errors import SdfastError
    from sdfast.job import Job, read_job, read_sampler
    from sdfast.models import load_model
    from sdfast.presets import load_preset
    from sdfast.recipes import read_recipe
    from sdfast.sampler import Sampler
    from sdfast.saving import save
    from sdfast.solver import NoiseSchedule, invert, noised, solve

__version__ = "0.1.0"

__all__ = [
    "Job",
    "NoiseSchedule",
    "Sampler",
    "SdfastError",
    "generate",
    "invert",
    "load_model",
    "load_preset",
    "noised",
    "paint",
    "paint_all",
    "read_job",
    "read_recipe",
    "read_sampler",
    "save",
    "solve",
]

_HOMES = {
    "Job": "sdfast.job",
    "NoiseSchedule": "sdfast.solver",
    "Sampler": "sdfast.sampler",
    "SdfastError": "sdfast.errors",
    "generate": "sdfast.engine",
    "invert": "sdfast.solver",
    "load_model": "sdfast.models",
    "load_preset": "sdfast.presets",
    "noised": "sdfast.solver",
    "paint": "sdfast.engine",
    "paint_all": "sdfast.engine",
    "read_job": "sdfast.job",
    "read_recipe": "sdfast.recipes",
    "read_sampler": "sdfast.job",
    "save": "sdfast.saving",
    "solve": "sdfast.solver",
}


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


if not TYPE_CHECKING:  # to a type checker, what is not above is a slip

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
        return getattr(import_module(_HOMES[name]), name)
