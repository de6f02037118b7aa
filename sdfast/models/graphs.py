"""A network's calls as CUDA graphs: recorded once for each shape, and played again.

A UNet is some five hundred kernels, and starting them one by one from Python takes longer than
they run. A recording starts them all at once. It reads and writes where it was recorded, so what a
call brings is copied there, and what it says is copied away before the next.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast
from weakref import WeakSet

import torch
from torch import Tensor

from sdfast.models.device import is_memory

Play = Callable[[], None]
Record = Callable[[Callable[[], Any]], tuple[Play, Any]]
"""Records what a function does: how to play it, and where its answer lies each time."""

_MOST = 4
"""Recordings kept; the longest unused goes. Guided and unguided calls of two sizes find room."""
_AGAIN = 200
"""Plain calls after which a recording that found no memory is tried again."""


@dataclass(slots=True)
class _Recording:
    read: tuple[Any, ...]
    """Where it reads."""
    heard: list[Any]
    """What was last brought there."""
    play: Play
    said: Any


class Album:
    """Recordings of several networks in one memory, which is free again once none is left."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.cramped = False
        """A plain call has needed their memory: nothing more is recorded."""
        self._networks: WeakSet[Graphs] = WeakSet()

    def graphs(self, network: Callable[..., Any], *, after: int = 0) -> "Graphs":
        """A network to be recorded here, from the call `after` so many of a shape on.

        Recording takes four calls, and pays where more than those come.
        """
        self._networks.add(made := Graphs(network, self, after))
        return made

    def clear(self) -> bool:
        """Let go of all recordings and of their memory; whether there were any."""
        counts = [one.forget() for one in self._networks]
        torch.cuda.empty_cache()
        return any(counts)

    def plainly(self, network: Callable[..., Any], *asked: Any) -> Any:
        """A call that is not recorded; where memory is short, with that of the recordings."""
        try:
            return network(*asked)
        except RuntimeError as error:
            if not is_memory(error):
                raise
            problem = error.with_traceback(None)  # which holds all that was computed
        if not self.clear():
            raise problem
        self.cramped = True
        return network(*asked)


class Graphs:
    """A network that is recorded where it is asked with a shape.

    It is asked with tensors, tuples of tensors, and what else decides what it does: numbers, None.
    A tuple that comes again is known by being the same object, and not read again.
    """

    def __init__(self, network: Callable[..., Any], album: Album, after: int) -> None:
        self._network = network
        self._album = album
        self._after = after
        self._plain: dict[object, int] = {}
        self._kept: dict[object, _Recording] = {}
        self._refused: set[object] = set()
        self._short: set[object] = set()
        """Shapes that have once found no memory."""

    def __call__(self, *asked: Any) -> Any:
        """As the network."""
        key = tuple(_shapes(asked))
        recording = self._kept.pop(key, None) or self._new(key, asked)
        if recording is None:
            return self._album.plainly(self._network, *asked)
        self._kept[key] = recording  # the last used is the last to go
        while len(self._kept) > _MOST:
            del self._kept[next(iter(self._kept))]
        for i, (there, here) in enumerate(zip(recording.read, asked, strict=True)):
            if isinstance(here, Tensor) or here is not recording.heard[i]:
                for to, what in zip(_tensors(there), _tensors(here), strict=True):
                    to.copy_(what)
                recording.heard[i] = here
        recording.play()
        return _copied(recording.said)

    def forget(self) -> int:
        """Let go of the recordings; how many there were."""
        count = len(self._kept)
        self._kept.clear()
        return count

    def _new(self, key: object, asked: tuple[Any, ...]) -> _Recording | None:
        """A recording, or None if it is not time for one, or one could not be made."""
        self._plain[key] = self._plain.get(key, 0) + 1
        refused = self._album.cramped or key in self._refused
        if self._plain[key] <= self._after or refused:
            return None
        try:
            return self._recorded(asked)
        except RuntimeError as error:
            if not is_memory(error):
                warnings.warn(f"no CUDA graph could be recorded: {error}", stacklevel=3)
                self._refused.add(key)
                return None
        first = key not in self._short
        self._short.add(key)
        self._plain[key] = self._after - _AGAIN
        if first and not self._after and self._album.clear():  # what the others took may do
            with contextlib.suppress(RuntimeError):
                return self._recorded(asked)
        return None

    def _recorded(self, asked: tuple[Any, ...]) -> _Recording:
        own = tuple(map(_copied, asked))
        play, said = self._album.record(lambda: self._network(*own))
        return _Recording(own, list(asked), play, said)


def _inside(nest: object) -> list[object] | None:
    """What a tuple or list holds; None for anything else."""
    return list(cast("list[object]", nest)) if isinstance(nest, (tuple, list)) else None


def _tensors(nest: object) -> Iterator[Tensor]:
    if isinstance(nest, Tensor):
        yield nest
    for part in _inside(nest) or ():
        yield from _tensors(part)


def _shapes(nest: object) -> Iterator[object]:
    """What a recording is good for."""
    parts = _inside(nest)
    if parts is None:
        yield (nest.shape, nest.dtype) if isinstance(nest, Tensor) else nest
    for part in parts or ():
        yield from _shapes(part)


def _copied(nest: Any) -> Any:
    if isinstance(nest, Tensor):
        return nest.clone()
    parts = _inside(nest)
    if parts is None:
        return nest
    copies = map(_copied, parts)
    kind = cast("Any", type(nest))
    return kind(*copies) if hasattr(kind, "_fields") else kind(copies)


class Recorder:
    """Records on a CUDA device, all from one stream into one pool of memory.

    cuBLAS keeps a workspace for every stream it has ever seen.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            self._pool = torch.cuda.graph_pool_handle()
            self._aside = torch.cuda.Stream(device)

    def __call__(self, function: Callable[[], Any]) -> tuple[Play, Any]:
        """A `Record`."""
        with torch.cuda.device(self._device):
            before = torch.cuda.current_stream()
            self._aside.wait_stream(before)
            try:
                with torch.cuda.stream(self._aside):
                    for _ in range(3):  # cuDNN and cuBLAS choose their ways beforehand
                        function()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, pool=self._pool, stream=self._aside):
                    said = function()
            finally:
                torch.cuda.set_stream(before)  # a recording that fails at its end stays aside
                before.wait_stream(self._aside)
        return graph.replay, said
