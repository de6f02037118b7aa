"""Numbers as a network reads them: the time, the size of a picture, its guidance."""

import math

import torch
from torch import Tensor, nn

from sdfast.models.networks.layers import Linear, silu


class TimeEmbedding(nn.Module):
    """Sinusoids through two linear maps; those of another number may be added to them first."""

    def __init__(self, in_features: int, width: int, cond: int = 0) -> None:
        super().__init__()
        if cond:
            self.cond_proj = Linear(cond, in_features, bias=False)
        self.linear_1 = Linear(in_features, width)
        self.linear_2 = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(silu(self.linear_1(x)))


def sinusoids(numbers: Tensor, width: int, cosine_first: bool, shift: float) -> Tensor:
    """Numbers as sinusoids of falling frequency, [n] to [n, width] (arXiv 1706.03762, 3.5)."""
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=numbers.device)
    angles = numbers[:, None] * torch.exp(-math.log(10_000) * steps / (half - shift))[None]
    both = [angles.cos(), angles.sin()] if cosine_first else [angles.sin(), angles.cos()]
    return nn.functional.pad(torch.cat(both, -1), (0, width % 2))
