"""glibc's allocator, told to keep what it has.

A block as large as a picture's is given back to the system when it is freed, and asked for again,
page by page, for the next layer: 83,000 page faults a step at 256 pixels. Thresholds for that stop
at 32 MB; never asking for single blocks and never giving back has no such limit. Whoever has set
`MALLOC_` variables is not overruled, and other allocators and systems are left alone. A picture
that outgrows all that is kept has it given back first.
"""

import ctypes
import gc
import os
import sys
from functools import cache

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # malloc.h


@cache
def keep_memory() -> None:
    """Free memory stays with the process from here on."""
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    if library := _glibc():
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, -1)


def give_back() -> None:
    """Free memory goes back to the system, this once."""
    if library := _glibc():
        library.malloc_trim(0)


def tidy() -> None:
    """What is no longer used goes back to the system and the device: another model is to come."""
    gc.collect()
    give_back()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
