"""Noise for the samplers that put some back, drawn for each picture by itself."""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

Generators = Generator | Sequence[Generator] | None
"""One for each picture; one that seeds a child for each; or none, for torch's default one."""

Draw = Callable[[], Tensor]

_ALIKE = 0.9995
"""The cosine from which on there is no way between two noises to speak of."""


def drawn_alone(like: Tensor, generator: Generators) -> Draw:
    """Unit Gaussian noise of a tensor's shape, dtype and device; each picture has its own stream.

    The stream is a child of the generator given, so that it does not repeat a noise which the same
    seed has begun with. Raises ValueError unless there are as many generators as pictures.
    """
    pictures, shape = len(like), like.shape[1:]
    if generator is None or isinstance(generator, Generator):
        own = [_child(generator) for _ in range(pictures)]
    else:
        own = [_child(one) for one in generator]
    if len(own) != pictures:
        raise ValueError(f"there are {len(own)} generators for {pictures} pictures")

    def draw() -> Tensor:
        each = [torch.randn(shape, generator=g, dtype=like.dtype, device=g.device) for g in own]
        # CUDA has read such a source when the call returns; MPS may read it when it is gone
        return torch.stack(each).to(like.device, non_blocking=like.is_cuda)

    return draw


def slerp(one: Tensor, other: Tensor, share: float) -> Tensor:
    """Unit Gaussian noise that is a share of the way from one to another, [n, c, h, w].

    Along great circles, so that it is neither smaller nor smoother than the two are; each column of
    pixels has its own, as in AUTOMATIC1111's web UI.
    """
    cosine = torch.cosine_similarity(one, other, dim=2).unsqueeze(2)
    if cosine.mean() > _ALIKE:
        return one.lerp(other, share)
    angle = cosine.clamp(-1, 1).acos()
    return (((1 - share) * angle).sin() * one + (share * angle).sin() * other) / angle.sin()


def _child(parent: Generator | None) -> Generator:
    """A generator seeded by the parent's next number, so that it repeats none of its stream."""
    device = "cpu" if parent is None else parent.device
    seed = torch.randint(2**63 - 1, (1,), generator=parent, device=device)
    return Generator(device).manual_seed(int(seed))
