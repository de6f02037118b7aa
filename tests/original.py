"""Small models as diffusers writes them, and the same weights in one file as the authors wrote it.

The names of the original layout are spelled out here once more, from today's to theirs, so that
the way back in sdfast is judged by something else than itself.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import (
    AutoencoderKL,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from small import _scheduler, _text_sizes, _tokenizer
from transformers import CLIPTextModel, CLIPTextModelWithProjection

FAMILIES = ("sd15", "sd21", "sdxl", "inpainting")


class Both(NamedTuple):
    """A model in diffusers' layout, and in the original one."""

    folder: Path
    file: Path


def write_both(where: Path, family: str, prediction: str = "epsilon") -> Both:
    """Random weights, 64 by 64 pixels; each family as it truly is but for its size."""
    torch.manual_seed(0)
    both = Both(where / "folder", where / "model.safetensors")
    tokenizer = _tokenizer(where / "tokenizer")
    wide = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 1}
    parts: dict[str, Any] = {
        "vae": _strewn(_vae(0.13025 if family == "sdxl" else 0.18215)),
        "tokenizer": tokenizer,
        "scheduler": _scheduler(prediction),
    }
    if family == "sdxl":
        second = _text_sizes(
            **wide | {"hidden_size": 128, "num_attention_heads": 2},
            projection_dim=40,
            hidden_act="gelu",
            pad_token_id=0,
        )
        parts |= {
            "unet": _strewn(
                _wide_unet(
                    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                    cross_attention_dim=64 + 128,
                    transformer_layers_per_block=(1, 2),
                    addition_embed_type="text_time",
                    addition_time_embed_dim=256,
                    projection_class_embeddings_input_dim=6 * 256 + 40,
                )
            ),
            "text_encoder": _strewn(CLIPTextModel(_text_sizes(**wide)).eval()),
            "text_encoder_2": _strewn(CLIPTextModelWithProjection(second).eval()),
            "tokenizer_2": _padded_with_0(where / "tokenizer_2"),
        }
        StableDiffusionXLPipeline(**parts, add_watermarker=False).save_pretrained(both.folder)
    else:
        old = family in ("sd15", "inpainting")
        sizes = _text_sizes(**wide) if old else _text_sizes(**wide, hidden_act="gelu")
        channels = 9 if family == "inpainting" else 4
        parts |= {
            "unet": _strewn(_old_unet(in_channels=channels) if old else _wide_unet()),
            "text_encoder": _strewn(CLIPTextModel(sizes).eval()),
        }
        if not old:
            parts["tokenizer"] = _padded_with_0(where / "tokenizer_2")
        none = {"safety_checker": None, "feature_extractor": None}
        StableDiffusionPipeline(**parts, **none, requires_safety_checker=False).save_pretrained(
            both.folder
        )
    save_file(original(parts, family), both.file, {"format": "pt"})
    return both


def _old_unet(**changes: Any) -> UNet2DConditionModel:
    plain = {
        "sample_size": 8,
        "block_out_channels": (32, 64, 64),
        "layers_per_block": 2,
        "down_block_types": ("CrossAttnDownBlock2D",) * 2 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 2,
        "cross_attention_dim": 64,
        "attention_head_dim": 8,
    }
    return UNet2DConditionModel(**plain | changes)


def _wide_unet(**changes: Any) -> UNet2DConditionModel:
    plain = {
        "block_out_channels": (64, 128),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": (1, 2),
        "use_linear_projection": True,
    }
    return _old_unet(**plain | changes)


def _vae(scale: float) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(32, 32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        sample_size=64,
        scaling_factor=scale,
    )


def _strewn(network: Any) -> Any:
    """Biases and norms that are not zeros and ones, and nothing that is alike by chance."""
    with torch.no_grad():
        for weight in network.parameters():
            if weight.dim() == 1:
                weight += 0.1 * torch.randn_like(weight)
    return network


def _padded_with_0(folder: Path) -> Any:
    tokenizer = _tokenizer(folder)
    tokenizer.pad_token = "!"
    return tokenizer


def original(parts: dict[str, Any], family: str) -> dict[str, torch.Tensor]:
    """All weights in one dictionary, by the authors' names."""
    found = unet(parts["unet"]) | vae(parts["vae"])
    clip = parts["text_encoder"].state_dict()
    match family:
        case "sdxl":
            found |= _clip("conditioner.embedders.0.transformer.", clip)
            second = parts["text_encoder_2"].state_dict()
            found |= _open_clip("conditioner.embedders.1.model.", second)
        case "sd21":
            found |= _open_clip("cond_stage_model.model.", clip)
            n = parts["text_encoder"].config.num_hidden_layers  # one more is there, not to be read
            last = {k: v + 1 for k, v in found.items() if f".resblocks.{n - 1}." in k}
            found |= {k.replace(f".{n - 1}.", f".{n}."): v for k, v in last.items()}
            found["cond_stage_model.model.text_projection"] = torch.randn(64, 64)
        case _:
            found |= _clip("cond_stage_model.transformer.", clip)
    found |= {"alphas_cumprod": torch.linspace(1, 0, 1000)}
    return {name: tensor.clone().contiguous() for name, tensor in found.items()}


def _swapped(name: str, *pairs: tuple[str, str]) -> str:
    for ours, theirs in pairs:
        name = re.sub(ours, theirs, name)
    return name


def unet(network: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    """A UNet's weights by the names of `ldm.modules.diffusionmodules.openaimodel`."""
    layers = network.config.layers_per_block
    resnet = (
        (r"\bnorm1\.(?=\w+$)", "in_layers.0."),
        (r"\bconv1\.(?=\w+$)", "in_layers.2."),
        (r"\btime_emb_proj\.", "emb_layers.1."),
        (r"\bnorm2\.(?=\w+$)", "out_layers.0."),
        (r"\bconv2\.(?=\w+$)", "out_layers.3."),
        (r"\bconv_shortcut\.", "skip_connection."),
    )
    ends = (
        (r"^time_embedding\.linear_1\.", "time_embed.0."),
        (r"^time_embedding\.linear_2\.", "time_embed.2."),
        (r"^add_embedding\.linear_1\.", "label_emb.0.0."),
        (r"^add_embedding\.linear_2\.", "label_emb.0.2."),
        (r"^conv_in\.", "input_blocks.0.0."),
        (r"^conv_norm_out\.", "out.0."),
        (r"^conv_out\.", "out.2."),
        (r"^mid_block\.resnets\.0\.", "middle_block.0."),
        (r"^mid_block\.attentions\.0\.", "middle_block.1."),
        (r"^mid_block\.resnets\.1\.", "middle_block.2."),
    )

    def renamed(name: str) -> str:
        if found := re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)", name):
            side, level, kind, at, rest = found.groups()
            level, at = int(level), int(at)
            inside = rest if kind == "attentions" else _swapped(rest, *resnet)
            if side == "down":
                if kind == "downsamplers":
                    return (
                        f"input_blocks.{(level + 1) * (layers + 1)}.0.{rest.replace('conv', 'op')}"
                    )
                place = 1 + level * (layers + 1) + at
                return f"input_blocks.{place}.{int(kind == 'attentions')}.{inside}"
            if kind == "upsamplers":
                attends = "CrossAttn" in network.config.up_block_types[level]
                return f"output_blocks.{level * (layers + 1) + layers}.{1 + attends}.{rest}"
            place = level * (layers + 1) + at
            return f"output_blocks.{place}.{int(kind == 'attentions')}.{inside}"
        name = _swapped(name, *ends)
        return _swapped(name, *resnet) if re.match(r"middle_block\.[02]\.", name) else name

    return {f"model.diffusion_model.{renamed(k)}": v for k, v in network.state_dict().items()}


def vae(network: AutoencoderKL) -> dict[str, torch.Tensor]:
    """An autoencoder's weights by the names of `ldm.modules.diffusionmodules.model`."""
    levels = len(network.config.block_out_channels)
    pairs = (
        (r"mid_block\.attentions\.0\.group_norm\.", "mid.attn_1.norm."),
        (r"mid_block\.attentions\.0\.to_([qkv])\.", r"mid.attn_1.\1."),
        (r"mid_block\.attentions\.0\.to_out\.0\.", "mid.attn_1.proj_out."),
        (r"mid_block\.resnets\.0\.", "mid.block_1."),
        (r"mid_block\.resnets\.1\.", "mid.block_2."),
        (r"conv_norm_out\.", "norm_out."),
        (r"conv_shortcut\.", "nin_shortcut."),
        (r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block."),
        (r"down_blocks\.(\d+)\.downsamplers\.0\.", r"down.\1.downsample."),
        (r"up_blocks\.(\d+)\.", lambda m: f"up.{levels - 1 - int(m[1])}."),
        (r"(up\.\d+)\.resnets\.", r"\1.block."),
        (r"(up\.\d+)\.upsamplers\.0\.", r"\1.upsample."),
    )

    def laid(name: str, tensor: torch.Tensor) -> torch.Tensor:
        convolved = re.search(r"mid\.attn_1\.(q|k|v|proj_out)\.weight", name)
        return tensor[:, :, None, None] if convolved else tensor

    named = {_swapped(k, *pairs): v for k, v in network.state_dict().items()}
    return {f"first_stage_model.{k}": laid(k, v) for k, v in named.items()}


def _clip(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    named = {k.removeprefix("text_model."): v for k, v in state.items()}
    return {f"{prefix}text_model.{k}": v for k, v in named.items()}


def _open_clip(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    state = {k.removeprefix("text_model."): v for k, v in state.items()}
    found: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        if re.search(r"\.[kv]_proj\.", name):
            continue
        if ".q_proj." in name:
            tensor = torch.cat([state[name.replace("q_proj", f"{c}_proj")] for c in "qkv"])
            name = name.replace("self_attn.q_proj.", "attn.in_proj_")
        if name == "text_projection.weight":
            name, tensor = "text_projection", tensor.T
        name = _swapped(
            name,
            (r"^embeddings\.position_embedding\.weight", "positional_embedding"),
            (r"^embeddings\.token_embedding\.", "token_embedding."),
            (r"^final_layer_norm\.", "ln_final."),
            (r"^encoder\.layers\.", "transformer.resblocks."),
            (r"\.layer_norm([12])\.", r".ln_\1."),
            (r"\.mlp\.fc1\.", ".mlp.c_fc."),
            (r"\.mlp\.fc2\.", ".mlp.c_proj."),
            (r"\.self_attn\.out_proj\.", ".attn.out_proj."),
        )
        found[prefix + name] = tensor
    return found


def true_shapes(family: str) -> dict[str, list[int]]:
    """Names and shapes of the true model of a family, by way of diffusers' own classes."""
    from sdfast.models.single import SHAPES

    def config(part: str) -> dict[str, Any]:
        return json.loads((SHAPES / family / part / "config.json").read_text())

    def encoder(part: str) -> Any:
        from transformers import CLIPTextConfig

        kind = CLIPTextModelWithProjection if part.endswith("_2") else CLIPTextModel
        return kind(CLIPTextConfig(**config(part)))

    with torch.device("meta"):
        parts = {
            "unet": UNet2DConditionModel.from_config(config("unet")),
            "vae": AutoencoderKL.from_config(config("vae")),
            "text_encoder": encoder("text_encoder"),
        }
        if family == "sdxl":
            parts["text_encoder_2"] = encoder("text_encoder_2")
        return {name: list(tensor.shape) for name, tensor in original(parts, family).items()}
