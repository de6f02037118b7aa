"""Norms, of pictures and of words, and what comes before and after them."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdfast.models.networks.layers import Conv, Linear, blank, in_rows, kernels


class GroupNorm(nn.Module):
    """Each group of channels brought to mean 0 and variance 1."""

    def __init__(self, groups: int, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.bias = blank(width), blank(width)
        self._groups, self._eps = groups, eps

    def forward(self, x: Tensor, *, silu: bool = False, ahead: Tensor | None = None) -> Tensor:
        """[n, c, h, w], and SiLU after it if asked.

        ahead   [c], what x itself has more of afterwards where there are `kernels`: the bias of a
                product that goes `onto` it
        """
        if fused := kernels(x):
            return self._with(fused, x, None, ahead, silu=silu)
        y = F.group_norm(x, self._groups, self.weight, self.bias, self._eps)
        return F.silu(y, inplace=True) if silu else y

    def of_both(self, x: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        """x with another's channels behind its own, and SiLU of the norm of that.

        `skip` may be of fewer pictures, and is repeated.
        """
        if fused := kernels(x):
            scale = self.weight, self.bias, self._eps
            return fused.group_norm_of_both(x, skip, self._groups, *scale)
        both = torch.cat([x, in_rows(skip, len(x))], 1)
        return both, self(both, silu=True)

    def after(self, conv: Conv, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """SiLU of the norm of a convolution.

        shift   what each channel is raised by, [1, c] or [n, c], instead of the layer's own bias;
                x may have fewer pictures then, and is repeated
        """
        if fused := kernels(x):
            shift = conv.bias[None] if shift is None else shift
            return self._with(fused, _for_each(shift, conv(x, bare=True)), shift, silu=True)
        if shift is None:
            return self(conv(x), silu=True)
        if len(shift) == 1:
            return self(conv(x, bias=shift[0]), silu=True)
        return self(_for_each(shift, conv(x, bare=True)).add_(shift[:, :, None, None]), silu=True)

    def _with(
        self,
        fused: Any,
        x: Tensor,
        plus: Tensor | None,
        ahead: Tensor | None = None,
        *,
        silu: bool,
    ) -> Tensor:
        scale = self.weight, self.bias, self._eps
        return fused.group_norm(x, self._groups, *scale, plus, ahead, silu=silu)


def _for_each(shift: Tensor, x: Tensor) -> Tensor:
    """x, repeated if the shifts are of more pictures."""
    return in_rows(x, max(len(shift), len(x)))


class LayerNorm(nn.Module):
    """Each row brought to mean 0 and variance 1."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.bias = blank(width), blank(width)
        self._shape, self._eps = (width,), eps

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight, self.bias, self._eps
        if fused := kernels(x):
            return fused.layer_norm(x, *scale)
        return F.layer_norm(x, self._shape, *scale)

    def after(
        self, linear: Linear, x: Tensor, plus: Tensor, ahead: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The sum of a product and `plus`, which may have fewer rows and is repeated; its norm.

        ahead   [c], what the sum has more of where there are `kernels`, as `GroupNorm` has it
        """
        if fused := kernels(x):
            scale = self.weight, self.bias, self._eps
            return fused.sum_and_norm(linear(x), plus, *scale, ahead)
        summed = linear(x, "add", in_rows(plus, len(x)))
        return summed, self(summed)
