"""A group norm of pictures with channels last as one kernel, or three for large ones, in Triton."""

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
_PARTS_AT_ONCE = 2048
"""Numbers of parts that a program puts together side by side."""
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
    assert ahead is None or x.is_contiguous(memory_format=torch.channels_last)
    return _norm(x, None, groups, (weight, bias, eps), plus, ahead, silu=silu)[1]


@where_it_is
def group_norm_of_both(
    x: Tensor, skip: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """`torch.cat` of two pictures' channels, [n, c, h, w] with channels last, and SiLU of its norm.

    `skip` may be of fewer pictures, and is repeated.
    """
    return _norm(x, skip, groups, (weight, bias, eps), None, None, silu=True)


def _norm(
    x: Tensor,
    skip: Tensor | None,
    groups: int,
    scale: tuple[Tensor, Tensor, float],
    plus: Tensor | None,
    ahead: Tensor | None,
    *,
    silu: bool,
) -> tuple[Tensor, Tensor]:
    """All channels, and the norm of them."""
    x = x.contiguous(memory_format=torch.channels_last)
    n, first, height, width = x.shape
    pixels = height * width
    if skip is None:
        channels, both, seen = first, x, (x, x, x, first, 1)
    else:
        skip = skip.contiguous(memory_format=torch.channels_last)
        channels = first + skip.shape[1]
        shape = (n, channels, height, width)
        both = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        seen = (x, skip, both, first, len(skip))
    y = torch.empty_like(both)
    weight, bias, eps = scale
    added = (weight, 0) if plus is None else (plus.contiguous(), channels * (len(plus) > 1))
    joins = skip is not None
    raises = ahead is not None
    raised = weight if ahead is None else ahead
    each = channels // groups
    rows, lanes = map(triton.next_power_of_2, (pixels, each))
    if rows * lanes <= _AT_ONCE:
        _norm_group[(groups, n)](
            *seen, *added, raised, weight, bias, y, pixels, channels, eps, int(silu),
            JOINS=joins, PLUS=plus is not None, RAISES=raises, WIDTH=each, ROWS=rows, LANES=lanes,
            num_warps=min(16, max(1, rows * lanes // _EACH)),
        )  # fmt: skip
        return both, y
    blocks = triton.cdiv(channels, _LANES)
    splits = max(1, min(_PARTS, _PROGRAMS // (n * blocks), pixels // 32))
    share = triton.cdiv(pixels, splits)
    splits = triton.cdiv(pixels, share)
    parts = torch.empty((2, n, splits, channels), dtype=torch.float32, device=x.device)
    _look[(blocks, splits, n)](
        *seen, parts, pixels, share, channels, JOINS=joins, ROWS=64, LANES=_LANES
    )
    line = torch.empty((2, n, channels), dtype=torch.float32, device=x.device)
    _agree[(groups, n)](
        parts, *added, weight, bias, line, pixels, share, splits, channels, eps,
        PLUS=plus is not None, WIDTH=each, LANES=lanes,
        BLOCK=min(_PARTS_AT_ONCE, triton.next_power_of_2(splits * each)),
    )  # fmt: skip
    _bring[(triton.cdiv(pixels, 32), blocks, n)](
        both, line, raised, y, pixels, channels, int(silu), RAISES=raises, ROWS=32, LANES=_LANES
    )
    return both, y


@triton.jit
def _load(
    x, skip, both, first, again, picture, row, channel, pixels, channels, on,
    JOINS: tl.constexpr,
):  # fmt: skip
    """A picture's numbers in float32; if it is in two parts, they are put together."""
    at = (picture * pixels + row).to(tl.int64)
    if JOINS:
        there = (picture % again * pixels + row).to(tl.int64) * (channels - first) + channel - first
        v = tl.load(x + at * first + channel, mask=on & (channel < first), other=0)
        v += tl.load(skip + there, mask=on & (channel >= first), other=0)
        tl.store(both + at * channels + channel, v, mask=on)
    else:
        v = tl.load(x + at * channels + channel, mask=on, other=0)
    return v.to(tl.float32)


@triton.jit(do_not_specialize=["again", "pixels", "eps", "silu"])
def _norm_group(
    x, skip, both, first, again, plus, added, ahead, weight, bias, y, pixels, channels, eps, silu,
    JOINS: tl.constexpr, PLUS: tl.constexpr, RAISES: tl.constexpr,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """A group of a small picture, which is read once."""
    picture = tl.program_id(1)
    lane = tl.arange(0, LANES)[None, :]
    row = tl.arange(0, ROWS)[:, None]
    channel = tl.program_id(0) * WIDTH + lane
    on_lane = lane < WIDTH
    on = on_lane & (row < pixels)
    at = (picture * pixels + row).to(tl.int64) * channels + channel
    v = _load(
        x, skip, both, first, again, picture, row, channel, pixels, channels, on, JOINS
    )  # fmt: skip
    if RAISES:
        by = tl.load(ahead + channel, mask=on_lane, other=0).to(tl.float32)
        tl.store(x + at, v + by, mask=on)
    if PLUS:
        shift = tl.load(plus + picture * added + channel, mask=on_lane, other=0)
        v = tl.where(on, v + shift.to(tl.float32), 0)
    total = pixels * WIDTH * 1.0
    v = tl.where(on, v - tl.sum(v) / total, 0)
    v *= tl.rsqrt(tl.sum(v * v) / total + eps)
    v *= tl.load(weight + channel, mask=on_lane, other=0).to(tl.float32)
    v += tl.load(bias + channel, mask=on_lane, other=0).to(tl.float32)
    if silu != 0:
        v *= tl.sigmoid(v)
    tl.store(y + at, v, mask=on)


@triton.jit(do_not_specialize=["again", "pixels", "share"])
def _look(
    x, skip, both, first, again, parts, pixels, share, channels,
    JOINS: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
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
        v = _load(
            x, skip, both, first, again, picture, row, lane[None, :], pixels, channels,
            on[None, :] & (row < end), JOINS,
        )  # fmt: skip
        here = tl.minimum(end - top, ROWS) * 1.0
        middle = tl.sum(v, 0) / here
        v = tl.where(row < end, v - middle[None, :], 0)
        off = middle - mean
        so_far = count + here
        mean += off * (here / so_far)
        apart += tl.sum(v * v, 0) + off * off * (count * here / so_far)
        count = so_far
    splits = tl.num_programs(1)
    place = (picture * splits + tl.program_id(1)) * channels + lane
    tl.store(parts + place, mean, mask=on)
    tl.store(parts + tl.num_programs(2) * splits * channels + place, apart, mask=on)


@triton.jit(do_not_specialize=["added", "pixels", "share", "splits", "channels", "eps"])
def _agree(
    parts, plus, added, weight, bias, line, pixels, share, splits, channels, eps,
    PLUS: tl.constexpr, WIDTH: tl.constexpr, LANES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A group's norm as a line for each of its channels: what to multiply by, and to add."""
    first = tl.program_id(0) * WIDTH
    picture = tl.program_id(1)
    pictures = tl.num_programs(1)
    total = pixels * WIDTH * 1.0
    whole = tl.zeros((BLOCK,), tl.float32)
    for begin in range(0, splits * WIDTH, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        part, channel = i // WIDTH, first + i % WIDTH
        on = part < splits
        count = tl.minimum(pixels - part * share, share) * 1.0
        mean = tl.load(parts + (picture * splits + part) * channels + channel, mask=on, other=0)
        if PLUS:
            mean += tl.load(plus + picture * added + channel, mask=on, other=0).to(tl.float32)
        whole += tl.where(on, count * mean, 0)
    middle = tl.sum(whole, 0) / total
    apart = tl.zeros((BLOCK,), tl.float32)
    for begin in range(0, splits * WIDTH, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        part, channel = i // WIDTH, first + i % WIDTH
        on = part < splits
        count = tl.minimum(pixels - part * share, share) * 1.0
        place = (picture * splits + part) * channels + channel
        mean = tl.load(parts + place, mask=on, other=0)
        inside = tl.load(parts + pictures * splits * channels + place, mask=on, other=0)
        if PLUS:
            mean += tl.load(plus + picture * added + channel, mask=on, other=0).to(tl.float32)
        off = mean - middle
        apart += tl.where(on, inside + count * off * off, 0)
    scale = tl.rsqrt(tl.sum(apart, 0) / total + eps)
    lane = tl.arange(0, LANES)
    channel = first + lane
    on = lane < WIDTH
    times = scale * tl.load(weight + channel, mask=on, other=0).to(tl.float32)
    low = tl.load(bias + channel, mask=on, other=0).to(tl.float32) - middle * times
    if PLUS:
        low += tl.load(plus + picture * added + channel, mask=on, other=0).to(tl.float32) * times
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
