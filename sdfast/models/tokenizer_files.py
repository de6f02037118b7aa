"""A tokenizer for a model that brings none: all of Stable Diffusion reads with the same words."""

from collections.abc import Callable, Sequence
from pathlib import Path

from sdfast.errors import ModelError
from sdfast.models.cache import cache_folder, home_of
from sdfast.models.source import holds_tokenizer

_REPO = "stable-diffusion-v1-5/stable-diffusion-v1-5"
"""Where the tokenizer is fetched from if it is nowhere here."""


Fetch = Callable[[str, Sequence[str]], Path]
"""Brings these files of a Hub repository into the cache; the folder they are then in."""


def find_tokenizer(path: Path, fetch: Fetch) -> Path:
    """The folder of a tokenizer for the model of a file.

    Beside the file, else in the Hugging Face cache, whichever model brought it; else one is fetched
    from the Hub. Raises ModelError if it cannot be.
    """
    path = path.absolute()
    for folder in (path.with_suffix("") / "tokenizer", path.parent / "tokenizer", path.parent):
        if holds_tokenizer(folder):
            return folder
    return _cached() or _fetched(path, fetch)


def _cached() -> Path | None:
    for index in sorted(cache_folder().glob("models--*/snapshots/*/tokenizer")):
        if (index.parent / "text_encoder").is_dir() and holds_tokenizer(index):
            return index
    known = home_of(_REPO).glob("snapshots/*/tokenizer")
    return next((f for f in sorted(known) if holds_tokenizer(f)), None)


def _fetched(path: Path, fetch: Fetch) -> Path:
    try:
        return fetch(_REPO, ["tokenizer/*"]) / "tokenizer"
    except ModelError as error:
        raise ModelError(
            f"`{path}` has no tokenizer beside it: {error}",
            f"put the folder `tokenizer` of any Stable Diffusion model into {path.parent}",
        ) from error
