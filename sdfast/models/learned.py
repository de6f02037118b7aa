"""Words that were taught: found in a prompt, and what they mean read from their files."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from sdfast.errors import ModelError
from sdfast.models.source import Embedding, Source


def learned_rows(source: Source, part: str) -> Tensor | None:
    """All that one text encoder is taught, [rows, width]; None if nothing. Raises ModelError."""
    if not source.embeddings:
        return None
    return torch.cat([_rows(embedding, part) for embedding in source.embeddings])


def _rows(embedding: Embedding, part: str) -> Tensor:
    path, name = embedding.path, embedding.tensors[part]
    try:
        opened: Any = safe_open(path, framework="pt")
        with opened as file:
            tensor: Tensor = file.get_tensor(name)
    except Exception as error:  # whatever a hostile file raises, it is bad
        raise ModelError(f"`{path}`: `{name}` cannot be read") from error
    if not tensor.is_floating_point():
        kind = str(tensor.dtype).removeprefix("torch.")
        raise ModelError(f"`{path}`: `{name}` holds {kind}, where an embedding is floating-point")
    if not bool(tensor.float().isfinite().all()):
        raise ModelError(f"`{path}`: `{name}` holds numbers that are not finite")
    return tensor.float().reshape(embedding.rows, -1)


class Learned:
    """Finds in a text the words that embeddings teach, and knows the numbers of their tokens.

    known   how many tokens the text encoder knows of itself; the first one that is taught is that
    """

    def __init__(self, embeddings: Sequence[Embedding] = (), known: int = 0) -> None:
        longest = sorted(enumerate(embeddings), key=lambda at: len(at[1].token), reverse=True)
        begins = [known + sum(e.rows for e in embeddings[:k]) for k in range(len(embeddings))]
        self._ids = [[*range(begins[k], begins[k] + e.rows)] for k, e in longest]
        words = "|".join(f"({_pattern(e.token)})" for _, e in longest)
        self._words = re.compile(words, re.IGNORECASE) if words else None

    def split(self, text: str) -> Iterator[str | list[int]]:
        """The text in order: what stands between, as it is, and each word by its tokens."""
        if self._words is None:
            yield text
            return
        text, at = unicodedata.normalize("NFC", text), 0
        for found in self._words.finditer(text):
            yield text[at : found.start()]
            yield self._ids[(found.lastindex or 1) - 1]
            at = found.end()
        yield text[at:]


def _pattern(token: str) -> str:
    """The token as a whole word: no letter or digit goes on where it begins or ends in one."""
    token = unicodedata.normalize("NFC", token)
    begin, end = (r"(?<![^\W_])" if c.isalnum() else "" for c in (token[0], token[-1]))
    words = r"\s+".join(map(re.escape, token.split()))
    return begin + words + end.replace("?<!", "?!")
