"""A network that is told what stays, made of one that is not.

Where a picture is to stay as it is, there is nothing to ask: the image is known. A network that
says just that leads any solver along the exact way of that image, `alpha image + sigma noise` with
the noise that the walk began with; programs that blend latents put it there after each step.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from sdfast.solver.guidance import Network
from sdfast.solver.predict import Mix, Prediction
from sdfast.solver.schedule import NoiseSchedule

_SAYS: dict[Prediction, Callable[[float, float], Mix]] = {
    Prediction.NOISE: lambda a, s: (1 / s, -a / s),
    Prediction.IMAGE: lambda a, s: (0.0, 1.0),
    Prediction.VELOCITY: lambda a, s: (a / s, -1 / s),
    Prediction.SCORE: lambda a, s: (-1 / s**2, a / s**2),
}
"""What a network that knows the image says: so much of x, and so much of the image."""


def inpainting(
    network: Network,
    image: Tensor,
    repaint: Tensor,
    schedule: NoiseSchedule,
    *,
    prediction: str = "epsilon",
) -> Network:
    """The network where `repaint` is true, and the image's own where it is not.

    image    in the scale of x; one for all pictures or one for each
    repaint  bool, of a shape that spreads over x
    """
    says = _SAYS[Prediction(prediction)]

    def told(x: Tensor, t: float) -> Tensor:
        node = schedule.at(t)
        of_x, of_image = says(node.alpha, node.sigma)
        return torch.where(repaint, network(x, t), of_x * x + of_image * image)

    return told
