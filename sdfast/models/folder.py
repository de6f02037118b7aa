"""A model's folder in diffusers' layout: what belongs there, and whether it is whole.

Nothing heavy is loaded for it: configs are read, and of weights the header and the length.
"""

import json
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sdfast.canvas import own_size
from sdfast.errors import JobError, ModelError
from sdfast.job import Job, read_job

_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
PARTS = (*_PARTS, "text_encoder_2", "tokenizer_2")
"""The folders of Stable Diffusion's layout, those last that only XL has."""

_KINDS = {
    "StableDiffusionPipeline": _PARTS,
    "StableDiffusionImg2ImgPipeline": _PARTS,
    "StableDiffusionInpaintPipeline": _PARTS,
    "StableDiffusionXLPipeline": PARTS,
    "StableDiffusionXLImg2ImgPipeline": PARTS,
    "StableDiffusionXLInpaintPipeline": PARTS,
}
"""The pipelines that are painted, and the folders of each."""

_WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
}

_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))
"""The files of a tokenizer, as transformers 5 writes it and as those before did."""


_LITTLE_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a an the and or of in on at by to for from with without is are be it its my your his her
        our their this that these those some very into over under near as""",
    )
)
"""Words that name nothing one could fail to draw."""


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
    things: int = 0
    """How many things a model can draw that knows its own bounds."""
    words: frozenset[str] = frozenset()
    """The words such a model was taught."""
    random: bool = False
    """Its weights are random: it has true shapes, takes true time and paints noise."""
    xl: bool = False
    blank_is_zero: bool = False
    """An empty prompt is told as nothing at all, zeros, and not as what the words mean."""

    def config(self, part: str) -> dict[str, Any]:
        """The config of one of the networks."""
        return _json(self.name, self.folder / part / "config.json")

    def weights(self, part: str) -> list[Path]:
        """The safetensors of one of the networks, in the variant that is there."""
        variant = f".{self.variant}" if self.variant else ""
        stem, folder = _WEIGHTS[part], self.folder / part
        for dotted, index in ((variant, variant), ("", "")):
            whole = folder / f"{stem}{dotted}.safetensors"
            if whole.is_file():
                return [whole]
            listed = folder / f"{stem}.safetensors.index{index}.json"
            if listed.is_file():
                return _shards(self.name, listed)
        return []

    def strange_words(self, prompts: Iterable[str]) -> list[str]:
        """The words that mean nothing to a model which knows its own bounds."""
        said = re.findall(r"[^\W\d_]{2,}", " ".join(prompts).lower())
        known = self.words | _LITTLE_WORDS
        return [word for word in dict.fromkeys(said) if self.words and word not in known]

    def complete(self, job: Job) -> Job:
        """The job with what it leaves open filled in as the model would have it.

        Raises JobError for a picture to begin from that is none.
        """
        own: dict[str, object] = {"model": self.name, "size": self.size, "guidance": self.guidance}
        if job.init is not None:
            own["size"] = own_size(job)
            own["strength"] = job.how_strong
        return job.model_copy(update={k: v for k, v in own.items() if getattr(job, k) is None})


def open_folder(name: str, folder: Path) -> Source:
    """A folder in Stable Diffusion's layout, every file it needs there and whole."""
    kind = _kind(name, folder)
    if kind not in _KINDS:
        raise ModelError(
            f"`{name}` is a {_plain(kind)}; only Stable Diffusion 1.x, 2.x and XL are painted"
        )
    return _opened(name, folder, check_files(name, folder))


def open_shape(name: str, folder: Path) -> Source:
    """A folder with configs alone, to be filled with random weights."""
    return _opened(name, folder, None, random=True)


def _opened(name: str, folder: Path, variant: str | None, *, random: bool = False) -> Source:
    index = _json(name, folder / "model_index.json")
    configs = {part: _json(name, folder / part / "config.json") for part in ("unet", "vae")}
    xl = _KINDS[_kind(name, folder)] == PARTS
    hints = folder / "sdfast.json"
    own = _json(name, hints) if hints.exists() else {}
    try:
        halvings = len(configs["vae"]["block_out_channels"]) - 1
        side = int(configs["unet"]["sample_size"]) * 2**halvings
        guidance = float(own.get("guidance", 5.0 if xl else 7.5))
        things, words = len(own.get("things", ())), frozenset(map(str, own.get("words", ())))
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
        things=things,
        words=words,
        random=random,
        xl=xl,
        blank_is_zero=xl and index.get("force_zeros_for_empty_prompt", True) is True,
    )


def check_files(name: str, folder: Path) -> str | None:
    """Which variant the weights are. Raises ModelError unless every file is there and whole."""
    parts = _KINDS.get(_kind(name, folder), _PARTS)
    for part in parts:
        if not (folder / part).is_dir():
            raise ModelError(f"`{name}` has no folder `{part}`", f"looked in {folder}")
    networks = [part for part in parts if part in _WEIGHTS]
    variants = [_check_weights(name, folder / part, _WEIGHTS[part]) for part in networks]
    for file in ("scheduler/scheduler_config.json", *(f"{part}/config.json" for part in networks)):
        if not (folder / file).is_file():
            raise ModelError(f"`{name}` has no file `{file}`")
        _json(name, folder / file)
    for part in parts:
        if part.startswith("tokenizer") and not any(
            all((folder / part / f).is_file() for f in form) for form in _TOKENIZERS
        ):
            raise ModelError(
                f"`{name}` has no file `{part}/tokenizer.json`, "
                f"nor both `{part}/vocab.json` and `{part}/merges.txt`"
            )
    return "fp16" if "fp16" in variants else None


def _kind(name: str, folder: Path) -> str:
    return str(_json(name, folder / "model_index.json").get("_class_name"))


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
            for shard in _shards(name, index):
                check_safetensors(name, shard)
            return variant
    if pickles := sorted(p.name for p in folder.glob("*.bin")):
        raise ModelError(
            f"`{name}`: `{folder.name}/{pickles[0]}` is a pickle, which can run any code",
            "sdfast reads safetensors only; most models on the Hub have them by now",
        )
    raise ModelError(f"`{name}` has no file `{folder.name}/{stem}.safetensors`")


def _shards(name: str, index: Path) -> list[Path]:
    """The files that hold a network's weights in parts, each in the same folder."""
    shards = _json(name, index).get("weight_map")
    if not isinstance(shards, dict):
        raise ModelError(f"`{name}`: `{index.parent.name}/{index.name}` names no shards")
    files = {Path(str(s)).name for s in cast("dict[str, object]", shards).values()}
    return [index.parent / file for file in sorted(files)]


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
            "of a model from the Hub, `sdfast models rm` and `pull` make it whole again",
        )
