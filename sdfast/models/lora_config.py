"""What peft's config says of a LoRA's alphas, where the file has none.

diffusers keeps that config in the file's header, `lora_adapter_metadata`, and peft beside the file,
in `adapter_config.json`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any, cast

from sdfast.errors import ModelError
from sdfast.fields import ADAPTER
from sdfast.models.folder import read_json
from sdfast.models.headers import Header

PEFT = "base_model.model."
"""What stands before each tensor's name where peft itself has written the file."""

_PARTS = ("unet", "text_encoder", "text_encoder_2")


@dataclass(frozen=True, slots=True)
class Config:
    """What peft's config says of one network's alphas."""

    all: float | None = None
    some: Mapping[str, float] = field(default_factory=dict[str, float])
    """Of layers by the end of their names."""
    root: bool = False
    """What is added counts alpha / sqrt(rank) (arXiv 2312.03732) and not alpha / rank."""

    def factor(self, layer: str, rank: int, alpha: float | None) -> float:
        """What a layer's change is to be multiplied by, whose file may tell an alpha itself."""
        if alpha is None:
            ends = (value for end, value in self.some.items() if f".{layer}".endswith(f".{end}"))
            alpha = next(ends, self.all)
        return (rank if alpha is None else alpha) / (sqrt(rank) if self.root else rank)


def read_configs(path: Path, header: Header) -> dict[str, Config]:
    """The config of each network, as far as there is one. Raises ModelError."""
    kept, beside = header.about.get("lora_adapter_metadata"), path.parent / ADAPTER
    try:
        if kept is not None:
            said = cast("dict[str, Any]", json.loads(kept))
            return {part: _config(said, f"{part}.") for part in _PARTS}
        if beside.is_file() and any(key.startswith(PEFT) for key in header.shapes):
            return {"unet": _config(read_json(str(path), beside))}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        where = "`lora_adapter_metadata`" if kept is not None else f"`{beside.name}` beside it"
        raise ModelError(f"`{path}`: {where} cannot be read: {error}") from error
    return {}


def _config(said: Mapping[str, Any], start: str = "") -> Config:
    alpha = said.get(f"{start}lora_alpha")
    some = dict(cast("Mapping[str, Any]", said.get(f"{start}alpha_pattern") or {}))
    if pattern := next((end for end in some if not re.fullmatch(r"[\w.]+", end)), None):
        raise ValueError(f"its alpha_pattern {pattern} is no layer")
    return Config(
        None if alpha is None else float(alpha),
        {end.removeprefix("text_model."): float(value) for end, value in some.items()},
        bool(said.get(f"{start}use_rslora")),
    )
