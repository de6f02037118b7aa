"""Large pictures through the autoencoder piece by piece, where the memory does not hold them whole.

Tiles overlap and fade into each other. Each has norms and an attention of its own, so they agree
with the whole picture but for a little in tone, and the fading is wide enough to hide that.
"""

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

from sdfast.models.device import free_memory, is_memory

_SHARE = 0.8
"""Of the free memory that one call may take."""
LEAST = 32
"""Latents that a tile is wide and high at the least: 256 pixels."""
_FADE = 4
"""A tile shares this part of its side, one in so many, with the next."""


def by_parts(
    call: Callable[[Tensor], Tensor], x: Tensor, grain: tuple[int, int], each: float
) -> tuple[Tensor, int]:
    """What a network makes of x, whole if the memory has room, and in how many tiles if not.

    grain   how many of x's rows make a latent, and how many rows of the answer a latent makes
    each    bytes that one latent takes on its way
    """
    size = [length // grain[0] for length in x.shape[-2:]]
    side = side_for(size, each, free_memory(x.device))
    while True:
        try:
            return (call(x), 1) if side is None else tiled(call, x, side, grain)
        except (RuntimeError, MemoryError) as error:
            if not is_memory(error) or (side := halved(size, side)) is None:
                raise
        if x.device.type == "cuda":
            torch.cuda.empty_cache()


def side_for(size: Sequence[int], each: float, free: float | None) -> int | None:
    """How wide and high tiles should be, in latents; None where all of it fits.

    free   bytes of memory; None is not known, and taken for enough
    """
    if free is None or size[0] * size[1] * each <= _SHARE * free:
        return None
    return max(LEAST, int((_SHARE * free / each) ** 0.5) // 8 * 8)


def halved(size: Sequence[int], side: int | None) -> int | None:
    """The next smaller tile, where more memory was wanted than there was; None if there is none."""
    side = max(size) if side is None else side
    return None if side <= LEAST else max(LEAST, side // 16 * 8)


def tiled(
    call: Callable[[Tensor], Tensor], x: Tensor, side: int, grain: tuple[int, int]
) -> tuple[Tensor, int]:
    """What a network makes of x, tile by tile, and how many tiles there were.

    side    of a tile, in latents
    """
    into, out = grain
    places = [_starts(length // into, side) for length in x.shape[-2:]]
    height, width = (min(side, length // into) for length in x.shape[-2:])
    whole, weight = torch.empty(0), torch.empty(0)
    for top, left in product(*places):
        rows = slice(top * into, (top + height) * into)
        part = call(x[..., rows, left * into : (left + width) * into]).float()
        if not whole.numel():
            full = [length // into * out for length in x.shape[-2:]]
            whole = part.new_zeros(*part.shape[:2], *full)
            weight = part.new_zeros(1, 1, *full)
        fade = _ramp(height * out, top > 0, top != places[0][-1])[:, None] * _ramp(
            width * out, left > 0, left != places[1][-1]
        )
        fade = fade.to(part)
        here = (
            ...,
            slice(top * out, (top + height) * out),
            slice(left * out, (left + width) * out),
        )
        whole[here] += part * fade
        weight[here] += fade
    return whole / weight, len(places[0]) * len(places[1])


def _starts(length: int, side: int) -> list[int]:
    """Where tiles begin that reach from end to end, each sharing a fourth or more with the next."""
    if length <= side:
        return [0]
    count = -(-(length - side) // (side - side // _FADE)) + 1
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def _ramp(length: int, rises: bool, falls: bool) -> Tensor:
    """Weights along a tile: 1, but rising from an edge that it shares and falling to one."""
    up = ((torch.arange(length) + 0.5) / (length // _FADE)).clamp(max=1)
    return (up if rises else torch.ones(length)) * (up.flip(0) if falls else torch.ones(length))
