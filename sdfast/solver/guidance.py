"""Networks that are guided, made of networks that are not.

Guidance wraps a network and gives a network: the solver never learns of it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from sdfast.solver.predict import Prediction, guide
from sdfast.solver.schedule import Node, NoiseSchedule

Network = Callable[[Tensor, float], Tensor]


def classifier_free(
    network: Callable[[Tensor, float, Tensor], Tensor],
    prompted: Tensor,
    plain: Tensor | None,
    scale: float,
) -> Network:
    """Classifier-free guidance (arXiv 2207.12598): from `plain` through `prompted` and beyond.

    `network(x, t, condition)` is asked for both in one batch; at scale 1, or without `plain`, for
    `prompted` alone. Conditions have one row a picture.
    """
    if plain is None or scale == 1:
        return lambda x, t: network(x, t, prompted)
    both = torch.cat([plain, prompted])

    def guided(x: Tensor, t: float) -> Tensor:
        untold, told = network(torch.cat([x, x]), t, both).chunk(2)
        return guide(untold, told, scale)

    return guided


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
        with torch.enable_grad():
            seen = x.detach().requires_grad_()
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
