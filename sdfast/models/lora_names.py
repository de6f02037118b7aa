"""What the tensors of a LoRA are called, by kohya's scripts, LyCORIS, diffusers and peft.

Nothing here imports torch, so that a command line can tell a LoRA from other files.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sdfast.errors import ModelError
from sdfast.models.lora_config import PEFT

ROLES = (
    *(f"hada_{role}" for role in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")),
    *(f"lokr_{role}" for role in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")),
)
"""What LyCORIS calls its tensors, each at the end of a name."""

STARTS = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "unet.": "unet",
    "text_encoder.": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
}
"""What the names begin with that are meant for each network."""

_LORA = (
    r"(\.lora_{kohya}|\.lora_{peft}(\.\w+)?|\.lora\.{kohya}"
    r"|\.lora_linear_layer\.{kohya}|_lora\.{kohya})"
)

_ENDS = {
    "down": _LORA.format(kohya="down", peft="A") + r"\.weight$",
    "up": _LORA.format(kohya="up", peft="B") + r"\.weight$",
    "mid": r"\.lora_mid\.weight$",
    "alpha": r"\.alpha$",
    "dora_scale": r"\.dora_scale$",
    "magnitude": r"\.lora_magnitude_vector(\.\w+)?(\.weight)?$",
    **{role: rf"\.{role}$" for role in ROLES},
}
"""What they end in, by what the tensor is."""

_OTHERS = {
    r"\.(hada_|lokr_)": "a LoHa or LoKr that peft wrote",
    r"\.oft_": "an OFT",
    r"\.diff(_b)?$": "a whole difference",
}
"""Changes of other kinds, by what they call their tensors."""


class Name(NamedTuple):
    """A tensor's name in its pieces."""

    role: str
    start: str
    layer: str
    """As the file has it, with dots or without."""


def split(path: Path, key: str) -> Name:
    """A tensor's name in its pieces. Raises ModelError for one of no LoRA."""
    name = key.removeprefix(PEFT)
    ends = ((role, re.search(end, name)) for role, end in _ENDS.items())
    role, end = next(((role, end.start()) for role, end in ends if end), ("", 0))
    if not role or (role in ROLES and name != key):  # peft counts the alpha of those otherwise
        other = next((what for sign, what in _OTHERS.items() if re.search(sign, name)), "")
        kind = f"is of {other}, which is not read" if other else "is of no LoRA known here"
        raise ModelError(f"`{path}`: `{key}` {kind}", "--lora reads LoRA, DoRA, LoHa and LoKr")
    start = next((s for s in STARTS if name.startswith(s)), "")
    return Name(role, start, name[len(start) : end])


def check_names(path: Path, keys: Iterable[str]) -> None:
    """Raise ModelError, naming the first at fault, unless all are of a LoRA; of which, is open."""
    for key in keys:
        split(path, key)
