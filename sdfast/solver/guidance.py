"""Networks that are guided, made of networks that are not.

Guidance wraps a network and gives a network: the solver never learns of it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sdfast.solver.predict import Network, Prediction, guide
from sdfast.solver.schedule import Node, NoiseSchedule

Condition = Tensor | tuple[Tensor, ...]
"""What a network is told: one tensor, or several that belong together; one row a picture."""


_MOST_WORDS = 4096
"""Beyond this, two conditions are better asked about one after the other than together."""


def length(condition: Condition) -> int:
    """How many words a condition has: its second axis, and of several tensors the first's."""
    words = condition if isinstance(condition, Tensor) else condition[0]
    return words.shape[1] if words.dim() > 1 else 1


def joined(conditions: Sequence[Condition]) -> Condition:
    """Conditions below each other, as one of their kind.

    Those of fewer words are repeated until all have as many. To attention, each word's weight then
    is spread over its copies, so that the network says what it would of each alone.
    """
    words = math.lcm(*map(length, conditions))
    whole = [_repeated(c, words // length(c)) for c in conditions]
    if isinstance(whole[0], Tensor):
        return torch.cat([c for c in whole if isinstance(c, Tensor)])
    return tuple(torch.cat(part) for part in zip(*whole, strict=True))


def _repeated(condition: Condition, times: int) -> Condition:
    """The condition with its words said so many times."""
    if times == 1:
        return condition
    if isinstance(condition, Tensor):
        return torch.cat([condition] * times, 1)
    words, *more = condition
    return torch.cat([words] * times, 1), *more


def classifier_free(
    network: Callable[[Tensor, float, Any], Tensor],
    prompted: Condition,
    plain: Condition | None,
    scale: float,
    during: tuple[float, float] | None = None,
    *,
    rescale: float = 0.0,
    repeats: bool = False,
) -> Network:
    """Classifier-free guidance (arXiv 2207.12598): from `plain` through `prompted` and beyond.

    What the network says becomes plain + scale (prompted - plain). Both are asked for in one batch,
    unless their lengths have too large a common multiple to be repeated to; at scale 1, or without
    `plain`, `prompted` alone is.

    network   asked as `network(x, t, condition)`, for x of [n, ...] with a condition of n rows, or
              x beneath itself, [2 n, ...], with one of 2 n
    prompted  one row a picture, [n, ...], or a tuple of such tensors
    plain     the same, of what to guide away from
    during    the first and the last time, on the schedule's clock, at which to guide at all (arXiv
              2404.07724)
    rescale   how much of what is guided is to have the spread of what `prompted` gives, so that
              strong guidance does not burn pictures (arXiv 2305.08891, section 3.4)
    repeats   the network takes x of [n, ...] with a condition of 2 n rows, and repeats it itself
    """
    if plain is None or scale == 1:
        return lambda x, t: network(x, t, prompted)
    alike = math.lcm(length(plain), length(prompted)) <= _MOST_WORDS
    both = joined([plain, prompted]) if alike else None
    first, last = during or (math.inf, -math.inf)

    def guided(x: Tensor, t: float) -> Tensor:
        if not first >= t >= last:
            return network(x, t, prompted)
        if both is None:
            return guide(network(x, t, plain), network(x, t, prompted), scale, rescale)
        untold, told = network(x if repeats else torch.cat([x, x]), t, both).chunk(2)
        return guide(untold, told, scale, rescale)

    return guided


def changing(networks: Sequence[tuple[int, Network]], call: Callable[[float], int]) -> Network:
    """Networks that take turns, each up to a call by its number; the last one to the end.

    `call` numbers a call that is made at time t.
    """
    *earlier, (_, last) = networks
    if not earlier:
        return last

    def network(x: Tensor, t: float) -> Tensor:
        number = call(t)
        return next((one for until, one in earlier if number <= until), last)(x, t)

    return network


def classifier(
    network: Network,
    log_probability: Callable[[Tensor, float], Tensor],
    scale: float,
    schedule: NoiseSchedule,
    *,
    prediction: str = "epsilon",
) -> Network:
    """Classifier guidance (arXiv 2105.05233, algorithm 2; arXiv 2206.00927, appendix D.3).

    log_probability  log p(class | x) at time t, one number a picture, of a classifier that has seen
                     noise; its gradient moves the score
    prediction       what `network` says: "epsilon", "v_prediction", "sample" or "score"
    """
    share = _SHARES[Prediction(prediction)]

    def guided(x: Tensor, t: float) -> Tensor:
        with torch.inference_mode(mode=False), torch.enable_grad():
            seen = x.detach().clone().requires_grad_()  # one made in inference mode could not
            (slope,) = torch.autograd.grad(log_probability(seen, t).sum(), seen)
        return network(x, t).add(slope, alpha=scale * share(schedule.at(t)))

    return guided


_SHARES: dict[Prediction, Callable[[Node], float]] = {
    Prediction.SCORE: lambda node: 1.0,
    Prediction.NOISE: lambda node: -node.sigma,
    Prediction.IMAGE: lambda node: node.sigma**2 / node.alpha,
    Prediction.VELOCITY: lambda node: -node.sigma / node.alpha,
}
"""How much a score that rises by one adds to what a network says."""
