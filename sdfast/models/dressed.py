"""A model as a job wants it: with another autoencoder, LoRAs on its weights, words it is taught."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from sdfast.errors import ModelError
from sdfast.fields import named, scaled
from sdfast.job import Weights
from sdfast.models.autoencoders import open_autoencoder
from sdfast.models.embeddings import open_embedding
from sdfast.models.located import found, located
from sdfast.models.lora_names import check_names
from sdfast.models.single import read_weights
from sdfast.models.source import Embedding, Lora, Source


def dressed(source: Source, wanted: Weights) -> Source:
    """The model with all that decides its weights. Raises ModelError for broken files.

    That a LoRA fits the model is found out as it is loaded, before any weights are read.
    """
    if wanted.vae is not None:
        path = found(wanted.vae, folder=True)
        parts = open_autoencoder(path, source.config("vae"))
        source = replace(source, vae=path, parts={**source.parts, **parts})
    loras = tuple(_lora(text) for text in wanted.lora)
    taught = tuple(_embedding(source, text) for text in wanted.embedding)
    return replace(source, loras=loras, embeddings=taught) if loras or taught else source


def check_there(wanted: Weights) -> None:
    """Whether the files are there that decide the weights. Raises ModelError."""
    for text in wanted.lora:
        _lora_file(text)
    for text in wanted.embedding:
        found(named(text).path)
    if wanted.vae is not None:
        found(wanted.vae, folder=True)


def wears(source: Source, wanted: Weights) -> bool:
    """Whether a model is dressed as a job wants it."""
    loras = [(located(scaled(text).path), scaled(text).scale) for text in wanted.lora]
    words = [(located(named(text).path), named(text).token) for text in wanted.embedding]
    vae = None if wanted.vae is None else located(wanted.vae, folder=True)
    taught = [(embedding.path, embedding.token) for embedding in source.embeddings]
    return ([*source.loras], taught, source.vae) == (loras, words, vae)


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


def _lora(text: str) -> Lora:
    path = _lora_file(text)
    shapes = read_weights(path).shapes
    if not shapes:
        raise ModelError(f"`{path}` holds no tensors")
    check_names(path, shapes)
    return Lora(path, scaled(text).scale)


def _lora_file(text: str) -> Path:
    name = scaled(text).path
    before, colon, after = name.rpartition(":")
    if colon and not _is_file(name) and _is_file(before):
        raise ModelError(f"`{after}` is no scale for `{before}`", "such as `:0.8`")
    return found(name)


def _is_file(name: str) -> bool:
    path = located(name)
    return path is not None and path.is_file()


def _embedding(source: Source, text: str) -> Embedding:
    return open_embedding(source, found(named(text).path), named(text).token)
