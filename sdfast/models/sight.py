"""What a model sees of pictures: latents, and for an inpainting UNet the hole it is to fill.

Most pictures begin from noise alone, so the network is loaded with the first picture it is shown.
Many are painted over one picture, so what was seen last is remembered.
"""

from hashlib import sha256

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sdfast.errors import ModelError
from sdfast.models.device import layout, memory_errors
from sdfast.models.networks import AnyEncoder
from sdfast.models.parts import encoder
from sdfast.models.source import Source
from sdfast.models.tiles import by_parts
from sdfast.models.vram import Place


class Sight:
    """The encoder of a model, where the other networks are."""

    def __init__(self, source: Source, place: Place, factor: int) -> None:
        self._source, self._place, self._factor = source, place, factor
        self._encoder: AnyEncoder | None = None
        self._blank: Tensor | None = None
        self._known: dict[bytes, Tensor] = {}
        """What was seen of the last two pictures: one whole, and one with a hole."""

    def look(self, picture: Image.Image) -> Tensor:
        """The latents of an RGB picture, [1, channels, height / 8, width / 8]: their mean."""
        return self._latents(_pixels(picture) / 127.5 - 1)

    def hole(self, picture: Image.Image, mask: Image.Image) -> Tensor:
        """The mask, and the latents of the picture that is grey where the mask is white.

        [1, 1 + channels, height / 8, width / 8]. The mask is white or black.
        """
        white = _pixels(mask) / 255
        without = self._latents((_pixels(picture) / 127.5 - 1) * (1 - white))
        return torch.cat([F.max_pool2d(white, self._factor).to(without), without], 1)

    def all_hole(self, x: Tensor) -> Tensor:
        """The hole of latents like these where there is no picture, and all is to be painted."""
        height, width = x.shape[-2:]
        if self._blank is None or self._blank.shape[-2:] != (height, width):
            size = (width * self._factor, height * self._factor)
            self._blank = self.hole(Image.new("RGB", size), Image.new("L", size, 255))
        return self._blank.expand(len(x), -1, -1, -1)

    def _latents(self, pixels: Tensor) -> Tensor:
        key = sha256(pixels.contiguous().numpy().tobytes() + repr(pixels.shape).encode()).digest()
        if key not in self._known:
            latents = self._asked(pixels)
            self._known = dict([*self._known.items(), (key, latents)][-2:])
        return self._known[key]

    def _asked(self, pixels: Tensor) -> Tensor:
        name, (device, dtype, stage) = self._source.name, self._place
        with memory_errors(device, "looking at the picture"):
            if self._encoder is None:
                self._encoder = encoder(self._source, self._place)
            if stage is not None:
                stage.call(self._encoder)
            pixels = pixels.to(device)
            latents = self._seen(self._encoder, pixels.to(dtype))
            if dtype != torch.float32 and not bool(latents.isfinite().all()):
                if stage is not None:
                    stage.call(None)
                latents = self._seen(encoder(self._source, Place(device, torch.float32)), pixels)
        if not bool(latents.isfinite().all()):
            raise ModelError(f"`{name}` turned the picture into numbers that are not finite")
        return latents.contiguous()

    def _seen(self, network: AnyEncoder, pixels: Tensor) -> Tensor:
        pixels = pixels.contiguous(memory_format=layout(pixels.device))
        each = network.heft * pixels.dtype.itemsize
        return by_parts(network, pixels, (self._factor, 1), each)[0]


def _pixels(picture: Image.Image) -> Tensor:
    """A picture's pixels from 0 to 255, [1, channels, h, w]."""
    grid = torch.tensor(np.array(picture, np.float32))
    return grid.view(*grid.shape[:2], -1).permute(2, 0, 1)[None]
