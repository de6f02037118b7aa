"""Where a model's files are, and whether they are whole, before anything heavy is loaded.

A model is `tiny` (it comes with the package), an alias, a Hugging Face Hub id or a folder in
diffusers' layout. What is in the cache is used without asking the network; what is not is fetched
only when it was asked for by name. Nothing here imports torch.
"""

import json
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sdfast.errors import JobError, ModelError
from sdfast.job import Job, read_job
from sdfast.wording import nearest, quoted

TINY = Path(__file__).parent / "tiny"

ALIASES: dict[str, str] = {
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd14": "CompVis/stable-diffusion-v1-4",
}
"""Short names for what people mean most often."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

_MOVED = {"runwayml/stable-diffusion-v1-5": "sd15"}

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
"""The folders of Stable Diffusion 1.x's layout."""

_WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}

_CONFIGS = ("scheduler/scheduler_config.json", *(f"{part}/config.json" for part in _WEIGHTS))

_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))
"""The files of a tokenizer, as transformers 5 writes it and as those before did."""


@dataclass(frozen=True, slots=True)
class Source:
    """A model on disk, checked and ready to be loaded."""

    name: str
    folder: Path
    variant: str | None
    """`fp16` where the files carry it in their names."""
    schedule: Mapping[str, Any]
    """The scheduler's config, as the model brings it."""
    size: tuple[int, int]
    """Width and height that the model was trained on, in pixels."""
    guidance: float

    def complete(self, job: Job) -> Job:
        """The job with what it leaves open filled in as the model would have it."""
        own = {"model": self.name, "size": self.size, "guidance": self.guidance}
        return job.model_copy(update={k: v for k, v in own.items() if getattr(job, k) is None})


def find(name: str, aliases: Mapping[str, str] | None = None, *, offline: bool = False) -> Source:
    """The model of a name. Raises ModelError that says what is missing, and what would help."""
    target = target_of(name, aliases)
    if target == "tiny":
        return open_folder(name, TINY)
    path = _on_disk(target)
    if path and path.is_dir():
        return open_folder(name, path)
    if path:
        raise ModelError(
            f"`{target}` is a file; a model is a folder in diffusers' layout",
            "single checkpoint files are not read yet; diffusers converts them with "
            "StableDiffusionPipeline.from_single_file(...).save_pretrained(...)",
        )
    if not _HUB_ID.fullmatch(target):
        raise ModelError(f"there is no model {quoted(name)}", nearest(name, short_names(aliases)))
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
    """What a name stands for: `tiny`, a Hub id, a folder; an unknown name stands for itself.

    A person's own alias may stand for a built-in one; `tiny` is always `tiny`.
    """
    target = name if name == "tiny" else (aliases or {}).get(name, name)
    return ALIASES.get(target, target)


def lasting_target(name: str, aliases: Mapping[str, str] | None = None) -> str:
    """What a name stands for, in words that still say it tomorrow and from another folder.

    Raises ModelError unless that is `tiny`, a folder or a Hub id, be it in the cache or not.
    """
    target = target_of(name, aliases)
    path = _on_disk(target)
    if path and path.is_dir() and target != "tiny":
        return str(path.absolute())
    if target == "tiny" or (not path and _HUB_ID.fullmatch(target)):
        return target
    raise ModelError(
        f"{quoted(target)} is neither a Hub id nor a folder", nearest(name, short_names(aliases))
    )


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
        _check_files(repo, folder)
    except ModelError:
        return None
    return folder


def pull(repo: str, *, offline: bool = False) -> Path:
    """Fetch a Hub repository's safetensors into the cache, in half precision where it has it.

    What is there already is not fetched again. Raises ModelError when offline, or if
    the repository is gone, gated or unreachable.
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
        return Path(hub.snapshot_download(repo, allow_patterns=_needed(names)))
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
    """The files of the five parts, half-precision safetensors before full ones."""
    wanted = ["model_index.json", "sdfast.json"]
    for part in PARTS:
        inside = [n for n in names if n.startswith(f"{part}/")]
        weights = [n for n in inside if n.endswith(".safetensors")]
        half = [n for n in weights if ".fp16." in n]
        plain = [n for n in weights if ".fp16." not in n and ".non_ema." not in n]
        wanted += half or plain
        wanted += [n for n in inside if n.endswith((".json", ".txt"))]
    return wanted


def open_folder(name: str, folder: Path) -> Source:
    """A folder in Stable Diffusion 1.x's layout, every file it needs there and whole."""
    index = _json(name, folder / "model_index.json")
    kind = index.get("_class_name")
    if kind not in ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline"):
        raise ModelError(f"`{name}` is a {_plain(kind)}; only Stable Diffusion 1.x is painted yet")
    variant = _check_files(name, folder)
    configs = {part: _json(name, folder / part / "config.json") for part in _WEIGHTS}
    hints = folder / "sdfast.json"
    own = _json(name, hints) if hints.exists() else {}
    try:
        halvings = len(configs["vae"]["block_out_channels"]) - 1
        side = int(configs["unet"]["sample_size"]) * 2**halvings
        guidance = float(own.get("guidance", 7.5))
        read_job({"prompt": "any", "size": (side, side), "guidance": guidance})
    except (KeyError, TypeError, ValueError, OverflowError, JobError) as error:
        raise ModelError(
            f"`{name}`: its configs do not give a size and a guidance: {error}"
        ) from error
    return Source(
        name=name,
        folder=folder,
        variant=variant,
        schedule=_json(name, folder / "scheduler" / "scheduler_config.json"),
        size=(side, side),
        guidance=guidance,
    )


def _check_files(name: str, folder: Path) -> str | None:
    """Which variant the weights are. Raises ModelError unless every file is there and whole."""
    for part in PARTS:
        if not (folder / part).is_dir():
            raise ModelError(f"`{name}` has no folder `{part}`", f"looked in {folder}")
    variants = [_check_weights(name, folder / part, stem) for part, stem in _WEIGHTS.items()]
    for file in _CONFIGS:
        if not (folder / file).is_file():
            raise ModelError(f"`{name}` has no file `{file}`")
    if not any(all((folder / "tokenizer" / f).is_file() for f in form) for form in _TOKENIZERS):
        raise ModelError(
            f"`{name}` has no file `tokenizer/tokenizer.json`, "
            "nor both `tokenizer/vocab.json` and `tokenizer/merges.txt`"
        )
    return "fp16" if "fp16" in variants else None


def _plain(value: object) -> str:
    return re.sub(r"[^\w .-]", "", str(value))[:60] or "folder without a kind"


def _json(name: str, path: Path) -> dict[str, Any]:
    shown = "/".join(path.parts[-2:])
    try:
        if path.stat().st_size > 10_000_000:
            raise ModelError(f"`{name}`: `{shown}` is too large to be a config")
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"`{name}` has no file `{shown}`") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"`{name}`: `{shown}` cannot be read as JSON") from error
    if not isinstance(found, dict):
        raise ModelError(f"`{name}`: `{shown}` is no JSON object")
    return cast("dict[str, Any]", found)


def _check_weights(name: str, folder: Path, stem: str) -> str | None:
    """Which variant of a part's safetensors is there. Raises ModelError unless it is whole."""
    for variant in ("fp16", None):
        dotted = f"{stem}.{variant}" if variant else stem
        whole = folder / f"{dotted}.safetensors"
        index = folder / (
            f"{stem}.safetensors.index.{variant}.json"
            if variant
            else f"{stem}.safetensors.index.json"
        )
        if whole.is_file():
            check_safetensors(name, whole)
            return variant
        if index.is_file():
            shards = _json(name, index).get("weight_map")
            if not isinstance(shards, dict):
                raise ModelError(f"`{name}`: `{folder.name}/{index.name}` names no shards")
            for shard in {str(s) for s in cast("dict[str, object]", shards).values()}:
                check_safetensors(name, folder / Path(shard).name)
            return variant
    if pickles := sorted(p.name for p in folder.glob("*.bin")):
        raise ModelError(
            f"`{name}`: `{folder.name}/{pickles[0]}` is a pickle, which can run any code",
            "sdfast reads safetensors only; most models on the Hub have them by now",
        )
    raise ModelError(f"`{name}` has no file `{folder.name}/{stem}.safetensors`")


def check_safetensors(name: str, path: Path) -> None:
    """Raise ModelError unless the file is as long as its own header says."""
    shown = f"{path.parent.name}/{path.name}"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if not 2 <= length <= min(size - 8, 100_000_000):
                raise ValueError
            header = cast("dict[str, Any]", json.loads(file.read(length)))
        ends = [int(v["data_offsets"][1]) for k, v in header.items() if k != "__metadata__"]
    except FileNotFoundError as error:
        raise ModelError(f"`{name}` has no file `{shown}`") from error
    except Exception as error:  # whatever a hostile header raises, the file is broken
        raise ModelError(f"`{name}`: `{shown}` is broken or no safetensors file") from error
    wanted = 8 + length + max(ends, default=0)
    if size != wanted:
        raise ModelError(
            f"`{name}`: `{shown}` is truncated or overlong: {size} bytes where {wanted} belong",
            f"fetch it again: sdfast models rm {name}, then sdfast models pull {name}"
            if _HUB_ID.fullmatch(name)
            else "",
        )
