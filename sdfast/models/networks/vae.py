"""The decoder half of the autoencoder: latents become pixels, eight times as wide and high."""

import torch.nn.functional as F
from torch import Tensor, nn

from sdfast.models.networks.blocks import ResBlock, Upsample
from sdfast.models.networks.config import Config
from sdfast.models.networks.layers import Conv, GroupNorm, Linear, as_pixels, as_words, silu

_EPS = 1e-6

_ONLY: dict[str, tuple[object, ...]] = {
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
        q, k, v = self.to_qkv(as_words(self.group_norm(x))).chunk(3, -1)
        found = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])
        return as_pixels(self.to_out[0](found.squeeze(1), "add", as_words(x)), x)


class _Middle(nn.Module):
    def __init__(self, width: int, groups: int, *, attends: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResBlock(width, width, groups, _EPS) for _ in range(2))
        if attends:
            self.attentions = nn.ModuleList([_Attention(width, groups)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.resnets[0](x)
        return self.resnets[1](self.attentions[0](x) if hasattr(self, "attentions") else x)


class _Up(nn.Module):
    def __init__(self, inside: int, width: int, groups: int, layers: int, *, last: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            ResBlock(inside if i == 0 else width, width, groups, _EPS) for i in range(layers)
        )
        if not last:
            self.upsamplers = nn.ModuleList([Upsample(width)])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.resnets:
            x = block(x)
        return self.upsamplers[0](x) if hasattr(self, "upsamplers") else x


class _Layers(nn.Module):
    def __init__(
        self,
        latent: int,
        widths: list[int],
        pixels: int,
        groups: int,
        layers: int,
        *,
        attends: bool,
    ) -> None:
        super().__init__()
        top = widths[::-1]
        self.conv_in = Conv(latent, top[0])
        self.mid_block = _Middle(top[0], groups, attends=attends)
        self.up_blocks = nn.ModuleList(
            _Up(inside, width, groups, layers, last=i == len(top) - 1)
            for i, (inside, width) in enumerate(zip([top[0], *top], top, strict=False))
        )
        self.conv_norm_out = GroupNorm(groups, top[-1], _EPS)
        self.conv_out = Conv(top[-1], pixels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(silu(self.conv_norm_out(x)))


class Decoder(nn.Module):
    """diffusers' AutoencoderKL as far as it decodes, from latents as the UNet has them."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        config.only(_ONLY)
        widths = config.widths()
        groups = config.count("norm_num_groups", 32)
        config.divides("norm_num_groups", groups, *widths)
        config.kinds("up_block_types", len(widths), ("UpDecoderBlock2D",))
        layers = config.count("layers_per_block", 1, most=64) + 1
        attends = config.flag("mid_block_add_attention", True)
        self.channels = config.count("latent_channels", 4)
        self.factor = 2 ** (len(widths) - 1)
        self._scale = config.number("scaling_factor", 0.18215)
        self._shift = config.number("shift_factor", 0)
        if config.flag("use_post_quant_conv", True):
            self.post_quant_conv = Linear(self.channels, self.channels)
        pixels = config.count("out_channels", 3)
        self.decoder = _Layers(self.channels, widths, pixels, groups, layers, attends=attends)

    def unscaled(self, x: Tensor) -> Tensor:
        """Latents as the autoencoder wrote them."""
        return x / self._scale + self._shift

    def forward(self, z: Tensor) -> Tensor:
        """Pixels from -1 to 1, [n, 3, h, w], of unscaled latents."""
        if hasattr(self, "post_quant_conv"):  # of one pixel each: a linear map
            z = as_pixels(self.post_quant_conv(as_words(z)), z)
        return self.decoder(z)
