"""The safety checker that Stable Diffusion 1.x ships: a CLIP that compares a picture with concepts.

Described in arXiv 2210.04610. It is diffusers' own, imported only for a model that has one.
"""

from math import prod
from typing import Any

import torch
from PIL import Image

from sdfast.errors import DeviceError, ModelError, one_line
from sdfast.models.device import memory_errors
from sdfast.models.folder import WEIGHTS, check_weights, open_part, read_json
from sdfast.models.headers import read_header
from sdfast.models.libraries import quiet
from sdfast.models.source import Source
from sdfast.models.vram import Place

_WITHOUT = "--no-safety paints without it"


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
                self._network, self._extract = _loaded(source)
                self._network.to(self._device, self._dtype).eval()
        except DeviceError:
            raise
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
    folder, stem = source.checker / "safety_checker", WEIGHTS["safety_checker"]
    try:
        variant = check_weights(source.name, folder, stem)
        files = open_part(source.name, folder, stem, variant).files
        shapes = [read_header(file, f"`{file}`").shapes.values() for file in files]
    except ModelError:  # which is told as it is loaded
        return 0
    return sum(prod(shape) for several in shapes for shape in several)


def _loaded(source: Source) -> tuple[Any, Any]:
    """The network and what prepares pictures for it."""
    import transformers
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    assert source.checker is not None
    folder = source.checker
    for file in ("safety_checker/config.json", "feature_extractor/preprocessor_config.json"):
        read_json(source.name, folder / file)
    variant = check_weights(source.name, folder / "safety_checker", WEIGHTS["safety_checker"])
    kind: Any = StableDiffusionSafetyChecker
    how = {"variant": variant, "use_safetensors": True, "local_files_only": True}
    network, about = kind.from_pretrained(
        folder / "safety_checker", **how, output_loading_info=True
    )
    if missing := sorted(about["missing_keys"]):
        raise _unloadable(source, f"lacks tensors, the first `{missing[0]}`")
    # transformers 5 has one for Pillow beside one for torchvision, and warns of the other's absence
    extractor: Any = getattr(transformers, "CLIPImageProcessorPil", None)
    extractor = extractor or transformers.CLIPImageProcessor
    return network, extractor.from_pretrained(folder / "feature_extractor", local_files_only=True)


def _unloadable(source: Source, why: str) -> ModelError:
    return ModelError(f"`{source.name}`: safety_checker {why}", _WITHOUT)
