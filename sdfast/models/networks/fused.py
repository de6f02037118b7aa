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

import torch
import triton
import triton.language as tl
from torch import Tensor

from sdfast.models.networks.group_norm import group_norm
from sdfast.models.networks.launch import where_it_is

__all__ = ["add_", "gelu_times", "group_norm", "layer_norm", "sum_and_norm", "twice"]


@where_it_is
def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """`F.layer_norm` of [..., c]."""
    return _layer_norm(x, None, weight, bias, eps)[1]


@where_it_is
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


@where_it_is
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
