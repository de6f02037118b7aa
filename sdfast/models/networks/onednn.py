"""oneDNN's operators as torch has them, which keep weights in the processor's own layout."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from sdfast.models.device import cpu_flags


@cache
def operators() -> Any:
    """The operators, or None where torch lacks them.

    Inductor calls them; by name they are not promised, so all are looked for and one is tried.
    """
    ops: Any = torch.ops.mkldnn
    try:
        x, w = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 1, 1)
        keep = ops._reorder_convolution_weight(w, [0, 0], [1, 1], [1, 1], 1, [1, 1, 4, 4])
        ops._convolution_pointwise.binary(
            x, x, keep, None, *placing(1, 1), "add", None, None, [], ""
        )
        keep = ops._reorder_linear_weight(w[0, 0], 4)
        ops._linear_pointwise.binary(x[0, 0, :, :1], x[0, 0, :, :1], keep, None, "mul")
        ops._linear_pointwise(x[0, 0, :, :1], keep, None, "gelu", [], "none")
    except (AttributeError, RuntimeError, TypeError):
        return None
    return ops


def placing(
    kernel: int, stride: int, padding: int | None = None
) -> tuple[list[int], list[int], list[int], int]:
    """Padding, stride, dilation and groups of a convolution that keeps the size at stride 1."""
    return [kernel // 2 if padding is None else padding] * 2, [stride] * 2, [1, 1], 1


def packs(weight: Tensor) -> bool:
    """Whether weights like this are to be laid out anew."""
    if weight.device.type != "cpu" or weight.dtype not in (torch.float32, torch.bfloat16):
        return False
    if operators() is None:
        return False
    return weight.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


@cache
def size_matters() -> bool:
    """Whether layouts depend on the picture's size: with AVX-512 they do not; AMX was not tried."""
    has_avx512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return not has_avx512 or "amx_tile" in cpu_flags()
