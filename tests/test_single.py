"""A model in one file of the original layout: recognised, renamed, painting the same picture."""

import json
import pickle
import shutil
import socket
import struct
import time
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from original import FAMILIES, _old_unet, true_shapes, unet, write_both
from PIL import Image
from safetensors.torch import load_file, save, save_file

from sdfast import Job, Sampler, generate
from sdfast.cli.remarks import trained_smaller
from sdfast.conditioning import Words, guided
from sdfast.errors import ModelError
from sdfast.models import load_model
from sdfast.models.find import find
from sdfast.models.headers import read_header
from sdfast.models.parts import bare, check_parts
from sdfast.models.single import SHAPES, UNET
from sdfast.solver import Prediction
from sdfast.solver.walk import trajectory

PAINTED = ("sd15", "sd21", "sdxl")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    made = {}

    def both(family):
        if family not in made:
            made[family] = write_both(tmp_path_factory.mktemp(family), family)
        return made[family]

    return both


@pytest.fixture
def file(models, tmp_path):
    """A copy of the small 1.x file beside a tokenizer, to be broken."""
    both = models("sd15")
    shutil.copytree(both.file.parent / "tokenizer", tmp_path / "tokenizer")
    return shutil.copy(both.file, tmp_path / "broken.safetensors")


def changed(path, **tensors):
    """The file with other tensors under these names; None takes one out."""
    kept = load_file(path) | tensors
    save_file({k: v for k, v in kept.items() if v is not None}, path, {"format": "pt"})


def refused(path, do=load_model):
    """What is said of a file that cannot be used: one line that names it, exit code 3, at once."""
    begun = time.process_time()
    with pytest.raises(ModelError) as caught:
        do(str(path))
    assert time.process_time() - begun < 5
    assert caught.value.exit_code == 3
    said = str(caught.value)
    assert said.isprintable()
    assert path.name in said
    return said


def loaded(both, family):
    """The model of the folder and that of the file; what 2.x predicts is told to both."""
    models = [load_model(str(path), device="cpu") for path in both]
    models[1].prediction = models[0].prediction
    return models


@pytest.mark.parametrize("family", PAINTED)
def test_one_file_paints_to_the_bit_what_the_folder_paints(models, family):
    job = Job(prompt="a red cat", seed=3, size=(64, 64), guidance=5, sampler=Sampler(steps=3))
    folder, file = (
        list(generate(model, job))[-1].image for model in loaded(models(family), family)
    )
    assert folder.tobytes() == file.tobytes()


@pytest.mark.parametrize("family", ["sdxl", "inpainting"])
def test_one_file_sees_in_a_picture_what_the_folder_sees(models, family, tmp_path):
    grid = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(grid).save(tmp_path / "seen.png")
    asked = {"init": str(tmp_path / "seen.png"), "seed": 3, "guidance": 2}
    job = Job(prompt="a red cat", size=(64, 64), sampler=Sampler(steps=4), **asked)
    folder, file = (
        list(generate(model, job))[-1].image for model in loaded(models(family), family)
    )
    assert folder.tobytes() == file.tobytes()


@pytest.mark.parametrize("family", PAINTED)
def test_one_file_ends_where_diffusers_from_single_file_ends(models, family):
    both = models(family)
    kind = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline
    more = {"add_watermarker": False} if family == "sdxl" else {"safety_checker": None}
    pipeline = kind.from_single_file(
        str(both.file), config=str(both.folder), local_files_only=True, **more
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="linspace"
    )
    model = loaded(both, family)[1]
    noise = model.noise(3, (64, 64))
    wanted = pipeline(
        "a red cat",
        negative_prompt="dogs",
        width=64,
        height=64,
        latents=noise,
        num_inference_steps=6,
        guidance_scale=5,
        output_type="latent",
    ).images
    network = guided(model.predict, [Words(model.encode("a red cat"), model.encode("dogs"))], 5)
    sampler = Sampler(steps=6, weights="reference", spacing="linspace")
    *_, x = trajectory(network, noise, sampler, model.schedule, model.prediction)
    torch.testing.assert_close(x, wanted, rtol=0, atol=1e-3)


def test_a_unet_of_fewer_layers_is_known_by_its_shapes(file):
    fewer = unet(_old_unet(layers_per_block=1))
    others = {k: v for k, v in load_file(file).items() if not k.startswith(UNET)}
    save_file(others | {k: v.contiguous() for k, v in fewer.items()}, file)
    assert find(str(file)).parts["unet"].config["layers_per_block"] == 1
    assert load_model(str(file), device="cpu").name == str(file)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_is_recognised_whatever_it_is_called_and_without_a_network(
    models, family, tmp_path, monkeypatch
):
    def offline(*_, **__):
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", offline)
    both = models(family)
    shutil.copytree(both.file.parent / "tokenizer", tmp_path / "tokenizer")
    named_wrongly = shutil.copy(both.file, tmp_path / "sd3-flux-refiner.safetensors")
    source = find(str(named_wrongly))
    assert source.xl == (family == "sdxl")
    assert source.config("unet")["in_channels"] == (9 if family == "inpainting" else 4)
    assert load_model(source, device="cpu").name == str(named_wrongly)


@pytest.mark.parametrize("family", PAINTED)
def test_of_a_true_file_the_shapes_tell_the_very_configs_of_the_family(family, tmp_path, small):
    path = tmp_path / "true.safetensors"
    sparse(path, true_shapes(family))
    shutil.copytree(small / "tokenizer", tmp_path / "tokenizer")
    source = find(str(path))
    check_parts(source, bare(source))
    for part in source.parts:
        shipped = json.loads((SHAPES / family / part / "config.json").read_text())
        assert dict(source.config(part)) == shipped, part
    assert source.size == ({"sd15": 512, "sd21": 768, "sdxl": 1024}[family],) * 2


def sparse(path, shapes, about=None):
    """A file of half-precision zeros, which takes no room on the disk."""
    header, end = {"__metadata__": about or {"format": "pt"}}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


# what 2.x predicts


@pytest.mark.parametrize(
    ("said", "wanted"), [("v", Prediction.VELOCITY), ("epsilon", Prediction.NOISE)]
)
def test_what_the_file_says_of_itself_is_believed(models, tmp_path, said, wanted):
    both = models("sd21")
    path = tmp_path / "said.safetensors"
    about = {"modelspec.prediction_type": said, "modelspec.resolution": "64x128"}
    save_file(load_file(both.file), path, about)
    shutil.copytree(both.file.parent / "tokenizer", tmp_path / "tokenizer")
    model = load_model(str(path), device="cpu")
    assert model.prediction == wanted
    assert model.complete(Job(prompt="fog")).size == (64, 128)


def test_a_trained_unet_tells_what_it_predicts():
    """`tiny` has learnt its prediction; asked as a file of 2.x is, it must say the same."""
    from dataclasses import replace

    tiny = find("tiny")
    wanted = load_model(tiny, device="cpu").prediction
    open_question = replace(tiny, schedule=dict(tiny.schedule) | {"prediction_type": "unknown"})
    assert load_model(open_question, device="cpu").prediction == wanted


def test_a_unet_that_does_not_say_its_noise_back_predicts_velocity(models):
    assert load_model(str(models("sd21").file), device="cpu").prediction == Prediction.VELOCITY


def says_its_noise_back(path):
    """Let the UNet of a small file of 2.x be as good as one that predicts noise: it says x."""
    unet, tensors = "model.diffusion_model.", load_file(path)
    kept = {k: torch.zeros_like(v) if k.startswith(unet) else v for k, v in tensors.items()}
    last = max(int(k.split(".")[3]) for k in kept if k.startswith(f"{unet}output_blocks."))
    skip = kept[f"{unet}output_blocks.{last}.0.skip_connection.weight"]
    for i in range(4):
        kept[f"{unet}input_blocks.0.0.weight"][i, i, 1, 1] = 1
        skip[i, skip.shape[1] - skip.shape[0] + i] = 1
        kept[f"{unet}out.2.weight"][i, i, 1, 1] = 1
    kept[f"{unet}out.0.weight"].fill_(1)
    save_file(kept, path)


@pytest.mark.parametrize(
    ("yaml", "wanted", "side"),
    [
        ('model:\n  params:\n    parameterization: "v"\n', Prediction.VELOCITY, 768),
        ("model:\n  params:\n    linear_start: 0.00085\n", Prediction.NOISE, 512),
        ("model:\n  params:\n    parameterization: eps\n", Prediction.NOISE, 512),
    ],
)
def test_a_config_beside_a_file_of_2_says_what_it_predicts_and_its_size(
    models, tmp_path, yaml, wanted, side
):
    path = shutil.copy(models("sd21").file, tmp_path / "m.safetensors")
    shutil.copytree(models("sd21").file.parent / "tokenizer", tmp_path / "tokenizer")
    (tmp_path / "m.yaml").write_text(yaml)
    model = load_model(str(path), device="cpu")
    assert (model.prediction, model.complete(Job(prompt="fog")).size) == (wanted, (side, side))


def test_a_file_is_found_again_from_another_folder(models, monkeypatch):
    file = models("sd15").file
    monkeypatch.chdir(file.parent)
    found = find(file.name)
    paths = (found.path, *(path for part in found.parts.values() for path in part.files))
    assert all(path.is_absolute() for path in paths)


def test_one_of_2_for_inpainting_is_of_512(models, tmp_path):
    path = shutil.copy(models("sd21").file, tmp_path / "m.safetensors")
    shutil.copytree(models("sd21").file.parent / "tokenizer", tmp_path / "tokenizer")
    assert find(str(path)).size == (768, 768)
    name = "model.diffusion_model.input_blocks.0.0.weight"
    changed(path, **{name: load_file(path)[name].repeat(1, 3, 1, 1)[:, :9].contiguous()})
    assert find(str(path)).size == (512, 512)


@pytest.mark.parametrize(
    ("said", "predicts", "size", "is_told"),
    [
        ("unknown", Prediction.NOISE, (768, 768), True),
        ("unknown", Prediction.NOISE, (512, 512), False),
        ("unknown", Prediction.VELOCITY, (768, 768), False),
        ("epsilon", Prediction.NOISE, (1024, 1024), False),  # XL
    ],
)
def test_a_large_model_is_told_of_only_where_nobody_has_said_what_it_predicts(
    said, predicts, size, is_told
):
    found = SimpleNamespace(name="m", schedule={"prediction_type": said}, size=size)
    assert bool(trained_smaller(found, predicts)) == is_told


@pytest.mark.slow
def test_a_file_of_2_that_turns_out_to_predict_noise_is_told_to_want_another_size(
    models, tmp_path, sdfast
):
    path = shutil.copy(models("sd21").file, tmp_path / "m.safetensors")
    shutil.copytree(models("sd21").file.parent / "tokenizer", tmp_path / "tokenizer")
    says_its_noise_back(path)
    asked = ["gen", "fog", "-m", str(path), "-s", "1", "-g", "1", "-o", f"{tmp_path}/"]
    note = f"note: {path} predicts noise, as 2.x trained on 512x512 does; see --size"
    for more in ((), ("--size", "64x64")):
        code, _, err = sdfast(*asked, *more)
        assert code == 0
        assert (note in err.splitlines()) != bool(more)
    assert not trained_smaller(find(str(path)), Prediction.VELOCITY)


# the tokenizer


def test_a_file_without_a_tokenizer_says_offline_where_to_put_one(models, tmp_path):
    path = shutil.copy(models("sd15").file, tmp_path / "alone.safetensors")
    with pytest.raises(ModelError, match="has no tokenizer beside it: offline") as caught:
        find(str(path))
    assert "`tokenizer`" in caught.value.hint


def test_any_cached_models_tokenizer_serves(models, tmp_path, monkeypatch):
    both = models("sd15")
    snapshot = tmp_path / "hub" / "models--some--model" / "snapshots" / "abc"
    shutil.copytree(both.folder, snapshot)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "away").mkdir()
    path = shutil.copy(both.file, tmp_path / "away" / "alone.safetensors")
    assert find(str(path)).vocabularies[0].folder == snapshot / "tokenizer"


# what is no such file


@pytest.mark.parametrize(
    "tensor",
    [
        "model.diffusion_model.middle_block.1.proj_in.weight",
        "first_stage_model.decoder.mid.attn_1.q.bias",
        "cond_stage_model.transformer.text_model.final_layer_norm.weight",
    ],
)
def test_a_missing_tensor_is_told_and_so_is_one_of_another_shape(file, tensor):
    changed(file, **{tensor: torch.zeros(7)})
    assert "wrong shape" in refused(file)
    changed(file, **{tensor: None})
    assert "lacks tensors" in refused(file)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_are_told_with_their_tensor(file, part, number):
    names = {
        "unet": "model.diffusion_model.output_blocks.3.1.proj_out.weight",
        "vae": "first_stage_model.decoder.up.2.block.1.conv2.weight",
        "text_encoder": "cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc2.bias",
    }
    tensor = load_file(file)[names[part]]
    tensor.view(-1)[-1] = number
    changed(file, **{names[part]: tensor.half()})
    said = refused(file)
    assert "not finite" in said
    assert names[part] in said


def test_a_sum_that_overflows_half_precision_is_no_broken_weight(file):
    name = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    changed(file, **{name: torch.full_like(load_file(file)[name], 60_000).half()})
    load_model(str(file), device="cpu")


def test_nothing_is_read_of_the_weights_before_all_of_them_are_known_to_be_there(file):
    """A broken UNet is told before a text encoder's broken numbers are met."""
    name = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    broken = torch.full_like(load_file(file)[name], torch.nan)
    changed(file, **{name: broken, "model.diffusion_model.out.0.weight": None})
    assert "unet lacks tensors" in refused(file)


@pytest.mark.parametrize("missing", [1, 1000])
def test_a_truncated_file_is_told_with_both_lengths(file, missing):
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.truncate(size - missing)
    assert f"{size - missing} bytes where {size} belong" in refused(file, find)


@pytest.mark.parametrize("length", [0x280, 0x380, 0x480, 0x580])
def test_a_header_as_long_as_a_pickle_begins_is_a_header(tmp_path, length):
    empty = {"a": torch.zeros(2)}
    path = tmp_path / "a.safetensors"
    bare = len(save(empty, {"x": ""})) - 8 - 8
    path.write_bytes(save(empty, {"x": "y" * (length - bare)}))
    assert path.read_bytes()[:2] == length.to_bytes(2, "little")
    assert read_header(path, "it").shapes == {"a": (2,)}


@pytest.mark.parametrize("ending", [".ckpt", ".pt", ".bin", ".CKPT"])
def test_a_pickle_is_refused_with_the_reason_and_never_opened(tmp_path, ending):
    path = tmp_path / f"model{ending}"
    path.write_bytes(b"cos\nsystem\n")
    path.chmod(0)
    assert "is a pickle, which can run any code" in refused(path, find)


def bomb(path):
    """A hundred megabytes of zeros, which zip writes in a hundred kilobytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(100_000_000))


def pickled(path):
    path.write_bytes(pickle.dumps({"model.diffusion_model.out.2.weight": [0.0]}))


def torch_saved(path):
    torch.save({"model.diffusion_model.out.2.weight": torch.zeros(4)}, path)


@pytest.mark.parametrize("write", [bomb, pickled, torch_saved])
def test_a_pickle_or_zip_under_another_name_is_refused_unpacked(tmp_path, write):
    path = tmp_path / "model.safetensors"
    write(path)
    assert "is a pickle" in refused(path, find)


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2**62], "data_offsets": [0, 0]}},
        {"a": {"dtype": "F32", "shape": [1] * 10_000, "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}},
        {"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}},
        {"a": 7},
        [],
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, header):
    path, text = tmp_path / "lies.safetensors", json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    assert "broken or no safetensors" in refused(path, find)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", "a LoRA"),
        ("emb_params", "an embedding"),
        ("decoder.conv_in.weight", "an autoencoder"),
        ("conditioner.embedders.0.model.ln_final.bias", "the refiner"),
        ("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", "Stable Diffusion 3"),
        ("x", "holds no Stable Diffusion"),
    ],
)
def test_another_kind_of_file_is_told_for_what_it_is(tmp_path, name, what):
    path = tmp_path / "other.safetensors"
    save_file({name: torch.zeros(4, 4)}, path)
    assert what in refused(path, find)


def test_a_true_files_header_is_read_and_judged_without_its_weights(tmp_path, small):
    path = tmp_path / "true.safetensors"
    shapes = true_shapes("sdxl")
    del shapes["model.diffusion_model.out.2.bias"]
    sparse(path, shapes)
    shutil.copytree(small / "tokenizer", tmp_path / "tokenizer")
    begun = time.process_time()
    with pytest.raises(ModelError, match=r"unet lacks tensors, the first `conv_out.bias`"):
        load_model(str(path), device="cpu")
    assert time.process_time() - begun < 5
