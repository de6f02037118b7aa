"""A picture made twice as large, each pixel four times, and then convolved: in fewer products.

Of the nine places that a 3 x 3 kernel looks at there, some are the same pixel of the small picture,
and their weights can be added up beforehand. Which, depends on whether a row and a column is even:

    rows of w     looks at             even  w0 | w1 + w2      odd  w0 + w1 | w2

So it is one convolution of the small picture with four kernels of 2 x 2, whose results lie between
each other: four products a pixel in place of nine, and the large picture is never built.
"""

import torch
from torch import Tensor

from sdfast.models.networks.layers import Conv, kernels

_LEAST = 64
"""Pixels of a small picture from which on it pays: the kernels are 16/9 as large, and for a few
pixels it is the kernels that are waited for. How many pictures there are does not count, or one
would come out otherwise beside others than alone."""


class Doubled:
    """A 3 x 3 convolution of a picture that is made twice as large."""

    def __init__(self) -> None:
        self._small: Conv | None = None

    def pays(self, conv: Conv, x: Tensor) -> bool:
        """Whether to call this for x, [n, c, h, w], in place of the convolution."""
        if kernels(x):
            return conv.stays
        return conv.is_laid_out and x.shape[2] * x.shape[3] >= _LEAST

    def __call__(self, conv: Conv, x: Tensor) -> Tensor:
        """[n, c, h, w] to [n, o, 2 h, 2 w]."""
        if self._small is None:
            self._small = _of_quarters(conv)
        if fused := kernels(x):
            return fused.spread(self._small(x, bare=True), conv.bias)
        n, _, height, width = x.shape
        quarters = self._small(x).unflatten(1, (4, -1))
        y = torch.empty(
            (n, quarters.shape[2], 2 * height, 2 * width),
            dtype=x.dtype,
            device=x.device,
            memory_format=torch.channels_last,
        )
        for number in range(4):
            row, column = divmod(number, 2)
            quarter = quarters[:, number, :, row : row + height, column : column + width]
            y[:, :, row::2, column::2].copy_(quarter)
        return y


def _of_quarters(conv: Conv) -> Conv:
    """A convolution for the quarters, laid out like the one of the whole."""
    weight = conv.plain_weight()
    out_channels, in_channels = weight.shape[:2]
    small = Conv(in_channels, 4 * out_channels, kernel=2, padding=1)
    kernel = added_up(weight).to(memory_format=torch.channels_last)
    small.weight = torch.nn.Parameter(kernel, requires_grad=False)
    small.bias = torch.nn.Parameter(conv.bias.repeat(4), requires_grad=False)
    small.lay_out()
    return small


def added_up(weight: Tensor) -> Tensor:
    """Kernels [o, c, 3, 3] as [4 o, c, 2, 2], those of even and odd rows and columns in turn."""
    rows = [_pair(weight.float(), 2, odd=odd) for odd in (False, True)]
    quarters = [_pair(row, 3, odd=odd) for row in rows for odd in (False, True)]
    return torch.cat(quarters).to(weight.dtype)


def _pair(w: Tensor, dim: int, *, odd: bool) -> Tensor:
    first, middle, last = (w.select(dim, i) for i in range(3))
    return torch.stack([first + middle, last] if odd else [first, middle + last], dim)
