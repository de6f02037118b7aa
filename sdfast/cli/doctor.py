"""`sdfast doctor`: everything a bug report should say."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sdfast.cli.streams import json_line
from sdfast.errors import one_line
from sdfast.wording import from_home


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    import platform
    from importlib.metadata import version

    from huggingface_hub import constants, get_token

    from sdfast import __version__

    asked: dict[str, Callable[[], str]] = {
        "sdfast": lambda: __version__,
        "python": lambda: f"{platform.python_version()} on {platform.platform()}",
        **{p: partial(version, p) for p in ("torch", "diffusers", "transformers", "safetensors")},
        "device": _device,
        "cpu": _cpu,
        "memory": _memory,
        "config": _config,
        "presets": _presets,
        "cache": _cache,
        "models": _models,
        "token": lambda: "set" if get_token() else "not set",
        "offline": lambda: "yes" if constants.HF_HUB_OFFLINE else "no",
    }
    rows = {name: _told(ask) for name, ask in asked.items()}
    if as_json:
        print(json_line(rows))
        return
    wide = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{wide}}  {value}")


def _told(ask: Callable[[], str]) -> str:
    """What a row says; of what is broken, how, as it is then that a report is written."""
    try:
        return ask()
    except Exception as error:
        return f"broken: {one_line(error)}"


def _config() -> str:
    from sdfast.config import config_file, load_config

    load_config()
    return from_home(f"{config_file()}") + ("" if os.path.lexists(config_file()) else " (none yet)")


def _presets() -> str:
    from sdfast.presets import folders, names

    there = (from_home(str(folder)) for folder in folders() if os.path.lexists(folder))
    return f"{len(names())} in {', '.join(there)}"


def _cache() -> str:
    from sdfast.models.cache import cache_folder

    cache = cache_folder()
    return f"{from_home(str(cache))}, {_free(cache)} free"


def _models() -> str:
    from sdfast.models.cache import stored

    return ", ".join(["tiny", *(model.repo for model in stored() if model.paints and model.whole)])


def _cpu() -> str:
    import torch

    from sdfast.models.device import cpu_has_bfloat16

    has = "in hardware" if cpu_has_bfloat16() else "not in hardware"
    return f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, bfloat16 {has}"


def _device() -> str:
    import torch

    from sdfast.models.device import pick_device

    device = pick_device()
    if device.type != "cuda":
        return str(device)
    free, total = torch.cuda.mem_get_info(device)
    name = torch.cuda.get_device_name(device)
    return f"{device} {name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free"


def _memory() -> str:
    import torch

    from sdfast.models.device import free_memory

    free = free_memory(torch.device("cpu"))
    try:
        total = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.1f} GB"
    except (AttributeError, ValueError, OSError):  # not on Windows
        return "unknown"
    return total if free is None else f"{free / 1e9:.1f} of {total} free"


def _free(path: Path) -> str:
    while not path.exists():
        path = path.parent
    return f"{shutil.disk_usage(path).free / 1e9:.1f} GB"
