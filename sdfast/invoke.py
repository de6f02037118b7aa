"""Recipes of InvokeAI: flat JSON, `invokeai_metadata` since version 3 and `sd-metadata` before."""

import re
from collections.abc import Mapping
from typing import Any, cast

from sdfast.elsewhere import Said, as_object, literal, short, taken
from sdfast.errors import MetadataError
from sdfast.sampler_names import COMFY, nearest_walk

_SAMPLERS = {f"{name}_k": f"{COMFY[name]} Karras" for name in ("dpmpp_2m", "euler", "heun")} | {
    "ddim": "DDIM",
    "pndm": "PNDM",
    "plms": "PLMS",
}
"""Those that ask at the same noise here as there."""
_NAMED = {"kdpm_2": "dpm_2", "kdpm_2_a": "dpm_2_ancestral", "unipc": "uni_pc"}
"""Others by the names that more programs have for them."""

_FLAT = {
    "positive_prompt": "prompt",
    "negative_prompt": "negative",
    "seed": "seed",
    "steps": "steps",
    "cfg_scale": "guidance",
}
_SILENT = {"app_version", "width", "height", "generation_mode", "scheduler", "sampler", "clip_skip"}
_AS_HERE = {("rand_device", "cpu"), ("type", "txt2img")}


def read_invoke(text: str) -> Said:
    """InvokeAI's `invokeai_metadata`. Its `clip_skip` counts the layers left out."""
    return _flat(as_object(text))


def read_old_invoke(text: str) -> Said:
    """InvokeAI's `sd-metadata`, where the negative prompt stands in brackets within the prompt."""
    whole = as_object(text)
    image = whole.get("image")
    if not isinstance(image, dict):
        raise MetadataError("has a recipe of InvokeAI's without an image")
    said = dict(cast("dict[str, Any]", image))
    parts = said.pop("prompt", "")
    if isinstance(parts, list):
        parts = ", ".join(
            str(cast("Mapping[str, object]", part).get("prompt", ""))
            for part in cast("list[object]", parts)
            if isinstance(part, dict)
        )
    prompt = str(parts)
    negative = ", ".join(re.findall(r"\[([^\[\]]*)\]", prompt))
    positive = (part.strip() for part in re.split(r"\[[^\[\]]*\]", prompt))
    said["positive_prompt"] = " ".join(part for part in positive if part)
    return _flat(said | {"negative_prompt": negative, "model": whole.get("model_weights")})


def _flat(found: Mapping[str, Any]) -> Said:
    said: dict[str, object] = {ours: found.get(theirs) for theirs, ours in _FLAT.items()}
    for key in ("prompt", "negative"):
        if isinstance(text := said[key], str):
            said[key] = literal(text)
    if "width" in found and "height" in found:
        said["size"] = f"{found['width']}x{found['height']}"
    named = found.get("scheduler", found.get("sampler"))
    said["sampler"] = same = _SAMPLERS.get(str(named))
    if (skip := found.get("clip_skip")) and isinstance(skip, int):
        said["clip_skip"] = skip + 1
    unknown = {
        name: short(value)
        for name, value in found.items()
        if name not in _FLAT and name not in _SILENT and value not in (None, "", [], {}, 0, False)
        if not isinstance(value, str) or (name, value) not in _AS_HERE
    }
    if same is None and named is not None:
        unknown["Sampler"] = short(named)
        said["sampler"] = _nearest(str(named))
    texts = " ".join(str(said[key] or "") for key in ("prompt", "negative"))
    if re.search(r"\)\d|[\w)](\+|-{2,})+(?!\w)", texts):
        unknown["Prompt weights"] = "as InvokeAI writes them"
    return taken(said, unknown)


def _nearest(named: str) -> str | None:
    """Its names with `_k` are Karras'."""
    name = named.removesuffix("_k")
    return nearest_walk(_NAMED.get(name, name), "normal" if name == named else "karras")
