"""A model's folder in diffusers' layout: what belongs there, and whether it is whole.

Nothing heavy is loaded for it: configs are read, and of weights the header and the length.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from sdfast.errors import ModelError
from sdfast.models.files import read_text
from sdfast.models.headers import pickled, read_header
from sdfast.models.layout import AUTOENCODERS
from sdfast.models.source import (
    Part,
    Source,
    Vocabulary,
    holds_tokenizer,
    own_guidance,
    trained_size,
)

_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
PARTS = (*_PARTS, "text_encoder_2", "tokenizer_2")
"""The folders of Stable Diffusion's layout, those last that only XL has."""

CHECKER = ("safety_checker", "feature_extractor")
"""The folders of a safety checker, which 1.x may have besides."""


class _Kind(NamedTuple):
    parts: tuple[str, ...]
    guidance: float
    """What diffusers guides it by unless told otherwise."""


_KINDS = {
    "StableDiffusionPipeline": _Kind(_PARTS, 7.5),
    "StableDiffusionImg2ImgPipeline": _Kind(_PARTS, 7.5),
    "StableDiffusionInpaintPipeline": _Kind(_PARTS, 7.5),
    "LatentConsistencyModelPipeline": _Kind(_PARTS, 8.5),
    "LatentConsistencyModelImg2ImgPipeline": _Kind(_PARTS, 8.5),
    "StableDiffusionXLPipeline": _Kind(PARTS, 5.0),
    "StableDiffusionXLImg2ImgPipeline": _Kind(PARTS, 5.0),
    "StableDiffusionXLInpaintPipeline": _Kind(PARTS, 5.0),
}
"""The pipelines that are painted: what belongs to each, and how it is guided."""

WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
    "safety_checker": "model",
}
"""What the networks' files are called."""


def open_folder(name: str, folder: Path) -> Source:
    """A folder in Stable Diffusion's layout, every file it needs there and whole."""
    painted_parts(name, _kind(name, folder))
    return _opened(name, folder.absolute(), check_files(name, folder))


def painted_parts(name: str, kind: str) -> tuple[str, ...]:
    """The folders of a kind of pipeline. Raises ModelError for one that is not painted."""
    if kind not in _KINDS:
        raise ModelError(
            f"`{name}` is a {_plain(kind)}; only Stable Diffusion 1.x, 2.x, XL and LCMs are painted"
        )
    return _KINDS[kind].parts


def open_shape(name: str, folder: Path) -> Source:
    """A folder with configs alone, to be filled with random weights."""
    return _opened(name, folder.absolute(), None, random=True)


def _opened(name: str, folder: Path, variant: str | None, *, random: bool = False) -> Source:
    index = read_json(name, folder / "model_index.json")
    kind = _KINDS[str(index.get("_class_name"))]
    parts = {
        part: open_part(name, folder / part, WEIGHTS[part], variant, random=random)
        for part in kind.parts
        if part in WEIGHTS
    }
    hints = folder / "sdfast.json"
    own = read_json(name, hints) if hints.exists() else {}
    xl = "text_encoder_2" in parts
    stored = any((folder / "safety_checker").glob("*.safetensors"))
    checker = folder if names_checker(index) and stored and not random else None
    try:
        things, words = len(own.get("things", ())), frozenset(map(str, own.get("words", ())))
    except TypeError as error:
        raise ModelError(f"`{name}`: `sdfast.json` must have a list `things`: {error}") from error
    return Source(
        name=name,
        path=folder,
        parts=parts,
        vocabularies=tuple(Vocabulary(folder / f"tokenizer{e}") for e in ("", "_2")[: 1 + xl]),
        schedule=read_json(name, folder / "scheduler" / "scheduler_config.json"),
        size=trained_size(name, parts),
        guidance=own_guidance(name, own, kind.guidance),
        variant=variant,
        things=things,
        words=words,
        random=random,
        checker=checker,
        lacks_checker=not random and checker is None and names_checker(index),
        blank_is_zero=xl and index.get("force_zeros_for_empty_prompt", True) is True,
    )


def names_checker(index: Mapping[str, Any]) -> bool:
    """Whether a model's index says that it has a safety checker."""
    said = index.get("safety_checker")
    return isinstance(said, list) and said[1:] == ["StableDiffusionSafetyChecker"]


def left_out(folder: Path) -> bool:
    """Whether the model was fetched without its safety checker, whose config is there alone."""
    inside = folder / CHECKER[0]
    weights = (path for ending in ("safetensors", "bin") for path in inside.glob(f"*.{ending}"))
    return (inside / "config.json").is_file() and next(weights, None) is None


def is_autoencoder(folder: Path) -> bool:
    """Whether a folder is that of an autoencoder by itself, by its config."""
    try:
        return read_json("", folder / "config.json").get("_class_name") in AUTOENCODERS
    except ModelError:
        return False


def check_autoencoder(name: str, folder: Path) -> str | None:
    """Which variant its weights are. Raises ModelError unless it is one, and whole."""
    if not is_autoencoder(folder):
        raise ModelError(f"`{name}` is no autoencoder")
    return check_weights(name, folder, WEIGHTS["vae"])


def open_part(
    name: str, folder: Path, stem: str, variant: str | None, *, random: bool = False
) -> Part:
    """One network's folder: its config and, unless it is to be random, its safetensors."""
    config = read_json(name, folder / "config.json")
    if random:
        return Part(config)
    dotted = f".{variant}" if variant else ""
    files, full = (_files(name, folder, stem, order) for order in ((dotted, ""), ("", dotted)))
    return Part(config, tuple(files), full=tuple(full) if full != files else ())


def _files(name: str, folder: Path, stem: str, endings: Iterable[str]) -> list[Path]:
    """The safetensors of one of the networks, in the first of the variants that is there."""
    for ending in endings:
        whole, index = (folder / file for file in weight_files(stem, ending))
        if whole.is_file():
            return [whole]
        if index.is_file():
            return _shards(name, index)
    return []


def weight_files(stem: str, ending: str) -> tuple[str, str]:
    """What a network's safetensors are called, whole, and the index of its shards.

    ending  of a variant, such as `.fp16`, or empty
    """
    return f"{stem}{ending}.safetensors", f"{stem}.safetensors.index{ending}.json"


def check_files(name: str, folder: Path) -> str | None:
    """Which variant the weights are. Raises ModelError unless every file is there and whole."""
    kind = _KINDS.get(_kind(name, folder))
    parts = kind.parts if kind else _PARTS
    for part in parts:
        if not (folder / part).is_dir():
            raise ModelError(f"`{name}` has no folder `{part}`", f"looked in {folder}")
    networks = [part for part in parts if part in WEIGHTS]
    variants = [check_weights(name, folder / part, WEIGHTS[part]) for part in networks]
    for file in ("scheduler/scheduler_config.json", *(f"{part}/config.json" for part in networks)):
        if not (folder / file).is_file():
            raise ModelError(f"`{name}` has no file `{file}`")
        read_json(name, folder / file)
    for part in parts:
        if part.startswith("tokenizer") and not holds_tokenizer(folder / part):
            raise ModelError(
                f"`{name}` has no file `{part}/tokenizer.json`, "
                f"nor both `{part}/vocab.json` and `{part}/merges.txt`"
            )
    return "fp16" if "fp16" in variants else None


def _kind(name: str, folder: Path) -> str:
    return str(read_json(name, folder / "model_index.json").get("_class_name"))


def _plain(value: object) -> str:
    return re.sub(r"[^\w .-]", "", str(value))[:60] or "folder without a kind"


def read_json(name: str, path: Path) -> dict[str, Any]:
    shown = "/".join(path.parts[-2:])
    try:
        found: object = json.loads(read_text(path))
    except FileNotFoundError as error:
        raise ModelError(f"`{name}` has no file `{shown}`") from error
    except OSError as error:
        raise ModelError(f"`{name}`: `{shown}` cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"`{name}`: `{shown}` cannot be read as JSON") from error
    if not isinstance(found, dict):
        raise ModelError(f"`{name}`: `{shown}` is no JSON object")
    return cast("dict[str, Any]", found)


def check_weights(name: str, folder: Path, stem: str) -> str | None:
    """Which variant of a part's safetensors is there. Raises ModelError unless it is whole."""
    for variant in ("fp16", None):
        files = _files(name, folder, stem, [f".{variant}" if variant else ""])
        for file in files:
            read_header(file, f"`{name}`: `{folder.name}/{file.name}`")
        if files:
            return variant
    if pickles := sorted(p.name for p in folder.glob("*.bin")):
        raise pickled(f"`{name}`: `{folder.name}/{pickles[0]}`")
    raise ModelError(f"`{name}` has no file `{folder.name}/{stem}.safetensors`")


def _shards(name: str, index: Path) -> list[Path]:
    """The files that hold a network's weights in parts, each in the same folder."""
    shards = read_json(name, index).get("weight_map")
    if not isinstance(shards, dict):
        raise ModelError(f"`{name}`: `{index.parent.name}/{index.name}` names no shards")
    files = {Path(str(s)).name for s in cast("dict[str, object]", shards).values()}
    return [index.parent / file for file in sorted(files)]
