"""A group norm of pictures with channels last as one kernel, or three for large ones, in Triton."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# pyright: reportMissingImports=false, reportMissingTypeStubs=false, reportIndexIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from sdfast.models.networks.launch import where_it_is

_LANES = 64
"""Channels that a program takes side by side."""
_PROGRAMS = 1024
"""As many as a large GPU has on the way."""
_PARTS = 512
"""What a picture is cut into at the most, to look at its numbers."""
_AT_ONCE = 1 << 14
"""Numbers of a group up to which one program holds them all, and one kernel does."""
_EACH = 256
"""Of them to a warp: with more, a small picture's programs leave a large GPU idle."""


@where_it_is
def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    plus: Tensor | None = None,
    ahead: Tensor | None = None,
    *,
    silu: bool = False,
) -> Tensor:
    """`F.group_norm` of x + plus, [n, c, h, w] with channels last, and SiLU after it if asked.

    plus    a number for each channel, [1, c] or [n, c], or None
    ahead   [c], what x itself is raised by, in its place, once the norm has seen it: a bias of what
            will be added to it next; or None. x must have its channels last then
    """
    n, channels, height, width = x.shape
    assert ahead is None or x.is_contiguous(memory_format=torch.channels_last)
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.empty_like(x)
    pixels = height * width
    added = (weight, -1) if plus is None else (plus.contiguous(), channels * (len(plus) > 1))
    raises = ahead is not None
    raised = weight if ahead is None else ahead
    rows, lanes = map(triton.next_power_of_2, (pixels, channels // groups))
    if rows * lanes <= _AT_ONCE:
        _norm_group[(groups, n)](
            x, *added, raised, weight, bias, y, pixels, channels, eps, int(silu),
            RAISES=raises, ROWS=rows, LANES=lanes, num_warps=min(16, max(1, rows * lanes // _EACH)),
        )  # fmt: skip
        return y
    beside = triton.cdiv(channels, _LANES)
    splits = max(1, min(_PARTS, _PROGRAMS // (n * beside), pixels // 32))
    share = triton.cdiv(pixels, splits)
    splits = triton.cdiv(pixels, share)
    parts = torch.empty((2, n, splits, channels), dtype=torch.float32, device=x.device)
    _look[(beside, splits, n)](x, parts, pixels, share, channels, ROWS=64, LANES=_LANES)
    line = torch.empty((2, n, channels), dtype=torch.float32, device=x.device)
    _agree[(groups, n)](
        parts, *added, weight, bias, line, pixels, share, splits, channels, eps, BLOCK=512
    )
    _bring[(triton.cdiv(pixels, 32), beside, n)](
        x, line, raised, y, pixels, channels, int(silu), RAISES=raises, ROWS=32, LANES=_LANES
    )
    return y


@triton.jit(do_not_specialize=["added", "pixels", "eps", "silu"])
def _norm_group(
    x, plus, added, ahead, weight, bias, y, pixels, channels, eps, silu,
    RAISES: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """A group of a small picture, which is read once."""
    each = channels // tl.num_programs(0)
    picture = tl.program_id(1)
    lane = tl.arange(0, LANES)[None, :]
    row = tl.arange(0, ROWS)[:, None]
    channel = tl.program_id(0) * each + lane
    on_lane = lane < each
    on = on_lane & (row < pixels)
    at = (picture * pixels + row).to(tl.int64) * channels + channel
    v = tl.load(x + at, mask=on, other=0).to(tl.float32)
    if RAISES:
        by = tl.load(ahead + channel, mask=on_lane, other=0).to(tl.float32)
        tl.store(x + at, v + by, mask=on)
    shift = tl.load(plus + picture * added + channel, mask=on_lane & (added >= 0), other=0)
    v = tl.where(on, v + shift.to(tl.float32), 0)
    total = pixels * each * 1.0
    v = tl.where(on, v - tl.sum(v) / total, 0)
    v *= tl.rsqrt(tl.sum(v * v) / total + eps)
    v *= tl.load(weight + channel, mask=on_lane, other=0).to(tl.float32)
    v += tl.load(bias + channel, mask=on_lane, other=0).to(tl.float32)
    if silu != 0:
        v *= tl.sigmoid(v)
    tl.store(y + at, v, mask=on)


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
def _bring(
    x, line, ahead, y, pixels, channels, silu,
    RAISES: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Each channel along its line."""
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)[None, :]
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    picture = tl.program_id(2)
    on = lane < channels
    times = tl.load(line + picture * channels + lane, mask=on, other=0)
    low = tl.load(line + (tl.num_programs(2) + picture) * channels + lane, mask=on, other=0)
    on = on & (row < pixels)
    at = (picture * pixels + row).to(tl.int64) * channels + lane
    v = tl.load(x + at, mask=on, other=0).to(tl.float32)
    if RAISES:
        by = tl.load(ahead + lane, mask=lane < channels, other=0).to(tl.float32)
        tl.store(x + at, v + by, mask=on)
    v = v * times + low
    if silu != 0:
        v *= tl.sigmoid(v)
    tl.store(y + at, v, mask=on)
