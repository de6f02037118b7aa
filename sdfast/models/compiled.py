"""The UNet through torch.compile: minutes of trial the first time, kept for later runs."""

import os
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from sdfast.errors import UsageError
from sdfast.models.networks import Told, UNet


def compile_unet(unet: UNet, device: torch.device) -> Callable[[Tensor, Tensor, Told], Tensor]:
    """The UNet as kernels of its own, chosen by trial when it is first asked with a shape.

    What was found is kept in the user's cache folder, unless TORCHINDUCTOR_CACHE_DIR names another.
    Graphs are not recorded here: `Graphs` does it, for compiled and plain networks alike. Raises
    UsageError off CUDA: a processor's weights are laid out already, for calls of another kind.
    """
    if device.type != "cuda":
        raise UsageError(f"--compile is for CUDA; this is {device}", "leave it out")
    from platformdirs import user_cache_path

    kept = user_cache_path("sdfast") / "compiled"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(kept))
    return compiled(unet, mode="max-autotune-no-cudagraphs")


def compiled(unet: UNet, **how: Any) -> Callable[[Tensor, Tensor, Told], Tensor]:
    """One whole program for each shape; what cannot be one is an error and no silent detour."""
    return cast("Any", torch).compile(unet, fullgraph=True, dynamic=False, **how)
