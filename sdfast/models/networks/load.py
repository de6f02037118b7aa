"""Weights into a network: from safetensors as they lie on the disk, or out of thin air for timing.

A network is built without memory for its weights. Files are mapped, not read; each tensor goes
straight to its device in its precision, and what layers compute together is laid together.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import torch
from safetensors import safe_open
from torch import Tensor, nn

from sdfast.models.networks.layers import Conv, Linear

_JOINED: dict[str, tuple[str, ...]] = {
    "to_qkv": ("to_q", "to_k", "to_v"),
    "to_kv": ("to_k", "to_v"),
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
}
"""What is one product here and several in the files."""

_HALVES = {"net.0.value": ("net.0.proj", 0), "net.0.gate": ("net.0.proj", 1)}
"""What are two products here and one in the files."""

_OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Attention's names in autoencoders written before 2023."""


class _File(Protocol):
    """What safetensors opens."""

    def __enter__(self) -> "_File": ...
    def __exit__(self, *error: object) -> None: ...
    def keys(self) -> list[str]: ...
    def get_tensor(self, name: str) -> Tensor: ...
    def get_slice(self, name: str) -> Any: ...


class TensorError(ValueError):
    """The weights are not those of the network: a tensor is absent or of another shape."""


class _Recipe(NamedTuple):
    """Where a weight comes from: tensors laid below each other, or a half of one."""

    names: tuple[str, ...]
    half: int | None = None

    def shape(self, wanted: torch.Size) -> list[int]:
        """What each of the tensors has to look like."""
        rows = wanted[0] // len(self.names) * (1 if self.half is None else 2)
        return [rows, *wanted[1:]]

    def cook(self, tensors: list[Tensor]) -> Tensor:
        if self.half is not None:
            return tensors[0].chunk(2)[self.half]
        return torch.cat(tensors) if len(tensors) > 1 else tensors[0]


def fill(
    network: nn.Module,
    files: Iterable[Path],
    device: torch.device,
    dtype: torch.dtype,
    *,
    lay_out: bool = True,
) -> None:
    """Give a network its weights. Raises TensorError that names the first tensor at fault.

    Without `lay_out` they stay movable: as a CPU lays them out, no other device can read them.
    """
    with ExitStack() as stack:
        found: dict[str, tuple[_File, str]] = {}
        for path in files:
            file = stack.enter_context(cast("_File", safe_open(path, framework="pt")))
            found |= {_today(name): (file, name) for name in file.keys()}  # noqa: SIM118
        wanted = {name: weight.shape for name, weight in network.named_parameters()}
        recipes = {name: _recipe(name) for name in wanted}
        _compare(found, wanted, recipes)

        def weight(name: str, shape: torch.Size) -> Tensor:
            recipe = recipes[name]
            raw = [found[n][0].get_tensor(found[n][1]) for n in recipe.names]
            return recipe.cook([t.view(recipe.shape(shape)).to(dtype=dtype) for t in raw])

        _give(network, weight, device, lay_out=lay_out)


def randomize(
    network: nn.Module, device: torch.device, dtype: torch.dtype, *, lay_out: bool = True
) -> None:
    """Give a network weights that mean nothing and overflow nowhere, the same each time.

    One block of noise serves for all, again and again: drawing a billion numbers takes seconds.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    block = torch.randn(1_000_003, generator=generator).to(device, dtype)

    def weight(name: str, shape: torch.Size) -> Tensor:
        if len(shape) == 1:
            return torch.full(shape, float(name.endswith(".weight")), device=device, dtype=dtype)
        count, inside = shape.numel(), shape[1:].numel()
        scaled = block * inside**-0.5
        return scaled.repeat(-(-count // len(block)))[:count].view(shape)

    _give(network, weight, device, lay_out=lay_out)


def _give(
    network: nn.Module,
    weight: Callable[[str, torch.Size], Tensor],
    device: torch.device,
    *,
    lay_out: bool,
) -> None:
    """Hand each layer its weights, one after the other: what it lays out anew is let go at once."""
    for path, layer in cast("Iterator[tuple[str, nn.Module]]", network.named_modules()):
        for name, blank in list(layer.named_parameters(recurse=False)):
            given = weight(f"{path}.{name}".lstrip("."), blank.shape).to(device)
            if given.dim() == 4 and device.type != "cpu":  # as pictures have their channels
                given = given.to(memory_format=torch.channels_last)
            setattr(layer, name, nn.Parameter(given, requires_grad=False))
        if lay_out and isinstance(layer, (Conv, Linear)):
            layer.lay_out()
        for name, given in list(layer.named_parameters(recurse=False)):
            if device.type == "cpu":  # else one small weight would hold on to the whole file
                setattr(layer, name, nn.Parameter(given.clone(), requires_grad=False))


def _today(name: str) -> str:
    """A tensor's name as libraries write it today."""
    name = name.removeprefix("text_model.")
    if ".attentions.0." in name and name.count(".") < 6:
        *path, layer, kind = name.split(".")
        return ".".join([*path, _OLD.get(layer, layer), kind])
    return name


def _recipe(name: str) -> _Recipe:
    for ours, theirs in _JOINED.items():
        if f".{ours}." in name:
            return _Recipe(tuple(name.replace(ours, part) for part in theirs))
    for ours, (whole, half) in _HALVES.items():
        if f".{ours}." in name:
            return _Recipe((name.replace(ours, whole),), half)
    return _Recipe((name,))


def _compare(
    found: Mapping[str, tuple[_File, str]],
    wanted: Mapping[str, torch.Size],
    recipes: Mapping[str, _Recipe],
) -> None:
    missing = sorted(n for recipe in recipes.values() for n in recipe.names if n not in found)
    if missing:
        raise TensorError(f"lacks tensors, the first `{missing[0]}`")

    def wrong() -> Iterator[str]:
        for name, shape in wanted.items():
            for part in recipes[name].names:
                file, key = found[part]
                has = list(file.get_slice(key).get_shape())
                if len(has) == 4 and len(shape) == 2 and has[2:] == [1, 1]:
                    has = has[:2]  # a linear map, written as a convolution
                if has != recipes[name].shape(shape):
                    yield part

    first = next(wrong(), None)
    if first is not None:
        raise TensorError(f"has tensors of the wrong shape, the first `{first}`")
