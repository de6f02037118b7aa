"""A walk written down: one row for each network call.

A table holds floats only: computed once, in float64, and the same for every picture of a batch. A
multistep walk looks behind, a singlestep walk looks ahead from its anchor, a corrector returns with
what it has learnt; in the table they differ by their numbers alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from sdfast.solver.draw import Draw
from sdfast.solver.schedule import Node
from sdfast.solver.step import Mixture

HERE = Mixture(1.0, ())
"""Settle where the network was asked."""


@dataclass(frozen=True, slots=True)
class Row:
    """One network call and what follows from it."""

    node: Node
    """Where the network is asked."""
    settle: Mixture | None
    """From the point asked at to the new anchor, or none: the old one stays."""
    go: Mixture
    """From the anchor to the point asked at next; after the last row, to the image."""
    again: float = 0.0
    """How much of the noise that was drawn last is added once more."""


Plan = tuple[Row, ...]


def mix(anchor: Tensor, mixture: Mixture, past: Sequence[Tensor]) -> Tensor:
    """`carry * anchor + sum(weight * estimate)`, the newest of the past last, as a new tensor.

    Where nothing is to be added the anchor itself is returned.
    """
    estimates = zip(reversed(mixture.weights), reversed(past), strict=False)
    if mixture.carry == 1:
        x = anchor
        for i, (weight, estimate) in enumerate(estimates):
            x = x.add_(estimate, alpha=weight) if i else x.add(estimate, alpha=weight)
        return x
    x = anchor * mixture.carry
    for weight, estimate in estimates:
        x.add_(estimate, alpha=weight)
    return x


class Standing(NamedTuple):
    """Where a walk stands."""

    x: Tensor
    anchor: Tensor
    """What the next steps start from."""
    drawn: Tensor
    """The noise that was drawn last."""


def follow(row: Row, stood: Standing, past: Sequence[Tensor], draw: Draw) -> Standing:
    """Where a row leads: settle, go, and draw noise.

    past    estimates of the image or noise, each of the shape of x, the row's own last
    draw    gives unit noise of that shape, and is asked only where the row wants it
    """
    x, anchor, drawn = stood
    if row.settle is not None:
        anchor = mix(x, row.settle, past)
    x = mix(anchor, row.go, past)
    if row.again:
        x = x.add_(drawn, alpha=row.again)
    if row.go.noise:
        drawn = draw()
        x = x.add_(drawn, alpha=row.go.noise)
    return Standing(x, anchor, drawn)
