"""A model as a job wants it: with another autoencoder, LoRAs on its weights, words it is taught."""

import os
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from sdfast.errors import ModelError
from sdfast.fields import named, scaled
from sdfast.job import Weights
from sdfast.models.embeddings import open_embedding
from sdfast.models.folder import WEIGHTS, check_weights, open_part
from sdfast.models.lora_names import check_names
from sdfast.models.single import VAE, read_weights, vae_part
from sdfast.models.source import Embedding, Lora, Part, Source


def dressed(source: Source, wanted: Weights) -> Source:
    """The model with all that decides its weights. Raises ModelError for broken files.

    That a LoRA fits the model is found out as it is loaded, before any weights are read.
    """
    if wanted.vae is not None:
        path = _whole(wanted.vae)
        part = _vae(path, source.config("vae"))
        source = replace(source, vae=path, parts=dict(source.parts) | {"vae": part})
    loras = tuple(_lora(text) for text in wanted.lora)
    taught = tuple(_embedding(source, text) for text in wanted.embedding)
    return replace(source, loras=loras, embeddings=taught) if loras or taught else source


def check_there(wanted: Weights) -> None:
    """Whether the files are there that decide the weights. Raises ModelError."""
    for text in wanted.lora:
        _check_lora(_whole(scaled(text).path))
    for text in wanted.embedding:
        _check_file(_whole(named(text).path))
    if wanted.vae is not None and not (path := _whole(wanted.vae)).is_dir():
        _check_file(path)


def wears(source: Source, wanted: Weights) -> bool:
    """Whether a model is dressed as a job wants it."""
    loras = tuple(Lora(_whole(scaled(text).path), scaled(text).scale) for text in wanted.lora)
    vae = None if wanted.vae is None else _whole(wanted.vae)
    words = tuple((_whole(named(text).path), named(text).token) for text in wanted.embedding)
    taught = tuple((embedding.path, embedding.token) for embedding in source.embeddings)
    return (source.loras, taught, source.vae) == (loras, words, vae)


def worn(source: Source) -> dict[str, object]:
    """What a model is dressed in, as the keys of a job have it."""
    return {
        "lora": tuple(f"{lora.path}:{_positional(lora.scale)}" for lora in source.loras),
        "embedding": tuple(f"{one.path}:{one.token}" for one in source.embeddings),
        "vae": source.vae and str(source.vae),
    }


def _positional(scale: float) -> str:
    """A number as `scaled` reads it, which knows no exponents."""
    return format(Decimal(repr(scale)), "f")


def _whole(path: str) -> Path:
    try:
        return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"`{path}` is no path") from error


def _lora(text: str) -> Lora:
    path = _whole(scaled(text).path)
    _check_lora(path)
    shapes = read_weights(path).shapes
    if not shapes:
        raise ModelError(f"`{path}` holds no tensors")
    check_names(path, shapes)
    return Lora(path, scaled(text).scale)


def _embedding(source: Source, text: str) -> Embedding:
    path = _whole(named(text).path)
    _check_file(path)
    return open_embedding(source, path, named(text).token)


def _check_lora(path: Path) -> None:
    before, colon, after = str(path).rpartition(":")
    if colon and not path.exists() and Path(before).is_file():
        raise ModelError(f"`{after}` is no scale for `{before}`", "such as `:0.8`")
    _check_file(path)


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise ModelError(f"`{path}` is {'no file' if path.exists() else 'not there'}")


def _vae(path: Path, own: Mapping[str, Any]) -> Part:
    """An autoencoder: a folder as diffusers has it, or one file in either layout."""
    if path.is_dir():
        inner = path / "vae"
        folder = inner if inner.is_dir() else path
        variant = check_weights(str(path), folder, WEIGHTS["vae"])
        return open_part(str(path), folder, WEIGHTS["vae"], variant)
    _check_file(path)
    shapes = read_weights(path).shapes
    if any(name.startswith(("decoder.up_blocks.", "decoder.mid_block.")) for name in shapes):
        beside = path.parent / "config.json"
        if beside.is_file():
            return open_part(str(path), path.parent, path.stem, None)
        return Part(own, (path,))
    prefix = VAE if any(name.startswith(VAE) for name in shapes) else ""
    return vae_part(own, shapes, path, prefix)
