"""What stands between two products, as one kernel each: for CUDA, in Triton.

Plain torch starts a kernel for a bias, one for a sum, and for a norm of pictures with channels last
five, two of which only turn the picture around. Most of these pictures lie in the GPU's cache, so
it is the number of kernels that costs. Sums are in float32 and in a fixed order: the same input
gives the same output, to the bit.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sdfast.models.networks.group_norm import group_norm, group_norm_of_both
from sdfast.models.networks.launch import where_it_is

__all__ = [
    "add_",
    "gelu_times",
    "group_norm",
    "group_norm_of_both",
    "layer_norm",
    "spread",
    "sum_and_norm",
]


@where_it_is
def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """`F.layer_norm` of [..., c]."""
    return _layer_norm(x, None, None, weight, bias, eps)[1]


@where_it_is
def sum_and_norm(
    x: Tensor,
    plus: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    ahead: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """x + plus, [..., c], and `F.layer_norm` of it. `plus` may have fewer rows, and is repeated.

    ahead   [c], in the sum alone: a bias of what will be added to it next; or None
    """
    return _layer_norm(x, plus, ahead, weight, bias, eps)


def _layer_norm(
    x: Tensor,
    plus: Tensor | None,
    ahead: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    eps: float,
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
        x, other, x if ahead is None else ahead, weight, bias, summed, y, rows, again, eps,
        PLUS=plus is not None, AHEAD=ahead is not None,
        WIDTH=width, LANES=lanes, TOGETHER=together,
    )  # fmt: skip
    return summed, y


@triton.jit(do_not_specialize=["rows", "again", "eps"])
def _norm_rows(
    x, plus, ahead, weight, bias, summed, y, rows, again, eps,
    PLUS: tl.constexpr, AHEAD: tl.constexpr,
    WIDTH: tl.constexpr, LANES: tl.constexpr, TOGETHER: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * TOGETHER + tl.arange(0, TOGETHER)[:, None]
    lane = tl.arange(0, LANES)[None, :]
    on_lane = lane < WIDTH
    on = on_lane & (row < rows)
    at = row.to(tl.int64) * WIDTH + lane
    v = tl.load(x + at, mask=on, other=0).to(tl.float32)
    if PLUS:
        other = (row % again).to(tl.int64) * WIDTH + lane
        v += tl.load(plus + other, mask=on, other=0).to(tl.float32)
        kept = v
        if AHEAD:
            kept += tl.load(ahead + lane, mask=on_lane, other=0).to(tl.float32)
        tl.store(summed + at, kept, mask=on)
    v = tl.where(on, v - (tl.sum(v, 1) / WIDTH)[:, None], 0)
    v *= tl.rsqrt(tl.sum(v * v, 1) / WIDTH + eps)[:, None]
    v *= tl.load(weight + lane, mask=on_lane, other=0).to(tl.float32)
    v += tl.load(bias + lane, mask=on_lane, other=0).to(tl.float32)
    tl.store(y + at, v, mask=on)


@where_it_is
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


@where_it_is
def spread(quarters: Tensor, bias: Tensor) -> Tensor:
    """Four pictures between each other, and a bias: what a `Doubled` convolution comes to.

    quarters   [n, 4 c, h + 1, w + 1] with channels last: of even and odd rows and columns in turn;
               what is of odd ones begins a row or a column later
    bias       [c]

    [n, c, 2 h, 2 w] with channels last.
    """
    n, channels, height, width = quarters.shape
    channels, height, width = channels // 4, height - 1, width - 1
    quarters = quarters.contiguous(memory_format=torch.channels_last)
    y = torch.empty(
        (n, channels, 2 * height, 2 * width),
        dtype=quarters.dtype,
        device=quarters.device,
        memory_format=torch.channels_last,
    )
    pixels = n * height * width
    _spread[(triton.cdiv(pixels, 16), triton.cdiv(channels, 64))](
        quarters, bias, y, pixels, height, width, channels, ROWS=16, LANES=64
    )
    return y


@triton.jit(do_not_specialize=["pixels", "height", "width"])
def _spread(
    quarters, bias, y, pixels, height, width, channels, ROWS: tl.constexpr, LANES: tl.constexpr
):
    pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)[None, :]
    on = (lane < channels) & (pixel < pixels)
    raised = tl.load(bias + lane, mask=lane < channels, other=0).to(tl.float32)
    row, column = pixel // width, pixel % width  # of all pictures below each other
    from_row = row + row // height
    for down in tl.static_range(2):
        for right in tl.static_range(2):
            at = (from_row + down) * (width + 1) + column + right
            place = (at * 4 + down * 2 + right).to(tl.int64) * channels + lane
            v = tl.load(quarters + place, mask=on, other=0).to(tl.float32) + raised
            to = (2 * row + down) * (2 * width) + 2 * column + right
            tl.store(y + to.to(tl.int64) * channels + lane, v, mask=on)


@where_it_is
def gelu_times(gate: Tensor, value: Tensor) -> Tensor:
    """GELU of the gate, times the value, [..., c]: parts of rows as long as each other's."""
    y = torch.empty(value.shape, dtype=value.dtype, device=value.device)
    width = y.shape[-1]
    rows = y.numel() // width
    _gelu_times[(triton.cdiv(rows, 8), triton.cdiv(width, 128))](
        gate, value, y, rows, value.stride(-2), width, ROWS=8, LANES=128
    )
    return y


@triton.jit(do_not_specialize=["rows"])
def _gelu_times(gate, value, y, rows, stride, width, ROWS: tl.constexpr, LANES: tl.constexpr):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]).to(tl.int64)
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)[None, :]
    on = (lane < width) & (row < rows)
    g = tl.load(gate + row * stride + lane, mask=on, other=0).to(tl.float32)
    v = tl.load(value + row * stride + lane, mask=on, other=0).to(tl.float32)
    tl.store(y + row * width + lane, 0.5 * g * (1 + tl.erf(g * 0.7071067811865476)) * v, mask=on)
