"""A critic that learns to tell painted pictures from rendered ones, so that the decoder is sharp.

A thumbnail leaves open where an edge runs and how a face looks, and whoever minimises the error
paints the mean of all that it may be, which is a blur. The critic takes no blur for a rendered
picture (pix2pix, arXiv 1611.07004). It is gone once the decoder is trained.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

LOUDNESS = 0.8
"""How strongly the critic pulls at the pixels, beside the error's pull of 1."""
LISTENED_AFTER = 500
"""Steps in which its say grows from nothing: it has to learn first."""
MATCHING = 10.0
"""Weight of its inner layers (pix2pixHD, arXiv 1711.11585, equation 4) beside its verdict."""


def _conv(before: int, after: int, side: int, stride: int = 1) -> nn.Conv2d:
    return spectral_norm(nn.Conv2d(before, after, side, stride, 1))


class Critic(nn.Module):
    """Pictures [n, 3, 128, 128] and thumbnails in; an opinion on each of 16 x 16 places out."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.ModuleList([_conv(3, 32, 4, 2), _conv(32, 64, 4, 2), _conv(64, 96, 4, 2)])
        self.compare = nn.ModuleList([_conv(100, 128, 3), _conv(128, 128, 3)])
        self.judge = _conv(128, 1, 3)

    def forward(self, pictures: Tensor, thumbnails: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Positive where it takes the picture for a rendered one, and what each layer saw."""
        seen, h = list[Tensor](), pictures
        for layer in self.look:
            h = F.leaky_relu(layer(h), 0.2)
            seen.append(h)
        h = torch.cat([h, thumbnails], 1)
        for layer in self.compare:
            h = F.leaky_relu(layer(h), 0.2)
            seen.append(h)
        return self.judge(h), seen

    def mistakes(self, painted: Tensor, rendered: Tensor, thumbnails: Tensor) -> Tensor:
        """The hinge loss: what it has to learn."""
        real, _ = self(rendered, thumbnails)
        false, _ = self(painted.detach(), thumbnails)
        return F.relu(1 - real).mean() + F.relu(1 + false).mean()

    def complaints(self, painted: Tensor, rendered: Tensor, thumbnails: Tensor) -> Tensor:
        """What the decoder has to learn from it."""
        with torch.no_grad():
            _, wanted = self(rendered, thumbnails)
        verdict, seen = self(painted, thumbnails)
        apart = sum(F.l1_loss(a, b) for a, b in zip(seen, wanted, strict=True))
        return MATCHING * apart - verdict.mean()


def pulls(painted: Tensor, error: Tensor, complaints: Tensor, loudness: float) -> Tensor:
    """A loss whose gradient is the error's and, of its length by `loudness`, the complaints'."""
    (by_error,) = torch.autograd.grad(error, painted, retain_graph=True)
    (by_critic,) = torch.autograd.grad(complaints, painted, retain_graph=True)
    by_critic = by_critic * (loudness * by_error.norm() / by_critic.norm().clamp_min(1e-12))
    return (painted * (by_error + by_critic).detach()).sum()
