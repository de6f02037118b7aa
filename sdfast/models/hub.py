"""What the Hugging Face Hub says of a model: its files, how large they are, and which are needed.

Nothing is written here.
"""

import json
import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, NamedTuple, cast

from sdfast.errors import ModelError
from sdfast.fields import ADAPTER, HubName
from sdfast.models.cache import CONFIG, INDEX, the_one
from sdfast.models.folder import CHECKER, WEIGHTS, names_checker, painted_parts, weight_files
from sdfast.models.hub_errors import hub_errors
from sdfast.models.layout import AUTOENCODERS

_SECONDS = 20
"""How long the Hub may take to answer a question."""


class Remote(NamedTuple):
    """A file on the Hub."""

    path: str
    size: int
    """In bytes."""
    blob: str
    """Its content's hash, its name in the cache: SHA-256 of what is large, git's otherwise."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A model's files at one commit."""

    repo: str
    commit: str
    files: tuple[Remote, ...]
    """Those that are needed, small ones first."""
    precision: str
    """`fp16` where the weights are stored so by their names, else empty."""
    known: frozenset[str]
    """The blobs of all files, needed or not."""

    @property
    def size(self) -> int:
        """Bytes of those that are needed; of two alike, once."""
        return sum({file.blob: file.size for file in self.files}.values())


def look(asked: HubName, only: Sequence[str], *, full: bool, safety: bool, alone: bool) -> Listing:
    """Ask the Hub what a model needs: its configs, and weights in half precision or in `full`.

    One that comes in only one precision needs that. Of a safety checker it is the configs alone
    without `safety`, and nothing if it has no safetensors. With `only`, patterns of paths, those
    instead. With `alone`, it may be an autoencoder by itself, or a file of weights. Raises
    ModelError, before anything is fetched, for what is no Stable Diffusion or has no safetensors.
    """
    repo = asked.repo
    with hub_errors(asked):
        import huggingface_hub

        about = huggingface_hub.HfApi().model_info(repo, timeout=_SECONDS, files_metadata=True)
        commit = str(about.sha)
        listed = {file.path: file for file in _remotes(repo, cast("list[Any]", about.siblings))}
        if not re.fullmatch(r"[0-9a-f]{40}", commit):
            raise _unreadable(repo)
        if asked.file and asked.file not in listed:
            raise ModelError(f"`{repo}` has no file `{asked.file}`")
        if only:
            wanted = [path for path in listed if any(fnmatch(path, pattern) for pattern in only)]
            precision = ""
        elif INDEX not in listed and not alone:
            raise _no_model(repo, "only such a model is painted with")
        elif INDEX not in listed and CONFIG in listed:
            wanted, precision = _autoencoder(repo, commit, list(listed), full=full)
        elif INDEX not in listed:
            wanted, precision = _file(repo, list(listed)), ""
        else:
            index = _read(repo, commit, INDEX)
            parts = painted_parts(repo, str(index.get("_class_name")))
            wanted, precision = _needed(repo, parts, list(listed), full=full)
            wanted += [path for path in (INDEX, "sdfast.json") if path in listed]
            if names_checker(index):
                wanted += _checker(repo, list(listed), full=full, weights=safety)
    files = sorted((listed[path] for path in wanted), key=lambda file: file.size)
    known = frozenset(file.blob for file in listed.values())
    return Listing(repo, commit, tuple(files), precision, known)


@contextmanager
def stream(repo: str, commit: str, path: str, begin: int = 0) -> Generator[Any]:
    """A file's bytes from `begin` on, as a response of httpx. Raises huggingface_hub's errors."""
    from huggingface_hub import constants, hf_hub_url, utils

    headers = cast("dict[str, str]", cast("Any", utils).build_hf_headers(library_name="sdfast"))
    headers["Accept-Encoding"] = "identity"  # of a packed file no range could be asked for
    if begin:
        headers["Range"] = f"bytes={begin}-"
    session = cast("Any", utils.get_session())
    url = hf_hub_url(repo, path, revision=commit)
    seconds = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with session.stream("GET", url, headers=headers, timeout=seconds) as response:
        if response.is_error:
            response.read()
        utils.hf_raise_for_status(response)
        yield response


def _no_model(repo: str, hint: str = "") -> ModelError:
    return ModelError(
        f"`{repo}` is no model in diffusers' layout: it has no `{INDEX}`",
        hint or "what can be pulled is such a model, an autoencoder or a file of weights",
    )


def _file(repo: str, names: list[str]) -> list[str]:
    """The paths of the file of weights that a repository is for, and what says more of it."""
    files = [name for name in names if name.endswith(".safetensors") and "/" not in name]
    if not files:
        raise _no_model(repo)
    meant = the_one(files)
    if meant is None:
        raise ModelError(
            f"`{repo}` has {len(files)} files of weights",
            f"name one, such as `{repo}/{files[0]}`",
        )
    return [meant, *(name for name in names if name == ADAPTER)]


def _autoencoder(repo: str, commit: str, names: list[str], *, full: bool) -> tuple[list[str], str]:
    """The paths of every file that an autoencoder needs, and the precision that their names say."""
    if _read(repo, commit, CONFIG).get("_class_name") not in AUTOENCODERS:
        files = [name for name in names if name.endswith(".safetensors")]
        raise _no_model(repo, f"a file of it can be, as `{repo}/{files[0]}`" if files else "")
    chosen = _weights(repo, "vae", {name: name for name in names}, full=full)
    return [CONFIG, *chosen], "fp16" * any(".fp16" in name for name in chosen)


def _read(repo: str, commit: str, path: str) -> dict[str, Any]:
    """A config."""
    with stream(repo, commit, path) as response:
        text = b""
        for chunk in response.iter_bytes():
            text += chunk
            if len(text) > 1_000_000:
                raise _unreadable(repo)
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"`{repo}`: `{path}` cannot be read as JSON") from error
    if not isinstance(found, dict):
        raise ModelError(f"`{repo}`: `{path}` is no JSON object")
    return cast("dict[str, Any]", found)


def _remotes(repo: str, siblings: Iterable[Any] | None) -> Generator[Remote]:
    for file in siblings or ():
        large = file.lfs
        blob, size = (large.sha256, large.size) if large else (file.blob_id, file.size)
        if not isinstance(size, int) or size < 0:
            raise _unreadable(repo)
        if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", str(blob)):
            raise _unreadable(repo)
        path = str(file.rfilename)
        if "\\" in path or not {"", ".", ".."}.isdisjoint(path.split("/")):  # leads elsewhere
            raise _unreadable(repo)
        yield Remote(path, size, str(blob))


def _unreadable(repo: str) -> ModelError:
    return ModelError(
        f"what the Hub says of `{repo}` cannot be read",
        "is HF_ENDPOINT, if it is set, the address of a Hub?",
    )


def _needed(
    repo: str, parts: Iterable[str], names: list[str], *, full: bool
) -> tuple[list[str], str]:
    """The paths of every file needed, and the precision that their names say."""
    wanted: list[str] = []
    precision = ""
    for part in parts:
        inside = {n.removeprefix(f"{part}/"): n for n in names if n.startswith(f"{part}/")}
        if part in WEIGHTS:
            chosen = _weights(repo, part, inside, full=full)
            wanted += [inside[name] for name in ("config.json", *chosen) if name in inside]
            precision = "fp16" if any(".fp16" in name for name in chosen) else precision
        else:  # the scheduler, the tokenizers and what prepares pictures, which are small
            wanted += [n for name, n in inside.items() if re.fullmatch(r"[\w-]+\.(json|txt)", name)]
    return wanted, precision


def _checker(repo: str, names: list[str], *, full: bool, weights: bool) -> list[str]:
    """The paths of a safety checker's files; none if there are no safetensors to be loaded."""
    try:
        wanted, _ = _needed(repo, CHECKER, names, full=full)
    except ModelError:
        return []
    return [name for name in wanted if weights or ".safetensors" not in name]


def _weights(repo: str, part: str, inside: Mapping[str, str], *, full: bool) -> list[str]:
    """The safetensors of a network in the better of the precisions that are there."""
    stem = re.escape(WEIGHTS[part])
    half, plain = ".fp16", ""
    for ending in (plain, half) if full else (half, plain):
        variant = re.escape(ending)
        shards = [
            name
            for name in inside
            if re.fullmatch(rf"{stem}{variant}-\d+-of-\d+\.safetensors", name)
            or re.fullmatch(rf"{stem}-\d+-of-\d+{variant}\.safetensors", name)
        ]
        whole, index = weight_files(WEIGHTS[part], ending)
        if whole in inside:
            return [whole]
        if index in inside and shards:
            return [index, *shards]
    if any(name.endswith((".bin", ".ckpt")) for name in inside):
        raise ModelError(
            f"`{repo}` has its `{part}` only as a pickle, which can run any code",
            "sdfast reads safetensors only; most models on the Hub have them by now",
        )
    raise ModelError(f"`{repo}` has no safetensors in `{part}`")
