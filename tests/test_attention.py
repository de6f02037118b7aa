"""Attention in parts, beside softmax in float64."""

import pytest
import torch
import torch.nn.functional as F

from sdfast.models.networks import attention
from sdfast.models.networks.attention import attend, in_parts

CLOSE = {torch.float32: 1e-5, torch.bfloat16: 6e-3}


def drawn(n, heads, words, width, dtype, *, mean=0.0, scale=1.0):
    """As a projection gives it: heads beside each other in memory."""
    x = torch.randn(n, words, heads, width) * scale + mean
    return x.to(dtype).transpose(1, 2)


def off(found, *asked):
    wanted = F.scaled_dot_product_attention(*(x.double() for x in asked))
    return ((found.double() - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize(
    ("n", "heads", "words", "among", "width"),
    [(2, 8, 300, 300, 40), (1, 1, 257, 999, 64), (2, 5, 64, 256, 8), (1, 3, 1, 1, 4)],
)
def test_parts_make_the_whole(dtype, n, heads, words, among, width, monkeypatch):
    monkeypatch.setattr(attention, "_BYTES", 2**17)  # several parts, the last one smaller
    q = drawn(n, heads, words, width, dtype)
    k, v = (drawn(n, heads, among, width, dtype) for _ in range(2))
    found = in_parts(q, k, v)
    assert found.dtype == dtype
    assert found.shape == q.shape
    assert off(found, q, k, v) < CLOSE[dtype]


@pytest.mark.parametrize("scale", [3.0, 10.0])
@pytest.mark.parametrize("mean", [0.0, 20.0])
def test_large_products_lose_no_more_than_small_ones(scale, mean):
    q = drawn(1, 4, 300, 40, torch.bfloat16, scale=scale)
    k = drawn(1, 4, 512, 40, torch.bfloat16, mean=mean)
    v = drawn(1, 4, 512, 40, torch.bfloat16)
    assert off(in_parts(q, k, v), q, k, v) < 2 * CLOSE[torch.bfloat16]


def test_a_picture_does_not_depend_on_its_batch_mates():
    q, k, v = (drawn(3, 4, 300, 40, torch.bfloat16) for _ in range(3))
    assert in_parts(q, k, v)[1:2].equal(in_parts(*(x[1:2] for x in (q, k, v))))


@pytest.mark.parametrize("slow", [False, True])
def test_only_where_torch_is_slow_and_keys_are_many(slow, monkeypatch):
    monkeypatch.setattr(attention, "multiplies_vectors_of_bfloat16", lambda: slow)
    for keys, dtype in ((300, torch.bfloat16), (77, torch.bfloat16), (300, torch.float32)):
        q, k, v = (drawn(1, 2, keys, 40, dtype) for _ in range(3))
        parted = slow and keys == 300 and dtype == torch.bfloat16
        wanted = in_parts(q, k, v) if parted else F.scaled_dot_product_attention(q, k, v)
        assert attend(q, k, v).equal(wanted)
