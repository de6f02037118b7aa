"""LoRAs: what is added to a network's weights, W + scale * alpha / rank * up @ down.

Read as kohya's scripts write them and as diffusers and peft do (arXiv 2106.09685; for convolutions
with a middle, arXiv 2309.14859, eq. 8). A tensor that fits nothing in the model is an error.

An alpha is a tensor of the file, or stands in peft's config: diffusers keeps that in the file's
header, `lora_adapter_metadata`, and peft beside it, in `adapter_config.json`. Else it is the rank.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod, sqrt
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import safe_open
from torch import Tensor, nn

from sdfast.errors import ModelError
from sdfast.models.folder import read_json
from sdfast.models.headers import Header, read_header
from sdfast.models.layout import Layout
from sdfast.models.networks.load import Change, places
from sdfast.models.source import Source

_STARTS = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "unet.": "unet",
    "text_encoder.": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
}
"""What the names begin with that are meant for each network."""

_LORA = (
    r"(\.lora_{kohya}|\.lora_{peft}(\.\w+)?|\.lora\.{kohya}"
    r"|\.lora_linear_layer\.{kohya}|_lora\.{kohya})"
)

_ENDS = {
    "down": _LORA.format(kohya="down", peft="A") + r"\.weight$",
    "up": _LORA.format(kohya="up", peft="B") + r"\.weight$",
    "mid": r"\.lora_mid\.weight$",
    "alpha": r"\.alpha$",
}
"""What they end in, by what the tensor is."""

_PEFT = "base_model.model."
"""What stands before each name where peft itself has written the file."""

_OTHERS = {
    r"\.(lora_magnitude_vector|dora_scale)\b": "a DoRA",
    r"\.hada_": "a LoHa",
    r"\.lokr_": "a LoKr",
    r"\.oft_": "an OFT",
    r"\.diff(_b)?$": "a whole difference",
}
"""Changes of other kinds, by what they call their tensors."""

_BLOCK = re.compile(r"(input_blocks|middle_block|output_blocks)_(\d+)_(?:(\d+)_)?(.*)")
_INNER = re.compile(r"\b(in_layers|out_layers|emb_layers)_(\d)")


class _Target(NamedTuple):
    part: str
    layer: str
    """With `_` for every dot, as kohya writes it."""


Found = dict[_Target, dict[str, str]]
"""What each layer is changed by: the tensors' names by what they are."""


def check_loras(source: Source, networks: Mapping[str, nn.Module]) -> None:
    """Raise ModelError, naming a tensor, unless each fits a layer. None are read for it."""
    known = {part: _layers(network) for part, network in networks.items()}
    for lora in source.loras:
        header = read_header(lora.path, f"`{lora.path}`")
        _configs(lora.path, header)
        for target, keys in _found(source, lora.path, header).items():
            first = next(iter(keys.values()))
            if (shape := known.get(target.part, {}).get(target.layer)) is None:
                raise ModelError(f"`{lora.path}`: `{first}` fits nothing in `{source.name}`")
            if not {"up", "down"} <= set(keys):
                raise ModelError(f"`{lora.path}`: `{first}` lacks its other half")
            if not _fits({k: header.shapes[key] for k, key in keys.items()}, shape):
                raise ModelError(
                    f"`{lora.path}`: `{keys['down']}` is of another shape than in `{source.name}`",
                    "is it for another family of models?",
                )


def changes(source: Source, part: str, network: nn.Module) -> dict[str, list[Change]]:
    """What is added to the weights of a network, by their names. Raises ModelError."""
    found: dict[str, list[Change]] = {}
    slots = (
        {_spelled(layer): slots for layer, slots in places(network).items()}
        if (source.loras)
        else {}
    )
    for lora in source.loras:
        header = read_header(lora.path, f"`{lora.path}`")
        config = _configs(lora.path, header).get(part, _Config())
        opened: Any = safe_open(lora.path, framework="pt")
        with opened as file:
            for target, keys in _found(source, lora.path, header).items():
                if target.part != part:
                    continue
                tensors = {k: file.get_tensor(key).float() for k, key in keys.items()}
                alpha = config.alpha(_split(lora.path, keys["up"]).layer)
                delta = lora.scale * _delta(tensors, alpha, root=config.root)
                if not bool(delta.isfinite().all()):
                    raise ModelError(
                        f"`{lora.path}`: `{keys['up']}` holds numbers that are not finite"
                    )
                for slot in slots[target.layer]:
                    found.setdefault(slot.weight, []).append(Change(slot, delta))
    return found


def _found(source: Source, path: Path, header: Header) -> Found:
    """Every tensor of a LoRA, by the layer that it is meant for."""
    found: Found = {}
    layers = source.config("unet").get("layers_per_block")
    layout = Layout("unet", "", layers if isinstance(layers, int) else 2)
    for key in header.shapes:
        role, start, named = _split(path, key)
        part = _STARTS.get(start, "unet")
        layer = _spelled(named).removeprefix("text_model_")
        layer = layer.replace("_processor_", "_")
        if layer.endswith("_to_out"):
            layer += "_0"
        if part == "unet":
            layer = _today(layer, layout)
        found.setdefault(_Target(part, layer), {})[role] = key
    return found


class _Name(NamedTuple):
    """A tensor's name in its pieces."""

    role: str
    start: str
    layer: str
    """As the file has it, with dots or without."""


def _split(path: Path, key: str) -> _Name:
    name = key.removeprefix(_PEFT)
    ends = ((role, re.search(end, name)) for role, end in _ENDS.items())
    role, end = next(((role, end.start()) for role, end in ends if end), ("", 0))
    if not role:
        other = next((what for sign, what in _OTHERS.items() if re.search(sign, name)), "")
        is_none = (
            f"is of {other}, and only LoRAs are added" if other else "is of no LoRA known here"
        )
        raise ModelError(f"`{path}`: `{key}` {is_none}")
    start = next((s for s in _STARTS if name.startswith(s)), "")
    return _Name(role, start, name[len(start) : end])


@dataclass(frozen=True, slots=True)
class _Config:
    """What peft's config says of one network's alphas."""

    all: float | None = None
    some: Mapping[str, float] = field(default_factory=dict[str, float])
    """Of layers by the end of their names."""
    root: bool = False
    """What is added counts alpha / sqrt(rank) (arXiv 2312.03732) and not alpha / rank."""

    def alpha(self, layer: str) -> float | None:
        ends = (value for end, value in self.some.items() if f".{layer}".endswith(f".{end}"))
        return next(ends, self.all)


def _configs(path: Path, header: Header) -> dict[str, _Config]:
    """peft's config for each network, as far as there is one. Raises ModelError."""
    kept, beside = header.about.get("lora_adapter_metadata"), path.parent / "adapter_config.json"
    try:
        if kept is not None:
            said = cast("dict[str, Any]", json.loads(kept))
            return {part: _config(said, f"{part}.") for part in set(_STARTS.values())}
        if beside.is_file() and any(key.startswith(_PEFT) for key in header.shapes):
            return {"unet": _config(read_json(str(path), beside))}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        where = "`lora_adapter_metadata`" if kept is not None else f"`{beside.name}` beside it"
        raise ModelError(f"`{path}`: {where} cannot be read: {error}") from error
    return {}


def _config(said: Mapping[str, Any], start: str = "") -> _Config:
    alpha = said.get(f"{start}lora_alpha")
    some = dict(cast("Mapping[str, Any]", said.get(f"{start}alpha_pattern") or {}))
    if pattern := next((end for end in some if not re.fullmatch(r"[\w.]+", end)), None):
        raise ValueError(f"its alpha_pattern {pattern} is no layer")
    return _Config(
        None if alpha is None else float(alpha),
        {end.removeprefix("text_model."): float(value) for end, value in some.items()},
        bool(said.get(f"{start}use_rslora")),
    )


def _today(layer: str, layout: Layout) -> str:
    """A UNet's layer by today's name, where a LoRA for XL has the original one."""
    if block := _BLOCK.fullmatch(layer):
        kind, number, place, rest = block.groups()
        inner = _INNER.sub(r"\1.\2", rest)
        dotted = ".".join(part for part in (kind, number, place, inner) if part)
    elif re.fullmatch(r"(time_embed|out)_\d|label_emb_0_\d", layer):
        dotted = layer[::-1].replace("_", ".", 1 + layer.startswith("label"))[::-1]
    else:
        return layer
    renamed = layout.renamed(f"{dotted}.weight") or ""
    return _spelled(renamed.removesuffix(".weight"))


def _spelled(layer: str) -> str:
    return layer.replace(".", "_")


def _layers(network: nn.Module) -> dict[str, list[int]]:
    """The layers that can be changed, and the shape of each one's weight as files have it."""
    return {_spelled(layer): slots[0].shape for layer, slots in places(network).items()}


def _fits(shapes: Mapping[str, Iterable[int]], weight: list[int]) -> bool:
    down, up = (list(shapes[role]) for role in ("down", "up"))
    if "mid" in shapes:
        return [up[0], down[1]] == weight[:2] and list(shapes["mid"])[2:] == weight[2:]
    return (
        len(up) > 1
        and len(down) > 1
        and up[1] == down[0]
        and (up[0] == weight[0] and prod(down[1:]) == prod(weight[1:]))
    )


def _delta(tensors: Mapping[str, Tensor], alpha: float | None, *, root: bool) -> Tensor:
    """What is added to a weight at a scale of 1, in float32."""
    up, down = tensors["up"].flatten(1), tensors["down"]
    rank = up.shape[1]
    if "alpha" in tensors:
        alpha = float(tensors["alpha"])
    if "mid" in tensors:
        whole = torch.einsum("or,rskl,si->oikl", up, tensors["mid"], down.flatten(1))
    else:
        whole = up @ down.flatten(1)
    return whole * ((rank if alpha is None else alpha) / (sqrt(rank) if root else rank))
