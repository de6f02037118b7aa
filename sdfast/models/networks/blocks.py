"""Residual blocks and transformers, the two things a UNet alternates; a VAE has the first only."""

from collections.abc import Iterator
from typing import NamedTuple, cast

import torch.nn.functional as F
from torch import Tensor, nn

from sdfast.models.networks import onednn
from sdfast.models.networks.attention import attend
from sdfast.models.networks.doubled import Doubled
from sdfast.models.networks.layers import (
    Conv,
    Linear,
    as_pixels,
    as_tokens,
    blank,
    by_head,
    in_rows,
    kernels,
)
from sdfast.models.networks.norms import GroupNorm, LayerNorm


class Keys(NamedTuple):
    """What a prompt looks like to one layer of attention, [n, heads, tokens, width]."""

    keys: Tensor
    values: Tensor


class ResBlock(nn.Module):
    """Two convolutions beside a shortcut; in a UNet the first is told the time."""

    def __init__(
        self, in_channels: int, out_channels: int, groups: int, eps: float, time: int | None = None
    ) -> None:
        super().__init__()
        self.norm1 = GroupNorm(groups, in_channels, eps)
        self.conv1 = Conv(in_channels, out_channels)
        self.time_emb_proj = Linear(time, out_channels) if time else None
        self.norm2 = GroupNorm(groups, out_channels, eps)
        self.conv2 = Conv(out_channels, out_channels)
        self.conv_shortcut = (
            Linear(in_channels, out_channels) if in_channels != out_channels else None
        )

    def shift(self, time: Tensor) -> Tensor:
        """What the time adds to each channel, the bias besides, [n, c] of [n, width]."""
        assert self.time_emb_proj is not None
        return self.time_emb_proj(time) + self.conv1.bias

    def forward(self, x: Tensor, shift: Tensor | None = None, skip: Tensor | None = None) -> Tensor:
        """`shift` has a row for each picture, or one that holds for all; x may have fewer.

        skip    what was seen on the way down, whose channels come behind those of x; it may have
                fewer rows
        """
        if skip is None:
            h = self.norm1(x, silu=True)
        else:
            x, h = self.norm1.of_both(x, skip)
        h = self.norm2.after(self.conv1, h, shift)
        if self.conv_shortcut is not None:  # of one pixel each: a linear map
            x = as_pixels(self.conv_shortcut(as_tokens(x)), x)
        return self.conv2(h, x)


class SelfAttention(nn.Module):
    """Every pixel asks every other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.to_qkv = Linear(width, 3 * width, bias=False)
        self.to_out = nn.ModuleList([Linear(width, width)])
        self._heads = heads

    @property
    def out(self) -> Linear:
        """What is found goes through it, and is added to what asked."""
        return cast("Linear", self.to_out[0])

    def forward(self, x: Tensor) -> Tensor:
        """What is found, [n, tokens, width]."""
        q, k, v = (by_head(part, self._heads) for part in self.to_qkv(x).chunk(3, -1))
        found = attend(q, k, v)
        return found.transpose(1, 2).flatten(2)


class CrossAttention(nn.Module):
    """Every pixel asks the words of the prompt, which stay the same for the whole walk."""

    def __init__(self, width: int, heads: int, context_dim: int) -> None:
        super().__init__()
        self.to_q = Linear(width, width, bias=False)
        self.to_kv = Linear(context_dim, 2 * width, bias=False)
        self.to_out = nn.ModuleList([Linear(width, width)])
        self.width = width
        self._heads = heads

    def read(self, words: Tensor) -> Keys:
        """Keys and values of a prompt's states, [n, tokens, width]."""
        parts = self.to_kv(words).chunk(2, -1)
        return self.keys(*(part.contiguous() for part in parts))

    def keys(self, keys: Tensor, values: Tensor) -> Keys:
        """As they lie behind each other, [n, tokens, width]."""
        return Keys(by_head(keys, self._heads), by_head(values, self._heads))

    @property
    def out(self) -> Linear:
        """What is found goes through it, and is added to what asked."""
        return cast("Linear", self.to_out[0])

    def forward(self, x: Tensor, prompt: Keys) -> Tensor:
        """What is found, as many rows as the prompt; x may have fewer."""
        rows = len(prompt.keys)
        asking = by_head(in_rows(self.to_q(x), rows), self._heads)
        found = F.scaled_dot_product_attention(asking, *prompt)
        return found.transpose(1, 2).flatten(2)


class GatedLinear(nn.Module):
    """Half of a product, times the other half through GELU (arXiv 2002.05202)."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight, self.bias = blank(2 * out_features, in_features), blank(2 * out_features)
        self._halves: list[Linear] = []

    def lay_out(self) -> None:
        """On a processor that lays weights out, make two products of it: one takes the other."""
        if not onednn.packs(self.weight):
            return
        for weight, bias in zip(self.weight.chunk(2), self.bias.chunk(2), strict=True):
            half = Linear(*weight.shape[::-1])
            half.weight = nn.Parameter(weight, requires_grad=False)
            half.bias = nn.Parameter(bias.clone(), requires_grad=False)
            half.lay_out()
            self._halves.append(half)
        del self.weight

    def forward(self, x: Tensor) -> Tensor:
        if self._halves:
            value, gate = self._halves
            return value(x, "mul", gate(x, "gelu"))
        value, gate = F.linear(x, self.weight, self.bias).chunk(2, -1)
        if fused := kernels(x):
            return fused.gelu_times(gate, value)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """Each pixel by itself, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleDict(
            {
                "0": nn.ModuleDict({"proj": GatedLinear(width, 4 * width)}),
                "2": Linear(4 * width, width),
            }
        )

    def forward(self, x: Tensor, plus: Tensor) -> Tensor:
        gated = cast("nn.ModuleDict", self.net["0"])["proj"](x)
        return self.net["2"](gated, "onto", plus)

    @property
    def bias(self) -> Tensor:
        """What `plus` is to have more of where there are `kernels`."""
        return cast("Tensor", self.net["2"].bias)


class TransformerBlock(nn.Module):
    """Pixels ask each other, then the prompt, then think."""

    def __init__(self, width: int, heads: int, context_dim: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(width)
        self.attn1 = SelfAttention(width, heads)
        self.norm2 = LayerNorm(width)
        self.attn2 = CrossAttention(width, heads, context_dim)
        self.norm3 = LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(self, x: Tensor, prompt: Keys) -> Tensor:
        found = self.attn1(self.norm1(x))
        x, normed = self.norm2.after(self.attn1.out, found, x)
        found = self.attn2(normed, prompt)
        x, normed = self.norm3.after(self.attn2.out, found, x, ahead=self.ff.bias)
        return self.ff(normed, x)


class Transformer(nn.Module):
    """Blocks of attention between two linear maps, beside a shortcut."""

    def __init__(self, width: int, heads: int, context_dim: int, groups: int, depth: int) -> None:
        super().__init__()
        self.norm = GroupNorm(groups, width, 1e-6)
        self.proj_in = Linear(width, width)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(width, heads, context_dim) for _ in range(depth)
        )
        self.proj_out = Linear(width, width)

    def forward(self, x: Tensor, prompt: Iterator[Keys]) -> Tensor:
        """Each block takes the next of what the prompt looks like."""
        h = self.proj_in(as_tokens(self.norm(x, ahead=self.proj_out.bias)))
        for block in self.transformer_blocks:
            h = block(h, next(prompt))
        x = in_rows(x, len(h))
        return as_pixels(self.proj_out(h, "onto", as_tokens(x)), x)


class Downsample(nn.Module):
    """Half as wide and as high."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = Conv(width, width, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Twice as wide and as high, or the size asked for."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = Conv(width, width, in_tiles=False)
        self._doubled = Doubled()

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        double = 2 * x.shape[-2], 2 * x.shape[-1]
        size = double if size is None else (size[0], size[1])
        if size == double and self._doubled.pays(self.conv, x):
            return self._doubled(self.conv, x)
        return self.conv(F.interpolate(x, size=size, mode="nearest"))
