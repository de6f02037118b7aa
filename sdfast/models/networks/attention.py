"""Softmax attention, where torch has a faster way than the one it takes.

On a GPU that is another of its kernels. On a processor with bfloat16 but no AMX it is one of our
own: torch's `scaled_dot_product_attention` is fast there for processors with AMX alone; others
multiply at the pace of float32. Here oneDNN multiplies, some heads and rows at a time, so that what
lies between the two products stays in the cache.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sdfast.models.device import cpu_flags

_BYTES = 8 << 20
"""Of products at a time."""
_WORTH = 256
"""Keys from which on it is worth while."""
_EVERY = 8
"""One key in so many is looked at for a row's greatest product."""

_HOPPER = (9, 0)
_CUDNN_FIRST = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


def fastest_attention(device: torch.device) -> AbstractContextManager[object]:
    """For as long as the `with` lasts, torch attends with the GPU's fastest kernel.

    On Hopper that is cuDNN's, which takes half to two thirds of the time of the one torch prefers.
    A shape that it does not know is left to the next.
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device) != _HOPPER:
        return nullcontext()
    prefer: Any = sdpa_kernel
    return prefer(_CUDNN_FIRST, set_priority=True)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`F.scaled_dot_product_attention` of [n, heads, words, width]."""
    here = q.device.type == "cpu" and q.dtype == torch.bfloat16 and not q.requires_grad
    if here and k.shape[-2] >= _WORTH and _is_slow():
        return in_parts(q, k, v)
    return F.scaled_dot_product_attention(q, k, v)


@cache
def _is_slow() -> bool:
    flags = cpu_flags()
    return "avx512_bf16" in flags and "amx_bf16" not in flags


def in_parts(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """As `attend`, for some heads and rows at a time.

    Products are rounded to bfloat16's eight bits, of which a large one needs all before the point.
    Softmax does not mind what is taken off a whole row. So about its greatest product is taken off
    before they are rounded, by one more column: those that count then lie near zero.
    """
    n, heads, words, width = q.shape
    among = k.shape[2]
    beside = min(heads, max(2, torch.get_num_threads()))
    rows = max(64, _BYTES // (q.element_size() * beside * among))
    found = q.new_empty(n, words, heads, width)
    room = q.new_empty(beside * min(rows, words) * among)
    one = q.new_ones(beside, among, 1)
    for picture in range(n):
        for head in range(0, heads, beside):
            asking, keys, values = (x[picture, head : head + beside] for x in (q, k, v))
            values = values.contiguous()
            some = keys[:, ::_EVERY].transpose(1, 2)
            keys = torch.cat([keys, one[: len(keys)]], -1).transpose(1, 2)
            for row in range(0, words, rows):
                these = asking[:, row : row + rows]
                greatest = torch.bmm(these, some).amax(-1, keepdim=True)
                these = torch.cat([these, -greatest], -1)
                shape = len(these), these.shape[1], among
                weights = room[: shape[0] * shape[1] * shape[2]].view(shape)
                torch.baddbmm(weights, these, keys, beta=0, alpha=width**-0.5, out=weights)
                torch.softmax(weights, -1, out=weights)
                part = torch.bmm(weights, values).transpose(0, 1)
                found[picture, row : row + rows, head : head + beside] = part
    return found.transpose(1, 2)
