"""Which model a command means."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdfast.config import Config
    from sdfast.models.source import Source


def find_model(
    name: str | None, config: Config, say: Callable[[str], None], *, offline: bool, fetch: bool
) -> Source | None:
    """The model asked for; else Stable Diffusion if it is in the cache; else the built-in one.

    Without `fetch`, one that would have to be downloaded is None.
    """
    from sdfast.models.find import find, is_cached

    if name is None:
        name = "sd15" if is_cached("sd15") else "tiny"
        if name == "tiny":
            say(
                "note: painting with the small built-in model; "
                "`sdfast models pull sd15` fetches Stable Diffusion"
            )
    elif not is_cached(name, config.aliases):
        if not fetch:
            return None
        if not offline:
            say(f"fetching `{name}` from the Hugging Face Hub")
    return find(name, config.aliases, offline=offline)
