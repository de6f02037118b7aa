"""What stands between two products, as one kernel each: for CUDA, in Triton.

Plain torch starts a kernel for a bias, one for a sum, and for a norm of pictures with channels last
five, two of which only turn the picture around. Most of these pictures lie in the GPU's cache, so
it is the number of kernels that costs. Sums are in float32 and in a fixed order: the same input
gives the same output, to the bit.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# pyright: reportMissingImports=false, reportMissingTypeStubs=false, reportIndexIssue=false

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import torch
import triton
import triton.language as tl
from torch import Tensor

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _where_it_is(
    function: Callable[Concatenate[Tensor, _P], _R],
) -> Callable[Concatenate[Tensor, _P], _R]:
    """The function with its first tensor's GPU as the current one, which Triton launches on."""

    @wraps(function)
    def launch(x: Tensor, *more: _P.args, **how: _P.kwargs) -> _R:
        with torch.cuda.device_of(x):
            return function(x, *more, **how)

    return launch


_LANES = 64
"""Channels that a program takes side by side."""
_PROGRAMS = 1024
"""As many as a large GPU has on the way."""
_PARTS = 512
"""What a picture is cut into at the most, to look at its numbers."""


@_where_it_is
def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    plus: Tensor | None = None,
    *,
    silu: bool = False,
) -> Tensor:
    """`F.group_norm` of x + plus, [n, c, h, w] with channels last, and SiLU after it if asked.

    plus   a number for each channel, [1, c] or [n, c], or None
    """
    n, channels, height, width = x.shape
    x = x.contiguous(memory_format=torch.channels_last)
    pixels = height * width
    beside = triton.cdiv(channels, _LANES)
    splits = max(1, min(_PARTS, _PROGRAMS // (n * beside), pixels // 32))
    share = triton.cdiv(pixels, splits)
    splits = triton.cdiv(pixels, share)
    parts = torch.empty((2, n, splits, channels), dtype=torch.float32, device=x.device)
    _look[(beside, splits, n)](x, parts, pixels, share, channels, ROWS=64, LANES=_LANES)
    line = torch.empty((2, n, channels), dtype=torch.float32, device=x.device)
    added = (weight, -1) if plus is None else (plus.contiguous(), channels * (len(plus) > 1))
    _agree[(groups, n)](
        parts, *added, weight, bias, line, pixels, share, splits, channels, eps, BLOCK=512
    )
    y = torch.empty_like(x)
    _bring[(triton.cdiv(pixels, 32), beside, n)](
        x, line, y, pixels, channels, int(silu), ROWS=32, LANES=_LANES
    )
    return y


@triton.jit(do_not_specialize=["pixels", "share"])
def _look(x, parts, pixels, share, channels, ROWS: tl.constexpr, LANES: tl.constexpr):
    """Each channel's mean in a share of the pixels, and its squared distance from it.

    Tiles are put together as Chan, Golub and LeVeque do (1983), which forgets no digits.
    """
    lane = tl.program_id(0) * LANES + tl.arange(0, LANES)
    picture = tl.program_id(2)
    on = lane < channels
    begin = tl.program_id(1) * share
    end = tl.minimum(begin + share, pixels)
    count = 0.0
    mean = tl.zeros((LANES,), tl.float32)
    apart = tl.zeros((LANES,), tl.float32)
    for top in range(begin, end, ROWS):
        row = top + tl.arange(0, ROWS)[:, None]
        at = (picture * pixels + row).to(tl.int64) * channels + lane[None, :]
        v = tl.load(x + at, mask=on[None, :] & (row < end), other=0).to(tl.float32)
        here = tl.minimum(end - top, ROWS) * 1.0
        middle = tl.sum(v, 0) / here
        v = tl.where(row < end, v - middle[None, :], 0)
        off = middle - mean
        both = count + here
        mean += off * (here / both)
        apart += tl.sum(v * v, 0) + off * off * (count * here / both)
        count = both
    splits = tl.num_programs(1)
    place = (picture * splits + tl.program_id(1)) * channels + lane
    tl.store(parts + place, mean, mask=on)
    tl.store(parts + tl.num_programs(2) * splits * channels + place, apart, mask=on)


@triton.jit(do_not_specialize=["added", "pixels", "share", "splits", "channels", "eps"])
def _agree(
    parts, plus, added, weight, bias, line, pixels, share, splits, channels, eps,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """A group's norm as a line for each of its channels: what to multiply by, and to add."""
    each = channels // tl.num_programs(0)
    first = tl.program_id(0) * each
    picture = tl.program_id(1)
    pictures = tl.num_programs(1)
    total = pixels * each * 1.0
    whole = tl.zeros((BLOCK,), tl.float32)
    for begin in range(0, splits * each, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        part, channel = i // each, first + i % each
        on = part < splits
        count = tl.minimum(pixels - part * share, share) * 1.0
        mean = tl.load(parts + (picture * splits + part) * channels + channel, mask=on, other=0)
        shift = tl.load(plus + picture * added + channel, mask=on & (added >= 0), other=0)
        whole += tl.where(on, count * (mean + shift.to(tl.float32)), 0)
    middle = tl.sum(whole, 0) / total
    apart = tl.zeros((BLOCK,), tl.float32)
    for begin in range(0, splits * each, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        part, channel = i // each, first + i % each
        on = part < splits
        count = tl.minimum(pixels - part * share, share) * 1.0
        place = (picture * splits + part) * channels + channel
        mean = tl.load(parts + place, mask=on, other=0)
        inside = tl.load(parts + pictures * splits * channels + place, mask=on, other=0)
        shift = tl.load(plus + picture * added + channel, mask=on & (added >= 0), other=0)
        off = mean + shift.to(tl.float32) - middle
        apart += tl.where(on, inside + count * off * off, 0)
    scale = tl.rsqrt(tl.sum(apart, 0) / total + eps)
    for begin in range(0, each, BLOCK):
        channel = first + begin + tl.arange(0, BLOCK)
        on = channel < first + each
        times = scale * tl.load(weight + channel, mask=on, other=0).to(tl.float32)
        shift = tl.load(plus + picture * added + channel, mask=on & (added >= 0), other=0)
        low = tl.load(bias + channel, mask=on, other=0).to(tl.float32)
        low += (shift.to(tl.float32) - middle) * times
        tl.store(line + picture * channels + channel, times, mask=on)
        tl.store(line + (pictures + picture) * channels + channel, low, mask=on)


@triton.jit(do_not_specialize=["pixels", "silu"])
def _bring(x, line, y, pixels, channels, silu, ROWS: tl.constexpr, LANES: tl.constexpr):
    """Each channel along its line."""
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)[None, :]
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    picture = tl.program_id(2)
    on = lane < channels
    times = tl.load(line + picture * channels + lane, mask=on, other=0)
    low = tl.load(line + (tl.num_programs(2) + picture) * channels + lane, mask=on, other=0)
    on = on & (row < pixels)
    at = (picture * pixels + row).to(tl.int64) * channels + lane
    v = tl.load(x + at, mask=on, other=0).to(tl.float32) * times + low
    if silu != 0:
        v *= tl.sigmoid(v)
    tl.store(y + at, v, mask=on)


@_where_it_is
def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """`F.layer_norm` of [..., c]."""
    return _layer_norm(x, None, weight, bias, eps)[1]


@_where_it_is
def sum_and_norm(
    x: Tensor, plus: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """x + plus, [..., c], and `F.layer_norm` of it. `plus` may have fewer rows, and is repeated."""
    return _layer_norm(x, plus, weight, bias, eps)


def _layer_norm(
    x: Tensor, plus: Tensor | None, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    x = x.contiguous()
    width = x.shape[-1]
    rows = x.numel() // width
    lanes = triton.next_power_of_2(width)
    together = max(1, 2048 // lanes)
    y = torch.empty_like(x)
    summed = y if plus is None else torch.empty_like(x)
    other, again = (x, rows) if plus is None else (plus.contiguous(), plus.numel() // width)
    _norm_rows[(triton.cdiv(rows, together),)](
        x, other, weight, bias, summed, y, rows, again, eps,
        PLUS=plus is not None, WIDTH=width, LANES=lanes, TOGETHER=together,
    )  # fmt: skip
    return summed, y


@triton.jit(do_not_specialize=["rows", "again", "eps"])
def _norm_rows(
    x, plus, weight, bias, summed, y, rows, again, eps,
    PLUS: tl.constexpr, WIDTH: tl.constexpr, LANES: tl.constexpr, TOGETHER: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * TOGETHER + tl.arange(0, TOGETHER)[:, None]
    lane = tl.arange(0, LANES)[None, :]
    on_lane = lane < WIDTH
    on = on_lane & (row < rows)
    at = row.to(tl.int64) * WIDTH + lane
    v = tl.load(x + at, mask=on, other=0).to(tl.float32)
    if PLUS:
        other = (row % again).to(tl.int64) * WIDTH + lane
        rounded = (v + tl.load(plus + other, mask=on, other=0).to(tl.float32)).to(
            summed.dtype.element_ty
        )
        tl.store(summed + at, rounded, mask=on)
        v = rounded.to(tl.float32)
    v = tl.where(on, v - (tl.sum(v, 1) / WIDTH)[:, None], 0)
    v *= tl.rsqrt(tl.sum(v * v, 1) / WIDTH + eps)[:, None]
    v *= tl.load(weight + lane, mask=on_lane, other=0).to(tl.float32)
    v += tl.load(bias + lane, mask=on_lane, other=0).to(tl.float32)
    tl.store(y + at, v, mask=on)


@_where_it_is
def add_(y: Tensor, bias: Tensor | None, plus: Tensor | None) -> Tensor:
    """y with a bias for each channel and another picture added, [n, c, h, w] with channels last.

    bias   [c], or None
    plus   as y, or of fewer pictures, which are repeated; or None
    """
    y = y.contiguous(memory_format=torch.channels_last)
    if plus is not None:
        plus = plus.contiguous(memory_format=torch.channels_last)
    channels = y.shape[1]
    pixels = y.numel() // channels
    _add[(triton.cdiv(pixels, 32), triton.cdiv(channels, 64))](
        y, y if bias is None else bias, y if plus is None else plus, pixels,
        pixels if plus is None else plus.numel() // channels, channels,
        BIAS=bias is not None, PLUS=plus is not None, ROWS=32, LANES=64,
    )  # fmt: skip
    return y


@triton.jit(do_not_specialize=["pixels", "again"])
def _add(
    y, bias, plus, pixels, again, channels,
    BIAS: tl.constexpr, PLUS: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)[None, :]
    on = (lane < channels) & (row < pixels)
    at = row.to(tl.int64) * channels + lane
    v = tl.load(y + at, mask=on, other=0).to(tl.float32)
    if BIAS:
        v += tl.load(bias + lane, mask=lane < channels, other=0).to(tl.float32)
    if PLUS:
        other = (row % again).to(tl.int64) * channels + lane
        v += tl.load(plus + other, mask=on, other=0).to(tl.float32)
    tl.store(y + at, v, mask=on)


@_where_it_is
def twice(x: Tensor) -> Tensor:
    """Each pixel four times, [n, c, h, w] to [n, c, 2 h, 2 w], with channels last."""
    n, channels, height, width = x.shape
    x = x.contiguous(memory_format=torch.channels_last)
    shape = (n, channels, 2 * height, 2 * width)
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    pixels = n * height * width
    _twice[(triton.cdiv(pixels, 16), triton.cdiv(channels, 64))](
        x, y, pixels, width, channels, ROWS=16, LANES=64
    )
    return y


@triton.jit(do_not_specialize=["pixels", "width"])
def _twice(x, y, pixels, width, channels, ROWS: tl.constexpr, LANES: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)[None, :]
    on = (lane < channels) & (row < pixels)
    v = tl.load(x + row.to(tl.int64) * channels + lane, mask=on, other=0)
    first = (row // width) * (4 * width) + (row % width) * 2
    for down in tl.static_range(2):
        for right in tl.static_range(2):
            to = (first + down * 2 * width + right).to(tl.int64) * channels + lane
            tl.store(y + to, v, mask=on)


@_where_it_is
def gelu_times(gate: Tensor, value: Tensor) -> Tensor:
    """GELU of the gate, times the value; both contiguous, of one shape."""
    y = torch.empty_like(value)
    block = 1024
    _gelu_times[(triton.cdiv(y.numel(), block),)](gate, value, y, y.numel(), BLOCK=block)
    return y


@triton.jit
def _gelu_times(gate, value, y, count, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    on = at < count
    g = tl.load(gate + at, mask=on, other=0).to(tl.float32)
    v = tl.load(value + at, mask=on, other=0).to(tl.float32)
    tl.store(y + at, 0.5 * g * (1 + tl.erf(g * 0.7071067811865476)) * v, mask=on)
