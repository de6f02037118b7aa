"""How many pictures are best painted in one walk."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from sdfast.job import Job

if TYPE_CHECKING:
    import torch

MOST = 16
"""Pictures in one network call where nobody has said otherwise; more gain next to nothing."""
_PIXELS = 512 * 512
"""In one network call of a processor; it is busy with as many."""
_SHARE = 0.6
"""Of a GPU's free memory."""


class _OnDevice(Protocol):
    device: "torch.device"


class Room:
    """What a model has room for: on a processor so many pixels, on a GPU what memory holds.

    What a pixel takes there is seen while the first picture is painted, which is alone therefore.
    `wanted` is how many somebody wants instead. Pictures that decide on their steps are alone.
    """

    def __init__(self, model: "_OnDevice", wanted: int | None = None) -> None:
        self._model, self._wanted = model, wanted
        self._bytes = 0.0
        """A pixel's share of a GPU's memory while it is painted, as far as was seen."""

    def holds(self, job: Job) -> int:
        """How many pictures like that of a complete job go together."""
        if job.sampler.calls is None:
            return 1
        if self._wanted is not None:
            return self._wanted
        width, height = job.size or (1, 1)
        room = _PIXELS // (width * height)
        if self._model.device.type == "cuda":
            from sdfast.models.device import free_memory

            each = self._bytes * width * height
            room = int(_SHARE * (free_memory(self._model.device) or 0) / each) if each else 1
        return max(min(room, MOST), 1)

    @contextmanager
    def watched(self, job: Job, count: int) -> Generator[None]:
        """See in here how much of a GPU's memory so many pictures like a job's take."""
        device = self._model.device
        if device.type != "cuda":
            yield
            return
        import torch

        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield
        taken = torch.cuda.max_memory_allocated(device) - before
        width, height = job.size or (1, 1)
        self._bytes = max(self._bytes, taken / (count * width * height))
