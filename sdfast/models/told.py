"""From what the text encoders have read to what the UNet is told in every step."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from sdfast.models.networks import Meaning
from sdfast.solver.guidance import Condition


def context(
    read: Sequence[Meaning], *, xl: bool, blank: bool, guidance: Tensor | None
) -> Condition:
    """What text encoders have read, as one; of a `blank` prompt nothing but zeros.

    The words, [1, words, width]; for XL the whole behind them, [1, width]; at the end the guidance,
    float32 [1], for a UNet that guides itself.
    """
    said = [read[0].normed]
    if xl:
        said = [torch.cat([meaning.bare for meaning in read], -1), cast("Tensor", read[-1].whole)]
        if blank:
            said = [*map(torch.zeros_like, said)]
    if guidance is not None:
        said.append(guidance)
    return tuple(said) if len(said) > 1 else said[0]
