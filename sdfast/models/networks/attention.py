"""Softmax attention, on a processor with bfloat16 but no AMX faster than torch's own.

torch's `scaled_dot_product_attention` has a fast way there for processors with AMX alone; others
multiply at the pace of float32. Here oneDNN multiplies, some heads and rows at a time, so that what
lies between the two products stays in the cache.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sdfast.models.device import multiplies_vectors_of_bfloat16

_BYTES = 8 << 20
"""Of products at a time."""
_WORTH = 256
"""Keys from which on it is worth while."""
_EVERY = 8
"""One key in so many is looked at for a row's greatest product."""


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`F.scaled_dot_product_attention` of [n, heads, tokens, width]."""
    here = q.device.type == "cpu" and q.dtype == torch.bfloat16 and not q.requires_grad
    if here and k.shape[-2] >= _WORTH and multiplies_vectors_of_bfloat16():
        return in_parts(q, k, v)
    return F.scaled_dot_product_attention(q, k, v)


def in_parts(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """As `attend`, for some heads and rows at a time.

    Products are rounded to bfloat16's eight bits, of which a large one needs all before the point.
    Softmax does not mind what is taken off a whole row. So about its greatest product is taken off
    before they are rounded, by one more column: those that count then lie near zero.
    """
    n, heads, tokens, width = q.shape
    among = k.shape[2]
    beside = min(heads, max(2, torch.get_num_threads()))
    rows = max(64, _BYTES // (q.element_size() * beside * among))
    found = q.new_empty(n, tokens, heads, width)
    room = q.new_empty(beside * min(rows, tokens) * among)
    one = q.new_ones(beside, among, 1)
    for picture in range(n):
        for head in range(0, heads, beside):
            asking, keys, values = (x[picture, head : head + beside] for x in (q, k, v))
            values = values.contiguous()
            some = keys[:, ::_EVERY].transpose(1, 2)
            keys = torch.cat([keys, one[: len(keys)]], -1).transpose(1, 2)
            for row in range(0, tokens, rows):
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
