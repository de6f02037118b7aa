"""TAESD beside diffusers' AutoencoderTiny, on the same weights, in each of its forms."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from PIL import Image
from safetensors.torch import load_file, save_file

from sdfast.errors import ModelError
from sdfast.models import load_model
from sdfast.models.networks import Config, decoder, encoder

SHAPE = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    network = AutoencoderTiny(
        **SHAPE, num_encoder_blocks=(1, 2, 3, 1), num_decoder_blocks=(3, 1, 2, 1)
    )
    for weight in network.parameters():  # so that it paints something, and tells its layers apart
        torch.nn.init.normal_(weight, std=0.15 if weight.dim() > 1 else 0.2)
    return network.eval()


@pytest.fixture(scope="module")
def forms(theirs, tmp_path_factory):
    """The same weights: as a folder, as one of its files, and as the author's two."""
    place = tmp_path_factory.mktemp("taesd")
    theirs.save_pretrained(place / "folder")
    tensors = load_file(place / "folder" / "diffusion_pytorch_model.safetensors")
    save_file(tensors, place / "whole.safetensors")
    halves = {"encoder": {}, "decoder": {}}
    for name, tensor in tensors.items():
        half, layer, rest = re.fullmatch(r"(\w+)\.layers\.(\d+)\.(.+)", name).groups()
        shift = half == "decoder"  # a layer without weights comes first there
        halves[half][f"{int(layer) + shift}.{rest}"] = tensor
    for half, weights in halves.items():
        save_file(weights, place / f"{half}.safetensors")
    return {path.stem: path for path in place.iterdir()}


def pixels_of(picture):
    return torch.tensor(np.array(picture, np.float32)).permute(2, 0, 1)[None] / 127.5 - 1


def as_picture(sample):
    grid = (sample / 2 + 0.5).clamp(0, 1)[0].permute(1, 2, 0)
    return Image.fromarray((grid * 255).round().to(torch.uint8).numpy())


@pytest.fixture
def picture():
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
    return small.resize((64, 40), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("form", ["folder", "whole", "decoder"])
@torch.inference_mode()
def test_pixels_are_those_of_diffusers(form, forms, theirs, small):
    model = load_model(str(small), device="cpu", vae=str(forms[form]))
    x = 2 * model.noise(1, (64, 40))  # some of it is out of bounds
    got, wanted = (
        np.array(p, int) for p in (model.decode(x)[0], as_picture(theirs.decode(x).sample))
    )
    assert wanted.std() > 20
    assert np.abs(got - wanted).max() <= 1


@pytest.mark.parametrize("form", ["folder", "whole"])
@torch.inference_mode()
def test_latents_are_those_of_diffusers(form, forms, theirs, small, picture):
    model = load_model(str(small), device="cpu", vae=str(forms[form]))
    wanted = theirs.encode(pixels_of(picture)).latents
    torch.testing.assert_close(model.look(picture), wanted, rtol=1e-5, atol=1e-5)


def test_pictures_are_read_by_the_models_own_encoder_where_only_a_decoder_is_given(
    forms, small, picture
):
    model = load_model(str(small), device="cpu", vae=str(forms["decoder"]))
    own = load_model(str(small), device="cpu").look(picture)
    assert torch.equal(model.look(picture), own)


@torch.inference_mode()
def test_a_model_may_have_one_of_its_own(forms, theirs, small, tmp_path):
    folder = shutil.copytree(small, tmp_path / "model")
    shutil.rmtree(folder / "vae")
    shutil.copytree(forms["folder"], folder / "vae")
    model = load_model(str(folder), device="cpu")
    given = load_model(str(small), device="cpu", vae=str(forms["folder"]))
    x = model.noise(1, (64, 64))
    assert model.decode(x)[0].tobytes() == given.decode(x)[0].tobytes()


@torch.inference_mode()
def test_in_tiles_a_picture_is_the_same_away_from_their_edges(forms, small, monkeypatch):
    model = load_model(str(small), device="cpu", vae=str(forms["folder"]))
    x = model.noise(1, (512, 320))
    whole = np.array(model.decode(x).image, int)
    monkeypatch.setattr("sdfast.models.tiles.free_memory", lambda device: 4e6)
    image, _, tiles = model.decode(x)
    assert tiles > 1
    corner = np.abs(np.array(image, int) - whole)[:64, :64]
    assert corner.max() <= 1 < np.ptp(whole)


def test_a_scale_and_a_shift_are_followed(theirs, tmp_path):
    config = dict(theirs.config) | {"scaling_factor": 2.0, "shift_factor": 0.5}
    network = decoder(Config(config))
    x = torch.randn(1, 4, 2, 2)
    assert torch.equal(network.unscaled(x), x / 2 + 0.5)


@pytest.mark.parametrize("build", [encoder, decoder])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("act_fn", "silu"),
        ("upsample_fn", "bilinear"),
        ("upsampling_scaling_factor", 3),
        ("in_channels", 4),
        ("encoder_block_out_channels", [8, 8, 8, 16]),
        ("decoder_block_out_channels", [8, 8, 8, 16]),
        ("num_encoder_blocks", [1, 1, 1]),
        ("num_decoder_blocks", [1, 1, 1]),
    ],
)
def test_what_a_config_wants_besides_is_named(build, key, value, theirs):
    config = Config(json.loads(theirs.to_json_string()) | {key: value})
    other_half = {encoder: "decoder", decoder: "encoder"}[build]
    if other_half in key:
        build(config)
    else:
        with pytest.raises(ValueError, match=key):
            build(config)


def test_the_encoder_alone_is_refused(forms, small):
    with pytest.raises(ModelError, match="is the encoder of a TAESD"):
        load_model(str(small), device="cpu", vae=str(forms["encoder"]))


def test_a_decoder_of_another_size_is_refused(forms, small, tmp_path):
    kept = {k: v for k, v in load_file(forms["decoder"]).items() if int(k.partition(".")[0]) < 12}
    save_file(kept, tmp_path / "short.safetensors")
    with pytest.raises(ModelError, match="of another size"):
        load_model(str(small), device="cpu", vae=str(tmp_path / "short.safetensors"))


def test_a_file_that_lacks_a_tensor_is_refused(forms, small, tmp_path):
    kept = load_file(forms["decoder"])
    del kept["4.conv.2.bias"]
    save_file(kept, tmp_path / "less.safetensors")
    with pytest.raises(
        ModelError, match=r"lacks tensors, the first `decoder\.layers\.3\.conv\.2\.bias`"
    ):
        load_model(str(small), device="cpu", vae=str(tmp_path / "less.safetensors"))


def test_a_picture_painted_with_one_is_painted_again_from_itself(forms, small, sdfast, here):
    gen = ("gen", "-m", str(small), "--seed", "1", "-s", "10", "-q", "--size", "64x64")
    assert sdfast(*gen, "a cat", "--vae", str(forms["decoder"]), "-o", "a.png")[0] == 0
    assert sdfast(*gen, "--from", "a.png", "-o", "b.png")[0] == 0
    assert sdfast(*gen, "a cat", "-o", "c.png")[0] == 0
    a, b, c = (Image.open(here / f"{name}.png").tobytes() for name in "abc")
    assert a == b != c
