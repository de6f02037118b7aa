"""Where networks run, in which precision and memory, by the names that flags have for it.

Checked at the door, where no torch is there yet; what a name comes to is `models.device`'s to say.
"""

import re
from typing import Literal, get_args

from sdfast.errors import UsageError
from sdfast.wording import nearest, quoted

DEVICES = ("auto", "cuda", "mps", "cpu")
"""`cuda` may be followed by the number of one, as in `cuda:1`."""
PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""And what torch calls them."""
Vram = Literal["full", "offload", "min"]
VRAM: tuple[Literal["auto"] | Vram, ...] = ("auto", *get_args(Vram))


def read_device(wanted: str) -> tuple[str, int]:
    """The kind of a device, and which one of its kind. Raises UsageError for what names none."""
    if named := re.fullmatch("(auto)|(cuda|mps|cpu)(?::([0-9]{1,9}))?", wanted):
        return named[1] or named[2], int(named[3] or 0)
    kind = wanted.partition(":")[0]
    hint = "NVIDIA's are `cuda`, Apple's `mps`" if kind == "gpu" else nearest(kind, DEVICES)
    raise UsageError(f"there is no device {quoted(wanted)}", hint)


def check_precision(wanted: object) -> None:
    """Raise UsageError for what is no `--dtype`."""
    if wanted not in ("auto", *PRECISIONS):
        ours = {theirs: name for name, theirs in PRECISIONS.items()}
        hint = nearest(ours.get(f"{wanted}", f"{wanted}"), ("auto", *PRECISIONS))
        raise UsageError(f"there is no dtype {quoted(wanted)}", hint)


def read_vram(wanted: str) -> Literal["auto"] | Vram:
    """A `--vram`. Raises UsageError for what is none."""
    for way in VRAM:
        if way == wanted:
            return way
    raise UsageError(f"there is no --vram {quoted(wanted)}", nearest(wanted, VRAM))
