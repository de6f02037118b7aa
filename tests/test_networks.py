"""Our networks beside those of diffusers and transformers, on the same weights."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from small import write_model, write_xl_model
from small_networks import CPU, FAMILIES, SD1, XL, asked, ours, strewn
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from sdfast import Sampler, generate
from sdfast.conditioning import Words, guided
from sdfast.errors import ModelError
from sdfast.job import Job
from sdfast.models import load_model
from sdfast.models.find import RANDOM, find, is_cached
from sdfast.models.networks import (
    Config,
    Decoder,
    Encoder,
    TensorError,
    TextEncoder,
    UNet,
    fill,
    layers,
    onednn,
    winograd,
)
from sdfast.models.networks.blocks import Upsample
from sdfast.models.parts import bare, filled
from sdfast.models.tokenizer import AnyWords, ClipTokenizer
from sdfast.models.vram import Place
from sdfast.solver.walk import trajectory


def test_numbers_that_are_not_finite_are_told_before_any_are_loaded(small, tmp_path):
    network = UNet(Config(json.loads((small / "unet" / "config.json").read_text())))
    *_, last = (name for name, _ in network.named_parameters())
    tensors = load_file(next((small / "unet").glob("*.safetensors")))
    tensors[last].view(-1)[-1] = torch.nan
    save_file(tensors, tmp_path / "broken.safetensors")
    with pytest.raises(TensorError, match=f"not finite, the first in `{last}`"):
        fill(network, [tmp_path / "broken.safetensors"], CPU, torch.float32)
    assert {weight.device.type for weight in network.parameters()} == {"meta"}


@pytest.mark.parametrize("size", [(8, 8), (9, 7)], ids=["even", "odd"])
@pytest.mark.parametrize("changes", FAMILIES.values(), ids=FAMILIES)
@torch.inference_mode()
def test_a_unet_says_what_diffusers_says(changes, size, tmp_path):
    torch.manual_seed(0)
    theirs = strewn(UNet2DConditionModel(**{**SD1, **changes}))
    network = ours(UNet, theirs, tmp_path)
    x, words = torch.randn(2, theirs.config.in_channels, *size), torch.randn(2, 7, 16)
    whole, sizes = torch.randn(2, 20), [64.0, 48.0, 0.0, 0.0, 64.0, 48.0]
    more = {"text_embeds": whole, "time_ids": torch.tensor([sizes, sizes])}
    for t in (999.0, 417.3, 0.25):
        wanted = theirs(x, t, words, added_cond_kwargs=more).sample
        got = asked(network, x, t, words, whole, sizes)
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "changes", [{}, {"use_post_quant_conv": False, "mid_block_add_attention": False}]
)
@torch.inference_mode()
def test_a_decoder_paints_what_diffusers_paints(changes, tmp_path):
    torch.manual_seed(0)
    theirs = strewn(
        AutoencoderKL(
            block_out_channels=(8, 16, 8),
            norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            **changes,
        )
    )
    network, z = ours(Decoder, theirs, tmp_path), torch.randn(1, 4, 8, 5)
    torch.testing.assert_close(network(z), theirs.decode(z).sample, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(64, 40), (24, 8)])
@pytest.mark.parametrize(
    "changes",
    [{}, {"use_quant_conv": False, "mid_block_add_attention": False, "shift_factor": 0.1}],
)
@torch.inference_mode()
def test_an_encoder_sees_what_diffusers_sees(changes, size, tmp_path):
    torch.manual_seed(0)
    theirs = strewn(
        AutoencoderKL(
            block_out_channels=(8, 16, 8, 16),
            norm_num_groups=4,
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            **changes,
        )
    )
    network, pixels = ours(Encoder, theirs, tmp_path), torch.rand(2, 3, *size) * 2 - 1
    seen, got = theirs.encode(pixels).latent_dist, network(pixels)
    for wanted in (seen.mean, seen.mode()):
        scaled = (wanted - (theirs.config.shift_factor or 0)) * theirs.config.scaling_factor
        torch.testing.assert_close(got, scaled, rtol=0, atol=1e-5)


def test_an_autoencoder_written_before_2023_is_read_by_the_names_of_then(small, tmp_path):
    folder = shutil.copytree(small, tmp_path / "old")
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    then = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(file)
    for name in [name for name in tensors if ".attentions.0." in name]:
        for now, before in then.items():
            if f".{now}." in name:
                tensors[name.replace(now, before)] = tensors.pop(name)
    assert sum("proj_attn" in name for name in tensors) == 4  # both halves have one
    save_file(tensors, file, {"format": "pt"})
    old, new = (load_model(str(path), device="cpu") for path in (folder, small))
    x, seen = torch.randn(1, 4, 8, 8), Image.new("RGB", (64, 64), "red")
    assert old.decode(x).image.tobytes() == new.decode(x).image.tobytes()
    assert torch.equal(old.look(seen), new.look(seen))


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("end", [2, 49])
@torch.inference_mode()
def test_a_text_encoder_reads_what_transformers_reads(activation, end, tmp_path):
    torch.manual_seed(0)
    sizes = CLIPTextConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=12,
        projection_dim=24,
        hidden_act=activation,
        bos_token_id=48,
        eos_token_id=end,
        pad_token_id=1,
    )
    theirs = strewn(CLIPTextModelWithProjection(sizes))
    network = ours(TextEncoder, theirs, tmp_path, projects=True)
    ids = torch.tensor([[48, 3, 4, 49, 0, 0], [48, 3, 4, 5, 6, 49]])
    wanted, got, before = theirs(ids, output_hidden_states=True), network(ids), network(ids, 2)
    for mine, other in (
        (got.normed, wanted.last_hidden_state),
        (got.hidden, wanted.hidden_states[-1]),
        (before.hidden, wanted.hidden_states[-2]),
        (before.normed, theirs.text_model.final_layer_norm(wanted.hidden_states[-2])),
        (got.pooled, wanted.text_embeds),
        (before.pooled, wanted.text_embeds),
    ):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, XL], ids=["1.x", "XL"])
@torch.inference_mode()
def test_weights_laid_out_for_the_processor_say_the_same_as_plain_ones(
    changes, tmp_path, monkeypatch
):
    if onednn.operators() is None:
        pytest.skip("torch has no oneDNN here")
    torch.manual_seed(0)
    theirs = strewn(UNet2DConditionModel(**{**SD1, **changes}))
    laid = ours(UNet, theirs, tmp_path)
    monkeypatch.setattr(onednn, "packs", lambda weight: False)
    plain = ours(UNet, theirs, tmp_path)
    about = (torch.randn(2, 7, 16), torch.randn(2, 20), [64.0] * 6)
    for size in ((8, 8), (4, 12), (9, 7), (16, 16), (2, 2), (8, 8)):  # more than are kept
        x = torch.randn(2, 4, *size)
        both = [asked(network, x, 500.0, *about) for network in (laid, plain)]
        torch.testing.assert_close(*both, rtol=0, atol=1e-5)


@pytest.mark.parametrize("changes", FAMILIES.values(), ids=FAMILIES)
@torch.inference_mode()
def test_products_that_are_one_on_a_gpu_say_what_several_say(changes, tmp_path, monkeypatch):
    monkeypatch.setattr(onednn, "packs", lambda weight: False)
    torch.manual_seed(0)
    theirs = strewn(UNet2DConditionModel(**{**SD1, **changes}))
    several = ours(UNet, theirs, tmp_path)
    monkeypatch.setattr("sdfast.models.networks.unet.joins", lambda network: True)
    one = ours(UNet, theirs, tmp_path)
    assert len([*one.parameters()]) < len([*several.parameters()])
    x = torch.randn(2, theirs.config.in_channels, 8, 8)
    about = (torch.randn(2, 7, 16), torch.randn(2, 20), [64.0] * 6)
    both = [asked(network, x, 500.0, *about) for network in (one, several)]
    torch.testing.assert_close(*both, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("width", "size"), [(64, (16, 16)), (64, (9, 31)), (24, (17, 16)), (256, (16, 16))]
)
@torch.inference_mode()
def test_a_doubled_picture_is_convolved_as_if_it_had_been_built(width, size, monkeypatch):
    if onednn.operators() is None:
        pytest.skip("torch has no oneDNN here")
    torch.manual_seed(0)
    upsample = Upsample(width)
    for name, shape in (("weight", (width, width, 3, 3)), ("bias", (width,))):
        setattr(upsample.conv, name, torch.nn.Parameter(torch.randn(shape), requires_grad=False))
    x = torch.randn(2, width, *size).contiguous(memory_format=torch.channels_last)
    bigger = F.interpolate(x.double(), scale_factor=2, mode="nearest")
    wanted = F.conv2d(
        bigger, upsample.conv.weight.double(), upsample.conv.bias.double(), padding=1
    ).float()
    upsample.conv.lay_out()
    called = []
    monkeypatch.setattr(F, "interpolate", lambda *_, **__: called.append(1))
    got = upsample(x)
    assert not called
    assert got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


def conv_of(weight, bias, **how):
    outside, inside, kernel, _ = weight.shape
    conv = layers.Conv(inside, outside, kernel, **how)
    conv.weight = torch.nn.Parameter(weight, requires_grad=False)
    conv.bias = torch.nn.Parameter(bias, requires_grad=False)
    conv.lay_out()
    return conv


@settings(max_examples=25, deadline=None)
@given(
    n=st.sampled_from([1, 2, 4]),
    channels=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    down=st.integers(1, 24),
    across=st.integers(1, 24),
    floats=st.sampled_from([1, 20_000, 8 << 20]),
    has_bias=st.booleans(),
    added=st.sampled_from([0, 1, 2]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
@torch.inference_mode()
def test_tiles_are_convolved_as_the_whole_is(
    n, channels, down, across, floats, has_bias, added, dtype
):
    inside, outside = channels
    x = torch.randn(n, inside, down, across, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(outside, inside, 3, 3, dtype=dtype)
    added = min(n, added)
    plus = torch.randn(added, outside, down, across, dtype=dtype) if added else None
    bias = torch.randn(outside, dtype=dtype) if has_bias else None
    exact = F.conv2d(x.double(), weight.double(), None if bias is None else bias.double(), 1, 1)
    exact = exact if plus is None else exact + layers.in_rows(plus, n)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(winograd, "_FLOATS", floats)  # a row of tiles at a time, some, or all
        got = winograd.convolve(x, winograd.transformed(weight), bias, plus)
    assert got.is_contiguous(memory_format=torch.channels_last)
    error = (got - exact).norm() / exact.norm()
    assert error < (1e-5 if dtype == torch.float32 else 2e-2)


@pytest.fixture
def tiled(monkeypatch):
    """The shapes that are convolved in tiles."""
    if onednn.operators() is None:
        pytest.skip("torch has no oneDNN here")
    seen, true = [], winograd.convolve

    def noted(x, *others):
        seen.append(tuple(x.shape))
        return true(x, *others)

    monkeypatch.setattr(winograd, "convolve", noted)
    return seen


@pytest.fixture(params=[torch.float32, torch.bfloat16])
def dtype(request, monkeypatch):
    """The precisions, on a processor that multiplies bfloat16 or does as if."""
    monkeypatch.setattr(layers, "multiplies_vectors_of_bfloat16", lambda: True)
    if request.param == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN has no bfloat16 here")
    return request.param


@torch.inference_mode()
def test_a_picture_alone_is_convolved_as_beside_others(tiled, dtype):
    torch.manual_seed(0)
    conv = conv_of(torch.randn(160, 160, 3, 3).to(dtype), torch.randn(160).to(dtype))
    x = torch.randn(3, 160, 32, 36).to(dtype).to(memory_format=torch.channels_last)
    plus = torch.randn(1, 160, 32, 36).to(dtype)
    assert torch.equal(conv(x, plus)[1:2], conv(x[1:2], plus))
    assert tiled == [(3, 160, 32, 36), (1, 160, 32, 36)]


@pytest.mark.parametrize(
    ("size", "how", "in_tiles"),
    [
        ((32, 36), {}, (True, True)),
        ((32, 33), {}, (False, True)),  # not whole tiles
        ((34, 32), {}, (False, True)),
        ((28, 32), {}, (False, True)),  # too few
        ((33, 33), {"stride": 2, "padding": 0}, (False, False)),
        ((32, 32), {"stride": 2}, (False, False)),
        ((36, 36), {"padding": 0}, (False, False)),
        ((36, 36), {"in_tiles": False}, (False, False)),
    ],
)
@torch.inference_mode()
def test_wide_convolutions_are_what_they_are_whether_in_tiles_or_not(
    size, how, in_tiles, dtype, tiled
):
    torch.manual_seed(0)
    weight, bias = torch.randn(160, 160, 3, 3).to(dtype), torch.randn(160).to(dtype)
    x = torch.randn(2, 160, *size).to(dtype).to(memory_format=torch.channels_last)
    told = {"padding": 1, **{key: value for key, value in how.items() if key != "in_tiles"}}
    exact = F.conv2d(x.double(), weight.double(), bias.double(), **told)
    got = conv_of(weight, bias, **how)(x)
    assert bool(tiled) == in_tiles[dtype == torch.bfloat16]
    assert (got - exact).norm() / exact.norm() < (1e-5 if dtype == torch.float32 else 6e-3)


def test_without_its_instructions_bfloat16_is_convolved_as_a_whole(tiled, monkeypatch):
    monkeypatch.setattr(layers, "multiplies_vectors_of_bfloat16", lambda: False)
    conv = conv_of(torch.ones(160, 160, 3, 3).bfloat16(), torch.ones(160).bfloat16())
    conv(torch.ones(1, 160, 32, 32).bfloat16())
    assert not tiled


def test_few_channels_and_too_many_are_not_convolved_in_tiles():
    assert winograd.pays(320, 320)
    assert winograd.pays(1920, 640)
    assert not winograd.pays(128, 128)
    assert not winograd.pays(4, 320)
    assert not winograd.pays(1280, 1280)


@pytest.mark.parametrize(
    ("inside", "outside", "matters", "laid"),
    [
        (40, 24, False, 4),  # for each size, and the first is kept
        (40, 256, False, 1),
        (40, 256, True, 4),
        (512, 256, True, 5),  # large: for one size alone
    ],
)
@torch.inference_mode()
def test_kernels_are_laid_out_for_the_size_where_it_matters(
    inside, outside, matters, laid, monkeypatch
):
    if onednn.operators() is None:
        pytest.skip("torch has no oneDNN here")
    monkeypatch.setattr(onednn, "size_matters", lambda: matters)
    torch.manual_seed(0)
    weight, bias = torch.randn(outside, inside, 3, 3), torch.randn(outside)
    conv, layouts = conv_of(weight, bias), set()
    count = 0
    for shape in ((1, 8, 8), (2, 16, 16), (1, 9, 31), (1, 12, 12), (1, 8, 8)):
        x = torch.randn(shape[0], inside, *shape[1:]).to(memory_format=torch.channels_last)
        exact = F.conv2d(x.double(), weight.double(), bias.double(), padding=1).float()
        torch.testing.assert_close(conv(x), exact, rtol=0, atol=1e-3)
        count += conv._laid_out_for(None if conv._for_any_size else x.shape) not in layouts
        layouts = set(conv._packed.values())
        assert [name for name, _ in conv.named_parameters()] == ["bias"]
        assert torch.equal(conv.plain_weight(), weight)
    assert count == laid


@torch.inference_mode()
def test_bfloat16_ends_where_float32_ends(small):
    job = Job(prompt="a red cat", seed=5, guidance=7.5, sampler=Sampler(steps=10))
    ends = []
    for dtype in ("fp32", "bf16"):
        model = load_model(str(small), device="cpu", dtype=dtype)
        network = guided(model.predict, [Words(model.encode(job.prompt), model.encode(""))], 7.5)
        noise = model.noise(5, (64, 64))
        *_, x = trajectory(network, noise, job.sampler, model.schedule, model.prediction)
        ends.append(x.flatten())
    assert torch.cosine_similarity(*ends, dim=0) > 0.999


def test_a_prompt_is_read_once_a_picture_and_again_for_another(small, monkeypatch):
    model, read = load_model(str(small), device="cpu"), []
    true = UNet.condition

    def noted(self, *context, **more):
        read.append(1)
        return true(self, *context, **more)

    monkeypatch.setattr(UNet, "condition", noted)
    job = Job(prompt="a cat", seed=1, sampler=Sampler(steps=4))
    first = [list(generate(model, job))[-1].image for _ in range(2)]
    assert len(read) == 2
    assert first[0].tobytes() == first[1].tobytes()


@pytest.fixture(scope="module")
def xl(tmp_path_factory):
    return write_xl_model(tmp_path_factory.mktemp("models") / "xl")


@pytest.mark.parametrize("guidance", [1, 5])
@pytest.mark.parametrize("negative", ["", "dogs"])
def test_xl_ends_where_diffusers_ends(xl, guidance, negative):
    from diffusers import DPMSolverMultistepScheduler

    model = load_model(str(xl), device="cpu")
    pipeline = StableDiffusionXLPipeline.from_pretrained(xl, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="linspace"
    )
    noise = model.noise(3, (64, 32))
    wanted = pipeline(
        "a red cat",
        negative_prompt=negative or None,  # an absent one is zeros
        width=64,
        height=32,
        latents=noise,
        num_inference_steps=8,
        guidance_scale=guidance,
        output_type="latent",
    ).images
    plain = model.encode(negative) if guidance != 1 else None
    network = guided(model.predict, [Words(model.encode("a red cat"), plain)], guidance)
    sampler = Sampler(steps=8, weights="reference", spacing="linspace")
    *_, x = trajectory(network, noise, sampler, model.schedule, model.prediction)
    torch.testing.assert_close(x, wanted, rtol=0, atol=1e-3)


def test_xl_without_its_second_text_encoder_is_refused_by_its_name(small, tmp_path):
    folder = shutil.copytree(small, tmp_path / "xl")
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionXLPipeline"
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="text_encoder_2"):
        find(str(folder))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("act_fn", "gelu"),
        ("class_embed_type", "timestep"),
        ("down_block_types", ["DownBlock2D", "AttnDownBlock2D"]),
        ("dual_cross_attention", True),
        ("encoder_hid_dim_type", "text_proj"),
        ("mid_block_type", "UNetMidBlock2DSimpleCrossAttn"),
        ("addition_embed_type", "image"),
        ("only_cross_attention", [True, False]),
        ("resnet_time_scale_shift", "scale_shift"),
        ("time_embedding_type", "fourier"),
        ("time_cond_proj_dim", "256"),
        ("time_cond_proj_dim", 2),
        ("attention_head_dim", [3, 5]),
        ("norm_num_groups", 7),
        ("layers_per_block", [1, 2, 3]),
        ("block_out_channels", []),
        ("in_channels", True),
    ],
)
def test_a_network_that_is_not_known_is_refused_by_its_key(key, value):
    with pytest.raises(ValueError, match=f"`{key}`"):
        UNet(Config({**SD1, key: value}))


@pytest.mark.parametrize(("layers", "depth"), [(64, 1), (1, 256), (8, 16)])
def test_more_blocks_than_any_unet_has_are_not_built(layers, depth):
    """Each of the numbers is one that a UNet may have; all of them together fill any memory."""
    levels = {
        "block_out_channels": [8] * 16,
        "down_block_types": ["CrossAttnDownBlock2D"] * 16,
        "up_block_types": ["CrossAttnUpBlock2D"] * 16,
        "layers_per_block": layers,
        "transformer_layers_per_block": depth,
    }
    blocks = 16 * (layers + layers + 1) * (1 + depth)
    with pytest.raises(ValueError, match=f"make {blocks} blocks, more than 1000"):
        UNet(Config({**SD1, **levels}))


# words


@pytest.fixture(scope="module", params=["small", "tiny", "pads with !"])
def tokenizers(request, small, tmp_path_factory):
    from sdfast.models.find import TINY

    folder = (TINY if request.param == "tiny" else small) / "tokenizer"
    if request.param == "pads with !":  # the second tokenizer of XL, and that of 2.x
        folder = tmp_path_factory.mktemp("bang")
        for file in ("vocab.json", "merges.txt"):
            (folder / file).write_text((small / "tokenizer" / file).read_text())
        end = {"content": "<|endoftext|>", "lstrip": False, "normalized": True, "rstrip": False}
        named = {"bos_token": "<|startoftext|>", "eos_token": end, "unk_token": end}
        more = {"pad_token": "!", "model_max_length": 77, "add_prefix_space": False}
        (folder / "tokenizer_config.json").write_text(json.dumps(named | more))
        (folder / "special_tokens_map.json").write_text(json.dumps(named | {"pad_token": "!"}))
    return ClipTokenizer(folder), CLIPTokenizer.from_pretrained(folder)


ODD = st.sampled_from(["<|endoftext|>", "<|StartOfText|>", "!", "!!", "\u0130", "e\u0301", "'LL"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(text=st.lists(st.text() | ODD, max_size=6).map("".join))
def test_any_text_has_the_numbers_that_transformers_gives(tokenizers, text):
    mine, theirs = tokenizers
    limit = min(77, theirs.model_max_length)
    wanted = theirs(text, padding="max_length", truncation=True, max_length=limit).input_ids
    begin, end, pad = mine.marks
    ids = [begin, *mine.read(text)[: limit - 2], end]
    assert ids + [pad] * (limit - len(ids)) == wanted
    assert mine.limit in (None, limit)


def test_many_added_tokens_are_read_as_transformers_reads_them(small, tmp_path):
    folder = shutil.copytree(small / "tokenizer", tmp_path / "tokenizer")
    (folder / "tokenizer.json").unlink()
    start = len(json.loads((folder / "vocab.json").read_text()))
    added = {start + i: {"content": f"<{i}>", "special": i % 2 == 0} for i in range(6000)}
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps(config | {"added_tokens_decoder": added})
    )
    mine = ClipTokenizer(folder)
    theirs = CLIPTokenizer.from_pretrained(folder)
    text = "a <7> cat<8>, <5999> and <6000>"
    assert mine.read(text) == theirs(text, add_special_tokens=False).input_ids
    assert start + 5999 in mine.read(text)


def test_what_the_map_of_special_tokens_says_counts_where_no_token_has_a_number(small, tmp_path):
    folder = shutil.copytree(small / "tokenizer", tmp_path / "tokenizer")
    (folder / "tokenizer.json").unlink(missing_ok=True)
    config = {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": "!"}))
    theirs = CLIPTokenizer.from_pretrained(folder)
    assert (
        ClipTokenizer(folder).marks.pad == theirs.pad_token_id == theirs.convert_tokens_to_ids("!")
    )


@pytest.mark.parametrize(("length", "limit"), [(2, None), (3, 3), (77, 77), (1e30, None)])
def test_a_limit_that_has_room_for_a_word_is_kept(small, tmp_path, length, limit):
    folder = shutil.copytree(small / "tokenizer", tmp_path / "tokenizer")
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": length}))
    assert ClipTokenizer(folder).limit == limit


def test_the_stand_in_for_a_tokenizer_gives_a_word_one_number():
    a, cat, again, _ = AnyWords(1000).read("a cat a dog")
    assert a == again != cat
    assert all(0 <= i < 998 for i in AnyWords(1000).read("one two"))


# random weights, and what a start costs


def test_random_models_are_found_without_files_and_say_that_they_are_random():
    for name in RANDOM:
        source = find(name, offline=True)
        assert source.random
        assert is_cached(name)
    sizes = [find(f"random:{name}").size[0] for name in ("sd15", "sd21", "sdxl")]
    assert sizes == [512, 768, 1024]


@pytest.mark.parametrize("random", [True, False])
def test_weights_that_nobody_read_are_laid_out_as_those_of_a_file(small, random):
    source = replace(find(str(small)), random=random)
    network = filled(source, "unet", bare(source).unet, Place(torch.device("cpu"), torch.float32))
    assert all(conv.stays for conv in network.modules() if isinstance(conv, layers.Conv))


def test_a_misspelt_random_model_brings_those_there_are():
    with pytest.raises(ModelError) as caught:
        find("random:sd51")
    assert "random:sd" in caught.value.hint


def test_random_shapes_have_as_many_weights_as_the_true_models():
    counts = [
        sum(p.numel() for p in bare(find(f"random:{name}")).unet.parameters())
        for name in ("sd15", "sd21", "sdxl")
    ]
    assert counts == [859_520_964, 865_910_724, 2_567_463_684]


def test_painting_wakes_neither_diffusers_nor_transformers(small):
    code = (
        "import sys; from sdfast import Job, Sampler, generate, load_model\n"
        "for model in map(load_model, sys.argv[1:]):\n"
        "    list(generate(model, Job(prompt='fog', sampler=Sampler(steps=1))))\n"
        "print(*{'diffusers', 'transformers', 'torch._dynamo', 'sympy'} & set(sys.modules))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(small), "tiny"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert told.stdout.strip() == ""


def test_a_folder_of_each_prediction_loads(tmp_path):
    model = load_model(str(write_model(tmp_path / "v", "v_prediction")), device="cpu")
    assert model.prediction == "v_prediction"
