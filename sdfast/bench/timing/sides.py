"""Who can paint a row: our engine, or a pipeline of diffusers."""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from sdfast.bench.timing.entries import OURS, Entry, read_settings
from sdfast.bench.timing.painted import Side
from sdfast.errors import DeviceError
from sdfast.models.device import DTYPES, pick_dtype
from sdfast.models.find import find


def load_side(entry: Entry, device: str) -> Side:
    """Load what the entry is painted with. What is not on this machine is not fetched."""
    source = find(entry.model, offline=True)
    if entry.family == OURS:
        from sdfast.bench.timing.ours import load_ours

        return load_ours(source, device, entry.dtype, compiled=entry.compiled)
    from sdfast.bench.timing.pipelines import load_pipeline

    return load_pipeline(source, device, read_settings(entry.family))


def check_room(entries: Sequence[Entry], device: str) -> None:
    """Raise DeviceError unless all sides' weights fit into the memory that is free, at once."""
    sides = {entry.side: entry for entry in entries}.values()
    wanted, free = sum(_filled(entry, device) for entry in sides), _free(device)
    if free is not None and wanted > free:
        raise DeviceError(
            f"the rows' weights fill {wanted / 1e9:.1f} GB together, "
            f"and {free / 1e9:.1f} GB of memory are free",
            "fewer rows at once, or --vs diffusers:bf16, which fills half",
        )


def _filled(entry: Entry, device: str) -> int:
    """Bytes of a side's weights."""
    parts = find(entry.model, offline=True).parts.values()
    count = sum(_parameters(path) for path in {file for part in parts for file in part.files})
    if entry.family == OURS:
        return count * pick_dtype(entry.dtype, torch.device(device), count).itemsize
    return count * DTYPES[read_settings(entry.family).dtype].itemsize


def _parameters(path: Path) -> int:
    opened: Any = safe_open(path, framework="pt")
    with opened as file:
        return sum(prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118


def _free(device: str) -> int | None:
    """Bytes that can be filled, where the system tells."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[0]
    try:
        said = Path("/proc/meminfo").read_text(encoding="ascii").split()
        return 1024 * int(said[said.index("MemAvailable:") + 1])
    except (OSError, ValueError):
        return None
