"""Embeddings of textual inversion: words that a file teaches the text encoders (arXiv 2208.01618).

A file is recognised by its tensors, each [rows, width] or [width]: `emb_params` as AUTOMATIC1111
writes it, one tensor called like its word as diffusers does, and `clip_l` with `clip_g` for XL.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sdfast.errors import ModelError
from sdfast.models.single import read_weights
from sdfast.models.source import Embedding, Source

_XL = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}


def open_embedding(source: Source, path: Path, token: str) -> Embedding:
    """A file's embedding, by its header alone. Raises ModelError unless it fits the model."""
    shapes = read_weights(path).shapes
    tensors = _tensors(shapes)
    rows = {shapes[name][0] if len(shapes[name]) == 2 else 1 for name in tensors.values()}
    if not tensors or len(rows) != 1 or not all(0 < len(shapes[n]) < 3 for n in tensors.values()):
        raise ModelError(f"`{path}` is no embedding: {_listed(shapes)}")
    if set(tensors) != set(source.texts):
        its, own = ("not for", "is") if source.xl else ("for", "is not")
        raise ModelError(f"`{path}` is {its} Stable Diffusion XL, and `{source.name}` {own}")
    for part, name in tensors.items():
        if (width := shapes[name][-1]) != (wanted := source.config(part).get("hidden_size", 512)):
            raise ModelError(
                f"`{path}`: `{name}` is {width} wide, and {part} of `{source.name}` {wanted}",
                "is it for another family of models?",
            )
    (count,) = rows
    if not count:
        raise ModelError(f"`{path}` holds no rows")
    return Embedding(path, token, count, tensors)


def _tensors(shapes: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """The tensor that is meant for each text encoder; none where the file is something else."""
    if set(_XL.values()) <= set(shapes):
        return dict(_XL)
    if "emb_params" in shapes:
        return {"text_encoder": "emb_params"}
    return {"text_encoder": next(iter(shapes))} if len(shapes) == 1 else {}


def _listed(shapes: Mapping[str, Sequence[int]]) -> str:
    """A few of the tensors, in words."""
    few = ", ".join(f"`{name[:60]}` {[*shape]}" for name, shape in [*shapes.items()][:3])
    return f"it holds {few or 'nothing'}" + " and more" * (len(shapes) > 3)
