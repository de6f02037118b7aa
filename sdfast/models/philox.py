"""The noise that PyTorch draws on an NVIDIA GPU, drawn anywhere.

There `torch.randn` asks cuRAND, whose generator is Philox 4x32-10 (Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", SC 2011): a number's place and the seed go through ten rounds, and no
number has to wait for another. Each thread draws four normal numbers by Box and Muller's method
and, as there are as many threads as numbers, keeps the first. A GPU that can hold fewer threads
than there are numbers (2048 on each of its multiprocessors) draws others from there on.
"""

from math import prod, tau

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_Words = NDArray[np.uint32]

_ROUNDS = 10
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_BUMPS = 0x9E3779B9, 0xBB67AE85


def philox(counter: tuple[_Words, ...], key: tuple[int, int]) -> tuple[_Words, ...]:
    """Four words of 32 bits for each counter, which is as many, under a key of two."""
    a, b, c, d = counter
    for _ in range(_ROUNDS):
        (above, below), (over, under) = (
            _product(word, by) for word, by in zip((a, c), _MULTIPLIERS, strict=True)
        )
        a, b, c, d = over ^ b ^ np.uint32(key[0]), under, above ^ d ^ np.uint32(key[1]), below
        key = (key[0] + _BUMPS[0]) % 2**32, (key[1] + _BUMPS[1]) % 2**32
    return a, b, c, d


def _product(word: _Words, by: np.uint64) -> tuple[_Words, _Words]:
    """The upper and the lower half."""
    product = word.astype(np.uint64) * by
    return (product >> np.uint64(32)).astype(np.uint32), product.astype(np.uint32)


def randn(shape: tuple[int, ...], seed: int) -> Tensor:
    """What `torch.randn` draws first on CUDA after `torch.manual_seed`, float32, on the CPU.

    The two differ by the rounding of a logarithm and a sine.
    """
    places = np.arange(prod(shape), dtype=np.uint32)
    none = np.zeros_like(places)
    drawn = philox((none, none, places, none), (seed % 2**32, seed >> 32))
    share, turn = (words.astype(np.float32) * np.float32(2**-32) for words in drawn[:2])
    half = np.float32(2**-33)  # so that no share is nothing
    far = np.sqrt(-2 * np.log(share + half))
    normal = far * np.sin((turn + half) * np.float32(tau))
    return torch.tensor(normal.reshape(shape))
