"""Recipes in the forms of ComfyUI and InvokeAI: what sdfast knows is taken over, the rest is named.

ComfyUI keeps the graph of its nodes as JSON in the chunk `prompt`, each with a `class_type` and
`inputs`, which are values or links `[node, output]`. From the first sampler the links lead to the
texts, the size and the model. InvokeAI keeps flat JSON, in `invokeai_metadata` since its version 3
and in `sd-metadata` before. Samplers are taken over where they ask at the same noise here as there.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from sdfast.errors import JobError, MetadataError
from sdfast.job import Record, read_job
from sdfast.sampler_names import COMFY, COMFY_SCHEDULES, nearest_walk

Said = tuple[Record, dict[str, str]]
"""The job's keys that a recipe gives, and what else it says."""

_Node = dict[str, Any]

_COMFY = {
    (name, schedule): f"{COMFY[name]} {COMFY_SCHEDULES[schedule]}"
    for name in COMFY
    for schedule in COMFY_SCHEDULES
}
_INVOKE = {f"{name}_k": f"{COMFY[name]} Karras" for name in ("dpmpp_2m", "euler", "heun")} | {
    "ddim": "DDIM",
    "pndm": "PNDM",
    "plms": "PLMS",
}
_SAMPLERS = {"KSampler": "seed", "KSamplerAdvanced": "noise_seed"}
"""ComfyUI's samplers, and what they call the seed."""
_PLAIN = ("VAEDecode", "VAEDecodeTiled", "VAELoader", "SaveImage", "PreviewImage", "Note")
"""Nodes that change nothing of the recipe, or what is named by another."""
_FURTHER = ("conditioning", "conditioning_1", "conditioning_to")
_DEEP = 50


class _Graph:
    """ComfyUI's nodes, and which of them the recipe has come from."""

    def __init__(self, nodes: dict[str, _Node]) -> None:
        self.nodes = nodes
        self.told: dict[str, str] = {}
        self._seen: set[str] = set()

    def see(self, name: str) -> _Node:
        """A node whose inputs are asked."""
        self._seen.add(name)
        return self.nodes[name]["inputs"]

    def linked(self, value: object) -> str | None:
        """The node that an input links to."""
        match value:
            case [str() | int() as name, int()] if str(name) in self.nodes:
                return str(name)
            case _:
                return None

    def value(self, value: object) -> object:
        """An input's value, or that of the one-value node that it links to."""
        name = self.linked(value)
        if name is None:
            return value
        plain = [v for v in self.see(name).values() if isinstance(v, (str, int, float))]
        return plain[0] if len(plain) == 1 else None

    def along(self, value: object, *through: str) -> list[str]:
        """The nodes from a link to its source, by the first of these inputs that leads further."""
        path: list[str] = []
        while (name := self.linked(value)) is not None and len(path) < _DEEP and name not in path:
            path.append(name)
            inputs = self.nodes[name]["inputs"]
            keys = (*_FURTHER, *through)
            value = next((inputs[key] for key in keys if self.linked(inputs.get(key))), None)
        return path

    def kind(self, name: str) -> str:
        return str(self.nodes[name]["class_type"])

    def rest(self) -> dict[str, str]:
        """The nodes that nobody has asked, by their class."""
        return {
            self.kind(name): _short({k: v for k, v in node["inputs"].items() if not _link(v)})
            for name, node in self.nodes.items()
            if name not in self._seen and self.kind(name) not in _PLAIN
        }


def read_comfy(text: str) -> Said:
    """ComfyUI's `prompt`. Raises MetadataError if there is no sampler in it."""
    found = {
        str(name): cast("_Node", node)
        for name, node in _object(text).items()
        if isinstance(node, dict) and isinstance(cast("_Node", node).get("inputs"), dict)
        if isinstance(cast("_Node", node).get("class_type"), str)
    }
    graph = _Graph(found)
    samplers = [name for name in found if graph.kind(name) in _SAMPLERS]
    if not samplers:
        raise MetadataError("was made by ComfyUI without a sampler that sdfast knows")
    first = next((n for n in samplers if _sizes(graph, found[n]["inputs"])), samplers[0])
    inputs = graph.see(first)
    said: dict[str, object] = {
        "seed": graph.value(inputs.get(_SAMPLERS[graph.kind(first)])),
        "steps": graph.value(inputs.get("steps")),
        "guidance": graph.value(inputs.get("cfg")),
        "size": _sizes(graph, inputs),
    }
    unknown: dict[str, str] = {}
    for key in ("positive", "negative"):
        path = graph.along(inputs.get(key), key)
        said["prompt" if key == "positive" else "negative"] = _text(graph, path, unknown)
    for name in graph.along(inputs.get("model"), "model"):
        if "ckpt_name" in (loader := found[name]["inputs"]):
            graph.see(name)
            unknown["Model"] = _short(loader["ckpt_name"])
    named = tuple(str(graph.value(inputs.get(key))) for key in ("sampler_name", "scheduler"))
    said["sampler"] = _COMFY.get(cast("tuple[str, str]", named))
    if said["sampler"] is None:
        unknown["Sampler"] = " ".join(named)
        said["sampler"] = nearest_walk(*cast("tuple[str, str]", named))
    for key, usual in (("denoise", 1), ("start_at_step", 0), ("add_noise", "enable")):
        if key in inputs and (other := graph.value(inputs[key])) != usual:
            unknown[key] = _short(other)
    if isinstance(end := graph.value(inputs.get("end_at_step")), int) and isinstance(
        steps := said["steps"], int
    ):
        unknown |= {"end_at_step": str(end)} if end < steps else {}
    said |= _skipped(graph, inputs)
    return _taken(said, unknown | graph.rest())


def _sizes(graph: _Graph, inputs: _Node) -> str | None:
    """Width and height of the empty latents that a sampler begins with."""
    name = graph.linked(inputs.get("latent_image"))
    if name is None or graph.kind(name) != "EmptyLatentImage":
        return None
    latents = graph.see(name)
    return "{}x{}".format(*(graph.value(latents.get(side)) for side in ("width", "height")))


def _text(graph: _Graph, path: list[str], unknown: dict[str, str]) -> str | None:
    """The first text on the way from a sampler's input. Square brackets are plain letters there."""
    for name in path:
        inputs = graph.nodes[name]["inputs"]
        if graph.kind(name) == "ConditioningZeroOut":  # as near to no words as can be
            graph.see(name)
            return None
        key = next((k for k in ("text", "text_g") if k in inputs), None)
        if key is None:
            continue
        graph.see(name)
        text = graph.value(inputs[key])
        if "text_l" in inputs and (other := graph.value(inputs["text_l"])) != text:
            unknown["text_l"] = _short(other)
        return _literal(text) if isinstance(text, str) else None
    return None


def _skipped(graph: _Graph, inputs: _Node) -> dict[str, object]:
    """ComfyUI counts the text encoder's layers down from -1."""
    for name in graph.along(inputs.get("positive"), "positive", "clip"):
        if graph.kind(name) == "CLIPSetLastLayer":
            layer = graph.value(graph.see(name).get("stop_at_clip_layer"))
            return {"clip_skip": -layer} if isinstance(layer, int) else {}
    return {}


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
    return _flat(_object(text))


def read_old_invoke(text: str) -> Said:
    """InvokeAI's `sd-metadata`, where the negative prompt stands in brackets within the prompt."""
    whole = _object(text)
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
            said[key] = _literal(text)
    if "width" in found and "height" in found:
        said["size"] = f"{found['width']}x{found['height']}"
    named = found.get("scheduler", found.get("sampler"))
    said["sampler"] = _INVOKE.get(str(named))
    if (skip := found.get("clip_skip")) and isinstance(skip, int):
        said["clip_skip"] = skip + 1
    unknown = {
        name: _short(value)
        for name, value in found.items()
        if name not in _FLAT and name not in _SILENT and value not in (None, "", [], {}, 0, False)
        if not isinstance(value, str) or (name, value) not in _AS_HERE
    }
    if said["sampler"] is None and named is not None:
        unknown["Sampler"] = _short(named)
    texts = " ".join(str(said[key] or "") for key in ("prompt", "negative"))
    if re.search(r"\)\d|[\w)](\+|-{2,})+(?!\w)", texts):
        unknown["Prompt weights"] = "as InvokeAI writes them"
    return _taken(said, unknown)


def _taken(said: Mapping[str, object], unknown: dict[str, str]) -> Said:
    """The values that a job can have; the others are named, too."""
    record: Record = {"negative": ""}  # that none is given means that there is none
    for key, value in said.items():
        if value is None or value == "":
            continue
        try:
            record[key] = read_job({"prompt": "any", key: value}).record[key]
        except (JobError, KeyError):
            unknown[key] = _short(value)
        else:
            record[key] = value if key == "sampler" else record[key]
    return record, unknown


def _object(text: str) -> dict[str, Any]:
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MetadataError("has a recipe that is no JSON") from error
    if not isinstance(found, dict):
        raise MetadataError("has a recipe that is no JSON object")
    return cast("dict[str, Any]", found)


def _link(value: object) -> bool:
    return isinstance(value, list)


def _literal(text: str) -> str:
    """A prompt of a program to which square brackets are plain letters."""
    return re.sub(r"(?<!\\)[\[\]]", r"\\\g<0>", text)


def _short(value: object) -> str:
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = ""
    return text[:200]
