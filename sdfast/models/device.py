"""Where the networks run, in which precision, and how long it took there."""

import os
import re
import time
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from sdfast.errors import DeviceError, OutOfMemoryError
from sdfast.machine import PRECISIONS, check_precision, read_device

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, word) for name, word in PRECISIONS.items()}


def pick_device(wanted: str = "auto") -> torch.device:
    """The device of a name; `auto` takes CUDA, then MPS, then the CPU.

    Raises UsageError for what is no name, and DeviceError for one that is not there.
    """
    kind, index = read_device(wanted)
    if kind == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    counts = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    count = counts.get(kind, 1)
    if index >= count:
        have = f"{count} {kind} device{'s' * (count != 1)}" if count else f"no {kind} device"
        raise DeviceError(f"`{wanted}` is not there: this machine has {have}", "--device auto")
    return torch.device(kind, index) if kind == "cuda" else torch.device(kind)


def pick_dtype(wanted: str, device: torch.device, parameters: int) -> torch.dtype:
    """The precision of a name; `auto` takes what the device computes fastest.

    That is half precision on CUDA and MPS, bfloat16 on processors with instructions for it, and
    float32 on others. Networks under a hundred million parameters stay in float32 on a CPU: they
    have nothing to gain. Raises UsageError for what is no name.
    """
    check_precision(wanted)
    if wanted in DTYPES:
        return DTYPES[wanted]
    if device.type != "cpu":
        return torch.float16
    return torch.bfloat16 if parameters > 100_000_000 and cpu_has_bfloat16() else torch.float32


def layout(device: torch.device) -> torch.memory_format:
    """How pictures [n, c, h, w] lie there, and the kernels that convolve them.

    Channels last, but on MPS, where some versions of torch mistake them for channels first.
    """
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


@cache
def multiplies_vectors_of_bfloat16() -> bool:
    """Whether it does so in vectors, and has no AMX to multiply whole matrices."""
    return cpu_has_bfloat16() and "amx_bf16" not in cpu_flags()


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware (avx512_bf16 or AMX); Linux tells."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(cpu_flags())


def cpu_flags() -> set[str]:
    """What this processor can do, by Linux' names; empty elsewhere."""
    try:
        return set(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return set()


def use_cores() -> None:
    """One thread for each core where a core runs two, as far as the environment leaves it open.

    And no more than OpenMP gives: oneDNN would leave undone what a thread that never comes has to
    do of a product, and say nothing.
    """
    threads = min(_threads_for_cores(), _threads_given())
    if threads < torch.get_num_threads():
        torch.set_num_threads(threads)


def _threads_for_cores() -> int:
    asked = torch.get_num_threads()
    if {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} & set(os.environ) or not hasattr(
        os, "sched_getaffinity"
    ):
        return asked
    siblings = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    try:
        return len({Path(siblings.format(n)).read_text() for n in os.sched_getaffinity(0)})
    except OSError:
        return asked


def _threads_given() -> int:
    """How many OpenMP is sure to give, by what its environment asks of it."""
    dynamic, levels, limit = (
        os.environ.get(f"OMP_{key}", "").strip()
        for key in ("DYNAMIC", "MAX_ACTIVE_LEVELS", "THREAD_LIMIT")
    )
    if dynamic.lower() == "true" or levels == "0":
        return 1
    return int(limit) if re.fullmatch("[1-9][0-9]{0,8}", limit) else torch.get_num_threads()


_NO_MEMORY = re.compile(
    "out of memory|can't allocate memory|annot allocate memory|not enough memory|ALLOC_FAILED"
    "|could not create a primitive(?! descriptor)|Invalid buffer size"
)
"""How CUDA, MPS (which has a most of one tensor, too), the CPU's allocator on Linux and Windows,
Linux itself, oneDNN, cuBLAS and cuDNN say it."""


def free_memory(device: torch.device) -> int | None:
    """Bytes that a device has to give, what torch holds in reserve included; None if unknown."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        (available,) = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
        return 1024 * int(available)
    except (OSError, ValueError):
        return None


def is_memory(error: Exception) -> bool:
    """Whether it was memory that did not suffice."""
    named = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return named or bool(_NO_MEMORY.search(str(error)))


@contextmanager
def memory_errors(
    device: torch.device, doing: str, hint: str = "--size asks for fewer pixels"
) -> Generator[None]:
    """In here, running out of memory is an OutOfMemoryError that says while doing what."""
    try:
        yield
    except Exception as error:  # every library has its own
        if isinstance(error, OutOfMemoryError) or not is_memory(error):
            raise
        raise OutOfMemoryError(f"out of memory on {device} while {doing}", hint) from error


class Clock:
    """Marks moments on the device without waiting for it; the seconds between are read later.

    A GPU works behind the program's back, so a moment there is an event in its queue. Reading waits
    for the last one, which is why it is done once, after the walk.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._backend: Any = {"cuda": torch.cuda, "mps": torch.mps}.get(device.type)

    def mark(self) -> Any:
        """This moment."""
        if self._backend is None:
            return time.perf_counter()
        kind = getattr(self._backend, "Event", None) or self._backend.event.Event
        event = kind(enable_timing=True)
        with self._here():
            event.record()
        return event

    def between(self, marks: Sequence[Any]) -> list[float]:
        """Seconds from each mark to the next."""
        pairs = list(pairwise(marks))
        if self._backend is None:
            return [b - a for a, b in pairs]
        with self._here():
            self._backend.synchronize()
        return [self._seconds(a, b) for a, b in pairs]

    def _seconds(self, begin: Any, end: Any) -> float:
        try:
            return begin.elapsed_time(end) / 1000
        except RuntimeError:
            if self._device.type != "mps":
                raise
            return 0.0  # MPS may tell two moments with nothing between them the wrong way round

    def _here(self) -> AbstractContextManager[Any]:
        """Its own device as the current one, where there can be several."""
        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()
