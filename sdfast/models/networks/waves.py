"""Numbers as a network reads them: the time, the size of a picture, its guidance."""

import math

import torch
from torch import Tensor, nn

from sdfast.models.networks.layers import Linear, silu


class Embedding(nn.Module):
    """Waves through two linear maps; those of another number may be added to them first."""

    def __init__(self, inside: int, width: int, beside: int = 0) -> None:
        super().__init__()
        if beside:
            self.cond_proj = Linear(beside, inside, bias=False)
        self.linear_1 = Linear(inside, width)
        self.linear_2 = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(silu(self.linear_1(x)))


def waves(numbers: Tensor, width: int, cosine_first: bool, shift: float) -> Tensor:
    """Numbers as waves of falling frequency, [n] to [n, width] (arXiv 1706.03762, 3.5)."""
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=numbers.device)
    angles = numbers[:, None] * torch.exp(-math.log(10_000) * steps / (half - shift))[None]
    both = [angles.cos(), angles.sin()] if cosine_first else [angles.sin(), angles.cos()]
    return nn.functional.pad(torch.cat(both, -1), (0, width % 2))
