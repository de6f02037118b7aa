"""What is compared on: problems with closed forms, or a model with people's prompts."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sdfast.bench.accuracy import Case, Posed, Settling
from sdfast.bench.problems import CHOOSING, SCHEDULE, TEST, TRAINING, Answer, answered, errors
from sdfast.conditioning import guided, words_of
from sdfast.errors import ModelError
from sdfast.job import Job
from sdfast.protocols import Model
from sdfast.sampler import Sampler
from sdfast.solver.predict import Network
from sdfast.solver.walk import trajectory

PROMPTS = (
    "a cat",
    "a red apple",
    "a rocket on a blue background",
    "a dog",
    "a yellow banana on a green background",
    "a house",
    "a blue car",
    "two mushrooms",
    "a pink flower on a white background",
    "the moon",
    "an orange fish",
    "a slice of pizza",
)
"""What is painted on a model, unless prompts are given."""

CONVERGED = Sampler(order=3, steps=201, spacing="logsnr", final="zero")
"""How a model's pictures are settled: 200 steps to sigma_min, and one to no noise at all."""

_TRAINING_SEEDS = 1000
"""Pictures to choose by are of the same prompts, and of seeds from here on."""


def pose_problem(name: str, count: int, *, training: bool) -> Iterator[Settling | Posed]:
    """A problem with closed form, of so many noises. Raises UsageError for an unknown name."""
    of_training = max(1, round(CHOOSING * count)) if training else 0
    yield Settling(name, 0, 1)
    problem, noise, answer = answered(name, count, TEST)
    test, rest = Case(problem.network, noise, answer), list[Case]()
    if of_training:
        _, noise, answer = answered(name, of_training, TRAINING)
        rest.append(Case(problem.network, noise, answer))

    def elsewhere(got: Tensor, wanted: Tensor) -> Tensor:
        return (problem.leaf(got) != problem.leaf(wanted)).any(-1)

    about: dict[str, object] = {
        "noises": {"test": {"seed": TEST, "count": count}}
        | ({"training": {"seed": TRAINING, "count": of_training}} if training else {}),
    }
    yield Posed(name, SCHEDULE, "epsilon", (test,), tuple(rest), elsewhere, about)


def pose_model(
    model: Model,
    name: str,
    prompts: Sequence[str],
    count: int,
    guidance: float | None = None,
    *,
    training: bool,
) -> Iterator[Settling | Posed]:
    """A model with so many seeds of every prompt, each picture settled by many small steps.

    A picture ends elsewhere if it misses its converged one by more than half of what lies between
    that one and the nearest other converged picture; a lone picture has nowhere else to go.
    """
    judged = [(prompt, seed) for prompt in prompts for seed in range(1, count + 1)]
    chosen = [(prompt, seed + _TRAINING_SEEDS) for prompt, seed in judged if training]
    cases: list[Case] = []
    for prompt, seed in (*judged, *chosen):
        yield Settling(name, len(cases), len(judged) + len(chosen))
        cases.append(_settled(model, Job(prompt=prompt, seed=seed, guidance=guidance)))
    pictures = torch.cat([case.answer.zero for case in cases])

    def elsewhere(got: Tensor, wanted: Tensor) -> Tensor:
        return torch.stack(
            [
                missed > _nearest_other(one, pictures) / 2
                for missed, one in zip(errors(got, wanted), wanted, strict=True)
            ]
        )

    about: dict[str, object] = {
        "model": name,
        "guidance": model.complete(Job(prompt=prompts[0], guidance=guidance)).guidance,
        "prompts": list(prompts),
        "seeds": {
            "test": sorted({s for _, s in judged}),
            "training": sorted({s for _, s in chosen}),
        },
    }
    test, rest = tuple(cases[: len(judged)]), tuple(cases[len(judged) :])
    yield Posed(name, model.schedule, str(model.prediction), test, rest, elsewhere, about)


def _nearest_other(wanted: Tensor, pictures: Tensor) -> float:
    """How far the nearest picture is that is another; as the walk to no noise is short beside
    what lies between pictures, it does not matter at which end they are compared."""
    apart = errors(pictures, wanted)
    own = apart.argmin()
    return min((float(d) for i, d in enumerate(apart) if i != own), default=float("inf"))


def _settled(model: Model, job: Job) -> Case:
    """A job's network, noise and converged ends: the walk to no noise passes sigma_min."""
    job = model.complete(job)
    assert job.size is not None
    assert job.guidance is not None
    words = words_of(model, job.prompt, job.negative, job.guidance)
    network: Network = guided(model.predict, [words], job.guidance)
    noise = model.noise(job.seed, job.size, job.rng)
    walk = trajectory(network, noise, CONVERGED, model.schedule, str(model.prediction))
    *_, at_min, zero = walk
    if not bool(zero.isfinite().all()):
        raise ModelError("the converged walk ended in numbers that are not finite")
    return Case(network, noise, Answer(at_min / model.schedule.end.alpha, zero))
