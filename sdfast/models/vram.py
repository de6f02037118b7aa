"""Networks without room to stay: their weights lie in the host's memory and visit the device.

`full` keeps every network on the device. `offload` has one there at a time: the text encoders, the
UNet for the whole walk, the VAE. `min` does so, too, and lets the UNet's large weights come one
layer at a time in each call: as little memory as can be, for the bus's time in each step.

Weights never change, so what leaves the device is dropped there and not copied back.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import nn

from sdfast.errors import UsageError
from sdfast.machine import Vram, read_vram
from sdfast.models.device import free_memory

_SHARE = 0.75
"""Of the free memory that weights may fill; the rest is for what is computed."""
_LARGE = 1 << 20
"""Bytes from which on a weight comes and goes with its layer; smaller ones stay."""


def pick_vram(wanted: str, device: torch.device, weigh: Callable[[], list[int]]) -> Vram:
    """How the networks share the device's memory; `auto` as the free memory allows.

    weigh   tells the bytes of each network's weights

    Raises UsageError for an unknown name, and off CUDA, where there is no second memory.
    """
    way = read_vram(wanted)
    if device.type != "cuda":
        if way in ("offload", "min"):
            raise UsageError(f"--vram {way} is for CUDA; this is {device}", "--vram full")
        return "full"
    if way != "auto":
        return way
    return fitting(weigh(), free_memory(device) or 0)


def fitting(networks: list[int], free: int) -> Vram:
    """The quickest way that leaves room for what is computed."""
    if sum(networks) <= _SHARE * free:
        return "full"
    return "offload" if max(networks) <= _SHARE * free else "min"


class _Weight(NamedTuple):
    """Where a weight belongs, what it is at home, and where it visits."""

    layer: nn.Module
    name: str
    home: nn.Parameter
    device: torch.device

    def bring(self, *_: object) -> None:
        here = self.home.detach().to(self.device, non_blocking=True, copy=True)
        setattr(self.layer, self.name, nn.Parameter(here, requires_grad=False))

    def leave(self, *_: object) -> None:
        setattr(self.layer, self.name, self.home)


class Stage:
    """A device with room for one network at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._guests: dict[nn.Module, list[_Weight]] = {}
        self._on: nn.Module | None = None

    def add(self, network: nn.Module) -> None:
        """A network that lies in the host's memory and is on the device only while it is asked."""
        self._guests[network] = [*_at_home(network, self._device)]

    def stream(self, network: nn.Module) -> None:
        """A network whose large weights visit for the length of a layer's call."""
        self._guests[network] = []
        for weight in _at_home(network, self._device):
            if weight.home.nbytes < _LARGE or weight.name != "weight":
                weight.bring()
                continue
            weight.layer.register_forward_pre_hook(weight.bring)
            weight.layer.register_forward_hook(weight.leave)

    def call(self, network: nn.Module | None) -> None:
        """Let a network come, and the one before it leave. One that was not added lives here."""
        if network is self._on or (network is not None and network not in self._guests):
            return
        if self._on is not None:
            for weight in self._guests[self._on]:
                weight.leave()
        if network is not None:
            for weight in self._guests[network]:
                weight.bring()
        self._on = network


def _at_home(network: nn.Module, device: torch.device) -> Iterator[_Weight]:
    """A network's weights, in memory that the device can read by itself."""
    for layer in network.modules():
        for name, weight in list(layer.named_parameters(recurse=False)):
            kept = weight.data
            if kept.dim() == 4:  # as pictures have their channels
                kept = kept.contiguous(memory_format=torch.channels_last)
            if device.type == "cuda":
                kept = kept.pin_memory()
            home = nn.Parameter(kept, requires_grad=False)
            setattr(layer, name, home)
            yield _Weight(layer, name, home, device)


class Place(NamedTuple):
    """Where networks run and in which precision, and the stage they share if none can stay."""

    device: torch.device
    dtype: torch.dtype
    stage: Stage | None = None
