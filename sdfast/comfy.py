"""Recipes of ComfyUI: the graph of its nodes as JSON, in the chunk `prompt`.

Each node has a `class_type` and `inputs`, which are values or links `[node, output]`. From the
first sampler the links lead to the texts, the size and the model. Samplers are taken over where
they ask at the same noise here as there.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

from sdfast.elsewhere import Said, as_object, literal, short, taken
from sdfast.errors import MetadataError
from sdfast.png_texts import MOST_TEXT
from sdfast.sampler_names import COMFY, COMFY_SCHEDULES, nearest_walk

_Node = dict[str, Any]

_WALKS = {
    (name, schedule): f"{COMFY[name]} {COMFY_SCHEDULES[schedule]}"
    for name in COMFY
    for schedule in COMFY_SCHEDULES
} | {("ddim", schedule): f"Euler {ours}" for schedule, ours in COMFY_SCHEDULES.items()}
"""There `ddim` is Euler's walk, but for masks."""
_SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
_PARTS = ("sigmas", "sampler", "noise", "guider")
"""What the custom samplers have nodes of their own for; what a later one says counts."""
_MEANT: dict[str, _Node] = {
    "AlignYourStepsScheduler": {"scheduler": "align_your_steps"},
    "BasicGuider": {"cfg": 1},
    "BasicScheduler": {},
    "BetaSamplingScheduler": {"scheduler": "beta"},
    "CFGGuider": {},
    "DisableNoise": {"add_noise": "disable"},
    "ExponentialScheduler": {"scheduler": "exponential"},
    "KSamplerSelect": {},
    "KarrasScheduler": {"scheduler": "karras"},
    "RandomNoise": {},
    "SamplerDPMPP_2M_SDE": {"sampler_name": "dpmpp_2m_sde"},
    "SamplerDPMPP_2S_Ancestral": {"sampler_name": "dpmpp_2s_ancestral"},
    "SamplerDPMPP_3M_SDE": {"sampler_name": "dpmpp_3m_sde"},
    "SamplerDPMPP_SDE": {"sampler_name": "dpmpp_sde"},
    "SamplerEulerAncestral": {"sampler_name": "euler_ancestral"},
    "SamplerLMS": {"sampler_name": "lms"},
}
"""The parts that are known, and what of others' inputs their names say."""
_USUAL: dict[str, tuple[object, ...]] = {
    "denoise": (1,),
    "start_at_step": (0,),
    "add_noise": ("enable", True),
    "eta": (1,),
    "s_noise": (1,),
    "solver_type": ("midpoint", "heun"),
    "sigma_max": (14.614642,),
    "sigma_min": (0.0291675,),
    "rho": (7,),
    "order": (4,),
    "r": (0.5,),
    "alpha": (0.6,),
    "beta": (0.6,),
}
"""Inputs that would change the walk, and the values with which they do not."""
_PLAIN = ("VAEDecode", "VAEDecodeTiled", "VAELoader", "SaveImage", "PreviewImage", "Note")
"""Nodes that change nothing of the recipe, or what is named by another."""
_FURTHER = ("conditioning", "conditioning_1", "conditioning_to")
_SAID = ("populated_text", "text_0")
"""Where nodes that make texts keep what came of it."""
_TEXTS = ("text", "string", "value", "prompt")
"""What the one input of a node is called that holds a text."""
_JOINED = re.compile(r"(text|string)_?([a-z]|\d{1,3})")
_BESIDE = ("delimiter", "separator", "clean_whitespace", "inputcount", "return_list")
"""What else a node says that joins texts."""
_DEEP = 50


class _Graph:
    """The nodes, and which of them the recipe has come from."""

    def __init__(self, nodes: dict[str, _Node]) -> None:
        self.nodes = nodes
        self._seen: set[str] = set()
        self._texts: dict[str, str | None] = {}
        self._room = MOST_TEXT
        """Characters that may still be joined."""

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
        inputs = list(self.see(name).values())
        return inputs[0] if len(inputs) == 1 and isinstance(inputs[0], (str, int, float)) else None

    def text(self, value: object, deep: int = _DEEP) -> str | None:
        """An input's text, or that of the nodes that hold it or join it; None of any others."""
        name = self.linked(value)
        if name is None:
            return value if isinstance(value, str) else None
        if name not in self._texts:
            self._texts[name] = None  # what is made of itself is no text
            made = self._made(self.kind(name), self.nodes[name]["inputs"], deep - 1)
            if made is not None:
                self.see(name)
            self._texts[name] = made
        return self._texts[name]

    def _made(self, kind: str, inputs: _Node, deep: int) -> str | None:
        if not deep:
            return None
        for key in _SAID:
            if isinstance(said := inputs.get(key), str):
                return said
        keys = sorted(
            (key for key in inputs if key not in _BESIDE), key=lambda key: (len(key), key)
        )
        if len(keys) == 1:
            held = keys[0] in _TEXTS or _JOINED.fullmatch(keys[0])
            return self.text(inputs[keys[0]], deep) if held else None
        if not re.search("concat|join", kind, re.IGNORECASE) or not all(
            map(_JOINED.fullmatch, keys)
        ):
            return None
        parts = [self.text(inputs[key], deep) for key in keys]
        between = inputs.get("delimiter", inputs.get("separator", ""))
        said = [
            part for part in parts if part or (kind == "StringConcatenate" and part is not None)
        ]
        self._room -= sum(map(len, said)) + len(said) * len(str(between))
        if None in parts or not isinstance(between, str) or self._room < 0:
            return None
        return between.join(said)

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

    def sampler(self, name: str) -> _Node:
        """All that a sampler is told, by itself or by the nodes that are its parts."""
        inputs = self.see(name)
        of_parts: _Node = {}
        for part in _PARTS:
            for node in reversed(self.along(inputs.get(part), part)):
                kind, own = self.kind(node), self.nodes[node]["inputs"]
                if kind in _MEANT:
                    self.see(node)
                named = {"sampler": "sampler_name", "sigmas": "scheduler"}.get(part, part)
                of_parts |= {**own, **_MEANT.get(kind, {named: of_parts.get(named, kind)})}
        said = {**of_parts, **inputs}
        return {"positive": said.get("conditioning"), **said}

    def rest(self) -> dict[str, str]:
        """The nodes that nobody has asked, by their class, and a number if there are several."""
        told: dict[str, str] = {}
        seen = Counter[str]()
        for name, node in self.nodes.items():
            if name in self._seen or (kind := self.kind(name)) in _PLAIN:
                continue
            seen[kind] += 1
            numbered = kind if seen[kind] == 1 else f"{kind} {seen[kind]}"
            told[numbered] = short({k: v for k, v in node["inputs"].items() if not _link(v)})
        return told


def read_comfy(text: str) -> Said:
    """ComfyUI's `prompt`. Raises MetadataError if there is no sampler in it."""
    found = {
        str(name): cast("_Node", node)
        for name, node in as_object(text).items()
        if isinstance(node, dict) and isinstance(cast("_Node", node).get("inputs"), dict)
        if isinstance(cast("_Node", node).get("class_type"), str)
    }
    graph = _Graph(found)
    samplers = [name for name in found if graph.kind(name) in _SAMPLERS]
    if not samplers:
        raise MetadataError("was made by ComfyUI without a sampler that sdfast knows")
    first = next((n for n in samplers if _sizes(graph, found[n]["inputs"])), samplers[0])
    inputs = graph.sampler(first)
    said: dict[str, object] = {
        "seed": graph.value(inputs.get("noise_seed", inputs.get("seed"))),
        "steps": graph.value(inputs.get("steps")),
        "guidance": graph.value(inputs.get("cfg")),
        "size": _sizes(graph, inputs),
    }
    unknown: dict[str, str] = {}
    for key, ours in (("positive", "prompt"), ("negative", "negative")):
        said[ours] = _text(graph, graph.along(inputs.get(key), key), ours, unknown)
    for name in graph.along(inputs.get("model"), "model"):
        if "ckpt_name" in (loader := found[name]["inputs"]):
            graph.see(name)
            unknown["Model"] = short(loader["ckpt_name"])
    said |= _walk(graph, inputs, unknown)
    for key, usual in _USUAL.items():
        if key in inputs and (other := graph.value(inputs[key])) not in usual:
            unknown[key] = short(other)
    if isinstance(end := graph.value(inputs.get("end_at_step")), int) and isinstance(
        steps := said["steps"], int
    ):
        unknown |= {"end_at_step": str(end)} if end < steps else {}
    said |= _skipped(graph, inputs)
    return taken(said, unknown | graph.rest())


def _walk(graph: _Graph, inputs: _Node, unknown: dict[str, str]) -> dict[str, object]:
    """The sampler that walks as this one or, where there is none, the nearest."""
    sampler, schedule = (str(graph.value(inputs.get(k))) for k in ("sampler_name", "scheduler"))
    if sampler.removesuffix("_gpu") in COMFY:  # its noise is drawn elsewhere, that is all
        sampler = sampler.removesuffix("_gpu")
    if sampler == "dpmpp_2m_sde" and graph.value(inputs.get("solver_type")) == "heun":
        sampler = "dpmpp_2m_sde_heun"
    if schedule == "align_your_steps":  # to other levels here by up to 0.3 %, drawn out otherwise
        name = _WALKS.get((sampler, "karras")) or nearest_walk(sampler, "karras")
        unknown["Sampler"] = f"{sampler} {schedule}"
        return {"sampler": name, "spacing": "ays"} if name else {}
    if (sampler, schedule) in _WALKS:
        return {"sampler": _WALKS[sampler, schedule]}
    if said := " ".join(word for word in (sampler, schedule) if word != "None"):
        unknown["Sampler"] = said
    return {"sampler": nearest_walk(sampler, schedule)}


def _sizes(graph: _Graph, inputs: _Node) -> str | None:
    """Width and height of the empty latents that a sampler begins with."""
    name = graph.linked(inputs.get("latent_image"))
    if name is None or graph.kind(name) != "EmptyLatentImage":
        return None
    latents = graph.see(name)
    return "{}x{}".format(*(graph.value(latents.get(side)) for side in ("width", "height")))


def _text(graph: _Graph, path: list[str], ours: str, unknown: dict[str, str]) -> str | None:
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
        text = graph.text(inputs[key])
        if "text_l" in inputs and (other := graph.text(inputs["text_l"])) != text:
            unknown["text_l"] = short(other)
        if text is None and (maker := graph.linked(inputs[key])) is not None:
            unknown[ours] = f"made by {graph.kind(maker)}"
        return None if text is None else literal(text)
    return None


def _skipped(graph: _Graph, inputs: Mapping[str, object]) -> dict[str, object]:
    """ComfyUI counts the text encoder's layers down from -1."""
    for name in graph.along(inputs.get("positive"), "positive", "clip"):
        if graph.kind(name) == "CLIPSetLastLayer":
            layer = graph.value(graph.see(name).get("stop_at_clip_layer"))
            return {"clip_skip": -layer} if isinstance(layer, int) else {}
    return {}


def _link(value: object) -> bool:
    return isinstance(value, list)
