"""A network's calls as CUDA graphs: recorded once for each shape, and played again.

A UNet is some seven hundred kernels, and starting them one by one from Python takes longer than
they run. A recording starts them all at once. It reads and writes where it was recorded, so what a
call brings is copied there, and what it says is copied away before the next.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sdfast.models.networks import Told

Ask = Callable[[Tensor, Tensor, Told], Tensor]
"""What the UNet says of latents, a time and a prompt."""

Play = Callable[[], None]
Record = Callable[[Callable[[], Tensor]], tuple[Play, Tensor]]
"""Records what a function does: how to play it, and where its answer lies each time."""

_MOST = 4
"""Recordings kept; the oldest goes. Guided and unguided calls of two sizes find room."""


@dataclass(slots=True)
class _Recording:
    x: Tensor
    time: Tensor
    told: Told
    """Where the recording reads."""
    heard: Told
    """Whose numbers stand there."""
    play: Play
    said: Tensor


class Graphs:
    """A network that is recorded where it is first asked with a shape."""

    def __init__(self, network: Ask, record: Record) -> None:
        self._network = network
        self._record = record
        self._kept: dict[object, _Recording] = {}

    def __call__(self, x: Tensor, time: Tensor, told: Told) -> Tensor:
        """As the network: x [n, c, h, w], time [1], and the prompt as its layers see it."""
        key = (x.shape, x.dtype, *(t.shape for t in _parts(told)))
        if key not in self._kept:
            try:
                made = self._recorded(x, time, told)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                warnings.warn(f"no CUDA graph could be recorded: {error}", stacklevel=2)
                return self._network(x, time, told)
            self._kept[key] = made
            while len(self._kept) > _MOST:
                del self._kept[next(iter(self._kept))]
        recording = self._kept[key]
        if recording.heard is not told:
            for there, here in zip(_parts(recording.told), _parts(told), strict=True):
                there.copy_(here)
            recording.heard = told
        recording.x.copy_(x)
        recording.time.copy_(time)
        recording.play()
        return recording.said.clone()

    def _recorded(self, x: Tensor, time: Tensor, told: Told) -> _Recording:
        x, time = x.clone(), time.clone()
        own = Told(
            [type(keys)(*(part.clone() for part in keys)) for keys in told.keys],
            None if told.more is None else told.more.clone(),
        )
        play, said = self._record(lambda: self._network(x, time, own))
        return _Recording(x, time, own, told, play, said)


def _parts(told: Told) -> list[Tensor]:
    return [part for keys in told.keys for part in keys] + (
        [] if told.more is None else [told.more]
    )


def recorder(device: torch.device) -> Record:
    """Records on a CUDA device; all recordings share one pool of memory."""
    with torch.cuda.device(device):
        pool = torch.cuda.graph_pool_handle()

    def record(function: Callable[[], Tensor]) -> tuple[Play, Tensor]:
        with torch.cuda.device(device):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(3):  # cuDNN and cuBLAS choose their ways before anything is recorded
                    function()
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                said = function()
        return graph.replay, said

    return record
