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

_WHOLE = 16384
"""Up to so many numbers, a group is read once and brought to its norm by one program."""
_TILE = 4096
"""Numbers that a program holds at a time otherwise."""
_PROGRAMS = 1024
"""As many as a large GPU has on the way."""
_PARTS = 128
"""What a group is cut into at the most."""


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
    rows = triton.next_power_of_2(pixels)
    shape = {"CHANNELS": channels, "EACH": each, "LANES": lanes}
    added = (weight, -1) if plus is None else (plus, channels * (len(plus) > 1))
    if rows * lanes <= _WHOLE:
        warps = max(1, min(16, rows * lanes // 1024))
        _norm_whole[(n * groups,)](
            x, *added, weight, bias, y, pixels, groups, eps, int(silu),
            ROWS=rows, num_warps=warps, **shape,
        )  # fmt: skip
        return y
    together = 1
    while lanes * together < 64 and groups % (2 * together) == 0:
        together *= 2
    tiles = n * (groups // together)
    rows = max(1, _TILE // (lanes * together))
    splits = max(1, min(_PARTS, _PROGRAMS // tiles, pixels // rows))
    share = -(-pixels // (splits * rows)) * rows
    splits = -(-pixels // share)
    parts = torch.empty((3, n, groups, splits), dtype=torch.float32, device=x.device)
    size = n * groups * splits
    shape |= {"ROWS": rows, "TOGETHER": together}
    _norm_parts[(tiles, splits)](
        x, *added, parts, size, pixels, share, groups, num_warps=8, **shape
    )
    _norm_apply[(tiles, splits)](
        x, *added, weight, bias, parts, size, y, pixels, share, groups, eps, int(silu),
        PARTS=_PARTS, num_warps=8, **shape,
    )  # fmt: skip
    return y


@triton.jit(do_not_specialize=["added", "pixels", "groups", "eps", "silu"])
def _norm_whole(
    x, plus, added, weight, bias, y, pixels, groups, eps, silu,
    CHANNELS: tl.constexpr, EACH: tl.constexpr, LANES: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """One group of one picture."""
    picture = tl.program_id(0) // groups
    channel = (tl.program_id(0) % groups) * EACH + tl.arange(0, LANES)[None, :]
    row = tl.arange(0, ROWS)[:, None]
    on = tl.arange(0, LANES)[None, :] < EACH
    at = (picture * pixels + row).to(tl.int64) * CHANNELS + channel
    on_tile = on & (row < pixels)
    shift = tl.load(plus + picture * added + channel, mask=on & (added >= 0), other=0)
    v = tl.load(x + at, mask=on_tile, other=0).to(tl.float32) + shift.to(tl.float32)
    count = pixels * EACH * 1.0
    v = tl.where(on_tile, v, 0)
    v -= tl.sum(tl.sum(v, 1), 0) / count
    apart = tl.where(on_tile, v * v, 0)
    v *= tl.rsqrt(tl.sum(tl.sum(apart, 1), 0) / count + eps)
    v *= tl.load(weight + channel, mask=on, other=0).to(tl.float32)
    v += tl.load(bias + channel, mask=on, other=0).to(tl.float32)
    if silu != 0:
        v *= tl.sigmoid(v)
    tl.store(y + at, v, mask=on_tile)


@triton.jit(do_not_specialize=["added", "size", "pixels", "share", "groups"])
def _norm_parts(
    x, plus, added, parts, size, pixels, share, groups,
    CHANNELS: tl.constexpr, EACH: tl.constexpr, LANES: tl.constexpr, ROWS: tl.constexpr,
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
    shift = tl.load(plus + picture * added + channel, mask=on & (added >= 0), other=0)
    shift = shift.to(tl.float32)
    count = 0.0
    mean = tl.zeros((TOGETHER,), tl.float32)
    apart = tl.zeros((TOGETHER,), tl.float32)
    for top in range(begin, end, ROWS):
        row = top + tl.arange(0, ROWS)[:, None, None]
        at = (picture * pixels + row).to(tl.int64) * CHANNELS + channel
        on_tile = on & (row < end)
        v = tl.load(x + at, mask=on_tile, other=0).to(tl.float32) + shift
        v = tl.where(on_tile, v, 0)
        here = tl.minimum(end - top, ROWS) * EACH * 1.0
        middle = tl.sum(tl.sum(v, 2), 0) / here
        v = tl.where(on_tile, v - middle[None, :, None], 0)
        off = middle - mean
        both = count + here
        mean += off * (here / both)
        apart += tl.sum(tl.sum(v * v, 2), 0) + off * off * (count * here / both)
        count = both
    place = (picture * groups + group) * tl.num_programs(1) + tl.program_id(1)
    tl.store(parts + place, mean * 0 + count)
    tl.store(parts + size + place, mean)
    tl.store(parts + 2 * size + place, apart)


@triton.jit(do_not_specialize=["added", "size", "pixels", "share", "groups", "eps", "silu"])
def _norm_apply(
    x, plus, added, weight, bias, parts, size, y, pixels, share, groups, eps, silu,
    CHANNELS: tl.constexpr, EACH: tl.constexpr, LANES: tl.constexpr, ROWS: tl.constexpr,
    TOGETHER: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Some groups in a share of the pixels, brought to the norm that all parts tell."""
    per = groups // TOGETHER
    picture = tl.program_id(0) // per
    group = (tl.program_id(0) % per) * TOGETHER + tl.arange(0, TOGETHER)
    part = tl.arange(0, PARTS)[None, :]
    splits = tl.num_programs(1)
    place = (picture * groups + group)[:, None] * splits + part
    count = tl.load(parts + place, mask=part < splits, other=0)
    middle = tl.load(parts + size + place, mask=part < splits, other=0)
    apart = tl.load(parts + 2 * size + place, mask=part < splits, other=0)
    total = pixels * EACH * 1.0
    mean = tl.sum(count * middle, 1) / total
    off = middle - mean[:, None]
    scale = tl.rsqrt(tl.sum(apart + count * off * off, 1) / total + eps)

    lane = tl.arange(0, LANES)[None, None, :]
    channel = group[None, :, None] * EACH + lane
    on = lane < EACH
    scale = scale[None, :, None] * tl.load(weight + channel, mask=on, other=0).to(tl.float32)
    low = tl.load(bias + channel, mask=on, other=0).to(tl.float32)
    shift = tl.load(plus + picture * added + channel, mask=on & (added >= 0), other=0)
    low += (shift.to(tl.float32) - mean[None, :, None]) * scale
    begin = tl.program_id(1) * share
    end = tl.minimum(begin + share, pixels)
    for top in range(begin, end, ROWS):
        row = top + tl.arange(0, ROWS)[:, None, None]
        at = (picture * pixels + row).to(tl.int64) * CHANNELS + channel
        on_tile = on & (row < end)
        v = tl.load(x + at, mask=on_tile, other=0).to(tl.float32) * scale + low
        if silu != 0:
            v *= tl.sigmoid(v)
        tl.store(y + at, v, mask=on_tile)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """`F.layer_norm` of [..., c]."""
    return _layer_norm(x, None, weight, bias, eps)[1]


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


def gelu_times(gate: Tensor, value: Tensor) -> Tensor:
    """GELU of the gate, times the value; both contiguous, of one shape."""
    y = torch.empty_like(value)
    block = 1024
    _gelu_times[(triton.cdiv(y.numel(), block),)](gate, value, y, y.numel(), BLOCK=block)
    return y


@triton.jit(do_not_specialize=["count"])
def _gelu_times(gate, value, y, count, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    on = at < count
    g = tl.load(gate + at, mask=on, other=0).to(tl.float32)
    v = tl.load(value + at, mask=on, other=0).to(tl.float32)
    tl.store(y + at, 0.5 * g * (1 + tl.erf(g * 0.7071067811865476)) * v, mask=on)
