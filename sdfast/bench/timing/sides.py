"""Who can paint a row: our engine, or a pipeline of diffusers."""

from collections.abc import Sequence
from math import prod

import torch

from sdfast.bench.timing.entries import OURS, Entry, read_settings
from sdfast.bench.timing.turn import Side
from sdfast.errors import DeviceError
from sdfast.models.device import DTYPES, free_memory, pick_dtype
from sdfast.models.dressed import dressed
from sdfast.models.find import find
from sdfast.models.headers import read_header
from sdfast.models.parts import bare, weigh


def load_side(entry: Entry, device: str) -> Side:
    """Load what the entry is painted with. What is not on this machine is not fetched."""
    source = dressed(find(entry.model, offline=True), entry.job.weights)
    if entry.family == OURS:
        from sdfast.bench.timing.ours import load_ours

        return load_ours(source, device, entry.dtype, compiled=entry.compiled)
    from sdfast.bench.timing.pipelines import load_pipeline

    return load_pipeline(source, device, read_settings(entry.family))


def check_room(entries: Sequence[Entry], device: str) -> None:
    """Raise DeviceError unless all sides' weights fit into the memory that is free, at once."""
    sides = {entry.side: entry for entry in entries}.values()
    where = torch.device(device)
    wanted, free = sum(_filled(entry, where) for entry in sides), free_memory(where)
    if free is not None and wanted > free:
        raise DeviceError(
            f"the rows' weights fill {wanted / 1e9:.1f} GB together, "
            f"and {free / 1e9:.1f} GB of memory are free",
            "fewer rows at once, or --vs diffusers:bf16, which fills half",
        )


def _filled(entry: Entry, device: torch.device) -> int:
    """Bytes of a side's weights."""
    source = dressed(find(entry.model, offline=True), entry.job.weights)
    if entry.family == OURS:
        networks = bare(source)
        count = sum(parameter.numel() for parameter in networks.unet.parameters())
        return sum(weigh(source, networks, pick_dtype(entry.dtype, device, count)))
    files = {file for part in source.parts.values() for file in part.files}
    shapes = (shape for file in files for shape in read_header(file, f"`{file}`").shapes.values())
    return sum(map(prod, shapes)) * DTYPES[read_settings(entry.family).dtype].itemsize
