"""LoRAs: added to the weights as the formula says, whoever wrote them, and fitting or refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from loras import (
    ALPHA,
    BLOCK,
    FILES,
    LAYERS,
    RANK,
    SCALE,
    diffusers,
    kohya,
    lycoris_lengths,
    peft,
    pefts_rows,
    processors,
    stretched,
    tensors,
    with_lora,
)
from original import write_both
from safetensors.torch import load_file, save_file

from sdfast import Job, Sampler, generate, paint
from sdfast.batch.studio import Order, Setting, Studio
from sdfast.conditioning import Words, guided
from sdfast.errors import JobError, ModelError
from sdfast.fields import scaled
from sdfast.models import load_model
from sdfast.models.dressed import dressed, wears
from sdfast.models.find import find
from sdfast.models.lora_kinds import fits
from sdfast.solver.walk import trajectory
from sdfast.warm.greeting import circumstances, holding, stamp
from sdfast.wording import from_home


def said(model):
    """What the networks say, of a prompt and of latents."""
    told = model.encode("a red cat")
    return model.predict(model.noise(1, (64, 64)), 500.0, told)


@pytest.mark.parametrize("spell", [kohya, peft, diffusers, processors])
def test_every_layer_becomes_w_plus_scale_times_alpha_by_rank_times_up_down(small, tmp_path, spell):
    path = with_lora(small, tmp_path / "merged", tmp_path / "l.safetensors", spell, LAYERS)
    changed = load_model(str(small), device="cpu", lora=[f"{path}:{SCALE}"])
    by_hand = load_model(str(tmp_path / "merged"), device="cpu")
    torch.testing.assert_close(said(changed), said(by_hand), rtol=0, atol=1e-5)
    plain = said(load_model(str(small), device="cpu"))
    assert (said(changed) - plain).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("spell", "dora", "side"),
    [(peft, pefts_rows, 0), (kohya, lycoris_lengths, 0), (kohya, lycoris_lengths, 1)],
    ids=["peft", "rows", "columns"],
)
def test_a_doras_rows_or_columns_become_as_long_as_it_says(small, tmp_path, spell, dora, side):
    path = tmp_path / "l.safetensors"
    with_lora(small, tmp_path / "merged", path, spell, LAYERS, dora, side)
    changed = load_model(str(small), device="cpu", lora=[f"{path}:{SCALE}"])
    by_hand = load_model(str(tmp_path / "merged"), device="cpu")
    torch.testing.assert_close(said(changed), said(by_hand), rtol=0, atol=1e-5)
    bare = {k: v for k, v in load_file(path).items() if "magnitude" not in k and "dora" not in k}
    save_file(bare, path)
    plain = load_model(str(small), device="cpu", lora=[f"{path}:{SCALE}"])
    assert (said(changed) - said(plain)).abs().max() > 1e-2


def test_a_dora_whose_magnitude_is_broken_is_refused_by_its_name(small, tmp_path):
    path = tmp_path / "l.safetensors"
    with_lora(small, tmp_path / "merged", path, kohya, LAYERS, lycoris_lengths)
    found = load_file(path)
    key = next(key for key in found if "dora_scale" in key)
    save_file(found | {key: torch.full_like(found[key], torch.nan)}, path)
    with pytest.raises(ModelError, match=f"`{key}` holds numbers that are not finite"):
        load_model(str(small), device="cpu", lora=[str(path)])
    save_file(found | {key: found[key][1:]}, path)
    layer = key.removesuffix("dora_scale")
    with pytest.raises(ModelError, match=f"`{layer}[dlora_]+[^`]*` is of another shape"):
        load_model(str(small), device="cpu", lora=[str(path)])


def test_a_dora_by_nothing_leaves_the_model_as_it_is(small, tmp_path):
    path = tmp_path / "l.safetensors"
    with_lora(small, tmp_path / "merged", path, kohya, LAYERS, lycoris_lengths)
    none = said(load_model(str(small), device="cpu", lora=[f"{path}:0"]))
    torch.testing.assert_close(none, said(load_model(str(small), device="cpu")), rtol=0, atol=0)


@pytest.mark.parametrize("start", ["unet.", "base_model.model."])
def test_without_an_alpha_it_is_the_rank(small, tmp_path, start):
    layers = LAYERS if start == "unet." else {"unet": LAYERS["unet"]}
    path = with_lora(small, tmp_path / "merged", tmp_path / "l.safetensors", peft, layers)
    kept = {k: v for k, v in load_file(path).items() if not k.endswith("alpha")}
    save_file({k.replace("unet.", start, 1): v for k, v in kept.items()}, path)
    scale = SCALE * ALPHA / RANK
    changed = load_model(str(small), device="cpu", lora=[f"{path}:{scale}"])
    by_hand = load_model(str(tmp_path / "merged"), device="cpu")
    torch.testing.assert_close(said(changed), said(by_hand), rtol=0, atol=1e-5)


def in_peft_config(path, config, way):
    """Write the file anew without its alphas, which stand in peft's config: where that is kept."""
    bare = {k: v for k, v in load_file(path).items() if not k.endswith("alpha")}
    if way == "beside":
        bare = {k.replace("unet.", "base_model.model."): v for k, v in bare.items()}
        (path.parent / "adapter_config.json").write_text(json.dumps(config))
        return save_file(bare, path, {"format": "pt"})
    told = {f"{part}.{k}": v for part in ("unet", "text_encoder") for k, v in config.items()}
    return save_file(bare, path, {"format": "pt", "lora_adapter_metadata": json.dumps(told)})


@pytest.mark.parametrize("way", ["header", "beside"])
@pytest.mark.parametrize("root", [False, True])
def test_an_alpha_in_pefts_config_counts_as_one_in_the_file(small, tmp_path, way, root):
    layers = LAYERS if way == "header" else {"unet": LAYERS["unet"]}
    path = with_lora(small, tmp_path / "merged", tmp_path / "l.safetensors", peft, layers)
    some = {"proj_in": 2 * ALPHA, "text_model.encoder.layers.0.mlp.fc2": 2 * ALPHA}
    config = {"lora_alpha": ALPHA, "alpha_pattern": {}, "use_rslora": root}
    in_peft_config(path, config, way)
    scale = SCALE / RANK**0.5 if root else SCALE
    changed = load_model(str(small), device="cpu", lora=[f"{path}:{scale}"])
    by_hand = load_model(str(tmp_path / "merged"), device="cpu")
    torch.testing.assert_close(said(changed), said(by_hand), rtol=0, atol=1e-5)
    in_peft_config(path, config | {"lora_alpha": 2 * ALPHA}, way)
    twice = load_model(str(small), device="cpu", lora=[f"{path}:{scale / 2}"])
    torch.testing.assert_close(said(twice), said(by_hand), rtol=0, atol=1e-5)
    in_peft_config(path, config | {"alpha_pattern": some}, way)
    other = load_model(str(small), device="cpu", lora=[f"{path}:{scale}"])
    assert (said(other) - said(by_hand)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"lora_alpha": "much"}, "`lora_adapter_metadata` cannot be read: could not convert"),
        ({"lora_alpha": 1, "alpha_pattern": {"(a+)+": 2}}, r"alpha_pattern \(a\+\)\+ is no layer"),
        ({"lora_alpha": 1, "alpha_pattern": [3]}, "cannot be read"),
    ],
)
def test_a_config_of_pefts_that_cannot_be_followed_is_refused(small, tmp_path, config, complaint):
    path = with_lora(small, tmp_path / "merged", tmp_path / "l.safetensors", peft, LAYERS)
    in_peft_config(path, config, "header")
    with pytest.raises(ModelError, match=complaint):
        load_model(str(small), device="cpu", lora=[str(path)])


def test_a_config_of_pefts_that_never_ends_is_refused(small, tmp_path):
    path = with_lora(small, tmp_path / "merged", tmp_path / "l.safetensors", peft, LAYERS)
    save_file(load_file(path), path, {"lora_adapter_metadata": "[" * 100_000})
    with pytest.raises(ModelError, match="`lora_adapter_metadata` cannot be read"):
        load_model(str(small), device="cpu", lora=[str(path)])


def test_two_at_half_the_scale_are_one(small, tmp_path):
    path = with_lora(small, tmp_path / "merged", tmp_path / "l.safetensors", kohya, LAYERS)
    twice = load_model(str(small), device="cpu", lora=[f"{path}:{SCALE / 2}"] * 2)
    by_hand = load_model(str(tmp_path / "merged"), device="cpu")
    torch.testing.assert_close(said(twice), said(by_hand), rtol=0, atol=1e-5)


def test_a_convolution_with_a_middle_is_the_product_of_three(small, tmp_path):
    torch.manual_seed(7)
    merged = shutil.copytree(small, tmp_path / "merged")
    weights = tensors(small, "unet")
    key = "mid_block.resnets.0.conv2.weight"
    out, inside = weights[key].shape[:2]
    down, up = torch.randn(RANK, inside, 1, 1), torch.randn(out, RANK, 1, 1)
    mid = torch.randn(RANK, RANK, 3, 3) / 10
    for i in range(3):
        for j in range(3):
            weights[key][:, :, i, j] += up[:, :, 0, 0] @ mid[:, :, i, j] @ down[:, :, 0, 0]
    save_file(weights, merged / FILES["unet"], {"format": "pt"})
    name, path = "lora_unet_mid_block_resnets_0_conv2", tmp_path / "l.safetensors"
    three = {"lora_down": down, "lora_mid": mid, "lora_up": up}
    save_file({f"{name}.{k}.weight": v for k, v in three.items()}, path)
    changed = load_model(str(small), device="cpu", lora=[str(path)])
    by_hand = load_model(str(merged), device="cpu")
    torch.testing.assert_close(said(changed), said(by_hand), rtol=0, atol=1e-4)


def blocks(one, two):
    """A Kronecker product, put together block by block."""
    return torch.cat([torch.cat([x * two for x in row], 1) for row in one])


def through(a, b, middle):
    """Each tap of a kernel by itself: a [rank, out], b [rank, in], a middle [rank, rank, 3, 3]."""
    taps = [[a.T @ middle[:, :, i, j] @ b for j in range(3)] for i in range(3)]
    return torch.stack([torch.stack(row, -1) for row in taps], -2).flatten(1)


def lycoris(out, inside, kernel):
    """Tensors as LyCORIS has them for a layer, by their kind, what they mean, and alpha's divisor.

    `out` and `inside` are multiples of 4.
    """
    torch.manual_seed(7)
    taps = kernel[0] * kernel[1] if kernel else 1
    names = {f"hada_{k}_{h}": None for k in ("w1", "w2") for h in "ab"}
    loha = {n: torch.randn(*((out, 2) if n[-1] == "a" else (2, inside * taps))) for n in names}
    a, b, c, d = loha.values()
    yield loha, (a @ b) * (c @ d), 2
    one, whole = torch.randn(4, 2), torch.randn(out // 4, inside // 2, *kernel)
    yield {"lokr_w1": one, "lokr_w2": whole}, blocks(one, whole.flatten(1)), None
    up, down = torch.randn(out // 4, 3), torch.randn(3, inside // 2 * taps)
    half = {"lokr_w2_a": up, "lokr_w2_b": down}
    yield {"lokr_w1": one, **half}, blocks(one, up @ down), 3
    left, right = torch.randn(4, 3), torch.randn(3, 2)
    both = {"lokr_w1_a": left, "lokr_w1_b": right, **half}
    yield both, blocks(left @ right, up @ down), 3
    if kernel:
        mid = torch.randn(2, 2, 2, *kernel)
        a, b, c, d = (torch.randn(2, n) for n in (out, inside, out, inside))
        three = dict(zip(names, (a, b, c, d), strict=True))
        three |= {"hada_t1": mid[0], "hada_t2": mid[1]}
        yield three, through(a, b, mid[0]) * through(c, d, mid[1]), 2
        a, b = torch.randn(2, out // 4), torch.randn(2, inside // 2)
        three = {"lokr_w1": one, "lokr_w2_a": a, "lokr_w2_b": b, "lokr_t2": mid[0]}
        yield three, blocks(one, through(a, b, mid[0])), 2


@pytest.mark.parametrize("layer", [f"{BLOCK}attn1.to_k", "mid_block.resnets.0.conv2"])
def test_lohas_and_lokrs_are_what_their_papers_say(small, tmp_path, layer):
    key = f"{layer}.weight"
    weights = tensors(small, "unet")
    out, inside, *kernel = weights[key].shape
    name = f"lora_unet_{layer.replace('.', '_')}"
    merged = shutil.copytree(small, tmp_path / "merged")
    kinds = list(lycoris(out, inside, kernel))
    assert len(kinds) == (6 if kernel else 4)
    for parts, delta, rank in kinds:
        file = {f"{name}.{role}": tensor for role, tensor in parts.items()}
        save_file(file | {f"{name}.alpha": torch.tensor(ALPHA)}, tmp_path / "l.safetensors")
        factor = 0.1 * (ALPHA / rank if rank else 1)
        changed = weights | {key: weights[key] + factor * delta.view(weights[key].shape)}
        save_file(changed, merged / FILES["unet"], {"format": "pt"})
        got = said(load_model(str(small), device="cpu", lora=[f"{tmp_path}/l.safetensors:0.1"]))
        by_hand = said(load_model(str(merged), device="cpu"))
        torch.testing.assert_close(got, by_hand, rtol=0, atol=1e-4)
        assert (by_hand - said(load_model(str(small), device="cpu"))).abs().max() > 1e-3
        whole, lengths = stretched(weights[key] + 10 * factor * delta.view(weights[key].shape), 1)
        file |= {f"{name}.alpha": torch.tensor(ALPHA), f"{name}.dora_scale": lengths}
        save_file(file, tmp_path / "l.safetensors")
        save_file(weights | {key: whole}, merged / FILES["unet"], {"format": "pt"})
        got = said(load_model(str(small), device="cpu", lora=[f"{tmp_path}/l.safetensors"]))
        by_hand = said(load_model(str(merged), device="cpu"))
        torch.testing.assert_close(got, by_hand, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("shapes", "weight"),
    [
        ({"up": (4, 2), "down": (3, 6)}, (4, 6)),
        ({"up": (4, 0), "down": (0, 6)}, (4, 6)),
        ({"up": (4,), "down": (4, 6)}, (4, 6)),
        ({"up": (4, 2), "mid": (2, 3, 3, 3), "down": (2, 6)}, (4, 6, 3, 3)),
        ({"up": (4, 2), "mid": (2, 2), "down": (2, 6)}, (4, 6)),
        (dict.fromkeys(("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), (2, 2)), (2, 3)),
        (
            {"hada_w1_a": (4, 2), "hada_w1_b": (2, 6), "hada_w2_a": (6, 2), "hada_w2_b": (2, 4)},
            (4, 6),
        ),
        ({"lokr_w1": (2, 2), "lokr_w2": (2, 2)}, (4, 6)),
        ({"lokr_w1": (2,), "lokr_w2": (2, 6)}, (4, 6)),
        ({"lokr_w1": (2, 2), "up": (4, 2), "down": (2, 6)}, (4, 6)),
        ({"up": (4, 2), "down": (2, 6), "magnitude": (6,)}, (4, 6)),
        ({"up": (4, 2), "down": (2, 6), "dora_scale": (6, 1)}, (4, 6)),
        ({"up": (4, 2), "down": (2, 6), "dora_scale": (1, 4)}, (4, 6)),
        ({"up": (4, 2), "down": (2, 6), "dora_scale": (4, 1), "magnitude": (4,)}, (4, 6)),
    ],
)
def test_tensors_that_do_not_fit_each_other_fit_no_weight(shapes, weight):
    assert not fits(shapes, [*weight])


@pytest.fixture(scope="module")
def xl(tmp_path_factory):
    return write_both(tmp_path_factory.mktemp("xl"), "sdxl")


XL_NAMES = {  # as the original has them, and so kohya for XL
    "down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q": (
        "input_blocks_4_1_transformer_blocks_1_attn1_to_q"
    ),
    "down_blocks.1.attentions.1.proj_out": "input_blocks_5_1_proj_out",
    "down_blocks.0.resnets.1.conv1": "input_blocks_2_0_in_layers_2",
    "down_blocks.0.downsamplers.0.conv": "input_blocks_3_0_op",
    "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj": (
        "middle_block_1_transformer_blocks_0_ff_net_0_proj"
    ),
    "mid_block.resnets.1.time_emb_proj": "middle_block_2_emb_layers_1",
    "up_blocks.0.attentions.2.transformer_blocks.0.attn2.to_k": (
        "output_blocks_2_1_transformer_blocks_0_attn2_to_k"
    ),
    "up_blocks.0.upsamplers.0.conv": "output_blocks_2_2_conv",
    "time_embedding.linear_2": "time_embed_2",
    "add_embedding.linear_1": "label_emb_0_0",
}


@pytest.mark.parametrize("which", ["folder", "file"])
def test_kohyas_names_for_xl_fit_a_folder_and_a_file(xl, tmp_path, which):
    layers = {
        "unet": list(XL_NAMES),
        "text_encoder": LAYERS["text_encoder"],
        "text_encoder_2": ["encoder.layers.0.self_attn.v_proj"],
    }

    def spell(part, layer):
        if part == "unet":
            name = f"lora_unet_{XL_NAMES[layer]}"
            return f"{name}.lora_down.weight", f"{name}.lora_up.weight", f"{name}.alpha"
        return kohya(part, layer, "te1_" if part == "text_encoder" else "te2_")

    path = with_lora(xl.folder, tmp_path / "merged", tmp_path / "l.safetensors", spell, layers)
    changed = load_model(str(getattr(xl, which)), device="cpu", lora=[f"{path}:{SCALE}"])
    by_hand = load_model(str(tmp_path / "merged"), device="cpu")
    torch.testing.assert_close(said(changed), said(by_hand), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        ({"lora_unet_nowhere.lora_down.weight": torch.zeros(3, 3)}, "`lora_unet_nowhere"),
        (
            {"unet.conv_in.ia3_l": torch.zeros(3, 3)},
            "`unet.conv_in.ia3_l` is of no LoRA known here",
        ),
        ({kohya("unet", LAYERS["unet"][0])[0]: torch.zeros(3, 16)}, "lacks its other half"),
        (
            dict(zip(kohya("unet", LAYERS["unet"][0])[:2], torch.zeros(2, 3, 3), strict=True)),
            "of another shape",
        ),
        (
            {
                kohya("unet", LAYERS["unet"][0])[0]: torch.zeros(0, 16),
                kohya("unet", LAYERS["unet"][0])[1]: torch.zeros(16, 0),
            },
            "of another shape",
        ),
        ({"lora_unet_conv_in.hada_w1_a": torch.zeros(16, 2)}, "lacks its other half"),
        ({"lora_unet_conv_in.lokr_w1": torch.zeros(2, 2)}, "lacks its other half"),
        (
            {f"lora_unet_conv_in.lokr_w{k}": torch.zeros(2, 2) for k in "12"},
            "`lora_unet_conv_in.lokr_w1` is of another shape",
        ),
        (
            {f"lora_unet_conv_in.{r}": torch.zeros(2, 2) for r in ("lokr_w1", "hada_w1_a")},
            "is of another shape",
        ),
        (
            {
                kohya("unet", LAYERS["unet"][0])[0]: torch.full((3, 16), torch.nan),
                kohya("unet", LAYERS["unet"][0])[1]: torch.zeros(16, 3),
            },
            "not finite",
        ),
        ({kohya("unet", "", "te2_")[0]: torch.zeros(3, 16)}, "fits nothing"),
    ],
)
def test_a_lora_that_does_not_fit_is_refused_by_a_tensors_name(small, tmp_path, broken, complaint):
    path = tmp_path / "l.safetensors"
    save_file(broken, path)
    with pytest.raises(ModelError, match=complaint) as caught:
        load_model(str(small), device="cpu", lora=[str(path)])
    assert path.name in str(caught.value)


def test_a_worker_that_holds_the_model_alone_is_not_asked(small, tmp_path):
    path = with_lora(small, tmp_path / "merged", tmp_path / "l.safetensors", kohya, LAYERS)
    source = find(str(small))
    wanted = dressed(source, Job(prompt="fog", lora=str(path)).weights)
    how = {"wanted": ("cpu", "auto"), "given": ("cpu", "fp32"), "idle": 1}
    held = holding(source, stamp(source), circumstances(), **how)
    assert held.unlike(source, "cpu", "auto") == ""
    assert "LoRAs" in held.unlike(wanted, "cpu", "auto")


def test_a_studio_changes_the_weights_between_jobs_that_want_others(small, tmp_path):
    path = with_lora(small, tmp_path / "merged", tmp_path / "l.safetensors", kohya, LAYERS)
    plain = Job(prompt="fog", model=str(small), seed=1, size=(64, 64), guidance=2)
    plain = plain.model_copy(update={"sampler": Sampler(steps=2)})
    changed = plain.model_copy(update={"lora": (f"{path}:{SCALE}",)})
    studio = Studio(Setting(device="cpu"))
    painted = [
        studio.paint([Order(b"key", job)]).outcomes[0] for job in (plain, changed, changed, plain)
    ]
    assert [one.load > 0 for one in painted] == [True, True, False, True]
    assert painted[0].file == painted[3].file != painted[1].file == painted[2].file


def test_a_job_with_a_lora_is_not_painted_by_a_model_without(small, tmp_path):
    model = load_model(str(small), device="cpu")
    with pytest.raises(JobError, match="not loaded with"):
        list(generate(model, Job(prompt="fog", lora="some.safetensors")))


@pytest.mark.parametrize("scale", [1, SCALE, 1e-7])
def test_a_job_that_names_no_weights_is_told_those_that_were_loaded(small, tmp_path, scale):
    path = with_lora(small, tmp_path / "merged", tmp_path / "l.safetensors", kohya, LAYERS)
    model = load_model(str(small), device="cpu", lora=[f"{path}:{scale:.9f}"], vae=small / "vae")
    job = Job(prompt="fog", seed=1, sampler=Sampler(steps=1))
    own = paint(model, job).job
    assert [scaled(text) for text in own.lora] == [(str(path), scale)]
    assert own.vae == str(small / "vae")
    assert wears(dressed(find(str(small)), own.weights), own.weights)
    assert paint(model, own).job == own
    for given in (path, [path]):
        assert load_model(str(small), device="cpu", lora=given).complete(job).lora == (
            f"{path}:1.0",
        )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a.safetensors", ("a.safetensors", 1)),
        ("a.safetensors:0.8", ("a.safetensors", 0.8)),
        ("a:-.5", ("a", -0.5)),
        (r"C:\a.safetensors", (r"C:\a.safetensors", 1)),
        (r"C:\a.safetensors:2", (r"C:\a.safetensors", 2)),
        ("a:b", ("a:b", 1)),
        (":0.5", (":0.5", 1.0)),
    ],
)
def test_a_scale_is_what_stands_behind_the_last_colon_if_it_is_a_number(text, wanted):
    assert scaled(text) == wanted


@pytest.mark.parametrize("value", [7, [7], "a:101", [""], ["a"] * 65])
def test_a_lora_that_can_be_none_is_refused_as_a_key(value):
    from sdfast.job import read_job

    with pytest.raises(JobError, match="lora"):
        read_job({"prompt": "fog", "lora": value})


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        ("base_model.model.conv_in.hada_w1_a", "a LoHa or LoKr that peft wrote"),
        ("lora_unet_mid_block.oft_blocks", "an OFT"),
        ("lora_unet_mid_block.diff", "a whole difference"),
    ],
)
def test_gen_refuses_other_changes_than_loras_by_their_kind(small, tmp_path, tensor, kind, sdfast):
    path = tmp_path / "l.safetensors"
    save_file({tensor: torch.zeros(3)}, path)
    for more in ((), ("--dry-run",)):
        code, out, err = sdfast("gen", "fog", "-m", str(small), "--lora", str(path), *more)
        assert (code, out) == (3, "")
        *_, complaint, hint = err.splitlines()
        assert complaint == f"error: `{path}`: `{tensor}` is of {kind}, which is not read"
        assert hint == "hint: --lora reads LoRA, DoRA, LoHa and LoKr"


def test_a_file_that_is_no_lora_is_told_before_anything_is_loaded(small):
    path = small / FILES["unet"]
    first = next(iter(load_file(path)))
    with pytest.raises(ModelError, match=f"`{first}` is of no LoRA known here"):
        dressed(find(str(small)), Job(prompt="fog", lora=(str(path),)).weights)


def test_a_lora_that_changes_nothing_is_refused(small, tmp_path):
    save_file({}, tmp_path / "none.safetensors")
    with pytest.raises(ModelError, match=r"none\.safetensors` holds no tensors"):
        dressed(find(str(small)), Job(prompt="fog", lora=f"{tmp_path}/none.safetensors").weights)


@pytest.mark.parametrize(
    ("spell", "config", "scale"),
    [
        (kohya, {}, SCALE),
        (peft, {}, SCALE),
        (peft, {"lora_alpha": 2, "alpha_pattern": {"attn1.to_k": 5, "layers.0.mlp.fc2": 7}}, SCALE),
        (peft, {"lora_alpha": 2, "use_rslora": True}, SCALE),
        (peft, {"lora_alpha": 2, "use_dora": True}, 1),  # which peft scales otherwise
    ],
    ids=["kohya", "peft", "alphas", "rslora", "dora"],
)
@pytest.mark.filterwarnings("ignore:.*alpha_pattern keys did not match:RuntimeWarning")
def test_the_walk_ends_where_diffusers_with_load_lora_weights_ends(
    small, tmp_path, spell, config, scale
):
    layers = {
        "unet": [layer for layer in LAYERS["unet"] if ".attentions." in layer],
        # of kohya's text encoders diffusers 0.42 leaves out attention, with a warning
        "text_encoder": LAYERS["text_encoder"][spell is kohya :],
    }
    if "use_dora" in config:  # of text encoders it leaves out the lengths
        del layers["text_encoder"]
    path, dora = tmp_path / "l.safetensors", pefts_rows if "use_dora" in config else None
    with_lora(small, tmp_path / "merged", path, spell, layers, dora)
    if config:
        names = [name for part in layers.values() for name in part]
        in_peft_config(path, {"r": RANK, "target_modules": names} | config, "header")
    elif spell is peft:  # diffusers tells alphas apart from the tensors
        save_file({k: v for k, v in load_file(path).items() if "alpha" not in k}, path)
    pipeline = StableDiffusionPipeline.from_pretrained(small)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(str(tmp_path), weight_name="l.safetensors")
    pipeline.fuse_lora(lora_scale=scale)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="linspace"
    )
    model = load_model(str(small), device="cpu", lora=[f"{path}:{scale}"])
    noise = model.noise(3, (64, 64))
    wanted = pipeline(
        "a red cat", latents=noise, num_inference_steps=6, guidance_scale=5, output_type="latent"
    ).images
    network = guided(model.predict, [Words(model.encode("a red cat"), model.encode(""))], 5)
    sampler = Sampler(steps=6, weights="reference", spacing="linspace")
    *_, x = trajectory(network, noise, sampler, model.schedule, model.prediction)
    torch.testing.assert_close(x, wanted, rtol=0, atol=1e-3)


def test_a_picture_painted_with_a_lora_and_a_vae_is_painted_again_from_itself(
    small, tmp_path, monkeypatch, sdfast
):
    monkeypatch.chdir(tmp_path)
    with_lora(small, tmp_path / "merged", tmp_path / "l.safetensors", kohya, LAYERS)
    shutil.copytree(small / "vae", tmp_path / "v")
    weights = load_file("v/diffusion_pytorch_model.safetensors")
    weights["decoder.conv_out.bias"] += 0.5
    save_file(weights, "v/diffusion_pytorch_model.safetensors", {"format": "pt"})
    asked = ("fog", "-s", "2", "--seed", "1", "-m", str(small), "-q")
    extra = ("--lora", "l.safetensors:0.7", "--vae", "v")
    for name, more in {"bare": (), "lora": extra[:2], "both": extra}.items():
        assert sdfast("gen", *asked, *more, "-o", f"{name}.png")[0] == 0
    assert sdfast("gen", "--from", "both.png", "-m", str(small), "-o", "again.png", "-q")[0] == 0
    read = {name: (tmp_path / f"{name}.png").read_bytes() for name in ("bare", "lora", "both")}
    assert len(set(read.values())) == 3
    assert (tmp_path / "again.png").read_bytes() == read["both"]
    code, out, _ = sdfast("gen", "--from", "both.png", "-m", str(small), "--dry-run")
    job = json.loads(out)
    assert (code, job["lora"], job["vae"]) == (
        0,
        [str(tmp_path / "l.safetensors:0.7")],
        str(tmp_path / "v"),
    )


def test_a_picture_does_not_tell_whose_home_its_files_are_in(small, tmp_path, monkeypatch, sdfast):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with_lora(small, tmp_path / "merged", tmp_path / "l.safetensors", kohya, LAYERS)
    asked = ("fog", "-s", "2", "--seed", "1", "-m", str(small), "-q")
    assert sdfast("gen", *asked, "--lora", "l.safetensors:0.7", "-o", "a.png")[0] == 0
    file = (tmp_path / "a.png").read_bytes()
    assert b"~/l.safetensors:0.7" in file
    assert str(tmp_path).encode() not in file
    assert sdfast("gen", "--from", "a.png", "-m", str(small), "-o", "b.png", "-q")[0] == 0
    assert (tmp_path / "b.png").read_bytes() == file


def test_a_home_that_is_a_link_is_hidden_too(tmp_path, monkeypatch):
    (tmp_path / "ann").mkdir()
    (tmp_path / "me").symlink_to("ann")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    for home in ("ann", "me"):
        assert Path(from_home(str(tmp_path / home / "l.st"))) == Path("~", "l.st")
    assert from_home(str(tmp_path / "anna" / "l.st")) == str(tmp_path / "anna" / "l.st")


@pytest.mark.parametrize("way", ["folder", "diffusers file", "original file"])
def test_another_vae_decodes_as_in_the_model_it_is_from(xl, tmp_path, way):
    """In each form, it is that of a model with these weights in its folder."""
    other = write_both(tmp_path / "other", "sd15")
    given = {
        "folder": other.folder,
        "diffusers file": other.folder / "vae" / "diffusion_pytorch_model.safetensors",
        "original file": tmp_path / "vae.safetensors",
    }[way]
    start = "first_stage_model."
    parts = {k.removeprefix(start): v for k, v in load_file(other.file).items() if start in k}
    save_file(parts, tmp_path / "vae.safetensors")
    merged = shutil.copytree(xl.folder, tmp_path / "merged")
    shutil.copy(
        other.folder / "vae" / "diffusion_pytorch_model.safetensors",
        merged / "vae" / "diffusion_pytorch_model.safetensors",
    )
    x = load_model(str(merged), device="cpu").noise(1, (64, 64))
    wanted = load_model(str(merged), device="cpu").decode(x)[0]
    if way != "original file":  # a config of its own says how its latents are scaled
        shutil.copy(other.folder / "vae" / "config.json", merged / "vae" / "config.json")
        wanted = load_model(str(merged), device="cpu").decode(x)[0]
    got = load_model(str(xl.folder), device="cpu", vae=str(given)).decode(x)[0]
    assert got.tobytes() == wanted.tobytes()
