"""The autoencoder: pixels become latents, an eighth as wide and high, and latents become pixels.

Two networks that share nothing but their shape, so that each is loaded where it is needed.
"""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sdfast.models.malloc import give_back
from sdfast.models.networks.attention import attend
from sdfast.models.networks.blocks import ResBlock, Upsample
from sdfast.models.networks.config import Config
from sdfast.models.networks.layers import Conv, Linear, as_pixels, as_tokens
from sdfast.models.networks.norms import GroupNorm

_EPS = 1e-6

_HUGE = 128 << 20
"""Bytes of a half-made picture, as of 512 x 512 pixels, from which on free memory goes back to the
system: what a walk and the smaller ones before it have left is in pieces that it does not fit into,
nor the next walk into what it leaves."""

_COLOURS = 3
_ONLY: dict[str, tuple[object, ...]] = {
    "in_channels": (_COLOURS,),
    "out_channels": (_COLOURS,),
    "act_fn": ("silu", "swish"),
    "latents_mean": (),
    "latents_std": (),
}


class _Attention(nn.Module):
    """Every pixel asks every other, once, in the middle."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.group_norm = GroupNorm(groups, width, _EPS)
        self.to_qkv = Linear(width, 3 * width)
        self.to_out = nn.ModuleList([Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        normed = self.group_norm(x, ahead=self.to_out[0].bias)
        q, k, v = self.to_qkv(as_tokens(normed)).chunk(3, -1)
        found = attend(q[:, None], k[:, None], v[:, None])
        return as_pixels(self.to_out[0](found.squeeze(1), "onto", as_tokens(x)), x)


class _Middle(nn.Module):
    def __init__(self, width: int, groups: int, *, attends: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResBlock(width, width, groups, _EPS) for _ in range(2))
        if attends:
            self.attentions = nn.ModuleList([_Attention(width, groups)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.resnets[0](x)
        return self.resnets[1](self.attentions[0](x) if hasattr(self, "attentions") else x)


class _Halve(nn.Module):
    """Half as wide and high; beyond the right and the lower edge lie zeros."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = Conv(width, width, stride=2, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


def _levels(
    widths: Sequence[int], groups: int, layers: int, name: str, resize: Callable[[int], nn.Module]
) -> nn.Sequential:
    """Residual blocks of each width and, after each but the last, what changes the size."""
    levels: list[nn.Module] = []
    for before, width in zip([widths[0], *widths], widths, strict=False):
        inputs = [before, *[width] * (layers - 1)]
        level = nn.Sequential()
        level.add_module(
            "resnets", nn.Sequential(*(ResBlock(n, width, groups, _EPS) for n in inputs))
        )
        if len(levels) < len(widths) - 1:
            level.add_module(name, nn.Sequential(resize(width)))
        levels.append(level)
    return nn.Sequential(*levels)


class _Shape:
    """What an autoencoder's config says of both its halves."""

    def __init__(self, config: Config, half: str) -> None:
        config.only(_ONLY)
        self.widths = config.widths()
        self.groups = config.count("norm_num_groups", 32)
        config.divides("norm_num_groups", self.groups, *self.widths)
        kind = f"{half}EncoderBlock2D" if half == "Down" else f"{half}DecoderBlock2D"
        config.kinds(f"{half.lower()}_block_types", len(self.widths), (kind,))
        self.layers = config.count("layers_per_block", 1, most=64)
        self.attends = config.flag("mid_block_add_attention", True)
        self.channels = config.count("latent_channels", 4)
        self.scale = config.number("scaling_factor", 0.18215)
        self.shift = config.number("shift_factor", 0)

    @property
    def factor(self) -> int:
        """Pixels beside each other that become one latent."""
        return 2 ** (len(self.widths) - 1)


class _Encoding(nn.Module):
    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        widths, groups = shape.widths, shape.groups
        self.conv_in = Conv(_COLOURS, widths[0])
        self.down_blocks = _levels(widths, groups, shape.layers, "downsamplers", _Halve)
        self.mid_block = _Middle(widths[-1], groups, attends=shape.attends)
        self.conv_norm_out = GroupNorm(groups, widths[-1], _EPS)
        self.conv_out = Conv(widths[-1], 2 * shape.channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid_block(self.down_blocks(self.conv_in(x)))
        return self.conv_out(self.conv_norm_out(x, silu=True))


class _Decoding(nn.Module):
    def __init__(self, shape: _Shape) -> None:
        super().__init__()
        top, groups = shape.widths[::-1], shape.groups
        self._growth = 4 ** (len(top) - 1) * top[-2:][0] // top[0]
        """How much larger the picture is before its last level than at first."""
        self.conv_in = Conv(shape.channels, top[0])
        self.mid_block = _Middle(top[0], groups, attends=shape.attends)
        self.up_blocks = _levels(top, groups, shape.layers + 1, "upsamplers", Upsample)
        self.conv_norm_out = GroupNorm(groups, top[-1], _EPS)
        self.conv_out = Conv(top[-1], _COLOURS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        outgrows = _is_huge(x, self._growth)
        if outgrows:
            give_back()
        x = self.mid_block(x)
        for block in self.up_blocks:
            if _is_huge(x):
                give_back()
            x = block(x)
        x = self.conv_out(self.conv_norm_out(x, silu=True))
        if outgrows:
            give_back()
        return x


def _is_huge(x: Tensor, growth: int = 1) -> bool:
    """Whether a picture is, on a CPU, once it has grown so many times larger."""
    return x.device.type == "cpu" and growth * x.nbytes >= _HUGE


class Encoder(nn.Module):
    """diffusers' AutoencoderKL as far as it encodes, to latents as the UNet has them."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._shape = shape = _Shape(config, "Down")
        self.encoder = _Encoding(shape)
        if config.flag("use_quant_conv", True):
            self.quant_conv = Linear(2 * shape.channels, 2 * shape.channels)

    @property
    def heft(self) -> float:
        """Numbers in memory for each latent, at the most, while it comes to be: as measured."""
        return 4 * self._shape.widths[0] * self._shape.factor**2

    def forward(self, pixels: Tensor) -> Tensor:
        """Scaled latents of pixels from -1 to 1: the mean, and so the mode, of what they may be."""
        z = self.encoder(pixels)
        if hasattr(self, "quant_conv"):  # of one pixel each: a linear map
            z = as_pixels(self.quant_conv(as_tokens(z)), z)
        return (z[:, : self._shape.channels].float() - self._shape.shift) * self._shape.scale


class Decoder(nn.Module):
    """diffusers' AutoencoderKL as far as it decodes, from latents as the UNet has them."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._shape = shape = _Shape(config, "Up")
        self.channels, self.factor = shape.channels, shape.factor
        if config.flag("use_post_quant_conv", True):
            self.post_quant_conv = Linear(self.channels, self.channels)
        self.decoder = _Decoding(shape)

    @property
    def heft(self) -> float:
        """Numbers in memory for each latent, at the most, while it becomes pixels: as measured."""
        return 12.5 * self._shape.widths[0] * self._shape.factor**2

    def unscaled(self, x: Tensor) -> Tensor:
        """Latents as the autoencoder wrote them."""
        return x / self._shape.scale + self._shape.shift

    def forward(self, z: Tensor) -> Tensor:
        """Pixels from -1 to 1, [n, 3, h, w], of unscaled latents."""
        if hasattr(self, "post_quant_conv"):  # of one pixel each: a linear map
            z = as_pixels(self.post_quant_conv(as_tokens(z)), z)
        return self.decoder(z)
