"""`sdfast doctor`: everything a bug report should say."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import torch


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    import json
    import platform
    from importlib.metadata import version

    import torch
    from huggingface_hub import constants, get_token

    from sdfast import __version__
    from sdfast.models.cache import cache_folder, stored
    from sdfast.models.device import cpu_has_bfloat16, pick_device
    from sdfast.presets import folders, names

    cache = cache_folder()
    device = pick_device()
    rows = {
        "sdfast": __version__,
        "python": f"{platform.python_version()} on {platform.platform()}",
        **{p: version(p) for p in ("torch", "diffusers", "transformers", "safetensors")},
        "device": _device(device),
        "cpu": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, bfloat16 "
        + ("in hardware" if cpu_has_bfloat16() else "not in hardware"),
        "memory": _memory(),
        "config": _config(),
        "presets": f"{len(names())} in {', '.join(str(f) for f in folders() if f.is_dir())}",
        "cache": f"{cache}, {_free(cache)} free",
        "models": ", ".join(["tiny", *(model.repo for model in stored() if model.whole)]),
        "token": "set" if get_token() else "not set",
        "offline": "yes" if constants.HF_HUB_OFFLINE else "no",
    }
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
        return
    wide = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{wide}}  {value}")


def _config() -> str:
    from sdfast.config import config_file, load_config
    from sdfast.errors import PresetError

    try:
        load_config()
    except PresetError as error:
        return f"broken: {error}"
    return f"{config_file()}" + ("" if config_file().exists() else " (none yet)")


def _device(device: torch.device) -> str:
    import torch

    if device.type != "cuda":
        return str(device)
    free, total = torch.cuda.mem_get_info(device)
    name = torch.cuda.get_device_name(device)
    return f"{device} {name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free"


def _memory() -> str:
    try:
        free, total = (
            os.sysconf("SC_PAGE_SIZE") * os.sysconf(name) / 1e9
            for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES")
        )
    except (AttributeError, ValueError, OSError):  # not on Windows
        return "unknown"
    return f"{free:.1f} of {total:.1f} GB free"


def _free(path: Path) -> str:
    while not path.exists():
        path = path.parent
    return f"{shutil.disk_usage(path).free / 1e9:.1f} GB"
