"""Kernels that stand for several of torch's, beside those in float64."""

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from small_networks import FAMILIES, SD1, asked, ours, strewn

from sdfast.models.networks import Decoder, UNet, onednn

pytestmark = pytest.mark.gpu

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
"""Without a GPU, what is not large runs in Triton's interpreter: scripts/test-kernels."""

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
    x = (torch.randn(shape, device=DEVICE) + mean).to(dtype)
    return x.to(memory_format=torch.channels_last) if len(shape) == 4 else x


ALONE = [
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
]
BESIDE = [(640, 320, 64, 64, 32), (1280, 1280, 8, 8, 32), (20, 12, 7, 5, 4), (70, 60, 40, 41, 2)]


def sized(cases, numbers):
    """The cases, each of which says whether it has too many numbers for the interpreter."""
    large = ["large-" if numbers(*case) > 2**19 else "" for case in cases]
    names = ["x".join(map(str, case)) for case in cases]
    return [pytest.param(*c, id=k + name) for c, k, name in zip(cases, large, names, strict=True)]


@KINDS
@pytest.mark.parametrize(
    ("n", "channels", "height", "width", "groups"),
    sized(ALONE, lambda n, channels, height, width, groups: n * channels * height * width),
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
    ahead, raised = drawn(channels, dtype=dtype), x.clone()
    again = fused.group_norm(raised, groups, weight, bias, 1e-5, plus, ahead, silu=silu)
    assert found.equal(again)
    near(raised, x.double() + ahead.double()[:, None, None])


@KINDS
@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize(
    ("first", "second", "height", "width", "groups"),
    sized(
        BESIDE, lambda first, second, height, width, groups: 2 * (first + second) * height * width
    ),
)
def test_a_group_norm_of_two_beside_each_other(
    fused, near, dtype, pictures, first, second, height, width, groups
):
    x = drawn(2, first, height, width, dtype=dtype, mean=5)
    beside = drawn(pictures, second, height, width, dtype=dtype, mean=-3)
    weight, bias = (drawn(first + second, dtype=dtype) for _ in range(2))
    both, found = fused.group_norm_of_both(x, beside, groups, weight, bias, 1e-5)
    assert both.equal(torch.cat([x, beside.repeat(2 // pictures, 1, 1, 1)], 1))
    assert both.is_contiguous(memory_format=torch.channels_last)
    assert found.equal(fused.group_norm(both, groups, weight, bias, 1e-5, silu=True))
    wanted = F.group_norm(both.double(), groups, weight.double(), bias.double(), 1e-5)
    near(found, F.silu(wanted))


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
    ahead = drawn(width, dtype=dtype)
    more, again = fused.sum_and_norm(x, plus, weight, bias, 1e-5, ahead)
    near(more, whole + ahead.double())
    near(again, F.layer_norm(whole, *scale))  # with other lanes to a thread: summed otherwise


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
    value, gate = drawn(2, 5, 154, dtype=dtype).chunk(2, -1)
    wanted = F.gelu(gate.double()) * value.double()
    near(fused.gelu_times(gate, value), wanted)
    near(fused.gelu_times(gate.contiguous(), value.contiguous()), wanted)


@KINDS
@pytest.mark.parametrize("channels", [3, 320])
def test_quarters_between_each_other(fused, near, dtype, channels):
    quarters, bias = drawn(2, 4 * channels, 6, 8, dtype=dtype), drawn(channels, dtype=dtype)
    wanted = quarters.new_empty(2, channels, 10, 14, dtype=torch.float64)
    for number, quarter in enumerate(quarters.double().unflatten(1, (4, channels)).unbind(1)):
        row, column = divmod(number, 2)
        wanted[..., row::2, column::2] = quarter[..., row : row + 5, column : column + 7]
    near(fused.spread(quarters, bias), wanted + bias.double()[:, None, None])


@pytest.fixture
def on_cuda(monkeypatch, fused):
    """Kernels and layouts as CUDA has them, wherever this runs."""
    for user in ("layers", "norms", "blocks", "doubled"):
        monkeypatch.setattr(f"sdfast.models.networks.{user}.kernels", lambda x: fused)
    monkeypatch.setattr("sdfast.models.networks.unet.joins", lambda network: True)
    monkeypatch.setattr(onednn, "packs", lambda weight: False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("size", [(8, 8), (9, 7)], ids=["even", "odd"])
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("changes", FAMILIES.values(), ids=FAMILIES)
@torch.inference_mode()
def test_a_unet_of_such_kernels(on_cuda, changes, rows, size, tmp_path):
    torch.manual_seed(0)
    theirs = strewn(UNet2DConditionModel(**{**SD1, **changes}).to(DEVICE))
    network = ours(UNet, theirs, tmp_path, device=torch.device(DEVICE))
    x = torch.randn(rows, theirs.config.in_channels, *size, device=DEVICE)
    words, whole = torch.randn(2, 7, 16, device=DEVICE), torch.randn(2, 20, device=DEVICE)
    sizes = [64.0, 48.0, 0.0, 0.0, 64.0, 48.0]
    found = asked(network, x, 481.5, words, whole, sizes)
    told = {"text_embeds": whole, "time_ids": torch.tensor([sizes] * 2, device=DEVICE)}
    wanted = theirs(x.repeat(2 // rows, 1, 1, 1), 481.5, words, added_cond_kwargs=told).sample
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


@torch.inference_mode()
def test_a_decoder_of_such_kernels(on_cuda, tmp_path):
    torch.manual_seed(0)
    kinds = {"down_block_types": ["DownEncoderBlock2D"] * 2, "norm_num_groups": 8}
    kinds["up_block_types"] = ["UpDecoderBlock2D"] * 2
    theirs = strewn(AutoencoderKL(block_out_channels=(16, 32), **kinds).to(DEVICE))
    network = ours(Decoder, theirs, tmp_path, device=torch.device(DEVICE))
    z = torch.randn(2, 4, 7, 5, device=DEVICE)
    torch.testing.assert_close(network(z), theirs.decode(z).sample, rtol=0, atol=1e-4)
