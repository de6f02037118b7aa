"""What a model's latents look like: the decoder, whole or in tiles, and once more where it must."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from sdfast.errors import ModelError
from sdfast.models.device import layout, memory_errors
from sdfast.models.graphs import Album
from sdfast.models.networks import AnyDecoder
from sdfast.models.parts import decoder, filled
from sdfast.models.source import Source
from sdfast.models.tiles import by_parts
from sdfast.models.vram import Place

_SMALL = 4096
"""Latents up to which starting the decoder's kernels takes longer than they run."""


class Decoded(NamedTuple):
    """A picture, and what it took."""

    image: Image.Image
    again: bool
    """It took a second decoding in float32."""
    tiles: int


class Pixels:
    """The decoder of a model, where the other networks are."""

    def __init__(self, source: Source, bare: AnyDecoder, place: Place) -> None:
        self._source, self._place = source, place
        self.network = filled(source, source.decoder, bare, place)
        self._ask_small: Callable[[Tensor], Tensor] = self.network
        self._ask_large: Callable[[Tensor], Tensor] = self.network

    @property
    def factor(self) -> int:
        """A picture's pixels along a latent's side."""
        return self.network.factor

    def record(self, album: Album) -> None:
        """Let calls be recorded where they are small and come again."""
        self._ask_small = album.graphs(self.network, after=1)
        self._ask_large = partial(album.plainly, self.network)

    def show(self, x: Tensor) -> Decoded:
        """Latents [1, c, h, w] as a picture, in tiles where the memory wants it.

        Half precision overflows in some decoders and would leave a black picture: then once more in
        float32.
        """
        device, dtype, stage = self._place
        with memory_errors(device, "decoding"):
            if stage is not None:
                stage.call(self.network)
            small = x.shape[-2] * x.shape[-1] <= _SMALL
            ask = self._ask_small if small else self._ask_large
            image, tiles = self._painted(ask, x, dtype)
            again = image is None and dtype != torch.float32
            if again:
                if stage is not None:
                    stage.call(None)
                exact = decoder(self._source, Place(device, torch.float32))
                image, tiles = self._painted(exact, x, torch.float32)
        if image is None:
            raise ModelError(
                f"`{self._source.name}` painted numbers that are not finite; no picture was made",
                "are the weights whole? --dtype fp32 may help",
            )
        return Decoded(image, again, tiles)

    def _painted(
        self, ask: Callable[[Tensor], Tensor], x: Tensor, dtype: torch.dtype
    ) -> tuple[Image.Image | None, int]:
        """A picture, if its numbers are all finite, and the tiles it took."""
        network = self.network
        z = network.unscaled(x).to(dtype, memory_format=layout(x.device))
        pixels, tiles = by_parts(ask, z, (1, network.factor), network.heft * dtype.itemsize)
        finite = pixels.isfinite().all()
        # as diffusers' VaeImageProcessor rounds, so that the same latents are the same pixels
        grid = (pixels / 2 + 0.5).clamp(0, 1)[0].permute(1, 2, 0).float()
        grid = (grid * 255).round().to(torch.uint8).cpu().numpy()
        return Image.fromarray(grid) if bool(finite) else None, tiles
