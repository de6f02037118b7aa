"""3 x 3 convolutions in a quarter of the products, on a CPU in float32.

F(4 x 4, 3 x 3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015),
section 4.3: each 4 x 4 pixels are made of tiles of 6 x 6, transformed to where a convolution is a
product number by number, and back: 36 products in place of 144, besides the transforms. With many
channels, that is 36 products of matrices. A few rows of tiles at a time stay in the cache.

The kernels are transformed in each call: kept, they would be four times as large. The sums are
exact but for rounding, whose error is about three times that of the plain sum: 2e-6 of a tile's
greatest.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

_LEAST = 1024
"""Pixels of a picture from which on it pays: with fewer, it is the kernels that are waited for. How
many pictures there are does not count, or one would come out otherwise beside others than alone."""
_WIDE = 80
"""inside * outside / (inside + outside) from which on it pays: transforms are work for each
channel, what is saved is work for each pair of them."""
_PAIRS = 1_500_000
"""inside * outside up to which transformed kernels, 144 bytes a pair, are not too large."""
_FLOATS = 8 << 20
"""Numbers of transformed tiles, before and after the products, at a time."""


def pays(inside: int, outside: int) -> bool:
    """Whether a convolution has channels enough for it, and not too many."""
    return _WIDE * (inside + outside) <= inside * outside <= _PAIRS


def fits(x: Tensor) -> bool:
    """Whether pictures, [n, c, h, w], are whole tiles, and enough of them for it to pay."""
    height, width = x.shape[2:]
    whole = height % 4 == width % 4 == 0
    return whole and height * width >= _LEAST and x.dtype == torch.float32


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, plus: Tensor | None) -> Tensor:
    """What `F.conv2d(x, weight, bias, padding=1)` is, and plus added.

    x       [n, c, h, w] of float32, h and w multiples of 4
    weight  [o, c, 3, 3]
    bias    [o]
    plus    [m, o, h, w], repeated below itself to n rows
    """
    of_data, of_kernels, inverse = _transforms()
    outside, inside = weight.shape[:2]
    n, _, height, width = x.shape
    down, across = height // 4, width // 4
    kernels = (of_kernels @ weight.reshape(-1, 9).T).view(36, outside, inside).transpose(1, 2)
    rows = max(1, _FLOATS // (36 * across * (inside + outside)))
    made = x.new_empty(n, down, 4, across, 4, outside)
    for picture, y in zip(x.permute(0, 2, 3, 1), made, strict=True):
        tiles = F.pad(picture, (0, 0, 1, 1, 1, 1)).unfold(0, 6, 4).unfold(1, 6, 4)
        tiles = tiles.permute(3, 4, 0, 1, 2)
        for row in range(0, down, rows):
            some = tiles[:, :, row : row + rows].reshape(36, -1)
            products = torch.bmm((of_data @ some).view(36, -1, inside), kernels)
            pixels = (inverse @ products.view(36, -1)).view(4, 4, -1, across, outside)
            pixels = pixels.permute(2, 0, 3, 1, 4)
            if bias is None:
                y[row : row + rows].copy_(pixels)
            else:
                torch.add(pixels, bias, out=y[row : row + rows])
    convolved = made.view(n, height, width, outside).permute(0, 3, 1, 2)
    if plus is not None:
        convolved.view(-1, len(plus), outside, height, width).add_(plus)
    return convolved


@cache
def _transforms() -> tuple[Tensor, ...]:
    """Of data, [36, 36], of kernels, [36, 9], and back, [16, 36]; the paper's B^T, G and A^T."""
    data = [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
    kernels = [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
    inverse = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
    along = (torch.tensor(rows, dtype=torch.float64) for rows in (data, kernels, inverse))
    return tuple(torch.kron(one, one).float() for one in along)
