"""What stands between two products, as one kernel each: for CUDA, in Triton.

Plain torch starts a kernel for a bias, one for a sum, and for a norm of pictures with channels last
five, two of which only turn the picture around. Most of these pictures lie in the GPU's cache, so
it is the number of kernels that costs. Sums are in float32 and in a fixed order: the same input
gives the same output, to the bit.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# pyright: reportMissingImports=false, reportMissingTypeStubs=false

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = 4096
"""Numbers that a program holds at a time."""
_WHOLE = 16384
"""Up to so many numbers, a group is read once and brought to its norm by one program."""
_PROGRAMS = 512
"""As many as a large GPU can have on the way."""


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
    y = torch.empty_like(x)
    pixels, each = height * width, channels // groups
    lanes = triton.next_power_of_2(each)
    shift = x if plus is None else plus
    how: dict[str, Any] = {
        "CHANNELS": channels,
        "EACH": each,
        "LANES": lanes,
        "EPS": eps,
        "SILU": silu,
        "PLUS": plus is not None,
        "PER_PICTURE": int(plus is not None and len(plus) > 1),
    }
    rows = triton.next_power_of_2(pixels)
    if rows * lanes <= _WHOLE:
        warps = max(1, min(16, rows * lanes // 1024))
        _norm_whole[(n * groups,)](
            x, shift, weight, bias, y, pixels, groups, ROWS=rows, num_warps=warps, **how
        )
        return y
    together = 1
    while lanes * together < 64 and groups % (2 * together) == 0:
        together *= 2
    tiles = n * (groups // together)
    rows = max(1, _TILE // (lanes * together))
    splits = max(1, min(64, _PROGRAMS // tiles, pixels // rows))
    share = -(-pixels // (splits * rows)) * rows
    splits = -(-pixels // share)
    parts = torch.empty((3, n, groups, splits), dtype=torch.float32, device=x.device)
    how |= {"ROWS": rows, "TOGETHER": together}
    _norm_parts[(tiles, splits)](x, shift, parts, pixels, share, groups, n, **how)
    _norm_apply[(tiles, splits)](
        x, shift, weight, bias, parts, y, pixels, share, groups, n,
        SPLITS=splits, MOST=triton.next_power_of_2(splits), **how,
    )  # fmt: skip
    return y


@triton.jit
def _norm_whole(
    x, plus, weight, bias, y, pixels, groups,
    CHANNELS: tl.constexpr, EACH: tl.constexpr, LANES: tl.constexpr, EPS: tl.constexpr,
    SILU: tl.constexpr, PLUS: tl.constexpr, PER_PICTURE: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """One group of one picture."""
    picture = tl.program_id(0) // groups
    channel = (tl.program_id(0) % groups) * EACH + tl.arange(0, LANES)
    row = tl.arange(0, ROWS)[:, None]
    on = (tl.arange(0, LANES) < EACH)[None, :]
    at = (picture * pixels + row).to(tl.int64) * CHANNELS + channel[None, :]
    on_tile = on & (row < pixels)
    v = tl.load(x + at, mask=on_tile, other=0).to(tl.float32)
    if PLUS:
        shift = tl.load(plus + PER_PICTURE * picture * CHANNELS + channel[None, :], mask=on, other=0)
        v += shift.to(tl.float32)
    count = pixels * EACH * 1.0
    v = tl.where(on_tile, v, 0)
    v -= tl.sum(tl.sum(v, 1), 0) / count
    spread = tl.where(on_tile, v * v, 0)
    v *= tl.rsqrt(tl.sum(tl.sum(spread, 1), 0) / count + EPS)
    v *= tl.load(weight + channel[None, :], mask=on, other=0).to(tl.float32)
    v += tl.load(bias + channel[None, :], mask=on, other=0).to(tl.float32)
    if SILU:
        v *= tl.sigmoid(v)
    tl.store(y + at, v, mask=on_tile)


@triton.jit
def _norm_parts(
    x, plus, parts, pixels, share, groups, pictures,
    CHANNELS: tl.constexpr, EACH: tl.constexpr, LANES: tl.constexpr, EPS: tl.constexpr,
    SILU: tl.constexpr, PLUS: tl.constexpr, PER_PICTURE: tl.constexpr, ROWS: tl.constexpr,
    TOGETHER: tl.constexpr,
):  # fmt: skip
    """Count, mean and squared distance from it, of some groups in a share of the pixels.

    Parts are put together as Chan, Golub and LeVeque do (1983), which forgets no digits.
    """
    per = groups // TOGETHER
    picture = tl.program_id(0) // per
    group = (tl.program_id(0) % per) * TOGETHER + tl.arange(0, TOGETHER)
    lane = tl.arange(0, LANES)[None, None, :]
    channel = group[None, :, None] * EACH + lane
    on = lane < EACH
    begin = tl.program_id(1) * share
    end = tl.minimum(begin + share, pixels)
    if PLUS:
        shift = tl.load(plus + PER_PICTURE * picture * CHANNELS + channel, mask=on, other=0)
        shift = shift.to(tl.float32)
    count = 0.0
    mean = tl.zeros((TOGETHER,), tl.float32)
    apart = tl.zeros((TOGETHER,), tl.float32)
    for top in range(begin, end, ROWS):
        row = top + tl.arange(0, ROWS)[:, None, None]
        at = (picture * pixels + row).to(tl.int64) * CHANNELS + channel
        on_tile = on & (row < end)
        v = tl.load(x + at, mask=on_tile, other=0).to(tl.float32)
        if PLUS:
            v += shift
        v = tl.where(on_tile, v, 0)
        here = (tl.minimum(end - top, ROWS) * EACH).to(tl.float32)
        middle = tl.sum(tl.sum(v, 2), 0) / here
        v = tl.where(on_tile, v - middle[None, :, None], 0)
        off = middle - mean
        both = count + here
        mean += off * (here / both)
        apart += tl.sum(tl.sum(v * v, 2), 0) + off * off * (count * here / both)
        count = both
    splits = tl.num_programs(1)
    place = (picture * groups + group) * splits + tl.program_id(1)
    size = pictures * groups * splits
    tl.store(parts + place, mean * 0 + count)
    tl.store(parts + size + place, mean)
    tl.store(parts + 2 * size + place, apart)


@triton.jit
def _norm_apply(
    x, plus, weight, bias, parts, y, pixels, share, groups, pictures,
    CHANNELS: tl.constexpr, EACH: tl.constexpr, LANES: tl.constexpr, EPS: tl.constexpr,
    SILU: tl.constexpr, PLUS: tl.constexpr, PER_PICTURE: tl.constexpr, ROWS: tl.constexpr,
    TOGETHER: tl.constexpr, SPLITS: tl.constexpr, MOST: tl.constexpr,
):  # fmt: skip
    """Some groups in a share of the pixels, brought to the norm that all parts tell."""
    per = groups // TOGETHER
    picture = tl.program_id(0) // per
    group = (tl.program_id(0) % per) * TOGETHER + tl.arange(0, TOGETHER)
    part = tl.arange(0, MOST)[None, :]
    place = (picture * groups + group)[:, None] * SPLITS + part
    size = pictures * groups * SPLITS
    count = tl.load(parts + place, mask=part < SPLITS, other=0)
    middle = tl.load(parts + size + place, mask=part < SPLITS, other=0)
    apart = tl.load(parts + 2 * size + place, mask=part < SPLITS, other=0)
    total = pixels * EACH * 1.0
    mean = tl.sum(count * middle, 1) / total
    off = middle - mean[:, None]
    scale = tl.rsqrt(tl.sum(apart + count * off * off, 1) / total + EPS)

    lane = tl.arange(0, LANES)[None, None, :]
    channel = group[None, :, None] * EACH + lane
    on = lane < EACH
    scale = scale[None, :, None] * tl.load(weight + channel, mask=on, other=0).to(tl.float32)
    low = tl.load(bias + channel, mask=on, other=0).to(tl.float32) - mean[None, :, None] * scale
    if PLUS:
        shift = tl.load(plus + PER_PICTURE * picture * CHANNELS + channel, mask=on, other=0)
        low += shift.to(tl.float32) * scale
    begin = tl.program_id(1) * share
    end = tl.minimum(begin + share, pixels)
    for top in range(begin, end, ROWS):
        row = top + tl.arange(0, ROWS)[:, None, None]
        at = (picture * pixels + row).to(tl.int64) * CHANNELS + channel
        on_tile = on & (row < end)
        v = tl.load(x + at, mask=on_tile, other=0).to(tl.float32) * scale + low
        if SILU:
            v *= tl.sigmoid(v)
        tl.store(y + at, v, mask=on_tile)


def layer_norm(
    x: Tensor, plus: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """x + plus, [..., c], and `F.layer_norm` of it. `plus` may have fewer rows, and is repeated."""
    width = x.shape[-1]
    rows = x.numel() // width
    lanes = triton.next_power_of_2(width)
    together = max(1, 2048 // lanes)
    summed, y = torch.empty_like(x), torch.empty_like(x)
    _sum_and_norm[(triton.cdiv(rows, together),)](
        x, plus, weight, bias, summed, y, rows, plus.numel() // width,
        WIDTH=width, LANES=lanes, TOGETHER=together, EPS=eps,
    )  # fmt: skip
    return summed, y


@triton.jit
def _sum_and_norm(
    x, plus, weight, bias, summed, y, rows, again,
    WIDTH: tl.constexpr, LANES: tl.constexpr, TOGETHER: tl.constexpr, EPS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * TOGETHER + tl.arange(0, TOGETHER)[:, None]
    lane = tl.arange(0, LANES)[None, :]
    on_lane = lane < WIDTH
    on = on_lane & (row < rows)
    at = row.to(tl.int64) * WIDTH + lane
    v = tl.load(x + at, mask=on, other=0).to(tl.float32)
    v += tl.load(plus + (row % again).to(tl.int64) * WIDTH + lane, mask=on, other=0).to(tl.float32)
    rounded = v.to(summed.dtype.element_ty)
    tl.store(summed + at, rounded, mask=on)
    v = tl.where(on, rounded.to(tl.float32), 0)
    v = tl.where(on, v - (tl.sum(v, 1) / WIDTH)[:, None], 0)
    v *= tl.rsqrt(tl.sum(v * v, 1) / WIDTH + EPS)[:, None]
    v *= tl.load(weight + lane, mask=on_lane, other=0).to(tl.float32)
    v += tl.load(bias + lane, mask=on_lane, other=0).to(tl.float32)
    tl.store(y + at, v, mask=on)


def add_(y: Tensor, bias: Tensor | None, plus: Tensor | None) -> Tensor:
    """y with a bias for each channel and another picture added, [n, c, h, w] with channels last.

    bias   [c], or None
    plus   as y, or of fewer pictures, which are repeated; or None
    """
    if plus is not None:
        plus = plus.contiguous(memory_format=torch.channels_last)
    channels = y.shape[1]
    pixels = y.numel() // channels
    _add[(triton.cdiv(pixels, 32), triton.cdiv(channels, 64))](
        y, y if bias is None else bias, y if plus is None else plus, pixels,
        pixels if plus is None else plus.numel() // channels,
        CHANNELS=channels, BIAS=bias is not None, PLUS=plus is not None, ROWS=32, LANES=64,
    )  # fmt: skip
    return y


@triton.jit
def _add(
    y, bias, plus, pixels, again,
    CHANNELS: tl.constexpr, BIAS: tl.constexpr, PLUS: tl.constexpr, ROWS: tl.constexpr,
    LANES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)[None, :]
    on = (lane < CHANNELS) & (row < pixels)
    at = row.to(tl.int64) * CHANNELS + lane
    v = tl.load(y + at, mask=on, other=0).to(tl.float32)
    if BIAS:
        v += tl.load(bias + lane, mask=lane < CHANNELS, other=0).to(tl.float32)
    if PLUS:
        other = (row % again).to(tl.int64) * CHANNELS + lane
        v += tl.load(plus + other, mask=on, other=0).to(tl.float32)
    tl.store(y + at, v, mask=on)


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
