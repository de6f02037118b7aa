"""The safety checker of Stable Diffusion 1.x, beside diffusers' pipeline with the same one."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from small import EXTRACTOR, write_checked_model

from sdfast import Job, Sampler, generate
from sdfast.batch.pictures import texts
from sdfast.batch.seen import look
from sdfast.batch.studio import Order, Setting, Studio
from sdfast.cli.how import HowHere
from sdfast.cli.painter import Wanted
from sdfast.errors import ModelError
from sdfast.events import Finished
from sdfast.image_files import encode
from sdfast.models import load_model
from sdfast.warm.wire import hear_event, told

SEEDS = range(6)
WEIGHTS = "safety_checker/model.safetensors"


def job(seed, **more):
    sampler = Sampler(steps=2, weights="reference", spacing="linspace")
    return Job(**{"prompt": "fog", "seed": seed, "guidance": 3, "sampler": sampler, **more})


def paint(model, seed):
    *_, finished = generate(model, job(seed))
    assert isinstance(finished, Finished)
    return finished


@pytest.fixture(scope="module")
def pictures(checked):
    model = load_model(str(checked), device="cpu", safety=False)
    return {seed: paint(model, seed).image for seed in SEEDS}


def scores(folder, images):
    """How like its first concept diffusers' checker finds each picture."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    seen = pipeline.feature_extractor(images, return_tensors="pt").pixel_values
    checker = pipeline.safety_checker
    with torch.no_grad():
        embeds = checker.visual_projection(checker.vision_model(seen)[1])
    return torch.cosine_similarity(embeds, checker.concept_embeds[:1]).tolist()


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """A model whose checker flags about half of what it paints."""
    folder = write_checked_model(tmp_path_factory.mktemp("checked") / "model")
    model = load_model(str(folder), device="cpu", safety=False)
    found = sorted(scores(folder, [paint(model, seed).image for seed in SEEDS]))
    tensors = load_file(folder / WEIGHTS)
    tensors["special_care_embeds_weights"].fill_(2)
    tensors["concept_embeds_weights"].fill_(2)
    tensors["concept_embeds_weights"][0] = sum(found[2:4]) / 2
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    return folder


def test_a_picture_is_flagged_and_black_just_where_diffusers_flags_it(checked, pictures):
    pipeline = StableDiffusionPipeline.from_pretrained(checked)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="linspace"
    )
    model, flags = load_model(str(checked), device="cpu"), []
    for seed in SEEDS:
        noise = model.noise(seed, (64, 64))
        how = {"num_inference_steps": 2, "guidance_scale": 3}
        wanted = pipeline("fog", latents=noise, **how)
        got = paint(model, seed)
        assert [got.unsafe] == wanted.nsfw_content_detected
        assert got.unsafe == (wanted.images[0].getextrema() == ((0, 0),) * 3)
        black = Image.new("RGB", (64, 64))
        assert got.image.tobytes() == (black if got.unsafe else pictures[seed]).tobytes()
        flags.append(got.unsafe)
    assert set(flags) == {False, True}


def test_without_a_checker_nothing_is_said_of_a_picture(small):
    assert paint(load_model(str(small), device="cpu"), 1).unsafe is None


@pytest.mark.parametrize("unsafe", [None, False, True])
def test_a_worker_tells_what_was_found(unsafe):
    import socket

    from sdfast.events import Times

    asked = job(1, size=(64, 64))
    sent = Finished(asked, Image.new("RGB", (64, 64)), Times(0.1, (0.1,), 0.1), False, 1, unsafe)
    here, there = socket.socketpair()
    with here, there:
        here.sendall(told(sent))
        assert hear_event(there, asked).unsafe is unsafe


def test_a_studio_flags_what_a_single_picture_would_be_flagged_for(checked):
    single = [paint(load_model(str(checked), device="cpu"), seed).unsafe for seed in SEEDS]
    orders = [Order(b"key", job(seed, model=str(checked))) for seed in SEEDS]
    assert [out.unsafe for out in Studio(Setting(device="cpu")).paint(orders).outcomes] == single
    unasked = Studio(Setting(device="cpu", safety=False)).paint(orders).outcomes
    assert {out.unsafe for out in unasked} == {None}


@pytest.fixture
def all_flagged(checked, tmp_path):
    folder = shutil.copytree(checked, tmp_path / "all")
    tensors = load_file(folder / WEIGHTS)
    tensors["concept_embeds_weights"].fill_(-2)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    return folder


def test_gen_says_which_seed_and_how_to_paint_without(all_flagged, tmp_path, sdfast):
    asked = ("gen", "fog", "-s", "2", "--seed", "7", "-m", str(all_flagged), "--json")
    code, out, err = sdfast(*asked, "-o", f"{tmp_path}/a.png")
    assert (code, json.loads(out)["nsfw"]) == (0, True)
    (note,) = (line for line in err.splitlines() if line.startswith("note: the model's safety"))
    assert "seed 7" in note
    assert "--no-safety" in note
    assert Image.open(tmp_path / "a.png").getextrema() == ((0, 0),) * 3
    code, out, err = sdfast(*asked, "--no-safety", "-o", f"{tmp_path}/b.png")
    assert code == 0
    assert "nsfw" not in json.loads(out)
    assert "safety" not in err
    assert Image.open(tmp_path / "b.png").getextrema() != ((0, 0),) * 3


def test_a_flagged_picture_is_black_outside_its_mask_too(all_flagged, tmp_path):
    """As of diffusers' StableDiffusionInpaintPipeline, which pastes nothing of itself."""
    Image.new("RGB", (64, 64), "white").save(tmp_path / "init.png")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    mask.save(tmp_path / "mask.png")
    over = {"init": f"{tmp_path}/init.png", "mask": f"{tmp_path}/mask.png"}
    *_, finished = generate(load_model(str(all_flagged), device="cpu"), job(1, **over))
    assert finished.unsafe
    assert finished.image.getextrema() == ((0, 0),) * 3


def test_batch_says_so_too_and_takes_the_same_flag(all_flagged, tmp_path, sdfast):
    (tmp_path / "p.txt").write_text("fog\n")
    asked = ("batch", f"{tmp_path}/p.txt", "-s", "2", "-m", str(all_flagged), "--json")
    code, out, err = sdfast(*asked, "--seed", "7", "-o", f"{tmp_path}/a/")
    assert (code, json.loads(out)["nsfw"]) == (0, True)
    assert "seed 7, which is black" in err
    code, out, err = sdfast(*asked, "--no-safety", "-o", f"{tmp_path}/b/")
    assert code == 0
    assert "nsfw" not in json.loads(out)


def test_the_same_batch_without_it_paints_again_what_was_flagged_and_no_more(
    checked, tmp_path, monkeypatch, sdfast
):
    monkeypatch.chdir(tmp_path)
    how = {"prompt": "fog", "steps": 2, "guidance": 3, "spacing": "linspace"}
    lines = (json.dumps(how | {"weights": "reference", "seed": seed}) for seed in SEEDS)
    Path("jobs.jsonl").write_text("\n".join(lines))
    asked = ("batch", "jobs.jsonl", "-m", str(checked), "-o", "out/", "--json")

    def run(*words):
        code, out, _ = sdfast(*asked, *words)
        assert code == 0
        return [json.loads(line) for line in out.splitlines()]

    def manifest():
        said = map(json.loads, Path("out/sdfast.jsonl").read_text().splitlines())
        return [line.get("nsfw") for line in said if line["status"] == "done"]

    first = run()
    black = {line["path"] for line in first if line["nsfw"]}
    assert 0 < len(black) < len(first) == len(SEEDS)
    assert manifest() == [line["nsfw"] for line in first]
    assert run() == []
    for more in ((), ("--manifest", "none/")):  # each picture tells for itself
        assert len(run("--no-safety", "--dry-run", *more)) == len(black)
    again = run("--no-safety", "--exists", "error")
    assert {line["path"] for line in again} == black
    assert manifest()[len(first) :] == [None] * len(black)
    assert {str(path) for path in Path("out").glob("*.png")} == {line["path"] for line in first}
    assert all(Image.open(path).getextrema() != ((0, 0),) * 3 for path in black)
    assert run("--no-safety") == run() == []


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_picture_tells_that_a_checker_made_it_black(tmp_path, ending):
    image, path = Image.new("RGB", (64, 64)), tmp_path / f"a.{ending}"
    for unsafe in (None, False, True):
        path.write_bytes(encode(image, texts({}, bytes(range(16)), unsafe), path))
        assert look(path) == (True, bytes(range(16)), unsafe is True)


def test_no_worker_answers_for_a_model_whose_checker_is_not_asked():
    assert Wanted(HowHere(), None, unchecked=True).own == "--no-safety"
    assert Wanted(HowHere(), None).own == ""


def test_one_that_is_named_and_not_there_is_told(checked, tmp_path, sdfast):
    folder = shutil.copytree(checked, tmp_path / "m")
    (folder / WEIGHTS).rename(folder / "safety_checker" / "pytorch_model.bin")
    (lines := tmp_path / "lines.txt").write_text("fog\n")
    for words in (("gen", "fog"), ("grid", "fog", "rain"), ("batch", str(lines))):
        asked = (*words, "-s", "2", "-m", str(folder), "-o", f"{tmp_path}/out/")
        code, _, err = sdfast(*asked)
        assert code == 0
        assert "names a safety checker and has no safetensors of it" in err
        assert "safety" not in sdfast(*asked, "--no-safety")[2]


def truncated(folder):
    file = folder / WEIGHTS
    file.write_bytes(file.read_bytes()[:-4])


def changed(change):
    def make(folder):
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS, {"format": "pt"})

    return make


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (truncated, "truncated"),
        (lambda f: (f / "safety_checker" / "config.json").unlink(), "has no file"),
        (
            lambda f: (f / "safety_checker" / "config.json").write_text("{}"),
            "`crop_size` is not the 224",
        ),
        (lambda f: (f / "feature_extractor/preprocessor_config.json").unlink(), "has no file"),
        (changed(lambda t: t.pop("visual_projection.weight")), "lacks tensors, the first `visual"),
        (changed(lambda t: t["concept_embeds"].fill_(torch.nan)), "not finite"),
        (
            changed(lambda t: t.update({"concept_embeds": torch.zeros(17, 5)})),
            "of the wrong shape, the first `concept_embeds`",
        ),
    ],
)
def test_a_broken_checker_is_an_error_in_one_line(checked, tmp_path, make, complaint):
    folder = shutil.copytree(checked, tmp_path / "m")
    make(folder)
    with pytest.raises(ModelError, match=complaint) as caught:
        load_model(str(folder), device="cpu")
    assert "\n" not in str(caught.value)
    assert caught.value.hint == "--no-safety paints without it"
    load_model(str(folder), device="cpu", safety=False)


CONFIG, PREPARED = "safety_checker/config.json", "feature_extractor/preprocessor_config.json"


def said(path, **keys):
    """Say more in a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def flags(folder, pictures):
    """Which of the pictures are flagged."""
    model = load_model(str(folder), device="cpu")
    return [model.is_unsafe(picture) for picture in pictures.values()]


class Trap:
    """What as a pickle writes a file when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "keys",
    [
        {"transformers_weights": "adapter_model.bin"},
        {"attn_implementation": "evil/kernel"},
        {"_attn_implementation": "evil/kernel"},
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
        {"auto_map": {"AutoConfig": "evil/code--code.Evil"}, "architectures": ["Evil"]},
        {"dtype": "float8_e4m3fn", "model_type": "bert", "text_config": {"hidden_size": 10**9}},
    ],
)
def test_of_its_configs_nothing_is_obeyed_but_numbers(checked, pictures, tmp_path, keys):
    folder = shutil.copytree(checked, tmp_path / "m")
    vision = json.loads((folder / CONFIG).read_text())["vision_config"]
    inside = {key: value for key, value in keys.items() if key.endswith("implementation")}
    said(folder / CONFIG, **keys, vision_config=vision | inside)
    said(folder / PREPARED, **keys, image_processor_type="Evil", crop_pct=0.1)
    (folder / "safety_checker" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (folder / "safety_checker" / "adapter_model.bin").write_bytes(
        pickle.dumps(Trap(tmp_path / "sprung"))
    )
    assert flags(folder, pictures) == flags(checked, pictures)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("file", "keys", "complaint"),
    [
        (CONFIG, {"vision_config": {"hidden_size": 10**9}}, "hidden_size"),
        (CONFIG, {"vision_config": {"num_hidden_layers": 10**6}}, "num_hidden_layers"),
        (CONFIG, {"vision_config": {"image_size": 10**6}}, "image_size"),
        (CONFIG, {"vision_config": {"patch_size": 225}}, "patch_size"),
        (CONFIG, {"vision_config": {"num_attention_heads": 7}}, "num_attention_heads"),
        (CONFIG, {"vision_config": {"hidden_act": "evil/act"}}, "hidden_act"),
        (CONFIG, {"vision_config": {"num_channels": 4}}, "num_channels"),
        (CONFIG, {"vision_config": "large"}, "`vision_config` is no object"),
        (CONFIG, {"projection_dim": 10**9}, "projection_dim"),
        (PREPARED, {"size": 10**6}, "shortest_edge"),
        (PREPARED, {"size": {"longest_edge": 32}}, "height"),
        (PREPARED, {"crop_size": 48}, "crop_size"),
        (PREPARED, {"do_resize": False}, "do_resize"),
        (PREPARED, {"resample": 9}, "resample"),
        (PREPARED, {"image_mean": [0.5]}, "image_mean"),
        (PREPARED, {"image_std": [0.5, 0.5, "0.5"]}, "image_std"),
        (PREPARED, {"rescale_factor": float("nan")}, "rescale_factor"),
    ],
)
def test_a_checker_as_none_is_is_refused_by_its_key(checked, tmp_path, file, keys, complaint):
    folder = shutil.copytree(checked, tmp_path / "m")
    said(folder / file, **keys)
    with pytest.raises(ModelError, match=complaint):
        load_model(str(folder), device="cpu")


@pytest.mark.parametrize(
    "keys",
    [
        {"size": 32, "crop_size": 32},  # as configs were before transformers 4.26
        {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}},
        {"size": {"height": 40, "width": 36}, "resample": 2, "rescale_factor": 0.01},
        {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7]},
    ],
)
def test_a_picture_is_prepared_as_transformers_would(checked, tmp_path, keys):
    folder = shutil.copytree(checked, tmp_path / "m")
    said(folder / PREPARED, **keys)
    picture = Image.effect_noise((72, 48), 80).convert("RGB")
    ours = load_model(str(folder), device="cpu")._checker._extract
    theirs = EXTRACTOR.from_pretrained(folder / "feature_extractor")
    seen = (extract([picture], return_tensors="pt").pixel_values for extract in (ours, theirs))
    assert torch.equal(*seen)


def test_what_is_not_said_of_a_picture_is_as_transformers_has_it(checked, tmp_path):
    folder = shutil.copytree(checked, tmp_path / "m")
    sizes = {"size": 32, "crop_size": 32}
    (folder / PREPARED).write_text(json.dumps(sizes))
    picture = Image.effect_noise((72, 48), 80).convert("RGB")
    ours = load_model(str(folder), device="cpu")._checker._extract
    seen = (
        extract([picture], return_tensors="pt").pixel_values
        for extract in (ours, EXTRACTOR(**sizes))
    )
    assert torch.equal(*seen)


def in_half(folder):
    tensors = load_file(folder / WEIGHTS)
    half = (folder / WEIGHTS).with_name("model.fp16.safetensors")
    save_file({name: tensor.half() for name, tensor in tensors.items()}, half)
    (folder / WEIGHTS).unlink()


def in_shards(folder):
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    shards = {name: f"model-{i % 2 + 1:05}-of-00002.safetensors" for i, name in enumerate(tensors)}
    for file in set(shards.values()):
        its = {name: tensor for name, tensor in tensors.items() if shards[name] == file}
        save_file(its, folder / "safety_checker" / file)
    index = (folder / WEIGHTS).with_name("model.safetensors.index.json")
    index.write_text(json.dumps({"weight_map": shards}))


def renamed(folder):
    tensors = load_file(folder / WEIGHTS)
    twice = "vision_model.vision_model."
    assert any(name.startswith(twice) for name in tensors)
    names = {name: name.replace(twice, "vision_model.") for name in tensors}
    save_file({names[name]: tensor for name, tensor in tensors.items()}, folder / WEIGHTS)


@pytest.mark.parametrize("make", [in_half, in_shards, renamed])
def test_its_weights_may_lie_there_in_any_of_the_usual_ways(checked, tmp_path, make):
    whole, folder = tmp_path / "whole", tmp_path / "m"
    shutil.copytree(checked, whole)
    changed(lambda t: t.update({name: tensor.half().float() for name, tensor in t.items()}))(whole)
    make(shutil.copytree(whole, folder))
    here, there = (
        load_model(str(path), device="cpu")._checker._network.state_dict()
        for path in (whole, folder)
    )
    assert here.keys() == there.keys()
    assert all(torch.equal(here[name], there[name]) for name in here)
