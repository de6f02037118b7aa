"""What low-rank changes of each kind mean, computed from their tensors.

    LoRA   up @ down, or out @ middle @ in with a middle of a convolution (arXiv 2106.09685)
    LoHa   two such products, multiplied number by number (arXiv 2108.06098)
    LoKr   a Kronecker product, either factor whole or such a product (arXiv 2309.14859)

LyCORIS, which writes the latter two, describes all of them in arXiv 2309.14859. Any of them can be
a DoRA (arXiv 2402.09353), which says besides how long rows or columns of the changed weight are.
"""

from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from sdfast.models.lora_names import ROLES

_MAGNITUDES = ("magnitude", "dora_scale")
"""A DoRA's, as peft has it, of rows, and as LyCORIS and OneTrainer do, of rows or columns."""
_BESIDE = ("alpha", *_MAGNITUDES)
"""What any kind can have."""


class _Factor(NamedTuple):
    """A matrix as the roles of its tensors: a @ b, a @ middle @ b, or one as a whole."""

    a: str
    b: str
    middle: str = ""
    whole: str = ""
    turned: bool = False
    """With a middle, a is [rank, out]."""


_FACTORS = {
    "lora": (_Factor("up", "down", "mid"),),
    "hada": (
        _Factor("hada_w1_a", "hada_w1_b", "hada_t1", turned=True),
        _Factor("hada_w2_a", "hada_w2_b", "hada_t2", turned=True),
    ),
    "lokr": (
        _Factor("lokr_w1_a", "lokr_w1_b", whole="lokr_w1"),
        _Factor("lokr_w2_a", "lokr_w2_b", "lokr_t2", whole="lokr_w2", turned=True),
    ),
}

_COMBINED: dict[str, Callable[..., Tensor]] = {
    "lora": Tensor.contiguous,
    "hada": torch.mul,
    "lokr": torch.kron,
}


class Delta(NamedTuple):
    """What is added to a weight at a scale of 1, but for alpha."""

    whole: Tensor
    """[out, in], or [out, in * height * width] of a convolution."""
    rank: int | None
    """What alpha is divided by; None if nothing is: there is no product in it."""


def delta_of(tensors: Mapping[str, Tensor]) -> Delta:
    """Of tensors by their roles, `up`, `hada_w1_a`, ..., that fit each other."""
    kind = _kind(tensors)
    whole = _COMBINED[kind](*(_matrix(factor, tensors) for factor in _FACTORS[kind]))
    ranks = [tensors[f.b].shape[0] for f in _FACTORS[kind] if f.b in tensors]
    return Delta(whole, ranks[-1] if ranks else None)


def magnitude_of(tensors: Mapping[str, Tensor], weight: Iterable[int]) -> Tensor | None:
    """A DoRA's magnitude of a weight [out, in, ...]: [out, 1] of rows or [1, in] of columns."""
    for role in _MAGNITUDES:
        if role in tensors:
            return tensors[role].reshape(_sides(role, tensors[role].shape, weight))
    return None


def _sides(role: str, shape: tuple[int, ...], weight: Iterable[int]) -> tuple[int, int]:
    """What it is of. Raises ValueError if the weight has not so many rows or columns."""
    out, into, *_ = weight
    if prod(shape) == out and (role == "magnitude" or shape[:1] == (out,)):
        return out, 1
    if role == "dora_scale" and prod(shape) == into and shape[:2] == (1, into):
        return 1, into
    raise ValueError


def fits(shapes: Mapping[str, tuple[int, ...]], weight: list[int]) -> bool:
    """Whether tensors of these shapes change a weight of that one. KeyError if one is missing."""
    magnitudes = [role for role in _MAGNITUDES if role in shapes]
    if len(magnitudes) > 1:
        return False
    try:
        for role in magnitudes:
            _sides(role, shapes[role], weight)
        kind = _kind(shapes)
        one, *more = (_shape(factor, shapes) for factor in _FACTORS[kind])
    except ValueError:
        return False
    if kind == "lokr":
        one = one[0] * more[0][0], one[1] * more[0][1]
    elif more and more[0] != one:
        return False
    return one == _flat(weight)


def _kind(roles: Iterable[str]) -> str:
    """The kind that all the roles are of. Raises ValueError if they are of several."""
    (kind,) = {r[:4] if r in ROLES else "lora" for r in roles if r not in _BESIDE} or {"lora"}
    return kind


def _matrix(factor: _Factor, tensors: Mapping[str, Tensor]) -> Tensor:
    if factor.whole in tensors:
        return tensors[factor.whole].flatten(1)
    a, b = tensors[factor.a].flatten(1), tensors[factor.b].flatten(1)
    if factor.middle not in tensors:
        return a @ b
    a = a.T if factor.turned else a
    return torch.einsum("or,rshw,si->oihw", a, tensors[factor.middle], b).flatten(1)


def _shape(factor: _Factor, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int]:
    """What `_matrix` is of. Raises ValueError if the shapes do not fit each other."""
    if factor.whole in shapes:
        return _flat(shapes[factor.whole])
    (out, left), (right, into) = _flat(shapes[factor.a]), _flat(shapes[factor.b])
    taps = 1
    if factor.middle in shapes:
        out, left = (left, out) if factor.turned else (out, left)
        *ranks, height, width = shapes[factor.middle]
        left, right = (right, right) if ranks == [left, right] else (0, 0)
        taps = height * width
    if left != right or not left:
        raise ValueError
    return out, into * taps


def _flat(shape: Iterable[int]) -> tuple[int, int]:
    """Raises ValueError for a shape of fewer than two sides."""
    out, into, *more = shape
    return out, prod([into, *more])
