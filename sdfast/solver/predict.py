"""What the network says, turned into what the solver integrates.

Every reading is a straight mix `skip * x + out * output`, so a network that predicts noise, the
image, velocity or the score differs from another by two numbers per node.
"""

import math
from collections.abc import Callable
from enum import StrEnum
from typing import NoReturn

import torch
from torch import Tensor

from sdfast.solver.schedule import Node
from sdfast.wording import quoted

Network = Callable[[Tensor, float], Tensor]
"""x in variance-preserving scale and a time on the schedule's clock; one call is one NFE."""


class Target(StrEnum):
    """Which half of the mix a solver integrates: DPM-Solver++ the image, DPM-Solver the noise."""

    IMAGE = "image"
    NOISE = "noise"


class Prediction(StrEnum):
    """What a network was trained to output. The names are those of model configs."""

    NOISE = "epsilon"
    IMAGE = "sample"
    VELOCITY = "v_prediction"
    SCORE = "score"

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        raise ValueError(f"prediction must be one of {', '.join(cls)}, not {quoted(value)}")


Mix = tuple[float, float]

_MIX: dict[tuple[Prediction, Target], Callable[[float, float], Mix]] = {
    (Prediction.NOISE, Target.IMAGE): lambda a, s: (1 / a, -s / a),
    (Prediction.NOISE, Target.NOISE): lambda a, s: (0.0, 1.0),
    (Prediction.IMAGE, Target.IMAGE): lambda a, s: (0.0, 1.0),
    (Prediction.IMAGE, Target.NOISE): lambda a, s: (1 / s, -a / s),
    (Prediction.VELOCITY, Target.IMAGE): lambda a, s: (a, -s),
    (Prediction.VELOCITY, Target.NOISE): lambda a, s: (s, a),
    (Prediction.SCORE, Target.IMAGE): lambda a, s: (1 / a, s * s / a),
    (Prediction.SCORE, Target.NOISE): lambda a, s: (0.0, -s),
}


def read(output: Tensor, x: Tensor, node: Node, said: Prediction, wanted: Target) -> Tensor:
    """The wanted half of `x`, given what the network said about it, as a tensor of its own."""
    skip, out = _MIX[said, wanted](node.alpha, node.sigma)
    mixed = output if skip and out == 1 else output * out
    return mixed.add(x, alpha=skip) if skip else mixed


def saying(said: Prediction, node: Node) -> Mix:
    """What a network says that knows the image: so much of x, and so much of the image."""
    skip, out = _MIX[said, Target.IMAGE](node.alpha, node.sigma)
    return -skip / out, 1 / out


def guide(plain: Tensor, prompted: Tensor, scale: float, rescale: float = 0.0) -> Tensor:
    """Classifier-free guidance (arXiv 2207.12598): from `plain` through `prompted` and beyond.

    So much of it as `rescale` says has the spread that `prompted` has, picture by picture (arXiv
    2305.08891, eq. 14 to 16).
    """
    led = plain.lerp(prompted, scale)
    if not rescale:
        return led
    every, wide = tuple(range(1, led.ndim)), torch.promote_types(led.dtype, torch.float32)
    spread, own = (x.to(wide).std(every, keepdim=True) for x in (led, prompted))
    share = own / spread.clamp_min(torch.finfo(wide).tiny)
    return led * (1 + rescale * (share - 1)).to(led.dtype)


def thresholded(image: Tensor, quantile: float) -> Tensor:
    """Each picture clipped to a quantile of its values, at least 1, and scaled to [-1, 1] by it.

    Dynamic thresholding (arXiv 2205.11487, section 2.3), for networks that paint pixels.
    """
    flat = image.abs().reshape(len(image), -1)
    ordered = flat.sort(1).values  # torch's own quantile takes 2^24 at most
    place = quantile * (ordered.shape[1] - 1)
    below, above = (ordered[:, round_(place)] for round_ in (math.floor, math.ceil))
    size = below.lerp(above, place % 1).clamp_min(1)
    size = size.view(-1, *(1 for _ in image.shape[1:]))
    return image.clamp(-size, size) / size
