"""The safety checker that Stable Diffusion 1.x ships: a CLIP that compares a picture with concepts.

Described in arXiv 2210.04610. It is diffusers' own, imported only for a model that has one. Of the
model's configs it is told a few numbers and no more: the libraries would follow what else may stand
there to a pickle or to code on the Hub.
"""

from collections.abc import Mapping
from math import prod
from typing import Any, cast

import torch
from PIL import Image

from sdfast.errors import DeviceError, ModelError, one_line
from sdfast.models.device import memory_errors
from sdfast.models.folder import WEIGHTS, check_weights, open_part, read_json
from sdfast.models.headers import read_header
from sdfast.models.layout import Layout
from sdfast.models.libraries import quiet
from sdfast.models.networks import Config, TensorError, fill
from sdfast.models.source import Part, Source
from sdfast.models.vram import Place

_WITHOUT = "--no-safety paints without it"

_WIDEST = 4096
"""Pixels of a picture that is looked at; a CLIP sees 224, or 336."""

_COUNTS = {  # what it is by default, and at most
    "hidden_size": (768, 100_000),
    "intermediate_size": (3072, 100_000),
    "num_hidden_layers": (12, 256),
    "num_attention_heads": (12, 1000),
    "image_size": (224, _WIDEST),
}
"""What is counted of a CLIP that sees."""

_PREPARED: dict[str, tuple[object, ...]] = {
    "do_resize": (True,),
    "do_center_crop": (True,),
    "do_rescale": (True,),
    "do_normalize": (True,),
    "use_square_size": (False,),
}
"""What is done to a picture before it is seen."""

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the colours that CLIP was trained on."""


class SafetyChecker:
    """A model's checker, on the device or, where that has a stage instead of room, on the CPU.

    Raises ModelError for one that cannot be loaded whole.
    """

    def __init__(self, source: Source, place: Place) -> None:
        self._device = place.device if place.stage is None else torch.device("cpu")
        # bfloat16 is too coarse: near a threshold it misses what it should flag
        self._dtype = torch.float32 if self._device.type == "cpu" else place.dtype
        try:
            with quiet(), memory_errors(self._device, "loading the safety checker"):
                part = _part(source)
                network = _built(part.config)
                self._extract = _extractor(source, network.config.vision_config.image_size)
                self._network = _filled(network, part, self._device, self._dtype)
        except DeviceError:
            raise
        except TensorError as error:
            raise _unloadable(source, str(error)) from error
        except ModelError as error:
            raise ModelError(str(error), _WITHOUT) from error
        except Exception as error:  # whatever a hostile file raises, it is bad
            raise _unloadable(source, f"cannot be loaded: {one_line(error)}") from error
        if not all(bool(weight.isfinite().all()) for weight in self._network.parameters()):
            raise _unloadable(source, "holds numbers that are not finite")

    @torch.inference_mode()
    def __call__(self, picture: Image.Image) -> bool:
        """Whether it takes the RGB picture for what should not be shown."""
        with quiet(), memory_errors(self._device, "checking the picture"):
            seen = self._extract([picture], return_tensors="pt").pixel_values
            nothing = torch.zeros(1, 1)  # it blackens what it is given, which is others' business
            _, flags = self._network(images=nothing, clip_input=seen.to(self._device, self._dtype))
        return bool(flags[0])


def count_weights(source: Source) -> int:
    """How many numbers a model's checker is, told by its files' headers; 0 without one."""
    if source.checker is None:
        return 0
    try:
        files = _part(source).files
        shapes = [read_header(file, f"`{file}`").shapes.values() for file in files]
    except ModelError:  # which is told as it is loaded
        return 0
    return sum(prod(shape) for several in shapes for shape in several)


def _part(source: Source) -> Part:
    """Its config, and its files, which are whole. Raises ModelError."""
    assert source.checker is not None
    folder, stem = source.checker / "safety_checker", WEIGHTS["safety_checker"]
    return open_part(source.name, folder, stem, check_weights(source.name, folder, stem))


def _built(said: Mapping[str, Any]) -> Any:
    """The network that a config asks for, without memory for its weights."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    seeing: object = said.get("vision_config_dict") or said.get("vision_config") or {}
    if not isinstance(seeing, dict):
        raise ValueError("`vision_config` is no object")
    vision = Config(cast("dict[str, Any]", seeing))
    vision.only({"num_channels": (3,)})
    sizes = {key: vision.count(key, *bounds) for key, bounds in _COUNTS.items()}
    vision.divides("num_attention_heads", sizes["num_attention_heads"], sizes["hidden_size"])
    how = {
        "patch_size": vision.count("patch_size", 32, most=sizes["image_size"]),
        "hidden_act": vision.one_of("hidden_act", ("quick_gelu", "gelu"), "quick_gelu"),
        "layer_norm_eps": vision.number("layer_norm_eps", 1e-5),
    }
    width = Config(said).count("projection_dim", 512, most=100_000)
    with torch.device("meta"):
        kind: Any = StableDiffusionSafetyChecker
        return kind(CLIPConfig(vision_config=sizes | how, projection_dim=width)).eval()


def _filled(network: Any, part: Part, device: torch.device, dtype: torch.dtype) -> Any:
    """A network with its weights. Raises TensorError."""
    outer = network.vision_model
    inner = getattr(outer, "vision_model", outer)  # as it was in the first transformers 5
    layout = Layout("checker", size=1 if inner is outer else 2)
    fill(network, part.files, device, dtype, layout, lay_out=False)
    places = inner.embeddings  # whose numbers are counted, and on `meta` have not been
    places.position_ids = torch.arange(places.num_positions, device=device)[None]
    return network


def _extractor(source: Source, side: int) -> Any:
    """What prepares pictures for a network that sees squares of so many pixels."""
    import transformers

    assert source.checker is not None
    file = source.checker / "feature_extractor" / "preprocessor_config.json"
    config = Config(read_json(source.name, file))
    config.only(_PREPARED)
    crop = _sides(config, "crop_size", "height", "width")
    if crop != dict.fromkeys(("height", "width"), side):
        raise ValueError(f"`crop_size` is not the {side} pixels that it sees")
    # transformers 5 has one for Pillow beside one for torchvision, and warns of the other's absence
    kind: Any = getattr(transformers, "CLIPImageProcessorPil", None)
    return (kind or transformers.CLIPImageProcessor)(
        size=_sides(config, "size", "shortest_edge"),
        crop_size=crop,
        resample=config.count("resample", 3, most=5, least=0),
        rescale_factor=config.number("rescale_factor", 1 / 255),
        image_mean=config.numbers("image_mean", _MEAN),
        image_std=config.numbers("image_std", _STD),
    )


def _sides(config: Config, key: str, *alone: str) -> dict[str, int]:
    """A size, side by side; a number by itself is the length of each that is named in `alone`."""
    said = config.get(key, 224)
    told = cast("dict[str, Any]", said) if isinstance(said, dict) else dict.fromkeys(alone, said)
    names = ("shortest_edge",) if "shortest_edge" in told else ("height", "width")
    return {name: Config(told).count(name, most=_WIDEST) for name in names}


def _unloadable(source: Source, why: str) -> ModelError:
    return ModelError(f"`{source.name}`: safety_checker {why}", _WITHOUT)
