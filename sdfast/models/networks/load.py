"""Weights into a network: from safetensors as they lie on the disk, or out of thin air for timing.

A network is built without memory for its weights. Files are mapped, not read; each tensor goes
straight to its device in its precision, and what layers compute together is laid together.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import torch
from safetensors import safe_open
from torch import Tensor, nn

from sdfast.models.device import layout as layout_on
from sdfast.models.layout import TODAY, Layout
from sdfast.models.networks.blocks import GatedLinear
from sdfast.models.networks.layers import Conv, Linear
from sdfast.models.networks.unet import UNet

_JOINED: dict[str, tuple[str, ...]] = {
    "to_qkv": ("to_q", "to_k", "to_v"),
    "to_kv": ("to_k", "to_v"),
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
}
"""What is one product here and several in the files."""


class TensorError(ValueError):
    """The weights are not those of the network: a tensor is absent, of another shape, or broken."""


class _Origin(NamedTuple):
    """Where a weight comes from: a tensor, or several laid below each other."""

    names: tuple[str, ...]

    def shape(self, wanted: torch.Size) -> list[int]:
        """What each of the tensors has to look like."""
        return [wanted[0] // len(self.names), *wanted[1:]]

    def joined(self, tensors: list[Tensor], changes: Sequence["Change"] = ()) -> Tensor:
        whole = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
        if changes:
            whole = whole.clone()  # what is mapped is not to be written to
        for change in changes:
            change.merge_into(whole)
        return whole


class _Tensors:
    """Tensors by today's names, in mapped files: each is read when it is asked for."""

    def __init__(self, stack: ExitStack, files: Iterable[Path], layout: Layout) -> None:
        self._found: dict[str, tuple[Any, str]] = {}
        self._read: dict[str, Tensor] = {}
        """Views of the files, none of which is in memory for it."""
        for path in files:
            file = stack.enter_context(cast("Any", safe_open(path, framework="pt")))
            for name in file.keys():  # noqa: SIM118
                today = layout.renamed(name)
                if today is not None:
                    self._found[today] = file, name

    def __contains__(self, name: str) -> bool:
        return name in self._found or f"{name}.T" in self._found

    def shape(self, name: str) -> list[int]:
        if name not in self._found:
            return self.shape(f"{name}.T")[::-1]
        file, key = self._found[name]
        return list(file.get_slice(key).get_shape())

    def read(self, name: str) -> Tensor:
        """The tensor as it lies there."""
        if name not in self._found:
            return self.read(f"{name}.T").T
        if name not in self._read:
            file, key = self._found[name]
            self._read[name] = file.get_tensor(key)
        return self._read[name]

    def look_through(self, names: Iterable[str]) -> None:
        """Raise TensorError if one holds what is no finite number.

        Before anything is loaded: to look takes a tenth of the time of loading.
        """
        for name in names:
            if not _is_finite(self.read(name)):
                _, key = self._found[name if name in self._found else f"{name}.T"]
                raise TensorError(f"has numbers that are not finite, the first in `{key}`")

    def origin(self, name: str) -> _Origin:
        """Where a weight of ours comes from."""
        return _Origin((name,)) if name in self else _usual(name)


def _usual(name: str) -> _Origin:
    """Where a weight of ours comes from in files of today."""
    for ours, theirs in _JOINED.items():
        if f".{ours}." in name:
            return _Origin(tuple(name.replace(ours, part) for part in theirs))
    return _Origin((name,))


def _is_finite(tensor: Tensor) -> bool:
    """Whether all of the numbers are.

    A sum that is finite has only such terms, and takes a hundredth of the time of asking each; one
    that is not may have overflowed.
    """
    if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return bool(tensor.to(torch.float32).isfinite().all())
    return math.isfinite(tensor.sum().item()) or bool(tensor.isfinite().all())


class Slot(NamedTuple):
    """Where a layer of the files has come to lie in a weight of ours, or the weight in it."""

    weight: str
    part: int
    parts: int
    """The rows of the weight are so many layers' below each other, and this is one of them."""
    shape: list[int]
    """What the layer's weight looks like."""


_EPS = torch.finfo(torch.float32).eps
"""Added to lengths that are divided by, as LyCORIS does."""


class Change(NamedTuple):
    """What is added to a weight of a layer, and how long its rows or columns are then to be."""

    slot: Slot
    delta: Tensor
    """As many numbers as the weight has, in float32."""
    scale: float = 1.0
    """How much of the change is made."""
    magnitude: Tensor | None = None
    """[out, 1], of each row, or [1, in], of each column; None leaves them as they come out."""

    def merge_into(self, weight: Tensor) -> None:
        rows = weight.chunk(self.slot.parts)[self.slot.part]
        delta = self.delta.view(rows.shape)
        if self.magnitude is None:
            rows.add_(delta, alpha=self.scale)
            return
        wanted = self.magnitude.view(*self.magnitude.shape, *[1] * (rows.dim() - 2))
        across = [side for side, length in enumerate(wanted.shape) if length == 1]
        changed = rows + delta
        found = changed.square().sum(across, keepdim=True).sqrt()
        rows.lerp_(changed * (wanted / (found + _EPS)), self.scale)


def places(network: nn.Module) -> dict[str, list[Slot]]:
    """Every layer that has a matrix or a kernel, by its name in files of today."""
    found: dict[str, list[Slot]] = {}
    for name, weight in network.named_parameters():
        if not name.endswith(".weight") or weight.dim() < 2:
            continue
        origin = _usual(name)
        for part, theirs in enumerate(origin.names):
            slot = Slot(name, part, len(origin.names), origin.shape(weight.shape))
            found.setdefault(theirs.removesuffix(".weight"), []).append(slot)
    return found


def check(network: nn.Module, files: Iterable[Path], layout: Layout = TODAY) -> None:
    """Raise TensorError, naming the first tensor at fault, unless all are there in their shapes.

    The tensors themselves are not read.
    """
    with ExitStack() as stack:
        _compare(_Tensors(stack, files, layout), network)


def fill(
    network: nn.Module,
    files: Iterable[Path],
    device: torch.device,
    dtype: torch.dtype,
    layout: Layout = TODAY,
    changes: Mapping[str, Sequence[Change]] = MappingProxyType({}),
    *,
    lay_out: bool = True,
) -> None:
    """Give a network its weights. Raises TensorError that names the first tensor at fault.

    Without `lay_out` they stay movable: as a CPU lays them out, no other device can read them.
    `changes` are made in float32, by the names of the network's weights.
    """
    with ExitStack() as stack:
        tensors = _Tensors(stack, files, layout)
        _compare(tensors, network)
        ours = [name for name, _ in network.named_parameters()]
        tensors.look_through(dict.fromkeys(n for name in ours for n in tensors.origin(name).names))

        def weight(name: str, shape: torch.Size) -> Tensor:
            origin = tensors.origin(name)
            exact = torch.float32 if name in changes else dtype
            raw = [tensors.read(n).reshape(origin.shape(shape)).to(exact) for n in origin.names]
            return origin.joined(raw, changes.get(name, ())).to(dtype)

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
        count, fan_in = shape.numel(), shape[1:].numel()
        scaled = block * fan_in**-0.5
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
            if given.dim() == 4 and device.type != "cpu":
                given = given.to(memory_format=layout_on(device))
            setattr(layer, name, nn.Parameter(given, requires_grad=False))
        if lay_out and isinstance(layer, (Conv, GatedLinear, Linear)):
            layer.lay_out()
        for name, given in list(layer.named_parameters(recurse=False)):
            if device.type == "cpu":  # else one small weight would hold on to the whole file
                setattr(layer, name, nn.Parameter(given.clone(), requires_grad=False))
    if lay_out and isinstance(network, UNet):
        network.lay_out()


def _compare(tensors: _Tensors, network: nn.Module) -> None:
    wanted = {name: weight.shape for name, weight in network.named_parameters()}
    origins = {name: tensors.origin(name) for name in wanted}
    missing = sorted(n for origin in origins.values() for n in origin.names if n not in tensors)
    if missing:
        raise TensorError(f"lacks tensors, the first `{missing[0]}`")

    def wrong() -> Iterator[str]:
        for name, shape in wanted.items():
            for part in origins[name].names:
                has = tensors.shape(part)
                if len(has) == 4 and len(shape) == 2 and has[2:] == [1, 1]:
                    has = has[:2]  # a linear map, written as a convolution
                if has != origins[name].shape(shape):
                    yield part

    first = next(wrong(), None)
    if first is not None:
        raise TensorError(f"has tensors of the wrong shape, the first `{first}`")
