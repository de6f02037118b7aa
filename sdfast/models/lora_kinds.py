"""What low-rank changes of each kind mean, computed from their tensors.

    LoRA   up @ down, or out @ middle @ in with a middle of a convolution (arXiv 2106.09685)
    LoHa   two such products, multiplied number by number (arXiv 2108.06098)
    LoKr   a Kronecker product, either factor whole or such a product (arXiv 2309.14859)

LyCORIS, which writes the latter two, describes all of them in arXiv 2309.14859.
"""

from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]
"""The tensors of one layer by their roles: `up`, `hada_w1_a`, ..."""

ROLES = (
    *(f"hada_{role}" for role in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")),
    *(f"lokr_{role}" for role in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")),
)
"""What LyCORIS calls its tensors, each at the end of a name."""


class Delta(NamedTuple):
    """What is added to a weight at a scale of 1, but for alpha."""

    whole: Tensor
    """[out, in], or [out, in * height * width] of a convolution."""
    rank: int | None
    """What alpha is divided by; None if nothing is: there is no product in it."""


def delta_of(tensors: Tensors) -> Delta:
    """Raises KeyError where a tensor is missing, and whatever torch does where shapes disagree."""
    kinds = {role[:4] if role in ROLES else "lora" for role in tensors if role != "alpha"}
    (kind,) = kinds or {"lora"}
    return _KINDS[kind](tensors)


def fits(shapes: Mapping[str, Iterable[int]], weight: list[int]) -> bool:
    """Whether tensors of these shapes change a weight of that one. Raises KeyError."""
    try:
        bare = {role: torch.empty([*shape], device="meta") for role, shape in shapes.items()}
        whole, rank = delta_of(bare)
    except (RuntimeError, ValueError, IndexError, TypeError, OverflowError):
        return False
    return whole.shape[0] == weight[0] and whole.numel() == prod(weight) and rank != 0


def _lora(tensors: Tensors) -> Delta:
    up, down = tensors["up"].flatten(1), tensors["down"].flatten(1)
    whole = _through(up, tensors["mid"], down) if "mid" in tensors else up @ down
    return Delta(whole, up.shape[1])


def _loha(tensors: Tensors) -> Delta:
    one, two = (_product(tensors, f"hada_w{k}", f"hada_t{k}") for k in (1, 2))
    return Delta(one * two, tensors["hada_w1_b"].shape[0])


def _lokr(tensors: Tensors) -> Delta:
    one, two = (
        tensors[w].flatten(1) if w in tensors else _product(tensors, w, t)
        for w, t in (("lokr_w1", ""), ("lokr_w2", "lokr_t2"))
    )
    of_product = next((tensors[w] for w in ("lokr_w2_b", "lokr_w1_b") if w in tensors), None)
    return Delta(torch.kron(one, two), None if of_product is None else of_product.shape[0])


_KINDS: dict[str, Callable[[Tensors], Delta]] = {"lora": _lora, "hada": _loha, "lokr": _lokr}


def _product(tensors: Tensors, name: str, middle: str) -> Tensor:
    """a @ b, where there is a middle with a [rank, out] and b [rank, in]."""
    a, b = tensors[f"{name}_a"], tensors[f"{name}_b"].flatten(1)
    return _through(a.T, tensors[middle], b) if middle in tensors else a @ b


def _through(out: Tensor, middle: Tensor, into: Tensor) -> Tensor:
    """[o, r] by [r, s, height, width] by [s, i], as [o, i * height * width]."""
    return torch.einsum("or,rskl,si->oikl", out, middle, into).flatten(1)
