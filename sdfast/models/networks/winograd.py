"""3 x 3 convolutions in fewer products, on a CPU.

F(m x m, 3 x 3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015),
section 4: each m x m pixels are made of tiles of m + 2 by m + 2, transformed to where a convolution
is a product number by number, and back: (m + 2)**2 products in place of 9 m**2, besides the
transforms. With many channels, that is as many products of matrices. A few rows of tiles at a time
stay in the cache. The sums are exact but for rounding.

In float32, m is 4: a quarter of the products, and a relative error of 2e-6, three times that of the
plain sum. The kernels are transformed in each call: kept, they would be four times as large.

In bfloat16, m is 2: 4/9 of the products, and a relative error of 5e-3 in place of 2e-3. The kernels
are kept, 16/9 as large.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

_LEAST = 1024
"""Pixels of a picture from which on it pays in float32: with fewer, it is the kernels that are
waited for. How many pictures there are does not count, or one would come out otherwise beside
others than alone."""
_WIDE = 80
"""in_channels * out_channels / (in_channels + out_channels) from which on it pays: transforms are
work for each channel, what is saved is work for each pair of them."""
_PAIRS = 1_500_000
"""in_channels * out_channels up to which transformed kernels are not too large."""
_FLOATS = 8 << 20
"""Numbers of transformed tiles, before and after the products, at a time."""
_SIDES = {torch.float32: 4, torch.bfloat16: 2}
"""m, of which the transforms of bfloat16 hold no number that is not 0, 1 or -1."""


def pays(in_channels: int, out_channels: int) -> bool:
    """Whether a convolution has channels enough for it, and not too many."""
    return _WIDE * (in_channels + out_channels) <= in_channels * out_channels <= _PAIRS


def fits(x: Tensor) -> bool:
    """Whether pictures, [n, c, h, w], are float32 and whole tiles, enough of them for it to pay."""
    height, width = x.shape[2:]
    whole = height % 4 == width % 4 == 0
    return whole and height * width >= _LEAST and x.dtype == torch.float32


def transformed(weight: Tensor) -> Tensor:
    """Kernels [o, c, 3, 3] as matrices, [(m + 2)**2, c, o]."""
    _, of_kernels, _ = _transforms(weight.dtype)
    out_channels, in_channels = weight.shape[:2]
    kernels = (of_kernels @ weight.float().reshape(-1, 9).T).view(-1, out_channels, in_channels)
    return kernels.transpose(1, 2).to(weight.dtype)


def convolve(x: Tensor, kernels: Tensor, bias: Tensor | None, plus: Tensor | None) -> Tensor:
    """What `F.conv2d(x, weight, bias, padding=1)` is, and plus added.

    x        [n, c, h, w] of float32 or bfloat16
    kernels  the weight, transformed
    bias     [o]
    plus     [m, o, h, w], repeated below itself to n rows
    """
    side = _SIDES[x.dtype]
    of_data, _, inverse = _transforms(x.dtype)
    count, in_channels, out_channels = kernels.shape
    n, _, height, width = x.shape
    down, across = -(-height // side), -(-width // side)
    rest = side * across - width, side * down - height
    pixels = x.permute(0, 2, 3, 1)
    made = x.new_empty(n, down, side, across, side, out_channels)
    rows = max(1, _FLOATS // (count * n * across * (in_channels + out_channels)))
    for row in range(0, down, rows):
        y = made[:, row : row + rows]
        top, bottom = side * row - 1, side * (row + y.shape[1]) + 1
        band = pixels[:, max(top, 0) : bottom]
        edges = (1, 1 + rest[0], int(top < 0), max(bottom - height, 0))
        tiles = F.pad(band, (0, 0, *edges)).unfold(1, side + 2, side).unfold(2, side + 2, side)
        some = of_data @ tiles.permute(4, 5, 0, 1, 2, 3).reshape(count, -1)
        products = torch.bmm(some.view(count, -1, in_channels), kernels)
        sums = (inverse @ products.view(count, -1)).view(side, side, n, -1, across, out_channels)
        sums = sums.permute(2, 3, 0, 4, 1, 5)
        if bias is None:
            y.copy_(sums)
        else:
            torch.add(sums, bias, out=y)
    convolved = made.view(n, side * down, side * across, out_channels).permute(0, 3, 1, 2)
    if any(rest):
        convolved = convolved[:, :, :height, :width].contiguous(memory_format=torch.channels_last)
    if plus is not None:
        convolved.view(-1, len(plus), out_channels, height, width).add_(plus)
    return convolved


@cache
def _transforms(dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Of data, of kernels, and back, for tiles [m + 2, m + 2] in a row; the paper's B^T, G, A^T.

    That of kernels is in float32, for they are rounded once they are transformed.
    """
    along = (torch.tensor(rows, dtype=torch.float64) for rows in _ALONG[_SIDES[dtype]])
    data, kernels, inverse = (torch.kron(one, one) for one in along)
    return data.to(dtype), kernels.float(), inverse.to(dtype)


_Rows = tuple[list[list[float]], ...]
_F2: _Rows = (
    [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
    [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
    [[1, 1, 1, 0], [0, 1, -1, -1]],
)
_F4: _Rows = (
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
)
_ALONG = {2: _F2, 4: _F4}
"""The three transforms along one side, by m."""
