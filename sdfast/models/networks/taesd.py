"""TAESD: small autoencoders without norms or attention, distilled from those of Stable Diffusion.

They take latents as the UNet has them, and a small part of the large one's work: for models that
paint in a few steps, where that takes as long as they do.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sdfast.models.networks.config import Config
from sdfast.models.networks.layers import Conv

_COLOURS = 3
_ONLY: dict[str, tuple[object, ...]] = {
    "in_channels": (_COLOURS,),
    "out_channels": (_COLOURS,),
    "act_fn": ("relu",),
    "upsample_fn": ("nearest",),
    "upsampling_scaling_factor": (2,),
}

_BOUND = 3
"""What latents are pressed to before they are decoded, either way."""


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        relu = nn.ReLU(inplace=True)
        self.conv = nn.Sequential(
            Conv(width, width), relu, Conv(width, width), relu, Conv(width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        *layers, last = self.conv
        y = x
        for layer in layers:
            y = layer(y)
        return torch.relu_(last(y, plus=x))


class _Shape:
    """What a config says of one of the halves."""

    def __init__(self, config: Config, half: str, blocks: Sequence[int]) -> None:
        config.only(_ONLY)
        key = f"{half}_block_out_channels"
        widths = [64] * len(blocks) if config.get(key) is None else config.widths(key)
        if len({*widths}) > 1:
            raise ValueError(f"`{key}` has several widths, and here all are the same")
        self.width = widths[0]
        self.blocks = config.each(f"num_{half}_blocks", len(widths), [*blocks], most=64)
        """So many of each size of the picture."""
        self.channels = config.count("latent_channels", 4)
        self.scale = config.number("scaling_factor", 1)
        if not self.scale:
            raise ValueError("`scaling_factor` is 0")
        other = config.get({"encoder": "num_decoder_blocks", "decoder": "num_encoder_blocks"}[half])
        if other is not None and len(other) != len(widths):
            raise ValueError("its encoder and its decoder are not of one size")
        self.shift = config.number("shift_factor", 0)

    @property
    def factor(self) -> int:
        """Pixels beside each other that become one latent."""
        return 2 ** (len(self.blocks) - 1)

    @property
    def heft(self) -> float:
        """Numbers in memory for each latent, at the most, while it is worked on: as measured."""
        return 4 * self.width * self.factor**2

    def levels(self, between: Callable[[], Sequence[nn.Module]]) -> list[nn.Module]:
        """The blocks, and what changes the size between one level and the next."""
        layers: list[nn.Module] = []
        for level, count in enumerate(self.blocks):
            layers += between() if level else ()
            layers += (_Block(self.width) for _ in range(count))
        return layers


class _Layers(nn.Module):
    """Layers one after the other, numbered as in the files."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class TinyEncoder(nn.Module):
    """diffusers' AutoencoderTiny as far as it encodes, to latents as the UNet has them."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._shape = shape = _Shape(config, "encoder", (1, 3, 3, 3))
        width = shape.width
        levels = shape.levels(lambda: [Conv(width, width, stride=2, bias=False)])
        self.encoder = _Layers(Conv(_COLOURS, width), *levels, Conv(width, shape.channels))

    @property
    def heft(self) -> float:
        """Numbers in memory for each latent, at the most, while it comes to be."""
        return self._shape.heft

    def forward(self, pixels: Tensor) -> Tensor:
        """Scaled latents of pixels from -1 to 1."""
        z = self.encoder(pixels / 2 + 0.5)
        return (z.float() - self._shape.shift) * self._shape.scale


class TinyDecoder(nn.Module):
    """diffusers' AutoencoderTiny as far as it decodes, from latents as the UNet has them."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._shape = shape = _Shape(config, "decoder", (3, 3, 3, 1))
        self.channels, self.factor = shape.channels, shape.factor
        width = shape.width
        levels = shape.levels(lambda: [nn.Upsample(scale_factor=2), Conv(width, width, bias=False)])
        self.decoder = _Layers(
            Conv(shape.channels, width), nn.ReLU(inplace=True), *levels, Conv(width, _COLOURS)
        )

    @property
    def heft(self) -> float:
        """Numbers in memory for each latent, at the most, while it becomes pixels."""
        return self._shape.heft

    def unscaled(self, x: Tensor) -> Tensor:
        """Latents as the autoencoder wrote them."""
        return x / self._shape.scale + self._shape.shift

    def forward(self, z: Tensor) -> Tensor:
        """Pixels from -1 to 1, [n, 3, h, w], of unscaled latents."""
        return self.decoder(torch.tanh(z / _BOUND) * _BOUND) * 2 - 1
