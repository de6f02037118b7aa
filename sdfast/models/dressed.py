"""A model as a job wants it: with another autoencoder, LoRAs on its weights, words it is taught."""

import os
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from sdfast.errors import ModelError
from sdfast.fields import is_hub_id, named, scaled
from sdfast.job import Weights
from sdfast.models.autoencoders import open_autoencoder
from sdfast.models.cache import cached, cached_autoencoder
from sdfast.models.embeddings import open_embedding
from sdfast.models.lora_names import check_names
from sdfast.models.single import read_weights
from sdfast.models.source import Embedding, Lora, Source


def dressed(source: Source, wanted: Weights) -> Source:
    """The model with all that decides its weights. Raises ModelError for broken files.

    That a LoRA fits the model is found out as it is loaded, before any weights are read.
    """
    if wanted.vae is not None:
        path = _vae(wanted.vae)
        parts = open_autoencoder(path, source.config("vae"))
        source = replace(source, vae=path, parts={**source.parts, **parts})
    loras = tuple(_lora(text) for text in wanted.lora)
    taught = tuple(_embedding(source, text) for text in wanted.embedding)
    return replace(source, loras=loras, embeddings=taught) if loras or taught else source


def check_there(wanted: Weights) -> None:
    """Whether the files are there that decide the weights. Raises ModelError."""
    for text in wanted.lora:
        _check_lora(_whole(scaled(text).path))
    for text in wanted.embedding:
        _check_file(_whole(named(text).path))
    if wanted.vae is not None:
        _vae(wanted.vae)


def wears(source: Source, wanted: Weights) -> bool:
    """Whether a model is dressed as a job wants it."""
    loras = tuple(Lora(_whole(scaled(text).path), scaled(text).scale) for text in wanted.lora)
    vae = None if wanted.vae is None else _located(wanted.vae)
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


def _located(vae: str) -> Path | None:
    """Where an autoencoder of that name lies; None for one of the Hub that is not in the cache."""
    return (cached_autoencoder(vae) or cached(vae)) if is_hub_id(vae) else _whole(vae)


def _vae(name: str) -> Path:
    """The folder or file of an autoencoder. Raises ModelError unless it is there."""
    path = _located(name)
    if path is None:
        raise ModelError(
            f"`{name}` is neither on this disk nor in the cache",
            f"`sdfast models pull {name}` fetches it",
        )
    if not path.is_dir():
        _check_file(path)
    return path


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
