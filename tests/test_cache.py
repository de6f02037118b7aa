"""The Hugging Face cache: what is in it, what an interrupted download leaves, and what goes."""

import importlib.util
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import shell
from safetensors.torch import load_file, save_file

from sdfast.cli.completing import models
from sdfast.config import load_config
from sdfast.errors import ModelError
from sdfast.models.cache import amount, cache_folder, cached_autoencoder, delete
from sdfast.models.find import find, is_cached, target_of
from sdfast.recipes import read_recipe

COMMIT = "0123456789abcdef0123456789abcdef01234567"
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def put(small):
    """Put the small model into the cache as one of the Hub; the folder of its files."""
    cache = Path(os.environ["HF_HUB_CACHE"])

    def put(repo, kind="models"):
        home = cache / f"{kind}--{repo.replace('/', '--')}"
        (home / "refs").mkdir(parents=True)
        (home / "refs" / "main").write_text(COMMIT)
        return shutil.copytree(small, home / "snapshots" / COMMIT)

    yield put
    shutil.rmtree(cache, ignore_errors=True)


def cut(path):
    """Leave half a file."""
    os.truncate(path, path.stat().st_size // 2)


def drop_tokenizer(path):
    for file in path.iterdir():
        file.unlink()


LEFT = {
    "a network's weights": (Path.unlink, UNET),
    "half of its weights": (cut, UNET),
    "its config": (Path.unlink, "unet/config.json"),
    "the schedule": (Path.unlink, "scheduler/scheduler_config.json"),
    "the tokenizer": (drop_tokenizer, "tokenizer"),
}
"""What may be missing of a model in the cache: what to do to which file."""


def test_a_whole_model_in_the_cache_is_found_without_the_network(put):
    folder = put("some/model")
    assert is_cached("some/model")
    assert find("some/model", offline=True).path == folder


@pytest.mark.usefixtures("here")
def test_stable_diffusion_is_painted_with_by_default_once_it_is_cached(sdfast, put):
    words = ("gen", "a cat", "-s", "1", "--size", "64x64")
    put("CompVis/stable-diffusion-v1-4")
    assert "note: painting with the small built-in model" in sdfast(*words)[2]
    put(target_of("sd15"))
    code, out, err = sdfast(*words)
    assert code == 0
    assert "built-in" not in err
    assert read_recipe(out.strip()).job.model == "sd15"


@pytest.mark.parametrize("missing", LEFT)
def test_what_is_not_whole_is_neither_cached_nor_listed_as_usable(sdfast, put, missing):
    folder = put(target_of("sd15"))
    assert is_cached("sd15")
    do, file = LEFT[missing]
    do(folder / file)
    assert not is_cached("sd15")
    code, out, _ = sdfast("models")
    assert code == 0
    listed = {line.split()[0]: line for line in out.splitlines()}
    _, told = listed[target_of("sd15")].split(" MB  ")
    assert told.startswith(("Stable Diffusion: parts are", "Stable Diffusion, fp32: parts are"))
    assert "not in the cache" in listed["sd15"]


def test_removing_a_model_leaves_its_mirror_and_the_dataset_of_its_name(sdfast, put):
    model, mirror = put("some/thing"), put("another/thing")
    dataset = put("some/thing", "datasets")
    assert sdfast("models", "rm", "some/thing", "--yes")[0] == 0
    assert (model.exists(), mirror.exists(), dataset.exists()) == (False, True, True)


def test_a_model_is_kept_if_the_answer_is_no(put):
    folder = put("some/model")
    leader, follower = pty.openpty()
    os.write(leader, b"n\n")
    asked = shell("models", "rm", "some/model", stdin=follower, text=True)
    os.close(leader)
    os.close(follower)
    assert (asked.returncode, folder.exists()) == (0, True)
    assert "kept some/model" in asked.stderr


def test_removing_tells_what_it_freed_and_frees_it(sdfast, put):
    folder = put("some/model")
    (home := folder.parents[1]).joinpath("blobs").mkdir()
    (home / "blobs" / f"{COMMIT}.incomplete").write_bytes(bytes(10_000_000))
    size = sum(f.stat().st_size for f in home.rglob("*") if f.is_file())
    code, _, err = sdfast("models", "rm", "some/model", "-y")
    assert code == 0
    ref = len(COMMIT)
    assert f"removed some/model, which frees {amount(size - ref)}" in err
    assert not home.exists()


def test_a_cache_that_is_damaged_is_told_and_nothing_is_removed(sdfast, put):
    folder = put("some/model")
    damaged = put("another/thing").parents[1] / "refs"
    damaged.mkdir(exist_ok=True)
    (damaged / "main").write_bytes(b"\xff\xfe")
    code, _, err = sdfast("models", "rm", "some/model", "-y")
    assert code == 3
    error, hint = err.splitlines()
    assert error.startswith("error: the cache cannot be read: ")
    assert hint.startswith("hint: it stands in ")
    assert folder.exists()


def test_without_a_terminal_nothing_is_removed_unless_it_is_told_to(put):
    folder = put("some/model")
    asked = shell("models", "rm", "some/model", stdin=subprocess.DEVNULL, text=True)
    assert (asked.returncode, folder.exists()) == (2, True)
    assert "-y" in asked.stderr


@pytest.mark.parametrize("name", ["tiny", "random:sd15", "..", "../../x", "/", "."])
def test_what_is_not_in_the_cache_is_not_removed(sdfast, put, name):
    folder = put("some/model")
    assert sdfast("models", "rm", name, "-y")[0] in (2, 3)
    assert folder.exists()
    assert find("tiny").path.exists()


def test_a_model_that_is_kept_elsewhere_is_not_removed(sdfast, put, tmp_path):
    home = put("some/model").parents[1]
    away = Path(shutil.move(home, tmp_path / "away"))
    home.symlink_to(away)
    assert find("some/model", offline=True)
    code, _, err = sdfast("models", "rm", "some/model", "-y")
    assert (code, "is a link to" in err) == (3, True)
    assert (away / "snapshots" / COMMIT / UNET).exists()


FAMILIES = {
    "Stable Diffusion 1.x": ("StableDiffusionPipeline", 768, 4),
    "Stable Diffusion 2.x": ("StableDiffusionPipeline", 1024, 4),
    "Stable Diffusion XL": ("StableDiffusionXLPipeline", 2048, 4),
    "Stable Diffusion 1.x, inpainting": ("StableDiffusionInpaintPipeline", 768, 9),
    "Stable Diffusion 2.x, inpainting": ("StableDiffusionInpaintPipeline", 1024, 9),
    "Stable Diffusion XL, inpainting": ("StableDiffusionXLInpaintPipeline", 2048, 9),
    "FluxPipeline": ("FluxPipeline", None, 64),
}
"""What is listed, of which pipeline, width of words and channels."""


@pytest.mark.parametrize("told", FAMILIES)
def test_a_family_is_told_from_configs(sdfast, put, told):
    kind, words, channels = FAMILIES[told]
    folder = put("some/model")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    unet = {"cross_attention_dim": words, "in_channels": channels}
    (folder / "unet" / "config.json").write_text(json.dumps(unet))
    code, out, _ = sdfast("models", "list", "--json")
    assert code == 0
    entries = [json.loads(line) for line in out.splitlines()]
    (entry,) = (entry for entry in entries if entry["kind"] == "cached")
    assert (entry["name"], entry["family"]) == ("some/model", told)
    assert entry["precisions"] == ["fp32"]
    assert entry["bytes"] == sum(
        f.stat().st_size for f in folder.parents[1].rglob("*") if f.is_file()
    )


@pytest.fixture
def put_autoencoder(put):
    """Put the small model's autoencoder into the cache, by itself; the folder of its files."""

    def put_autoencoder(repo):
        folder = put(repo)
        for inside in list(folder.iterdir()):
            if inside.name != "vae":
                shutil.rmtree(inside) if inside.is_dir() else inside.unlink()
        for file in list((folder / "vae").iterdir()):
            file.rename(folder / file.name)
        (folder / "vae").rmdir()
        return folder

    return put_autoencoder


@pytest.mark.parametrize(
    ("kind", "told"), [("AutoencoderKL", "autoencoder"), ("AutoencoderTiny", "autoencoder, TAESD")]
)
def test_an_autoencoder_is_listed_and_removed_and_is_no_model(sdfast, put_autoencoder, kind, told):
    folder = put_autoencoder("some/vae")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_class_name": kind}))
    line = sdfast("models", "list")[1].splitlines()[1]
    assert (line.split()[0], line.endswith(f"{told}, fp32")) == ("some/vae", True)
    with pytest.raises(ModelError, match="`some/vae` is an autoencoder"):
        find("some/vae", offline=True)
    assert cached_autoencoder("some/vae") == folder
    assert sdfast("models", "rm", "some/vae", "-y")[0] == 0
    assert cached_autoencoder("some/vae") is None


def test_an_autoencoder_that_is_not_whole_is_listed_as_such(sdfast, put_autoencoder):
    cut(put_autoencoder("some/vae") / "diffusion_pytorch_model.safetensors")
    assert "parts are missing; `sdfast models pull some/vae`" in sdfast("models", "list")[1]
    assert cached_autoencoder("some/vae") is None


def test_what_is_no_model_completes_none(put_autoencoder, put):
    put_autoencoder("some/vae")
    put("some/model")
    assert models("some/") == ["some/model"]


def test_a_config_at_the_top_of_a_model_changes_nothing(put, sdfast):
    (put("some/model") / "config.json").write_text("{}")
    assert sdfast("models", "list")[1].splitlines()[1].endswith("Stable Diffusion, fp32")


def test_a_snapshot_that_is_anothers_is_passed_over(put, sdfast, monkeypatch):
    secret = put("some/secret")
    put("some/model")
    true = Path.stat

    def stat(path, **how):
        if path.parent == secret:
            raise PermissionError(13, "Permission denied")
        return true(path, **how)

    monkeypatch.setattr(Path, "stat", stat)
    code, out, _ = sdfast("models", "list")
    assert (code, "some/model" in out) == (0, True)


def test_another_network_by_itself_is_not_listed(sdfast, put_autoencoder):
    folder = put_autoencoder("some/bert")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert "bert" not in sdfast("models", "list")[1]


def test_a_precision_is_told_from_the_weights_and_not_from_their_names(sdfast, put):
    folder = put("some/model")
    half = {name: tensor.half() for name, tensor in load_file(folder / UNET).items()}
    save_file(half, folder / UNET, {"format": "pt"})
    line = sdfast("models", "list")[1].splitlines()[1]
    assert line.endswith("Stable Diffusion, fp16")


def test_what_is_there_still_is_not_counted_as_freed(put, monkeypatch):
    folder = put("some/model")
    (folder / UNET).rename(kept := cache_folder() / "kept")
    (folder / UNET).symlink_to(kept)
    files = (file for file in folder.parents[1].rglob("*") if file.is_file())
    others = sum(file.stat().st_size for file in files if not file.is_symlink())
    monkeypatch.setattr("sdfast.models.cache._delete_commits", lambda repo: None)
    assert delete("some/model") == others
    assert kept.exists()


def test_of_an_update_that_was_broken_off_the_version_before_is_listed(sdfast, put):
    folder = put("some/model")
    newer = folder.with_name(COMMIT[::-1])
    newer.mkdir()
    (newer / "model_index.json").write_text(
        json.dumps({"_class_name": "StableDiffusionXLPipeline"})
    )
    later = (folder / "model_index.json").stat().st_mtime + 60
    os.utime(newer / "model_index.json", (later, later))
    code, out, _ = sdfast("models", "list")
    assert code == 0
    assert out.splitlines()[1].endswith("Stable Diffusion, fp32")


def test_listing_wakes_neither_torch_nor_huggingface_hub(put):
    put("some/model")
    code = (
        "import sys; from sdfast.cli import run_command; run_command();"
        "sys.exit(bool({'torch', 'huggingface_hub'} & set(sys.modules)))"
    )
    listed = subprocess.run(
        [sys.executable, "-c", code, "models", "list"], capture_output=True, text=True, check=False
    )
    assert listed.returncode == 0
    assert "some/model" in listed.stdout


def test_painting_with_tiny_wakes_no_huggingface_hub(tmp_path):
    code = (
        "import sys; from sdfast.cli import run_command; run_command();"
        "sys.exit('huggingface_hub' in sys.modules)"
    )
    words = [sys.executable, "-c", code, "gen", "a cat", "-s", "1", "-o", str(tmp_path / "c.png")]
    painted = subprocess.run(words, capture_output=True, text=True, check=False)
    assert painted.returncode == 0, painted.stderr
    assert (tmp_path / "c.png").exists()


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({"HF_HUB_CACHE": "/a/hub"}, "/a/hub"),
        ({"HF_HUB_CACHE": "~/hub"}, "/home/me/hub"),
        ({"HF_HOME": "/b"}, "/b/hub"),
        ({"HF_HOME": "$SOMEWHERE/b"}, "/where/b/hub"),
        ({"HUGGINGFACE_HUB_CACHE": "/c"}, "/c"),
        ({"XDG_CACHE_HOME": "/d"}, "/d/huggingface/hub"),
        ({}, "/home/me/.cache/huggingface/hub"),
        ({"HF_HOME": "/b", "HF_HUB_CACHE": "/a"}, "/a"),
    ],
)
def test_the_cache_is_where_huggingface_hub_has_it(monkeypatch, environment, place):
    for name in ("HF_HUB_CACHE", "HF_HOME", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", "SOMEWHERE": "/where", **environment}.items():
        monkeypatch.setenv(name, value)
    assert str(cache_folder()) == place
    # its own answer, from a copy of the module that reads the environment now
    found = importlib.util.find_spec("huggingface_hub.constants")
    theirs = importlib.util.module_from_spec(found)
    found.loader.exec_module(theirs)
    assert place == theirs.HF_HUB_CACHE


def test_an_alias_of_an_alias_keeps_what_that_stands_for(sdfast):
    assert sdfast("models", "alias", "mine", "sd15")[0] == 0
    assert sdfast("models", "alias", "ours", "mine")[0] == 0
    assert load_config().aliases == dict.fromkeys(("mine", "ours"), target_of("sd15"))


def test_an_alias_of_a_folder_is_found_from_everywhere(sdfast, small, monkeypatch, tmp_path):
    monkeypatch.chdir(small.parent)
    assert sdfast("models", "alias", "mine", small.name)[0] == 0
    monkeypatch.chdir(tmp_path)
    assert find("mine", load_config().aliases).path == small


@pytest.mark.parametrize("target", ["sd51", "no-such-folder", "/no/such/folder", "", "a\0b"])
def test_an_alias_of_nothing_is_refused(sdfast, target):
    code, _, err = sdfast("models", "alias", "mine", target)
    said = "does not exist" if "/" in target else "is neither a Hub id nor a path"
    assert (code, said in err) == (3, True)
    assert load_config().aliases == {}


@pytest.mark.parametrize("name", ["tiny", "random", "a/b", "two words", "", "a" * 65, "mine\n"])
def test_a_name_that_means_something_else_is_no_alias(sdfast, name):
    code, _, err = sdfast("models", "alias", name, "somebody/something")
    assert (code, "cannot be an alias" in err) == (2, True)
    assert load_config().aliases == {}


def test_models_lists_the_built_in_one_and_aliases(sdfast):
    _, out, _ = sdfast("models")
    assert out.startswith("tiny")
    code, _, _ = sdfast("models", "alias", "mine", "somebody/something")
    assert code == 0
    _, out, _ = sdfast("models", "list")
    assert "somebody/something" in out
    code, _, _ = sdfast("models", "alias", "mine", "--rm")
    assert code == 0
    _, out, _ = sdfast("models", "list")
    assert "somebody/something" not in out
