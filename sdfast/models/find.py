"""Where a model's files are, and whether they are whole, before anything heavy is loaded.

A model is `tiny` (it comes with the package), an alias, a Hugging Face Hub id, a folder in
diffusers' layout, a single file in the original one, or `random:sd15` and its like, which have
shapes alone. What is in the cache is used without asking the network; what is not is fetched only
when it was asked for by name. Nothing here imports torch.
"""

import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from sdfast.errors import ModelError
from sdfast.models.folder import PARTS, check_files, open_folder, open_shape
from sdfast.models.single import SHAPES, open_file
from sdfast.models.source import Source
from sdfast.wording import nearest, quoted

TINY = Path(__file__).parent / "tiny"

RANDOM = {f"random:{path.name}": path for path in sorted(SHAPES.iterdir())}
"""The true shapes with weights that mean nothing: for timing only."""

ALIASES: dict[str, str] = {
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd14": "CompVis/stable-diffusion-v1-4",
}
"""Short names for what people mean most often."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

_MOVED = {"runwayml/stable-diffusion-v1-5": "sd15"}


def find(name: str, aliases: Mapping[str, str] | None = None, *, offline: bool = False) -> Source:
    """The model of a name. Raises ModelError that says what is missing, and what would help."""
    target = target_of(name, aliases)
    if target == "tiny":
        return open_folder(name, TINY)
    if target in RANDOM:
        return open_shape(name, RANDOM[target])
    path = _on_disk(target)
    if path and path.is_dir():
        return open_folder(name, path)
    if path:
        return open_file(name, path, partial(pull, offline=offline))
    if not _HUB_ID.fullmatch(target):
        raise ModelError(f"there is no model {quoted(name)}", _near(name, aliases))
    return open_folder(name, cached(target) or pull(target, offline=offline))


def is_cached(name: str, aliases: Mapping[str, str] | None = None) -> bool:
    """Whether nothing of a model would have to be fetched, be it there or not to be had at all."""
    target = target_of(name, aliases)
    if not _HUB_ID.fullmatch(target) or _on_disk(target):
        return True
    return cached(target) is not None


def short_names(aliases: Mapping[str, str] | None = None) -> list[str]:
    """`tiny` and every alias."""
    return ["tiny", *(ALIASES | dict(aliases or {}))]


def target_of(name: str, aliases: Mapping[str, str] | None = None) -> str:
    """What a name stands for: `tiny`, a Hub id, a path; an unknown name stands for itself.

    A person's own alias may stand for a built-in one; `tiny` is always `tiny`.
    """
    target = name if name == "tiny" else (aliases or {}).get(name, name)
    return ALIASES.get(target, target)


def lasting_target(name: str, aliases: Mapping[str, str] | None = None) -> str:
    """What a name stands for, in words that still say it tomorrow and from another folder.

    Raises ModelError unless that is `tiny`, a path or a Hub id, be it in the cache or not.
    """
    target = target_of(name, aliases)
    path = _on_disk(target)
    if path and target != "tiny":
        return str(path.absolute())
    if target == "tiny" or target in RANDOM or _HUB_ID.fullmatch(target):
        return target
    raise ModelError(f"{quoted(target)} is neither a Hub id nor a path", _near(name, aliases))


def _near(name: str, aliases: Mapping[str, str] | None) -> str:
    """What may have been meant instead."""
    return nearest(name, list(RANDOM) if name.startswith("random:") else short_names(aliases))


def _on_disk(target: str) -> Path | None:
    """What stands there, or None, also for what could never be a path."""
    try:
        path = Path(target).expanduser()
        return path if target and path.exists() else None
    except (OSError, RuntimeError):
        return None


def cached(repo: str) -> Path | None:
    """The snapshot of a Hub repository in the cache, if every file needed is there and whole.

    A download that was interrupted leaves one that is not.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    if not (Path(HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}").is_dir():
        return None  # and the rest of huggingface_hub may sleep on
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(repo, "model_index.json")
    except HFValidationError:
        return None
    if not isinstance(found, str):
        return None
    folder = Path(found).parent
    try:
        check_files(repo, folder)
    except ModelError:
        return None
    return folder


def pull(repo: str, files: Sequence[str] = (), *, offline: bool = False) -> Path:
    """Fetch a Hub repository's safetensors into the cache, in half precision where it has it.

    With `files`, patterns of names, those instead. What is there already is not fetched again.
    Raises ModelError when offline, or if the repository is gone, gated or unreachable.
    """
    import huggingface_hub
    from huggingface_hub.errors import (
        GatedRepoError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    apart = f"offline, so `{repo}` cannot be fetched"
    again = f"sdfast models pull {repo}"
    if offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise ModelError(apart, f"online: {again}")
    try:
        hub = cast("Any", huggingface_hub.HfApi())
        listed = cast("list[Any]", hub.model_info(repo, timeout=20).siblings or [])
        names = [str(file.rfilename) for file in listed]
        return Path(hub.snapshot_download(repo, allow_patterns=list(files) or _needed(names)))
    except GatedRepoError as error:
        raise ModelError(
            f"`{repo}` is gated: its owner asks you to accept terms first",
            f"accept them at its page on the Hub, then `hf auth login` and `{again}`",
        ) from error
    except RepositoryNotFoundError as error:
        hint = f"-m {_MOVED[repo]}" if repo in _MOVED else "is the name right, and is it public?"
        raise ModelError(f"`{repo}` is not on the Hub", hint) from error
    except OfflineModeIsEnabled as error:
        raise ModelError(apart, f"online: {again}") from error
    except Exception as error:  # requests, httpx, hf_xet: each fails in words of its own
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(
            f"`{repo}` could not be fetched: {why}", f"once that is put right: {again}"
        ) from error


def _needed(names: list[str]) -> list[str]:
    """The files of every part, half-precision safetensors before full ones."""
    wanted = ["model_index.json", "sdfast.json"]
    for part in PARTS:
        inside = [n for n in names if n.startswith(f"{part}/")]
        weights = [n for n in inside if n.endswith(".safetensors")]
        half = [n for n in weights if ".fp16." in n]
        plain = [n for n in weights if ".fp16." not in n and ".non_ema." not in n]
        wanted += half or plain
        wanted += [n for n in inside if n.endswith((".json", ".txt"))]
    return wanted
