"""The Hugging Face cache as it lies on the disk: which models it holds, and which are whole.

    models--OWNER--NAME/blobs/HASH              a file; HASH.incomplete is the part that has come
                       /snapshots/COMMIT/PATH   a link to it under its name
                       /refs/main               the commit that counts

There is no second store, and reading this one wakes nothing of huggingface_hub.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sdfast.errors import ModelError, one_line
from sdfast.fields import HubName
from sdfast.models.folder import check_autoencoder, check_files, is_autoencoder

INDEX = "model_index.json"
"""What makes a repository a pipeline."""

CONFIG = "config.json"
"""What makes one a network by itself."""

LORA = "pytorch_lora_weights.safetensors"
"""What diffusers calls a LoRA's file."""

_WEIGHTS = ".safetensors"

PARTLY = ".incomplete"
"""What the name of a blob ends in that is not whole yet."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A pipeline in the cache, an autoencoder by itself, or files of weights."""

    repo: str
    size: int
    """Bytes on the disk, of all its commits and of what was broken off."""
    whole: bool
    """Whether no file it needs is missing."""
    begun: int
    """Bytes of downloads that were broken off, or are on their way."""
    family: str
    """`Stable Diffusion 1.x`, ...; empty if that cannot be told yet."""
    paints: bool
    """It is a pipeline."""
    precisions: tuple[str, ...]
    """`fp16`, `fp32`, ...: what its weights are stored in, a pipeline's UNet's."""
    folder: Path


def cache_folder() -> Path:
    """Where huggingface_hub keeps its cache, read from the same environment."""
    home = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("HF_HOME", os.path.join(home, "huggingface"))  # noqa: PTH118
    hub = os.environ.get("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub"))  # noqa: PTH118
    hub = os.environ.get("HF_HUB_CACHE", hub)
    return Path(os.path.expandvars(os.path.expanduser(hub)))  # noqa: PTH111 - an unknown ~ stays


def home_of(repo: str) -> Path:
    """The folder of a repository in the cache, be it there or not."""
    return cache_folder() / f"models--{repo.replace('/', '--')}"


def cached(repo: str) -> Path | None:
    """The snapshot of a Hub repository in the cache, if every file needed is there and whole.

    A download that was interrupted leaves one that is not.
    """
    return _whole(repo, check_files)


def cached_autoencoder(repo: str) -> Path | None:
    """The same of an autoencoder by itself."""
    return _whole(repo, check_autoencoder)


def cached_file(hub: HubName) -> Path | None:
    """A file of weights in the cache, as it came last, or the one that a repository is for."""
    home = home_of(hub.repo)
    with contextlib.suppress(OSError):  # a name that is too long
        if hub.file:
            there = [c / hub.file for c in home.glob("snapshots/*") if (c / hub.file).is_file()]
            return max(there, key=lambda file: file.lstat().st_mtime, default=None)
        if (commit := _counting(home)) is None:
            return None
        folder = home / "snapshots" / commit
        if not ((folder / INDEX).exists() or is_autoencoder(folder)):
            files = {file.name: file for file in folder.glob(f"*{_WEIGHTS}")}
            meant = the_one(files)
            return files[meant] if meant and files[meant].is_file() else None
    return None


def the_one(files: Iterable[str]) -> str | None:
    """Which of the files of weights in a repository is meant by its name alone."""
    files = [*files]
    if LORA in files:
        return LORA
    return files[0] if len(files) == 1 else None


def is_begun(repo: str) -> bool:
    """Whether anything of a repository is in the cache."""
    with contextlib.suppress(OSError):  # a name that is too long
        return next(home_of(repo).glob("snapshots/*"), None) is not None
    return False


def _counting(home: Path) -> str | None:
    """The name of the commit that counts."""
    try:
        commit = (home / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return commit if commit.isalnum() else None


def _whole(repo: str, check: Callable[[str, Path], object]) -> Path | None:
    """The snapshot that counts, unless a check raises ModelError."""
    home = home_of(repo)
    if (commit := _counting(home)) is None:
        return None
    try:
        check(repo, home / "snapshots" / commit)
    except (OSError, ValueError, ModelError):
        return None
    return home / "snapshots" / commit


def stored() -> list[Stored]:
    """Every pipeline, autoencoder and file of weights in the cache, by name."""
    return [_stored(home) for home in sorted(_homes())]


def _homes() -> Iterator[Path]:
    try:
        found = list(cache_folder().glob("models--*--*"))
    except OSError:
        return
    for home in found:
        commits = list(home.glob("snapshots/*"))
        if any(map(_kind, commits)) or (not commits and _begun(home)):
            yield home


def _begun(home: Path) -> int:
    """Bytes of downloads that were broken off, or are on their way."""
    return sum(size_of(part) or 0 for part in home.glob(f"blobs/*{PARTLY}"))


def _kind(commit: Path) -> str | None:
    """What a snapshot is of: the name of the file that makes it that; None is of no use here.

    A network of others has a config that names none of ours.
    """
    with contextlib.suppress(OSError):  # another's, who keeps it to himself
        if (commit / INDEX).exists():
            return INDEX
        if (commit / CONFIG).exists():
            return CONFIG if is_autoencoder(commit) else None
        files = sorted(path for path in commit.rglob(f"*{_WEIGHTS}") if path.exists())
        return str(files[0].relative_to(commit)) if files else None
    return None


def _stored(home: Path) -> Stored:
    from sdfast.models.family import family, precisions  # which painting has no use for

    repo = home.name.removeprefix("models--").replace("--", "/", 1)
    kinds = {commit: kind for commit in home.glob("snapshots/*") if (kind := _kind(commit))}
    if not kinds:
        size = sum(_files(home).values())
        return Stored(repo, size, False, _begun(home), "", False, (), home)
    kind = next((kind for kind in (INDEX, CONFIG) if kind in kinds.values()), None)
    alike = [commit for commit in kinds if kind in (None, kinds[commit])]
    newest = max(alike, key=lambda commit: (commit / kinds[commit]).lstat().st_mtime)
    whole = newest
    if kind in (INDEX, CONFIG):
        whole = cached(repo) if kind == INDEX else cached_autoencoder(repo)
    folder = whole or newest
    return Stored(
        repo=repo,
        size=sum(_files(home).values()),
        whole=whole is not None,
        begun=_begun(home),
        family=family(folder),
        paints=kind == INDEX,
        precisions=precisions(folder),
        folder=folder,
    )


def amount(count: float, digits: int = 1) -> str:
    """So many bytes, in words."""
    gigabytes = count >= 1e9
    return f"{count / (1e9 if gigabytes else 1e6):.{digits}f} {'GB' if gigabytes else 'MB'}"


def size_of(path: Path) -> int | None:
    """Bytes of a file, or None if it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _files(home: Path) -> dict[Path, int]:
    """A repository's files, each once, with their bytes: names are links to blobs, some hard."""
    found: dict[tuple[int, int], tuple[Path, int]] = {}
    for path in home.rglob("*"):
        with contextlib.suppress(OSError):  # it may just have gone
            if path.is_file():
                known = path.stat()
                found[known.st_dev, known.st_ino] = path.resolve(), known.st_size
    return dict(found.values())


def delete(repo: str) -> int:
    """Remove a model from the cache with all its commits; the bytes that are free afterwards.

    Raises ModelError for one whose folder only leads to another place.
    """
    home = home_of(repo)
    if home.is_symlink():
        raise ModelError(
            f"`{repo}` is a link to {home.resolve()}, which is not in the cache",
            f"that folder is yours to remove, and then the link: {home}",
        )
    before = _files(home)
    _delete_commits(repo)
    if home.exists():  # what was broken off, or is in no commit
        shutil.rmtree(home)
    return sum(size for file, size in before.items() if not file.exists())


def _delete_commits(repo: str) -> None:
    """Have huggingface_hub remove the commits, for it may share blobs between repositories."""
    from huggingface_hub import scan_cache_dir

    try:
        cache = scan_cache_dir(cache_folder())
    except Exception as error:  # whatever anything in there raises that is not in order
        raise ModelError(
            f"the cache cannot be read: {one_line(error)}", f"it stands in {cache_folder()}"
        ) from error
    meant = frozenset(c for c in cache.repos if (c.repo_type, c.repo_id) == ("model", repo))
    hashes = [r.commit_hash for c in meant for r in c.revisions]
    # a mirror has commits of the same hashes, and huggingface_hub would take either
    replace(cache, repos=meant).delete_revisions(*hashes).execute()
