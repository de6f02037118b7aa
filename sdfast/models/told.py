"""From what the text encoders have read to what the UNet is told in every step."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from sdfast.models.networks import Meaning

States = Tensor | tuple[Tensor, ...]
"""The words, [1, words, width]; for XL the whole behind them; at the end the guidance, float32 [1],
for a UNet that guides itself."""


class WordsAndWhole(NamedTuple):
    """What XL is told of a prompt: its words, [1, words, width], and the whole, [1, width]."""

    states: Tensor
    whole: Tensor


class Context(NamedTuple):
    """What the UNet is told of a prompt."""

    states: States


def context(read: Sequence[Meaning], *, xl: bool, blank: bool, guidance: Tensor | None) -> Context:
    """What text encoders have read, as one; of a `blank` prompt nothing but zeros."""
    said: tuple[Tensor, ...] = (read[0].normed,)
    if xl:
        whole = cast("Tensor", read[-1].whole)
        said = WordsAndWhole(torch.cat([meaning.bare for meaning in read], -1), whole)
        if blank:
            said = WordsAndWhole(*map(torch.zeros_like, said))
    if guidance is not None:
        said = (*said, guidance)
    return Context(said if len(said) > 1 else said[0])
