"""Kernels that stand for several of torch's, beside those in float64."""

import pytest
import torch
import torch.nn.functional as F

pytestmark = pytest.mark.gpu

CLOSE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
KINDS = pytest.mark.parametrize("dtype", CLOSE)


@pytest.fixture(scope="module")
def fused():
    from sdfast.models.networks import fused

    return fused


@pytest.fixture
def near(dtype):
    def check(found, wanted):
        assert found.dtype == dtype
        off = (found.double() - wanted).norm() / wanted.norm()
        assert off < CLOSE[dtype]

    return check


def drawn(*shape, dtype, mean=0.0):
    x = (torch.randn(shape, device="cuda") + mean).to(dtype)
    return x.to(memory_format=torch.channels_last) if len(shape) == 4 else x


@KINDS
@pytest.mark.parametrize(
    ("n", "channels", "height", "width", "groups"),
    [
        (2, 320, 64, 64, 32),
        (2, 960, 64, 64, 32),
        (1, 128, 257, 131, 32),
        (2, 2560, 8, 8, 32),
        (2, 1920, 16, 16, 32),
        (2, 2560, 16, 16, 32),
        (3, 30, 7, 5, 3),
        (1, 48, 1, 1, 1),
        (2, 32, 1, 1, 32),
        (1, 130, 40, 41, 2),
        (2, 96, 67, 61, 2),
        (1, 32, 2048, 1032, 32),
    ],
)
@pytest.mark.parametrize("pictures", [0, 1, 2])
@pytest.mark.parametrize("silu", [False, True])
def test_a_group_norm(fused, near, dtype, n, channels, height, width, groups, pictures, silu):
    x = drawn(n, channels, height, width, dtype=dtype, mean=5)
    weight, bias = drawn(channels, dtype=dtype), drawn(channels, dtype=dtype)
    plus = drawn(1 if pictures == 1 else n, channels, dtype=dtype) if pictures else None
    whole = x.double() + (0 if plus is None else plus.double()[:, :, None, None])
    wanted = F.group_norm(whole, groups, weight.double(), bias.double(), 1e-5)
    found = fused.group_norm(x, groups, weight, bias, 1e-5, plus, silu=silu)
    near(found, F.silu(wanted) if silu else wanted)
    again = fused.group_norm(x, groups, weight, bias, 1e-5, plus, silu=silu)
    assert found.equal(again)


@KINDS
@pytest.mark.parametrize("width", [48, 320, 768, 1280])
@pytest.mark.parametrize("again", [1, 2])
def test_a_layer_norm_and_the_sum_before_it(fused, near, dtype, width, again):
    x, plus = drawn(6, 7, width, dtype=dtype), drawn(6 // again, 7, width, dtype=dtype)
    weight, bias = drawn(width, dtype=dtype), drawn(width, dtype=dtype)
    scale = (width,), weight.double(), bias.double(), 1e-5
    near(fused.layer_norm(x, weight, bias, 1e-5), F.layer_norm(x.double(), *scale))
    summed, normed = fused.sum_and_norm(x, plus, weight, bias, 1e-5)
    whole = x.double() + plus.double().repeat(again, 1, 1)
    near(summed, whole)
    near(normed, F.layer_norm(whole, *scale))


@KINDS
@pytest.mark.parametrize("channels", [3, 48, 320])
@pytest.mark.parametrize("pictures", [None, 1, 2])
def test_a_bias_and_another_picture(fused, near, dtype, channels, pictures):
    y, bias = drawn(2, channels, 9, 11, dtype=dtype), drawn(channels, dtype=dtype)
    plus = None if pictures is None else drawn(pictures, channels, 9, 11, dtype=dtype)
    wanted = y.double() + bias.double()[:, None, None]
    near(fused.add_(y, bias, plus), wanted if plus is None else wanted + plus.double())


@KINDS
def test_a_gate(fused, near, dtype):
    gate, value = drawn(5, 77, dtype=dtype), drawn(5, 77, dtype=dtype)
    near(fused.gelu_times(gate, value), F.gelu(gate.double()) * value.double())


@KINDS
@pytest.mark.parametrize("channels", [3, 320])
def test_twice_as_large(fused, dtype, channels):
    x = drawn(2, channels, 5, 7, dtype=dtype)
    assert fused.twice(x).equal(F.interpolate(x, scale_factor=2, mode="nearest"))
