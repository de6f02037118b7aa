"""A model as a job wants it: with another autoencoder, LoRAs on its weights, words it is taught."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from sdfast.errors import ModelError
from sdfast.fields import named, scaled
from sdfast.job import Weights
from sdfast.models.autoencoders import open_autoencoder
from sdfast.models.embeddings import open_embedding
from sdfast.models.located import found, lasting, located
from sdfast.models.lora_names import check_names
from sdfast.models.single import read_weights
from sdfast.models.source import Embedding, Lora, Source, halvings


def dressed(source: Source, wanted: Weights) -> Source:
    """The model with all that decides its weights. Raises ModelError for broken files.

    That a LoRA fits the model is found out as it is loaded, before any weights are read.
    """
    parts = dict(source.parts)
    if wanted.vae is not None:
        path = found(wanted.vae, folder=True)
        new = open_autoencoder(path, source.config("vae"), xl=source.xl)
        _check_size(path, [source.config("vae"), *(part.config for part in new.values())])
        parts |= new
    loras = tuple(_lora(text) for text in wanted.lora)
    taught = tuple(_embedding(source, text) for text in wanted.embedding)
    return replace(source, parts=parts, loras=loras, embeddings=taught, worn=_lasting(wanted))


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
    return source.worn == _lasting(wanted)


def worn(source: Source) -> dict[str, object]:
    """What a model is dressed in, as the keys of a job have it."""
    _, lora, embedding, vae = source.worn
    return {"lora": lora, "embedding": embedding, "vae": vae}


def _lasting(wanted: Weights) -> Weights:
    """The same in names that mean it everywhere, whatever the model."""
    loras = (f"{lasting(path)}:{_positional(scale)}" for path, scale in map(scaled, wanted.lora))
    words = (f"{lasting(path)}:{token}" for path, token in map(named, wanted.embedding))
    vae = None if wanted.vae is None else lasting(wanted.vae)
    return Weights(None, tuple(loras), tuple(words), vae)


def _positional(scale: float) -> str:
    """A number as `scaled` reads it, which knows no exponents."""
    return format(Decimal(repr(scale)), "f")


def _check_size(path: Path, configs: Iterable[Mapping[str, Any]]) -> None:
    """Raise ModelError unless autoencoders of these configs halve pictures equally often."""
    try:
        alike = len({*map(halvings, configs)}) == 1
    except (KeyError, TypeError) as error:
        raise ModelError(f"`{path}`: its config gives no size: {error}") from error
    if not alike:
        raise ModelError(f"`{path}` makes pictures of another size than the model's own")


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
