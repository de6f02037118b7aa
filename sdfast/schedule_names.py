"""What a sampler and its spacing are called, in pictures and on the screen."""

from functools import lru_cache

from sdfast.job import read_sampler
from sdfast.sampler import TAKES, Sampler
from sdfast.sampler_names import A1111, NOISY

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
    for said, theirs in _of_the_web_ui(sampler.steps):
        if plain == theirs:
            return said
    order = f" {sampler.order}{_LETTERS[sampler.method]}"
    name = sampler.solver + (order if "order" in TAKES[sampler.solver] else "")
    if sampler.eta is not None and sampler.noisy != sampler.model_copy(update={"eta": None}).noisy:
        name += f" eta {sampler.eta:g}"
    name += " UniC" * sampler.corrector + " tuned" * bool(sampler.corrections)
    return name, sampler.spacing if sampler.timesteps is None else "timesteps"


@lru_cache(16)  # a batch names each of its pictures
def _of_the_web_ui(steps: int) -> list[tuple[tuple[str, str], Sampler]]:
    """Its samplers that walk here as there, in so many steps, by their names."""
    return [
        (said, read_sampler({"steps": steps, **keys})) for said, keys in (A1111 | NOISY).items()
    ]
