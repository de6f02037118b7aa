"""A model from the Hub into the cache, laid there as huggingface_hub would.

A download that was broken off, be it by a cut line or a killed process, goes on where it was;
huggingface_hub begins such a file anew. Each file is compared with its hash before it counts, and
a new commit only counts once it is whole, so that what was there before stays usable.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sdfast.errors import ModelError
from sdfast.fields import HubName
from sdfast.models.blob import Blob, Lost, drop
from sdfast.models.cache import INDEX, PARTLY, amount, cache_folder, home_of, size_of
from sdfast.models.hub import Listing, look
from sdfast.models.hub_errors import hub_errors, offline_error


@dataclass(frozen=True, slots=True)
class Planned:
    """What a model needs, and how many bytes of it are there already."""

    listing: Listing
    there: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """How many bytes of the model are there now."""

    done: int


@dataclass(frozen=True, slots=True)
class Pulled:
    """The model is whole."""

    folder: Path


Progress = Planned | Fetched | Lost | Pulled


def pull(
    repo: str,
    *,
    only: Sequence[str] = (),
    full: bool = False,
    offline: bool = False,
    safety: bool = True,
    named: HubName | None = None,
) -> Iterator[Progress]:
    """Fetch a Hub repository's safetensors into the cache, in half precision where it has it.

    Without `safety` a safety checker's are left out. With `only`, patterns of paths, those files
    instead, which make no model. What is `named` may be an autoencoder by itself, or a file of
    weights. What is there already is not fetched again, to the byte. The last of the events is
    `Pulled`. Raises ModelError when offline, if the disk is too small, or if the repository is
    gone, gated, unreachable or no Stable Diffusion.
    """
    only = only if named is None else named.patterns
    asked = named or HubName(repo, "")
    if offline or told_to_stay_offline():
        raise offline_error(asked)
    listing = look(asked, only, full=full, safety=safety, alone=named is not None)
    with hub_errors(asked):
        home = home_of(repo)
        blobs = {f.blob: Blob(repo, listing.commit, f, home) for f in listing.files}
        there = {name: blob.there for name, blob in blobs.items()}
        done = sum(there.values())
        _check_room(repo, listing.size - done)
        yield Planned(listing, done)
        for name, blob in blobs.items():
            done -= there[name]
            for event in blob.fetch():
                yield event if isinstance(event, Lost) else Fetched(done + event)
            done += blob.size
            yield Fetched(done)
            if blob.path == INDEX:  # from here on it is seen that this will be a model
                blob.name(_snapshot(home, listing) / INDEX)
        for file in listing.files:
            blobs[file.blob].name(_snapshot(home, listing) / file.path)
        if not only:
            _count(home, listing.commit)
        _sweep(home, listing)
        yield Pulled(_snapshot(home, listing))


def told_to_stay_offline() -> bool:
    """Whether the environment says so: HF_HUB_OFFLINE."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def _snapshot(home: Path, listing: Listing) -> Path:
    return home / "snapshots" / listing.commit


def _check_room(repo: str, wanted: int) -> None:
    """Raise ModelError unless the cache's file system has that many bytes free."""
    place = cache_folder()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if wanted > free:
        raise ModelError(
            f"`{repo}` needs {amount(wanted, 2)} more, and {place} has {amount(free, 2)} free",
            "`sdfast models` lists what could go; HF_HUB_CACHE may name another disk",
        )


def _count(home: Path, commit: str) -> None:
    """Let a commit be the one that counts."""
    ref = home / "refs" / "main"
    ref.parent.mkdir(parents=True, exist_ok=True)
    new = ref.with_name(f"main.{os.getpid()}.tmp")
    new.write_text(commit, encoding="utf-8")
    new.replace(ref)


def _sweep(home: Path, listing: Listing) -> None:
    """Remove parts of files that are whole by now, or that the Hub no longer has."""
    for part in home.glob(f"blobs/*{PARTLY}"):
        name = part.name.partition(".")[0]
        whole = size_of(part.with_name(name)) is not None
        if whole or name not in listing.known:
            drop(part, home)
