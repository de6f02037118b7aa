"""Tunes a model on prompts, and asks prompts it has not seen what that gained."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sdfast.conditioning import guided, words_of
from sdfast.job import Job
from sdfast.protocols import Model
from sdfast.sampler import DEFAULT, Sampler
from sdfast.solver import solve
from sdfast.tune.fit import TRUTH, Lesson
from sdfast.tune.search import Fitted, Tried, tune

SEEN = (
    "a cat",
    "a red apple",
    "a rocket on a blue background",
    "a castle",
    "a dog on a green background",
    "a white flower",
    "an owl at night",
    "a slice of pizza on the left",
    "two mushrooms",
    "a house in the snow",
    "a yellow car",
    "a fish underwater",
    "a robot on a pink background",
    "a tree in a meadow",
    "a small bird",
    "a soccer ball on the grass",
    "a pumpkin on a black background",
    "a bear and a fox",
    "a bicycle",
    "a big birthday cake",
    "a penguin",
    "a lion on an orange background",
    "a portrait of an old man",
    "a mountain lake at sunset, oil painting",
)
"""Prompts to fit on, unless others are given."""

UNSEEN = (
    "a panda",
    "a red rose on a white background",
    "a whale in the sea",
    "a banana on a purple background",
    "a strawberry",
    "an elephant",
    "three stars",
    "a tiger on a turquoise background",
    "a frog on the left",
    "a bee and a sunflower",
    "a turtle on the beach",
    "a busy street in the rain, photograph",
)
"""Prompts to judge by, unless others are given."""

TOGETHER = 8
"""Prompts that walk in one batch."""


@dataclass(frozen=True, slots=True)
class Gained:
    """A fitted sampler beside the default one, on prompts that neither was fitted to.

    Errors are root mean squares of latents against the walk of many calls, over all pictures; the
    medians over pictures stand beside them.
    """

    sampler: Sampler
    guidance: float
    tuned: tuple[float, float]
    default: tuple[float, float]
    """`default` with as many steps."""
    doubled: tuple[float, float]
    """`default` with twice as many."""

    @property
    def better(self) -> bool:
        """Whether there is anything in it: a twentieth less error, of any that can be seen."""
        pairs = zip(self.tuned, self.default, strict=True)
        return all(tuned < 0.95 * default and default > 1e-4 for tuned, default in pairs)


@torch.inference_mode()
def tune_model(
    model: Model,
    steps: int,
    guidance: float | None = None,
    seen: Sequence[str] = SEEN,
    unseen: Sequence[str] = UNSEEN,
) -> Iterator[Tried | Gained]:
    """Fit a sampler of so many steps to a model; tells all times tried, and at last the gain.

    Raises ValueError for fewer than four prompts to fit on, or none to judge by.
    """
    if not unseen:
        raise ValueError("tuning needs prompts to judge by")
    complete = model.complete(Job(prompt="any", seed=0, guidance=guidance))
    assert complete.guidance is not None
    scale = complete.guidance
    lessons = _lessons(model, seen, scale, seed=0)
    fitted: Sampler | None = None
    for event in tune(lessons, model.schedule, model.prediction, steps):
        if isinstance(event, Fitted):
            fitted = event.sampler
        else:
            yield event
    assert fitted is not None
    judged = _lessons(model, unseen, scale, seed=1_000)
    rows = (
        TRUTH,
        fitted,
        DEFAULT.model_copy(update={"steps": steps}),
        DEFAULT.model_copy(update={"steps": 2 * steps}),
    )
    exact, *ends = ([_walked(model, lesson, sampler) for lesson in judged] for sampler in rows)
    tuned, default, doubled = (_missed(end, exact) for end in ends)
    yield Gained(fitted, scale, tuned, default, doubled)


def _lessons(model: Model, prompts: Sequence[str], scale: float, seed: int) -> list[Lesson]:
    lessons: list[Lesson] = []
    for at in range(0, len(prompts), TOGETHER):
        words = prompts[at : at + TOGETHER]
        each = [words_of(model, prompt, "", scale) for prompt in words]
        size = model.complete(Job(prompt="any", seed=0)).size
        assert size is not None
        noise = torch.cat([model.noise(seed + at + i, size) for i in range(len(words))])
        lessons.append(Lesson(guided(model.predict, each, scale), noise))
    return lessons


def _walked(model: Model, lesson: Lesson, sampler: Sampler) -> Tensor:
    return solve(lesson.network, lesson.noise, sampler, model.schedule, prediction=model.prediction)


def _missed(got: Sequence[Tensor], wanted: Sequence[Tensor]) -> tuple[float, float]:
    """Root mean square and median of the pictures' errors."""
    off = (torch.cat([*got]) - torch.cat([*wanted])).flatten(1).square().mean(1)
    return float(off.mean().sqrt()), float(off.sqrt().median())
