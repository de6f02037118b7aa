"""TAESD beside diffusers' AutoencoderTiny, on the same weights, in each of its forms."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from original import write_both
from PIL import Image
from safetensors.torch import load_file, save_file

from sdfast import Job
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


@torch.inference_mode()
def test_a_scale_and_a_shift_are_followed_there_and_back(forms, small, picture, tmp_path):
    plain = load_model(str(small), device="cpu", vae=str(forms["folder"]))
    folder = shutil.copytree(forms["folder"], tmp_path / "scaled")
    config = json.loads((folder / "config.json").read_text())
    more = {"scaling_factor": 2.0, "shift_factor": 0.5}
    (folder / "config.json").write_text(json.dumps(config | more))
    scaled = load_model(str(small), device="cpu", vae=str(folder))
    own = plain.look(picture)
    torch.testing.assert_close(scaled.look(picture), (own - 0.5) * 2)
    back, wanted = (
        np.array(m.decode(x).image, int) for m, x in ((scaled, (own - 0.5) * 2), (plain, own))
    )
    assert np.abs(back - wanted).max() <= 1


@pytest.mark.parametrize("build", [encoder, decoder])
def test_a_scale_of_nothing_is_refused(build, theirs):
    with pytest.raises(ValueError, match="`scaling_factor` is 0"):
        build(Config(dict(theirs.config) | {"scaling_factor": 0}))


@torch.inference_mode()
def test_a_config_need_not_say_what_the_decoder_says_already(forms, small, tmp_path):
    """As older versions of diffusers wrote it, and the author's own are."""
    folder = shutil.copytree(small, tmp_path / "model")
    shutil.rmtree(folder / "vae")
    shutil.copytree(forms["folder"], folder / "vae")
    config = json.loads((folder / "vae" / "config.json").read_text())
    del config["block_out_channels"]
    (folder / "vae" / "config.json").write_text(json.dumps(config))
    model = load_model(str(folder), device="cpu")
    assert (
        model.complete(Job(prompt="a")).size
        == load_model(str(small), device="cpu").complete(Job(prompt="a")).size
    )


@pytest.mark.parametrize("layout", ["original", "today"])
@torch.inference_mode()
def test_a_large_one_takes_the_place_of_a_small_one(layout, forms, tmp_path):
    both = write_both(tmp_path / "both", "sd15")
    file = both.folder / "vae" / "diffusion_pytorch_model.safetensors"
    if layout == "original":
        start = "first_stage_model."
        tensors = {k.removeprefix(start): v for k, v in load_file(both.file).items() if start in k}
        save_file(tensors, tmp_path / "large.safetensors")
        file = tmp_path / "large.safetensors"
    x = load_model(str(both.folder), device="cpu").noise(1, (64, 64))
    wanted = load_model(str(both.folder), device="cpu", vae=str(file)).decode(x).image
    folder = shutil.copytree(both.folder, tmp_path / "model")
    shutil.rmtree(folder / "vae")
    shutil.copytree(forms["folder"], folder / "vae")
    got = load_model(str(folder), device="cpu", vae=str(file)).decode(x).image
    assert got.tobytes() == wanted.tobytes()


@torch.inference_mode()
def test_of_a_decoder_alone_by_todays_names_the_model_reads_pictures(
    forms, small, picture, tmp_path
):
    kept = {k: v for k, v in load_file(forms["whole"]).items() if k.startswith("decoder.")}
    save_file(kept, tmp_path / "alone.safetensors")
    model = load_model(str(small), device="cpu", vae=str(tmp_path / "alone.safetensors"))
    whole = load_model(str(small), device="cpu", vae=str(forms["whole"]))
    x = model.noise(1, (64, 64))
    assert model.decode(x).image.tobytes() == whole.decode(x).image.tobytes()
    assert torch.equal(model.look(picture), load_model(str(small), device="cpu").look(picture))


def test_what_is_wrong_with_one_is_said_of_it(forms, small, tmp_path):
    folder = shutil.copytree(forms["folder"], tmp_path / "folder")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"act_fn": "silu"}))
    with pytest.raises(ModelError, match=f"^`{folder}`: vae cannot be loaded: `act_fn`"):
        load_model(str(small), device="cpu", vae=str(folder))


@pytest.mark.parametrize("name", ["9" * 5000 + ".weight", "٣.weight", "100000.weight"])
def test_a_tensor_of_an_absurd_name_is_none(name, forms, small, tmp_path):
    tensors = load_file(forms["decoder"]) | {name: torch.zeros(1)}
    save_file(tensors, tmp_path / "odd.safetensors")
    load_model(str(small), device="cpu", vae=str(tmp_path / "odd.safetensors"))


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
    if other_half in key and "channels" in key:
        build(config)
    else:
        says = "are not of one size" if other_half in key else key
        with pytest.raises(ValueError, match=says):
            build(config)


def test_the_encoder_alone_is_refused(forms, small):
    with pytest.raises(ModelError, match="is the encoder of a TAESD"):
        load_model(str(small), device="cpu", vae=str(forms["encoder"]))


def test_unequal_halves_are_refused(theirs, small, tmp_path):
    other = AutoencoderTiny(
        **SHAPE | {"encoder_block_out_channels": (8,) * 3}, num_encoder_blocks=(1,) * 3
    )
    other.save_pretrained(tmp_path / "unequal")
    with pytest.raises(ModelError, match="its encoder and its decoder are not of one size"):
        load_model(str(small), device="cpu", vae=str(tmp_path / "unequal"))


@pytest.mark.parametrize("kind", [AutoencoderTiny, AutoencoderKL])
def test_a_folder_of_another_size_is_refused(kind, small, tmp_path):
    if kind is AutoencoderTiny:
        widths = dict.fromkeys(SHAPE, (8,) * 3)
        other = kind(**widths, num_encoder_blocks=(1,) * 3, num_decoder_blocks=(1,) * 3)
    else:
        downs, ups = (("DownEncoderBlock2D",) * 3, ("UpDecoderBlock2D",) * 3)
        blocks = {"down_block_types": downs, "up_block_types": ups}
        other = kind(block_out_channels=(8,) * 3, norm_num_groups=4, **blocks)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError, match="of another size"):
        load_model(str(small), device="cpu", vae=str(tmp_path / "other"))


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
