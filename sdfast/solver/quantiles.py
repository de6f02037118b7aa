"""Quantiles of the beta distribution: its mass as a series, and Newton's way back."""

from functools import lru_cache

import numpy as np

from sdfast.solver.schedule import Array

_TERMS = np.arange(1.0, 64)
"""Terms of a series that halves from one to the next, to the last bit."""
_NEWTON = 12
"""Steps; more change nothing for any alpha and beta from 0.1 to 10."""


@lru_cache
def quantiles(count: int, alpha: float, beta: float) -> tuple[float, ...]:
    """What 1 - i/count of Beta(alpha, beta) lies below, for i from 0 to count - 1."""
    shares = 1 - np.arange(count, dtype=np.float64) / count
    half = np.array([0.5])
    below, above = _mass(half, alpha, beta), _mass(half, beta, alpha)
    low = _inverse(np.minimum(shares * (below + above), below), alpha, beta)
    high = 1 - _inverse(np.minimum((1 - shares) * (below + above), above), beta, alpha)
    return tuple(np.where(shares * (below + above) <= below, low, high).tolist())


def _mass(x: Array, a: float, b: float) -> Array:
    """The integral of u^(a-1) (1-u)^(b-1) from 0 to x, each 1/2 at most (DLMF 8.17.7)."""
    series = np.cumprod(x[:, None] * (1 - b / _TERMS), 1) / (a + _TERMS)
    return x**a * (1 / a + series.sum(1))


def _inverse(mass: Array, a: float, b: float) -> Array:
    """The x of which `_mass` is this: Newton's steps in x^a, in which the slope has no pole."""
    power = np.minimum(a * mass, 0.5**a)
    for _ in range(_NEWTON):
        x = power ** (1 / a)
        power = power - (_mass(x, a, b) - mass) * a * (1 - x) ** (1 - b)
    return power ** (1 / a)
