"""Finding a model, and telling in one line what is wrong with it."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from sdfast.errors import ModelError
from sdfast.job import Job
from sdfast.models import load_model
from sdfast.models.find import TINY, find, from_anywhere, is_cached, target_of
from sdfast.models.headers import read_header

UNET = "unet/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
NEEDED = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    TEXT,
    "unet/config.json",
    UNET,
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
)


@pytest.fixture
def broken(small, tmp_path):
    """A copy of the small model, to be broken."""
    return shutil.copytree(small, tmp_path / "broken")


def refused(folder, do=find):
    """What is said of a model that cannot be used: one line, exit code 3."""
    with pytest.raises(ModelError) as caught:
        do(str(folder))
    assert caught.value.exit_code == 3
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    return str(caught.value)


def change(path, **keys):
    """Set keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def test_a_whole_folder_is_found_with_its_size_and_guidance(small):
    source = find(str(small))
    assert (source.path, source.size, source.guidance) == (small, (64, 64), 7.5)
    assert source.schedule["beta_schedule"] == "scaled_linear"


def test_a_found_model_fills_in_what_a_job_leaves_open_and_nothing_else(small):
    job = find(str(small), {}).complete(Job(prompt="fog", guidance=3))
    assert (job.model, job.size, job.guidance) == (str(small), (64, 64), 3)


def test_an_alias_finds_its_folder_and_the_model_keeps_the_aliass_name(small):
    source = find("mine", {"mine": str(small)})
    assert (source.name, source.path) == ("mine", small)


def test_an_alias_may_stand_for_another_name():
    aliases = {"mine": "sd15", "small": "tiny", "tiny": "sd15"}
    assert target_of("mine", aliases) == target_of("sd15")
    assert find("small", aliases).path == find("tiny", aliases).path == TINY


def test_tiny_is_tiny_from_everywhere_and_a_folder_is_where_it_is(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("tiny", "mine"):
        (tmp_path / name).mkdir()
    aliases = {"other": "mine"}
    names = [from_anywhere(name, aliases) for name in ("tiny", "mine", "other", "sd15")]
    assert names == ["tiny", str(tmp_path / "mine"), "other", "sd15"]


def test_an_unknown_name_brings_the_nearest_one():
    with pytest.raises(ModelError, match="no model `sd-15`") as caught:
        find("sd-15")
    assert caught.value.hint == "did you mean `sd15`?"


def test_a_name_like_no_other_brings_all_of_them():
    with pytest.raises(ModelError) as caught:
        find("xyzzy", {"mine": "somewhere"})
    assert caught.value.hint == "known are `tiny`, `sd15`, `sd14`, `sd21`, `sdxl`, `mine`"


@pytest.mark.parametrize(
    "name",
    ["", "a" * 5000, "~nobody-of-this-name/model", "a\0b", "two\nlines", "\x1b[2J", "../../.."],
)
def test_a_name_that_cannot_be_is_refused_in_one_line(name):
    refused(name)


@pytest.mark.parametrize("name", ["a" * 5000, "~nobody-of-this-name/model", "a\0b"])
def test_nothing_would_be_fetched_for_a_name_that_cannot_be(name):
    assert is_cached(name)


@pytest.mark.parametrize("name", ["sd15", "someone/something", "a--b/c", "a/" + "b" * 200])
def test_a_hub_model_is_refused_offline(name):
    assert "offline" in refused(name)
    assert not is_cached(name)


def test_a_hub_model_is_refused_if_the_caller_is_offline_though_the_machine_is_not(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(ModelError, match="offline") as caught:
        find("someone/something", offline=True)
    assert "sdfast models pull someone/something" in caught.value.hint


@pytest.mark.parametrize("file", NEEDED)
def test_a_missing_file_is_named(broken, file):
    (broken / file).unlink()
    assert file in refused(broken)


@pytest.mark.parametrize("file", ["vocab.json", "merges.txt"])
def test_a_tokenizer_in_neither_form_is_told_with_both(broken, file):
    for gone in (file, "tokenizer.json"):
        (broken / "tokenizer" / gone).unlink()
    said = refused(broken)
    assert "tokenizer/tokenizer.json" in said
    assert f"tokenizer/{file}" in said


def test_a_folder_that_only_diffusers_wrote_reads_prompts_alike(small, tmp_path):
    pipeline = StableDiffusionPipeline.from_pretrained(small)
    pipeline.save_pretrained(tmp_path / "saved")
    first, saved = (load_model(str(f), device="cpu") for f in (small, tmp_path / "saved"))
    assert torch.equal(first.encode("a red cat"), saved.encode("a red cat"))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_folder_is_named(broken, part):
    shutil.rmtree(broken / part)
    assert f"`{part}`" in refused(broken)


@pytest.mark.parametrize("kind", ["StableDiffusion3Pipeline", "FluxPipeline", None, 7, "\x1b[2J"])
def test_another_kind_of_pipeline_is_refused_by_its_name(broken, kind):
    change(broken / "model_index.json", _class_name=kind)
    assert "only Stable Diffusion 1.x" in refused(broken)


@pytest.mark.parametrize("missing", [1, 1000])
def test_truncated_weights_are_refused_with_both_lengths(broken, missing):
    path = broken / UNET
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size - missing)
    assert f"{size - missing} bytes where {size} belong" in refused(broken)


def test_overlong_weights_are_refused(broken):
    with (broken / UNET).open("ab") as file:
        file.write(b"more")
    assert "truncated or overlong" in refused(broken)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 100) + b"{}",
        struct.pack("<Q", 2) + b"{]",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 20) + b'{"__metadata__":"x"}',
        struct.pack("<Q", 20) + b'{"__metadata__":[1]}',
        struct.pack("<Q", 4) + b"\xff\xfe\xff\xfe",
        b'\x0d\0\0\0\0\0\0\0{"a":{"b":1}}',
        b'\x1d\0\0\0\0\0\0\0{"a":{"data_offsets":[0,"x"]}}'[:37],
        b'\x20\0\0\0\0\0\0\0{"a":{"data_offsets":[0,1e999]}}',
        struct.pack("<Q", 99_999) + b"[" * 99_999,
        b"<html>404 not found</html>",
    ],
)
def test_a_garbage_header_is_refused(broken, content):
    (broken / UNET).write_bytes(content)
    assert f"`{UNET}` is broken or no safetensors file" in refused(broken)


@pytest.mark.parametrize(
    "kind", ["float64", "int32", "bfloat16", "uint16", "float8_e4m3fn", "int8", "uint8", "bool"]
)
def test_a_file_of_numbers_of_any_kind_is_whole(tmp_path, kind):
    save_file({"a": torch.zeros(3, 5).to(getattr(torch, kind))}, file := tmp_path / "a.safetensors")
    assert read_header(file, "it").shapes == {"a": (3, 5)}


def test_a_file_of_no_tensors_is_whole_with_a_header_of_two_bytes(tmp_path):
    (file := tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    assert read_header(file, "it").shapes == {}


def test_a_pickle_alone_is_refused_with_the_reason(broken):
    (broken / UNET).rename(broken / "unet" / "diffusion_pytorch_model.bin")
    assert "is a pickle, which can run any code" in refused(broken)


def test_a_pickle_beside_safetensors_is_not_opened(broken):
    (broken / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    assert load_model(str(broken), device="cpu").name == str(broken)


@pytest.mark.parametrize(
    ("file", "tensor"), [(UNET, "conv_in.weight"), (TEXT, "final_layer_norm.bias")]
)
def test_a_missing_tensor_is_named(broken, file, tensor):
    tensors = load_file(broken / file)
    (full,) = (name for name in tensors if name.endswith(tensor))
    del tensors[full]
    save_file(tensors, broken / file, {"format": "pt"})
    said = refused(broken, load_model)
    assert "lacks tensors" in said
    assert tensor in said


@pytest.mark.parametrize(
    ("file", "tensor"), [(UNET, "conv_in.weight"), (TEXT, "final_layer_norm.bias")]
)
def test_a_tensor_of_the_wrong_shape_is_named(broken, file, tensor):
    tensors = load_file(broken / file)
    (full,) = (name for name in tensors if name.endswith(tensor))
    tensors[full] = torch.zeros(3)
    save_file(tensors, broken / file, {"format": "pt"})
    assert tensor in refused(broken, load_model)


@pytest.mark.parametrize("number", [torch.nan, -torch.inf])
@pytest.mark.parametrize("file", [name for name in NEEDED if name.endswith(".safetensors")])
def test_weights_that_are_not_finite_are_told_with_their_tensor(broken, file, number):
    tensors = load_file(broken / file)
    last = [n for n in tensors if n.startswith(("decoder.", "conv_", "text_model.", "final"))][-1]
    tensors[last].view(-1)[-1] = number
    save_file(tensors, broken / file, {"format": "pt"})
    said = refused(broken, load_model)
    assert "not finite" in said
    assert last in said


@pytest.mark.parametrize("file", [name for name in NEEDED if name.endswith("config.json")])
@pytest.mark.parametrize(
    "text", ["", "not JSON", "[]", "7", "[" * 100_000, "\xff", '{"a":' * 50_000, "[" * 10_000_001]
)
def test_a_config_that_is_no_json_object_is_named(broken, file, text):
    (broken / file).write_bytes(text.encode("latin-1"))
    assert file in refused(broken)


READ_WHOLE = (
    *(name for name in NEEDED if name.endswith(".json")),
    *("sdfast.json", "tokenizer/vocab.json", "tokenizer/merges.txt", "tokenizer/tokenizer.json"),
    *("tokenizer/tokenizer_config.json", "tokenizer/added_tokens.json"),
)


@pytest.fixture(params=READ_WHOLE)
def blank(broken, request):
    """One of the small files of a model, not there yet, which will be read if it is."""
    if request.param in ("tokenizer/vocab.json", "tokenizer/merges.txt"):
        (broken / "tokenizer" / "tokenizer.json").unlink()
    (broken / request.param).unlink(missing_ok=True)
    return broken / request.param


def test_a_file_larger_than_any_config_is_not_read(broken, blank):
    blank.touch()
    os.truncate(blank, 10_000_001)
    assert "it has over 10 MB" in refused(broken, load_model)


@pytest.mark.skipif(sys.platform == "win32", reason="has no such files")
def test_a_link_to_a_device_is_no_file(broken, blank):
    blank.symlink_to("/dev/null")
    assert re.search("has no file|no regular file", refused(broken, load_model))


@pytest.mark.skipif(sys.platform == "win32", reason="has no such files")
def test_a_link_to_a_device_is_no_shard(broken):
    (broken / UNET).unlink()
    (broken / "unet" / "shard.safetensors").symlink_to("/dev/null")
    index = {"weight_map": {"conv_in.weight": "shard.safetensors"}}
    (broken / f"{UNET}.index.json").write_text(json.dumps(index))
    assert "`unet/shard.safetensors` cannot be read: it is no regular file" in refused(broken)


@pytest.mark.parametrize(
    "keys",
    [
        {"sample_size": None},
        {"sample_size": "large"},
        {"sample_size": -8},
        {"sample_size": 0},
        {"sample_size": 10**9},
        {"sample_size": float("inf")},
        {"sample_size": float("nan")},
        {"sample_size": [8, 8]},
    ],
)
def test_a_unet_of_no_sensible_size_is_refused(broken, keys):
    change(broken / "unet" / "config.json", **keys)
    assert "size" in refused(broken)


@pytest.mark.parametrize("guidance", [-1, float("nan"), float("inf"), "much", [7.5]])
def test_a_models_own_guidance_is_checked_as_a_jobs_is(broken, guidance):
    (broken / "sdfast.json").write_text(json.dumps({"guidance": guidance}))
    assert "guidance" in refused(broken)


@pytest.mark.parametrize(
    ("file", "keys"),
    [
        ("unet/config.json", {"block_out_channels": "none"}),
        ("unet/config.json", {"down_block_types": ["../../evil"]}),
        ("vae/config.json", {"block_out_channels": [8, 8]}),
        ("vae/config.json", {"out_channels": 1}),
        ("text_encoder/config.json", {"num_attention_heads": 0}),
        ("text_encoder/config.json", {"hidden_size": "16"}),
        ("text_encoder/config.json", {"max_position_embeddings": 12}),
        ("scheduler/scheduler_config.json", {"beta_schedule": "sideways"}),
        ("scheduler/scheduler_config.json", {"prediction_type": "guess"}),
        ("scheduler/scheduler_config.json", {"beta_end": None}),
        ("scheduler/scheduler_config.json", {"beta_end": 10**400}),
        ("scheduler/scheduler_config.json", {"trained_betas": [0.1, 10**400]}),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 0}),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**15}),
        ("scheduler/scheduler_config.json", {"trained_betas": []}),
        ("scheduler/scheduler_config.json", {"trained_betas": [[0.1]]}),
        ("scheduler/scheduler_config.json", {"trained_betas": {"a": 1}}),
    ],
)
def test_a_config_that_fits_no_network_is_refused(broken, file, keys):
    change(broken / file, **keys)
    refused(broken, load_model)


@pytest.mark.parametrize(
    "text", ["not JSON", "[]", "{}", '{"a": "b"}', '{"a": 99999999}', "[" * 100_000]
)
def test_a_broken_vocabulary_is_refused(broken, text):
    (broken / "tokenizer" / "tokenizer.json").unlink()
    (broken / "tokenizer" / "vocab.json").write_text(text)
    assert "tokenizer" in refused(broken, load_model)


def test_a_vocabulary_larger_than_the_text_encoders_is_refused(broken):
    (broken / "tokenizer" / "tokenizer.json").unlink()
    change(broken / "tokenizer" / "vocab.json", zebra=600)
    assert "tokenizer" in refused(broken, load_model)


@pytest.mark.parametrize(
    ("file", "keys"),
    [
        ("tokenizer_config.json", {"added_tokens_decoder": {i: f"<{i}>" for i in range(10_001)}}),
        ("tokenizer_config.json", {"additional_special_tokens": ["<a>"] * 10_001}),
        ("added_tokens.json", {f"<{i}>": i for i in range(10_001)}),
    ],
)
def test_more_tokens_than_any_model_adds_are_refused(broken, file, keys):
    path = broken / "tokenizer" / file
    path.write_text(json.dumps(keys))
    assert re.search(r"it adds 100\d\d tokens, more than 10000", refused(broken, load_model))


@pytest.mark.parametrize("text", ["a", "a b c d", "\0", "x y\n" * 9])
def test_broken_merges_are_refused(broken, text):
    (broken / "tokenizer" / "tokenizer.json").unlink()
    (broken / "tokenizer" / "merges.txt").write_text(f"#version: 0.2\n{text}\n")
    assert "tokenizer" in refused(broken, load_model)


def test_networks_that_do_not_fit_each_other_are_refused(broken, small, tmp_path):
    from transformers import CLIPTextConfig, CLIPTextModel

    sizes = CLIPTextConfig.from_pretrained(small / "text_encoder", hidden_size=32)
    CLIPTextModel(sizes).save_pretrained(broken / "text_encoder")
    assert "text_encoder" in refused(broken, load_model)


def test_a_unet_that_asks_no_prompt_is_refused(broken):
    unet = UNet2DConditionModel.from_config(
        UNet2DConditionModel.load_config(broken / "unet"),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        mid_block_type="UNetMidBlock2D",
    )
    unet.save_pretrained(broken / "unet")
    assert "asks no prompt" in refused(broken, load_model)


def test_a_unet_of_xl_beside_the_words_of_another_family_is_refused(broken):
    unet = UNet2DConditionModel.from_config(
        UNet2DConditionModel.load_config(broken / "unet"),
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 16,
    )
    unet.save_pretrained(broken / "unet")
    assert "of different families" in refused(broken, load_model)


def test_half_precision_files_are_taken_where_they_are(broken):
    for file in NEEDED:
        if file.endswith(".safetensors"):
            path = broken / file
            path.rename(path.with_suffix(".fp16.safetensors"))
    assert find(str(broken)).variant == "fp16"
    assert load_model(str(broken), device="cpu").encode("fog").isfinite().all()


def test_finding_a_model_imports_no_torch(small):
    code = (
        "import sys; from sdfast.models.find import find, is_cached;"
        "find(sys.argv[1]); is_cached('someone/something'); sys.exit('torch' in sys.modules)"
    )
    asked = subprocess.run([sys.executable, "-c", code, str(small)], check=False)
    assert asked.returncode == 0
