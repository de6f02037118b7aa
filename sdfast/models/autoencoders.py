"""An autoencoder that takes the place of a model's own: a folder as diffusers has it, or a file.

A file's tensors say which it is, and in which layout: Stable Diffusion's large one, or TAESD, which
is small and quick. TAESD's author passes its halves on as files of their own, too; of those the
decoder's is taken, and pictures are then read by the model's own encoder, whose latents it shares.
"""

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from sdfast.errors import ModelError
from sdfast.models.folder import WEIGHTS, check_weights, open_part, open_shape
from sdfast.models.layout import TAESD, TODAY, Layout
from sdfast.models.single import SHAPES, VAE, Shapes, numbers, read_weights, vae_part
from sdfast.models.source import DECODER, Part

_TODAY = ("decoder.up_blocks.", "decoder.mid_block.", "decoder.layers.")
"""How names begin that libraries use today."""


def open_autoencoder(path: Path, own: Mapping[str, Any], *, xl: bool) -> dict[str, Part]:
    """The parts of a model that it takes the place of. Raises ModelError.

    own   the config of the model's own autoencoder, which says what a file of a large one does not;
          if that is a small one, the config of the model's family says it
    """
    if own.get("_class_name") == TAESD:
        own = open_shape("", SHAPES / ("sdxl" if xl else "sd15")).config("vae")
    if path.is_dir():
        inner = path / "vae"
        folder = inner if inner.is_dir() else path
        variant = check_weights(str(path), folder, WEIGHTS["vae"])
        return {"vae": open_part(str(path), folder, WEIGHTS["vae"], variant)}
    shapes = read_weights(path).shapes
    if {"1.weight", "3.conv.0.weight"} <= {*shapes}:
        return {DECODER: _taesd(path, shapes, Layout("taesd"))}
    if {"0.weight", "1.conv.0.weight"} <= {*shapes}:
        raise ModelError(
            f"`{path}` is the encoder of a TAESD",
            "--vae takes its decoder, which is another file, or both in diffusers' layout",
        )
    if any(name.startswith(_TODAY) for name in shapes):
        beside = path.parent / "config.json"
        if beside.is_file():
            return {"vae": open_part(str(path), path.parent, path.stem, None)}
        if not any(name.startswith("decoder.layers.") for name in shapes):
            return {"vae": Part(own, (path,))}
        whole = any(name.startswith("encoder.layers.") for name in shapes)
        return {"vae" if whole else DECODER: _taesd(path, shapes, TODAY)}
    prefix = VAE if any(name.startswith(VAE) for name in shapes) else ""
    return {"vae": vae_part(own, shapes, path, prefix)}


def _taesd(path: Path, shapes: Shapes, layout: Layout) -> Part:
    """A small autoencoder, or its decoder alone, whose config is what its shapes tell."""
    found = {layout.renamed(name) or name: shape for name, shape in shapes.items()}
    match found.get("decoder.layers.0.weight"):
        case (width, latents, _, _):
            told: dict[str, Any] = {"_class_name": TAESD, "latent_channels": latents}
        case _:
            raise ModelError(f"`{path}`: the decoder's first layer is no convolution")
    for half in ("encoder", "decoder"):
        blocks = numbers(found, rf"{half}\.layers\.(\d+)\.conv\.0\.weight")
        if not blocks:
            continue
        runs = groupby(enumerate(blocks), key=lambda pair: pair[1] - pair[0])
        told[f"num_{half}_blocks"] = levels = [len([*run]) for _, run in runs]
        told[f"{half}_block_out_channels"] = [width] * len(levels)
    return Part(told, (path,), layout)
