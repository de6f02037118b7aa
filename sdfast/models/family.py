"""What kind of model a folder holds, told from its configs and its weights' headers alone.

The folder may lack files or hold broken ones: what cannot be told is left out.
"""

import json
import re
import struct
from pathlib import Path
from typing import Any, cast

from sdfast.models.files import open_regular, read_text
from sdfast.models.layout import AUTOENCODERS, TAESD

_BY_WORDS = {768: "1.x", 1024: "2.x", 2048: "XL", 1280: "XL refiner"}
"""The generations of Stable Diffusion by the width of the words that the UNet attends to."""

_BY_CHANNELS = {9: ", inpainting", 8: ", by instruction"}
"""What a UNet is for that reads more than noisy latents: a mask and a picture, or a picture."""

_DTYPES = {"F16": "fp16", "F32": "fp32", "BF16": "bf16"}


def family(folder: Path) -> str:
    """`Stable Diffusion 1.x`, `Stable Diffusion XL, inpainting`, ...; else the pipeline's name.

    Of an autoencoder by itself or files of weights, that they are such.
    """
    kind = str(_read(folder / "model_index.json").get("_class_name", ""))
    alone = "" if kind else _read(folder / "config.json").get("_class_name")
    if alone in AUTOENCODERS:
        return "autoencoder, TAESD" if alone == TAESD else "autoencoder"
    if not kind and not (folder / "config.json").exists():
        return "weights"
    unet = _read(folder / "unet" / "config.json")
    if not re.match("LatentConsistency|StableDiffusion(?!3)", kind):
        return "".join(c for c in kind if c.isalnum())[:60]
    words, channels = unet.get("cross_attention_dim"), unet.get("in_channels")
    generation = _BY_WORDS.get(words) if isinstance(words, int) else None
    generation = generation or ("XL" if "XL" in kind else "")
    purpose = _BY_CHANNELS.get(channels, "") if isinstance(channels, int) else ""
    purpose += ", latent consistency" if unet.get("time_cond_proj_dim") else ""
    return f"Stable Diffusion {generation}".strip() + purpose


def precisions(folder: Path) -> tuple[str, ...]:
    """What the UNet's weights are stored in; several if the files are there more than once.

    Of what is no pipeline, its own.
    """
    whole = (folder / "model_index.json").exists()
    files = folder.glob("unet/diffusion_pytorch_model*.safetensors" if whole else "*.safetensors")
    found = {_dtype(path) for path in files}
    return tuple(sorted(found - {""}))


def _dtype(path: Path) -> str:
    """The precision of the first tensor in a safetensors file, or nothing."""
    try:
        with open_regular(path) as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, 100_000_000)))
        return next(_DTYPES[v["dtype"]] for k, v in header.items() if k != "__metadata__")
    except Exception:  # whatever a broken header raises, it tells nothing
        return ""


def _read(path: Path) -> dict[str, Any]:
    try:
        found: object = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
