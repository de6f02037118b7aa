"""A network that is told what stays, made of one that is not.

Where a picture is to stay as it is, there is nothing to ask: the image is known. A network that
says just that leads any solver (but `rk45`, to which the way is no straight line) along the exact
way of that image, `alpha image + sigma noise` with the noise that the walk began with; programs
that blend latents put it there after each step.
"""

import torch
from torch import Tensor

from sdfast.solver.predict import Network, Prediction, saying
from sdfast.solver.schedule import NoiseSchedule


def inpainting(
    network: Network,
    image: Tensor,
    repaint: Tensor,
    schedule: NoiseSchedule,
    *,
    prediction: str = "epsilon",
) -> Network:
    """The network where `repaint` is true, and the image's own where it is not.

    image    the clean image (for Stable Diffusion its latents), [1 or n, ...] for x of [n, ...]
    repaint  bool, of a shape that broadcasts to that of x, such as [1, 1, h, w]
    """
    said = Prediction(prediction)

    def told(x: Tensor, t: float) -> Tensor:
        of_x, of_image = saying(said, schedule.at(t))
        return torch.where(repaint, network(x, t), of_x * x + of_image * image)

    return told
