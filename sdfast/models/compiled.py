"""The UNet through torch.compile: minutes of trial the first time, kept for later runs."""

import logging
import os
from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor

from sdfast.errors import DeviceError, UsageError, one_line
from sdfast.models.device import is_memory
from sdfast.models.networks import Conditioning, Shifts, UNet

_SHAPES = 256
"""Programs that torch keeps of one network; past them it would refuse a new shape."""


def check_compiles(device: torch.device, vram: str) -> None:
    """Raise UsageError off CUDA, where a processor's weights are laid out for calls of another
    kind, and for weights that come and go within a call."""
    if device.type != "cuda":
        raise UsageError(f"--compile is for CUDA; this is {device}", "leave it out")
    if vram == "min":
        raise UsageError("--compile does not go with --vram min", "--vram offload")


def compile_unet(unet: UNet) -> Callable[[Tensor, Shifts, Conditioning], Tensor]:
    """The UNet as kernels of its own, chosen by trial when it is first asked with a shape.

    What was found is kept in the user's cache folder, unless TORCHINDUCTOR_CACHE_DIR names another.
    Graphs are not recorded here: `Graphs` does it, for compiled and plain networks alike. A call
    raises DeviceError where a compiler is missing or gives up.
    """
    from platformdirs import user_cache_path

    kept = user_cache_path("sdfast") / "compiled"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(kept))
    set_up_compiler()
    # as the mode max-autotune-no-cudagraphs, but without trying each kernel's neighbours one by one
    program = compiled(unet, options={"max_autotune": True, "coordinate_descent_tuning": False})

    def asked(x: Tensor, shifts: Shifts, conditioning: Conditioning) -> Tensor:
        try:
            return program(x, shifts, conditioning)
        except Exception as error:
            if is_memory(error) or not _is_compilers(error):
                raise
            said = one_line(error, 300)
            raise DeviceError(
                f"the UNet was not compiled: {said}", "leave out --compile"
            ) from error

    return asked


def set_up_compiler() -> None:
    """Have torch's compiler keep its trials to itself, and make each kernel once.

    Worker processes make all kernels side by side, for this process to find in Triton's cache. The
    version of ptxas, which assembles them, is in the cache's key. torch gives the workers its own
    (2.11), and Triton may have taken another here; the kernels then would be made here again, one
    after the other. So both are to take Triton's.
    """
    from torch._inductor import config

    for setting in ("autotune_num_choices_displayed", "max_autotune_report_choices_stats"):
        if hasattr(config, setting) and f"TORCHINDUCTOR_{setting.upper()}" not in os.environ:
            setattr(config, setting, 0)
    logging.getLogger("torch._inductor.select_algorithm").addFilter(_is_news)
    _share_ptxas()


def _is_news(record: logging.LogRecord) -> bool:
    """False where a kernel tried needs more shared memory than there is: another is taken."""
    return "out of resource" not in record.getMessage()


def _share_ptxas() -> None:
    try:
        knobs: Any = import_module("triton").knobs
        os.environ.setdefault("TRITON_PTXAS_PATH", str(knobs.nvidia.ptxas.path))
    except AttributeError:  # Triton before 3.4 does not say; torch's own for both, if not too late
        tasks: Any = import_module("torch._inductor.runtime.compile_tasks")
        getattr(tasks, "_set_triton_ptxas_path", lambda: None)()
    except (ImportError, RuntimeError):
        return  # no Triton, or one for GPUs of another make


def compiled(unet: UNet, **how: Any) -> Callable[[Tensor, Shifts, Conditioning], Tensor]:
    """One whole program for each shape; what cannot be one is an error and no silent detour."""
    dynamo = cast("Any", torch)._dynamo
    dynamo.config.cache_size_limit = max(_SHAPES, dynamo.config.cache_size_limit)
    return cast("Any", torch).compile(unet, fullgraph=True, dynamic=False, **how)


def _is_compilers(error: Exception) -> bool:
    """Whether it is torch's compiler that complains, or Triton below it."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor", "triton"))
