"""LoRAs, LoHas and LoKrs: what is added to a network's weights, W + scale * alpha / rank * delta.

With a DoRA's magnitudes (arXiv 2402.09353) the rows or columns of the sum are then made that long.
Read as kohya's scripts, LyCORIS, diffusers and peft write them; what delta is, `lora_kinds` says. A
tensor that fits nothing in the model is an error. Without an alpha it is the rank.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open
from torch import nn

from sdfast.errors import ModelError
from sdfast.models.headers import Header, read_header
from sdfast.models.layout import Layout
from sdfast.models.lora_config import Config, read_configs
from sdfast.models.lora_kinds import delta_of, fits, magnitude_of
from sdfast.models.lora_names import STARTS, split
from sdfast.models.networks.load import Change, places
from sdfast.models.source import Source

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
        read_configs(lora.path, header)
        for target, keys in _found(source, lora.path, header).items():
            first = _first(keys)
            if (shape := known.get(target.part, {}).get(target.layer)) is None:
                raise ModelError(f"`{lora.path}`: `{first}` fits nothing in `{source.name}`")
            shapes = {role: header.shapes[key] for role, key in keys.items()}
            try:
                fitting = fits(shapes, shape)
            except KeyError as error:
                raise ModelError(f"`{lora.path}`: `{first}` lacks its other half") from error
            if not fitting:
                raise ModelError(
                    f"`{lora.path}`: `{first}` is of another shape than in `{source.name}`",
                    "is it for another family of models?",
                )


def changes(source: Source, part: str, network: nn.Module) -> dict[str, list[Change]]:
    """What is added to the weights of a network, by their names. Raises ModelError."""
    found: dict[str, list[Change]] = {}
    if not source.loras:
        return found
    slots = {_spelled(layer): slots for layer, slots in places(network).items()}
    for lora in source.loras:
        header = read_header(lora.path, f"`{lora.path}`")
        config = read_configs(lora.path, header).get(part, Config())
        opened: Any = safe_open(lora.path, framework="pt")
        with opened as file:
            for target, keys in _found(source, lora.path, header).items():
                if target.part != part:
                    continue
                tensors = {k: file.get_tensor(key).float() for k, key in keys.items()}
                first = _first(keys)
                delta, rank = delta_of(tensors)
                if rank is not None:
                    told = float(tensors["alpha"]) if "alpha" in tensors else None
                    delta = delta * config.factor(split(lora.path, first).layer, rank, told)
                broken = [keys[k] for k, t in tensors.items() if not bool(t.isfinite().all())]
                if broken or not bool(delta.isfinite().all()):
                    named = (*broken, first)[0]
                    raise ModelError(f"`{lora.path}`: `{named}` holds numbers that are not finite")
                magnitude = magnitude_of(tensors, slots[target.layer][0].shape)
                for slot in slots[target.layer]:
                    change = Change(slot, delta.contiguous(), lora.scale, magnitude)
                    found.setdefault(slot.weight, []).append(change)
    return found


def _found(source: Source, path: Path, header: Header) -> Found:
    """Every tensor of a LoRA, by the layer that it is meant for."""
    found: Found = {}
    layers = source.config("unet").get("layers_per_block")
    layout = Layout("unet", "", layers if isinstance(layers, int) else 2)
    for key in header.shapes:
        role, start, named = split(path, key)
        part = STARTS.get(start, "unet")
        layer = _spelled(named).removeprefix("text_model_")
        layer = layer.replace("_processor_", "_")
        if layer.endswith("_to_out"):
            layer += "_0"
        if part == "unet":
            layer = _today(layer, layout)
        found.setdefault(_Target(part, layer), {})[role] = key
    return found


def _first(keys: Mapping[str, str]) -> str:
    """The tensor that a message names: one that has a shape to be wrong, if any has."""
    return next((key for role, key in keys.items() if role != "alpha"), keys.get("alpha", ""))


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
