"""A model in one safetensors file, as Stable Diffusion's authors laid it out.

Which family it is of, the names and shapes of its tensors tell, and so does how many levels, layers
and channels there are. What they cannot tell (heads, groups, the schedule) is the family's and
stands in `shapes/`. The tokenizer is not in the file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdfast.errors import ModelError
from sdfast.models.files import read_text
from sdfast.models.folder import open_shape
from sdfast.models.headers import PICKLES, Header, pickled, read_header
from sdfast.models.layout import Layout
from sdfast.models.source import Part, Source, Vocabulary, trained_size
from sdfast.models.tokenizer_files import Fetch, find_tokenizer

SHAPES = Path(__file__).parent / "shapes"

UNET, VAE = "model.diffusion_model.", "first_stage_model."

_TEXTS: dict[str, tuple[tuple[str, str], ...]] = {
    "sdxl": (
        ("clip", "conditioner.embedders.0.transformer."),
        ("open_clip", "conditioner.embedders.1.model."),
    ),
    "sd21": (("open_clip", "cond_stage_model.model."),),
    "sd15": (("clip", "cond_stage_model.transformer."),),
}
"""The text encoders of each family: its kind, and what its tensors' names begin with."""

_OTHERS = {
    "conditioner.embedders.0.model.": "the refiner of Stable Diffusion XL",
    "model.diffusion_model.joint_blocks.": "Stable Diffusion 3",
    "model.diffusion_model.double_blocks.": "Flux",
    "edm_mean": "Playground v2.5",
    "control_model.": "a ControlNet",
    "lora_": "a LoRA (--lora takes it)",
    "unet.": "a LoRA (--lora takes it)",
    "emb_params": "an embedding (--embedding takes it)",
    "clip_l": "an embedding (--embedding takes it)",
    "decoder.": "an autoencoder (--vae takes it)",
}
"""What other files' names begin with, and what those are."""

Shapes = Mapping[str, tuple[int, ...]]


def open_file(name: str, path: Path, fetch: Fetch) -> Source:
    """A model of one file, recognised by its tensors and whole. Raises ModelError."""
    header = read_weights(path)
    family = _family(path, header.shapes)
    base = open_shape(name, SHAPES / family)
    parts = {
        "unet": _unet(base.config("unet"), header.shapes, path),
        "vae": vae_part(base.config("vae"), header.shapes, path, VAE),
    }
    for part, (kind, prefix) in zip(base.texts, _TEXTS[family], strict=True):
        # 2.x was trained on the last layer but one, and its config ends there
        left_out = int(family == "sd21")
        parts[part] = _text(base.config(part), header.shapes, path, Layout(kind, prefix), left_out)
    predicts = _prediction(family, header, path)
    unet = parts["unet"]
    if family == "sd21" and (predicts["prediction_type"] == "epsilon" or is_for_holes(unet)):
        parts["unet"] = unet._replace(config={**unet.config, "sample_size": SMALLER // 8})
    schedule = dict(base.schedule) | predicts
    folder = find_tokenizer(path, fetch)
    return Source(
        name=name,
        path=path.absolute(),
        parts=parts,
        vocabularies=tuple(
            Vocabulary(folder, 0 if kind == "open_clip" else None) for kind, _ in _TEXTS[family]
        ),
        schedule=schedule,
        size=_said_size(header) or trained_size(name, parts),
        guidance=base.guidance,
        blank_is_zero=base.blank_is_zero,
    )


def read_weights(path: Path) -> Header:
    """The header of a file that was named by itself. Raises ModelError; a pickle is not opened."""
    shown = f"`{path}`"
    if path.suffix.lower() in PICKLES:
        raise pickled(shown)
    return read_header(path, shown)


def _family(path: Path, shapes: Shapes) -> str:
    starts = {prefix: False for texts in _TEXTS.values() for _, prefix in texts}
    starts |= dict.fromkeys((UNET, VAE, *_OTHERS), False)
    for prefix in starts:
        starts[prefix] = any(name.startswith(prefix) for name in shapes)
    if found := next((what for prefix, what in _OTHERS.items() if starts[prefix]), None):
        raise ModelError(f"`{path}` is {found}; only Stable Diffusion 1.x, 2.x and XL are painted")
    if not starts[UNET]:
        raise ModelError(
            f"`{path}` holds no Stable Diffusion in the original layout",
            "a model in diffusers' layout is given by its folder",
        )
    for family, texts in _TEXTS.items():
        if all(starts[prefix] for _, prefix in texts):
            return family
    raise ModelError(f"`{path}` holds no text encoder", "is it the UNet alone?")


@dataclass(frozen=True, slots=True)
class _Levels:
    """How a UNet's blocks are numbered: so many levels of so many layers."""

    count: int
    layers: int

    def first(self, level: int) -> str:
        return f"{UNET}input_blocks.{1 + level * (self.layers + 1)}"


def _unet(base: Mapping[str, Any], shapes: Shapes, path: Path) -> Part:
    """A UNet's config, as far as its shapes tell it, upon that of its family."""
    if any(name.startswith(UNET) and ".cond_proj." in name for name in shapes):
        raise ModelError(
            f"`{path}` is a latent consistency model, which is not read from a single file",
            "a folder in diffusers' layout is",
        )
    downs = numbers(shapes, rf"{re.escape(UNET)}input_blocks\.(\d+)\.0\.op\.weight")
    levels = _Levels(len(downs) + 1, (downs or [3])[0] - 1)
    try:
        widths = [
            shapes[f"{levels.first(i)}.0.out_layers.3.weight"][0] for i in range(levels.count)
        ]
        told: dict[str, Any] = {
            "in_channels": shapes[f"{UNET}input_blocks.0.0.weight"][1],
            "out_channels": shapes[f"{UNET}out.2.weight"][0],
            "layers_per_block": levels.layers,
            "block_out_channels": widths,
        }
        depths = [_depth(shapes, levels.first(i)) for i in range(levels.count)]
        first = levels.first(next(i for i, depth in enumerate(depths) if depth))
        told["cross_attention_dim"] = shapes[f"{first}.1.transformer_blocks.0.attn2.to_k.weight"][1]
        if "addition_embed_type" in base:
            told["projection_class_embeddings_input_dim"] = shapes[f"{UNET}label_emb.0.0.weight"][1]
    except (KeyError, IndexError, StopIteration) as error:
        raise ModelError(f"`{path}`: unet lacks tensors, the first {error}") from error
    attends = ["CrossAttn" * bool(depth) for depth in depths]
    told["down_block_types"] = [f"{cross}DownBlock2D" for cross in attends]
    told["up_block_types"] = [f"{cross}UpBlock2D" for cross in reversed(attends)]
    if any(depth > 1 for depth in depths):
        told["transformer_layers_per_block"] = [max(depth, 1) for depth in depths]
    if isinstance(base["attention_head_dim"], list):  # as many heads as there are times 64 channels
        told["attention_head_dim"] = [width // 64 for width in widths]
    return Part(dict(base) | told, (path.absolute(),), Layout("unet", UNET, levels.layers))


def vae_part(base: Mapping[str, Any], shapes: Shapes, path: Path, prefix: str) -> Part:
    """An autoencoder's config, as far as its shapes tell it, upon that of its family."""
    ups = numbers(shapes, rf"{re.escape(prefix)}decoder\.up\.(\d+)\.block\.0\.conv1\.weight")
    try:
        widths = [shapes[f"{prefix}decoder.up.{i}.block.0.conv2.weight"][0] for i in ups]
        latent = shapes[f"{prefix}decoder.conv_in.weight"][1]
        layers = len(
            numbers(shapes, rf"{re.escape(prefix)}decoder\.up\.0\.block\.(\d+)\.conv1\.weight")
        )
        pixels = shapes[f"{prefix}decoder.conv_out.weight"][0]
    except (KeyError, IndexError) as error:
        raise ModelError(f"`{path}`: vae lacks tensors, the first {error}") from error
    told = {
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
        "latent_channels": latent,
        "layers_per_block": layers - 1,
        "out_channels": pixels,
    }
    return Part(dict(base) | told, (path.absolute(),), Layout("vae", prefix, len(widths)))


def _text(
    base: Mapping[str, Any], shapes: Shapes, path: Path, layout: Layout, left_out: int
) -> Part:
    """A text encoder's config, as far as its shapes tell it, upon that of its family."""
    found = {layout.renamed(name) or "": shape for name, shape in shapes.items()}
    layers = numbers(found, r"encoder\.layers\.(\d+)\.layer_norm1\.weight")
    try:
        known, width = found["embeddings.token_embedding.weight"]
        told: dict[str, Any] = {
            "vocab_size": known,
            "hidden_size": width,
            "max_position_embeddings": found["embeddings.position_embedding.weight"][0],
            "intermediate_size": found["encoder.layers.0.mlp.fc1.weight"][0],
            "num_hidden_layers": len(layers) - left_out,
            "bos_token_id": known - 2,
            "eos_token_id": known - 1,
            "pad_token_id": known - 1,
        }
    except (KeyError, IndexError, ValueError) as error:
        raise ModelError(f"`{path}`: text encoder lacks tensors, the first {error}") from error
    told["num_attention_heads"] = max(width // 64, 1)
    if "text_projection.weight.T" in found and not left_out:
        told["projection_dim"] = found["text_projection.weight.T"][-1]
    return Part(dict(base) | told, (path.absolute(),), layout)


def _depth(shapes: Shapes, block: str) -> int:
    return len(numbers(shapes, rf"{re.escape(block)}\.1\.transformer_blocks\.(\d+)\.norm1\.weight"))


def numbers(shapes: Shapes, pattern: str) -> list[int]:
    """The numbers that a pattern finds in the names, each once and rising; none that is absurd."""
    finds = (re.fullmatch(pattern, name) for name in shapes)
    return sorted({int(found[1]) for found in finds if found and len(found[1]) < 6})


SMALLER = 512
"""Pixels a side that models of 2.x were trained on which predict noise, or inpaint. Others: 768."""


def is_for_holes(unet: Part) -> bool:
    """Whether a UNet reads a mask and a picture besides."""
    return unet.config["in_channels"] > unet.config["out_channels"]


_SAID = {
    "epsilon": "epsilon",
    "eps": "epsilon",
    "v": "v_prediction",
    "v_prediction": "v_prediction",
}


def _prediction(family: str, header: Header, path: Path) -> dict[str, Any]:
    """What is known of what the UNet predicts.

    The file may say so itself (`modelspec.prediction_type`, or a tensor `v_pred` or `ztsnr`, as
    ModelSpec and ComfyUI have them). 2.x comes in both kinds, of the same shapes; there a config
    of the authors' beside the file may say it, as for the web UI: NAME.yaml for NAME.safetensors.
    """
    zero = {"rescale_betas_zero_snr": True} if "ztsnr" in header.shapes else {}
    said = _SAID.get(header.about.get("modelspec.prediction_type", ""))
    if said is None and "v_pred" in header.shapes:
        said = "v_prediction"
    if said is None:
        said = _beside(path) if family == "sd21" else "epsilon"
    return {"prediction_type": said, **zero}


def _beside(path: Path) -> str:
    """What a config beside a file of 2.x says that it predicts; `unknown` without one."""
    try:
        said = read_text(path.with_suffix(".yaml"))
    except (OSError, ValueError):
        return "unknown"
    kind = re.search(r"^ +parameterization: *[\"']?(\w+)", said, re.MULTILINE)
    return _SAID.get(kind[1] if kind else "epsilon", "unknown")


def _said_size(header: Header) -> tuple[int, int] | None:
    """The pixels that the file itself says it was trained on."""
    said = re.fullmatch(
        r"(\d{2,4})(?:x(\d{2,4}))?", header.about.get("modelspec.resolution", "").strip()
    )
    if said is None:
        return None
    size = int(said[1]), int(said[2] or said[1])
    return size if all(64 <= side <= 4096 and side % 8 == 0 for side in size) else None
