"""Which model a command means."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sdfast.errors import ModelError

if TYPE_CHECKING:
    from sdfast.config import Config
    from sdfast.models.source import Source


def find_model(
    name: str | None,
    config: Config,
    say: Callable[[str], None],
    *,
    offline: bool = False,
    fetch: bool = True,
    safety: bool = True,
    draw: bool = True,
    colour: bool = True,
) -> Source | None:
    """The model asked for; else Stable Diffusion if it is in the cache; else the built-in one.

    Without `fetch`, one that would have to be downloaded is None; with `draw` it is seen coming.
    Without `safety` no safety checker is.
    """
    from sdfast.models.find import find, is_cached, target_of

    if name is None:
        name = "sd15" if is_cached("sd15") else "tiny"
        if name == "tiny":
            say(
                "note: painting with the small built-in model; "
                "`sdfast models pull sd15` fetches Stable Diffusion"
            )
    with config.naming("model"):
        there = is_cached(name, config.aliases)
        if not fetch:
            return find(name, config.aliases, offline=offline, safety=False) if there else None
        if not offline and not is_cached(name, config.aliases, safety=safety):
            from sdfast.cli.fetching import fetch as fetch_model

            if there:
                say(f"note: {name} lacks its safety checker; --no-safety paints without it")
            repo = target_of(name, config.aliases)
            fetch_model(repo, say, draw=draw, colour=colour, safety=safety)
        return find(name, config.aliases, offline=offline, safety=safety)


def find_as_painted(name: str, config: Config) -> Source:
    """The model that a picture names. Nothing is fetched on a picture's word."""
    from sdfast.models.find import find

    try:
        return find(name, config.aliases, offline=True)
    except ModelError as error:
        raise ModelError(
            f"that picture was painted with `{name}`: {error}",
            "-m says where it is, or names another",
        ) from error
