"""Linear maps and convolutions: the few things all networks are made of.

On a CPU the weights are laid out once, when they are loaded or the size of the picture is known, as
oneDNN multiplies fastest; called from plain torch it would lay them out anew in each call. The same
calls take what follows the product along: an activation, a sum or a product then costs no trip
through memory of its own.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdfast.models.device import multiplies_vectors_of_bfloat16
from sdfast.models.malloc import give_back
from sdfast.models.networks import onednn, winograd

_LARGE_KERNELS = 4 << 20
"""Bytes from which on kernels are held for one size alone, and what they leave when they are laid
out for another goes back to the system."""


def blank(*shape: int) -> nn.Parameter:
    """A weight that has its shape and, until a file fills it, nothing else."""
    return nn.Parameter(torch.empty(shape, device="meta"), requires_grad=False)


_THEN: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "none": lambda y, _: y,
    "gelu": lambda y, _: F.gelu(y),
    "add": lambda y, other: y.add_(other),
    "mul": lambda y, other: y.mul_(other),
}
"""What may follow a product."""


def kernels(x: Tensor) -> Any:
    """`fused` where x is on CUDA, else None. A compiler makes its own, of the plain calls."""
    if not x.is_cuda or torch.compiler.is_compiling():
        return None
    return _fused(x.device, x.dtype)


@cache
def _fused(device: torch.device, dtype: torch.dtype) -> Any:
    """The kernels that Triton makes, tried once: it is not everywhere, and wants a C compiler."""
    try:
        from sdfast.models.networks import fused

        one = torch.ones(1, 1, device=device, dtype=dtype)
        fused.gelu_times(one, one)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        said = f"{error}".strip().split("\n")[0]
        warnings.warn(f"painting is slower without Triton's kernels: {said}", stacklevel=2)
        return None
    return fused


class Linear(nn.Module):
    """`x @ weight.T + bias`, and then what follows it: `gelu`, or `add` and `mul` with another.

    `onto` writes the sum over the other, which must have the bias already where there are
    `kernels`: what made it took it `ahead`. Elsewhere it is `add`.
    """

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = blank(out_features, in_features)
        self.bias = blank(out_features) if bias else None
        self._packed: Tensor | None = None

    def lay_out(self) -> None:
        """Lay the weights out for the processor; they are of no other use from then on."""
        if onednn.packs(self.weight):
            self._packed = onednn.operators()._reorder_linear_weight(self.weight)
            del self.weight

    def forward(self, x: Tensor, then: str = "none", other: Tensor | None = None) -> Tensor:
        if then == "onto":
            if other is not None and kernels(x):
                summed = other.flatten(0, -2)
                return summed.addmm_(x.flatten(0, -2), self.weight.T).view_as(other)
            then = "add"
        if self._packed is None:
            return _THEN[then](F.linear(x, self.weight, self.bias), other)
        multiply: Any = onednn.operators()._linear_pointwise
        if other is not None:
            return multiply.binary(x, other, self._packed, self.bias, then)
        return multiply(x, self._packed, self.bias, then, [], "none")


class Conv(nn.Module):
    """A convolution that keeps the size at stride 1, and then the sum with another tensor."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        padding: int | None = None,
        *,
        bias: bool = True,
        in_tiles: bool = True,
    ) -> None:
        super().__init__()
        self.weight = blank(out_channels, in_channels, kernel, kernel)
        self.bias = blank(out_channels)
        if not bias:
            self.register_parameter("bias", None)
        self._how = onednn.placing(kernel, stride, padding)
        keeps_size = kernel == 3 and self._how[:2] == ([1, 1], [1, 1])
        self._takes_tiles = in_tiles and keeps_size and winograd.pays(in_channels, out_channels)
        self._tiled: Tensor | None = None
        self._for_any_size = (
            out_channels >= 256 and out_channels % 64 == 0 and not onednn.size_matters()
        )
        self._packed: dict[torch.Size | None, Tensor] = {}
        self.is_laid_out = False
        self.stays = False
        """Its weight is where it is used, and does not come and go."""

    def lay_out(self) -> None:
        """Lay the weights out for the processor, or have that done in the first call.

        With AVX-512, many filters in whole blocks of 64 lie the same for pictures of any size.
        Others are laid out for the size that is asked for: in the wrong layout oneDNN turns them
        around in every call, at up to a hundred times the price of the call.
        """
        self.stays = True
        self.is_laid_out = onednn.packs(self.weight)
        if not self.is_laid_out:
            return
        in_half = self.weight.dtype == torch.bfloat16
        if in_half and self._takes_tiles and multiplies_vectors_of_bfloat16():
            self._tiled = winograd.transformed(self.weight).contiguous()
            del self.weight
        elif self._for_any_size:
            self._laid_out_for(None)

    def _laid_out_for(self, size: torch.Size | None) -> Tensor:
        """The weight as it lies for pictures of a size, [n, c, h, w], or of any."""
        if size in self._packed:
            return self._packed[size]
        weight, shape = self.plain_weight(), () if size is None else (list(size),)
        packed: Tensor = onednn.operators()._reorder_convolution_weight(weight, *self._how, *shape)
        is_large = weight.nbytes >= _LARGE_KERNELS
        others = {} if is_large or len(self._packed) > 3 else self._packed
        self._packed = {**others, size: packed}
        self._parameters.pop("weight", None)
        if size is not None and is_large:
            del weight
            give_back()
        return packed

    def plain_weight(self) -> Tensor:
        """The weight as it was before it was laid out."""
        weight = self._parameters.get("weight")
        return next(iter(self._packed.values())).to_dense() if weight is None else weight

    def forward(
        self,
        x: Tensor,
        plus: Tensor | None = None,
        bias: Tensor | None = None,
        *,
        bare: bool = False,
    ) -> Tensor:
        """`plus` may be of fewer pictures, and is repeated; `bias` stands in for its own.

        A bare one has no bias: that is for what comes after it to add.
        """
        bias = None if bare else self.bias if bias is None else bias
        if not self.is_laid_out:
            fused = kernels(x)
            y = F.conv2d(x, self.weight, None if fused else bias, self._how[1], self._how[0])
            if fused:
                return y if bias is None and plus is None else fused.add_(y, bias, plus)
            return y if plus is None else y.add_(in_rows(plus, len(y)))
        if self._tiled is not None:
            return winograd.convolve(x, self._tiled, bias, plus)
        if self._takes_tiles and winograd.fits(x):
            return winograd.convolve(x, winograd.transformed(self.plain_weight()), bias, plus)
        convolve: Any = onednn.operators()._convolution_pointwise
        weight = self._laid_out_for(None if self._for_any_size else x.shape)
        if plus is not None:
            none: list[float] = []
            then = ("add", None, None, none, None)
            return convolve.binary(x, in_rows(plus, len(x)), weight, bias, *self._how, *then)
        return convolve(x, weight, bias, *self._how, "none", [], "")


def stacked(maps: Sequence[Linear]) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of one product in place of several; the layers are left without weights."""
    weights: list[Tensor] = [one.weight for one in maps]
    biases: list[Tensor] = [one.bias for one in maps if one.bias is not None]
    both = torch.cat(weights), torch.cat(biases) if biases else None
    for one in maps:
        del one.weight, one.bias
    return both


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x), written over x."""
    return F.silu(x, inplace=True)


def in_rows(x: Tensor, rows: int) -> Tensor:
    """x, [n, ...], repeated below itself to so many rows.

    Guidance asks about the same latents twice; until the prompt comes in, once is enough.
    """
    return x if len(x) == rows else torch.cat([x] * (rows // len(x)))


def as_tokens(x: Tensor) -> Tensor:
    """[n, c, h, w] as [n, h * w, c]; with channels last in memory nothing is moved."""
    return torch.permute(x, (0, 2, 3, 1)).flatten(1, 2)


def as_pixels(x: Tensor, like: Tensor) -> Tensor:
    """[n, h * w, c] as [n, c, h, w], as high and wide as another."""
    n, _, height, width = like.shape
    return torch.permute(x.view(n, height, width, -1), (0, 3, 1, 2))


def by_head(x: Tensor, heads: int) -> Tensor:
    """[n, tokens, c] as [n, heads, tokens, c / heads]."""
    return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)
