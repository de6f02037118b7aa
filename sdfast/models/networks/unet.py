"""The UNet: what is noise in these latents, given the time and the prompt?

Down through narrower pictures, and up again beside what was seen on the way. Covers Stable
Diffusion 1.x, 2.x and XL, their inpainting models and those distilled to fewer blocks. What a
prompt looks like to each layer is worked out once, not in each step.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from sdfast.models.networks.blocks import (
    CrossAttention,
    Keys,
    ResBlock,
)
from sdfast.models.networks.config import Config
from sdfast.models.networks.layers import (
    Conv,
    Linear,
    silu,
    stacked,
)
from sdfast.models.networks.levels import Down, Level, Middle, Up
from sdfast.models.networks.norms import GroupNorm
from sdfast.models.networks.time_embedding import TimeEmbedding, sinusoids

_ONLY: dict[str, tuple[object, ...]] = {
    "act_fn": ("silu", "swish"),
    "attention_type": ("default",),
    "center_input_sample": (False,),
    "class_embed_type": (),
    "class_embeddings_concat": (False,),
    "cross_attention_norm": (),
    "downsample_padding": (1,),
    "dual_cross_attention": (False,),
    "encoder_hid_dim": (),
    "encoder_hid_dim_type": (),
    "mid_block_only_cross_attention": (False,),
    "mid_block_scale_factor": (1, 1.0),
    "num_attention_heads": (),  # diffusers refuses it, too: heads are in `attention_head_dim`
    "num_class_embeds": (),
    "only_cross_attention": (False,),
    "resnet_out_scale_factor": (1, 1.0),
    "resnet_skip_time_act": (False,),
    "resnet_time_scale_shift": ("default",),
    "time_embedding_act_fn": (),
    "time_embedding_type": ("positional",),
    "timestep_post_act": (),
    "upcast_attention": (False, True),  # fused attention sums in float32 whichever it says
}
"""What else a UNet's config may say; any other value is another network."""

_MOST_BLOCKS = 1000
"""Residual blocks and those of the transformers; XL has under a hundred."""

_ATTENDS = {"CrossAttnDownBlock2D": True, "DownBlock2D": False}
_ATTENDS_UP = {"CrossAttnUpBlock2D": True, "UpBlock2D": False}
_MIDDLES = ("UNetMidBlock2DCrossAttn", "UNetMidBlock2D")


class Conditioning(NamedTuple):
    """What the UNet is told besides latents and time: the prompt as its layers see it."""

    keys: list[Keys] | Tensor
    """Of each layer; or as they lie beside each other, [n, tokens, 2 * all widths]."""
    added: Tensor | None
    """What is added to the time's embedding, [n, width]: the prompt as a whole and the size."""
    guidance: Tensor | None = None
    """What is added before it, [n, width]: the guidance, where the network is told of that."""


Shifts = list[Tensor] | Tensor
"""What a time means to each residual block; or as it lies behind each other, [n, all channels]."""


def joins(network: nn.Module) -> bool:
    """Whether maps in it that read the same are one product: on CUDA, where each start costs."""
    return next(network.parameters()).is_cuda


class UNet(nn.Module):
    """diffusers' UNet2DConditionModel, asked with what it has read of a prompt and of a time."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        config.only(_ONLY)
        widths = config.widths()
        levels = len(widths)
        heads = config.each("attention_head_dim", levels, 8)
        groups = config.count("norm_num_groups", 32)
        context_dims = config.each("cross_attention_dim", levels, 1280)
        layers = config.each("layers_per_block", levels, 2, most=64)
        down = config.kinds("down_block_types", levels, _ATTENDS)
        up = config.kinds("up_block_types", levels, _ATTENDS_UP)
        depths = config.depths("transformer_layers_per_block", layers)
        above = config.depths(
            "reverse_transformer_layers_per_block",
            [n + 1 for n in reversed(layers)],
            [d[0] for d in reversed(depths)],
        )
        blocks = sum(len(level) + sum(level) for level in (*depths, *above))
        if blocks > _MOST_BLOCKS:
            keys = "`layers_per_block` and `transformer_layers_per_block`"
            raise ValueError(f"{keys} make {blocks} blocks, more than {_MOST_BLOCKS}")
        config.divides("norm_num_groups", groups, *widths)
        for width, count in zip(widths, heads, strict=True):
            config.divides("attention_head_dim", count, width)
        self.context_dim = context_dims[0]
        self.in_channels = config.count("in_channels", 4)
        self.out_channels = config.count("out_channels", 4)
        into, out = (config.count(f"conv_{end}_kernel", 3, most=15) for end in ("in", "out"))
        time = config.count("time_embedding_dim", 4 * widths[0])
        self._flip = config.flag("flip_sin_to_cos", True)
        self._shift = config.number("freq_shift", 0)
        eps = config.number("norm_eps", 1e-5)
        level = [
            Level(*of, groups, eps, time) for of in zip(widths, heads, context_dims, strict=True)
        ]

        self.conv_in = Conv(self.in_channels, widths[0], into)
        absent = config.get("time_cond_proj_dim") is None
        self._guidance = 0 if absent else config.count("time_cond_proj_dim", least=4)
        self.time_embedding = TimeEmbedding(widths[0], time, self._guidance)
        self._width = widths[0]
        self._size = 0
        if config.one_of("addition_embed_type", ("text_time", ""), "") == "text_time":
            self._size = config.count("addition_time_embed_dim")
            told = config.count("projection_class_embeddings_input_dim")
            self.add_embedding = TimeEmbedding(told, time)
        self.down_blocks = nn.ModuleList()
        skips = [widths[0]]
        for i, kind in enumerate(down):
            in_channels = [skips[-1], *[widths[i]] * (layers[i] - 1)]
            last = i == levels - 1
            attends = depths[i] if _ATTENDS[kind] else []
            self.down_blocks.append(Down(level[i], in_channels, attends, last=last))
            skips += [widths[i]] * (layers[i] + (not last))
        if config.literal("mid_block_type", "") is not None:
            middle = config.one_of("mid_block_type", _MIDDLES, _MIDDLES[0])
            attends = depths[-1][0] if middle == _MIDDLES[0] else 0
            self.mid_block = Middle(level[-1], attends)
        self.up_blocks = nn.ModuleList()
        below = widths[-1]
        for i, kind in enumerate(up):
            at = levels - 1 - i
            ends = [below, *[widths[at]] * layers[at]]
            in_channels = [end + skips.pop() for end in ends]
            attends = above[i] if _ATTENDS_UP[kind] else []
            self.up_blocks.append(Up(level[at], in_channels, attends, last=at == 0))
            below = widths[at]
        self.conv_norm_out = GroupNorm(groups, widths[0], eps)
        self.conv_out = Conv(widths[0], self.out_channels, out)
        self._all_shifts: tuple[Tensor, Tensor] | None = None
        self._all_kv: Tensor | None = None
        self._res_blocks = [layer for layer in self.modules() if isinstance(layer, ResBlock)]
        self._cross_attentions = [
            layer for layer in self.modules() if isinstance(layer, CrossAttention)
        ]

    @property
    def cross_attends(self) -> bool:
        """Whether any of its layers asks the words of the prompt."""
        return bool(self._cross_attentions)

    @property
    def takes_size(self) -> bool:
        """Whether `condition` wants the prompt as a whole and the size, as XL does."""
        return self._size > 0

    @property
    def takes_guidance(self) -> bool:
        """Whether `condition` wants the guidance, which it was distilled to follow by itself."""
        return self._guidance > 0

    def condition(
        self,
        states: Tensor,
        pooled: Tensor | None = None,
        sizes: Sequence[float] = (),
        guidance: Tensor | None = None,
    ) -> Conditioning:
        """What is told of a prompt in each step.

        states    hidden states of the prompt, [n, tokens, width]
        pooled    the prompt in one vector, [n, width], and
        sizes     six numbers of pixels (as it was, where it was cut, as it is to be): both for XL
        guidance  float32 [n], for latent consistency models (arXiv 2310.04378, 4.2)
        """
        if self._all_kv is None:
            keys = [layer.read(states) for layer in self._cross_attentions]
        else:
            keys = nn.functional.linear(states, self._all_kv)
        scale = None
        if self._guidance:
            assert guidance is not None
            scale = sinusoids(1000 * (guidance - 1), self._guidance, cosine_first=False, shift=1)
            scale = self.time_embedding.cond_proj(scale.to(states.dtype))
        if not self._size:
            return Conditioning(keys, None, scale)
        assert pooled is not None
        zero = torch.zeros((), dtype=torch.float32, device=states.device)
        numbers = torch.stack([zero + size for size in sizes])  # a list would have to be waited for
        size = sinusoids(numbers, self._size, self._flip, self._shift).flatten().to(states.dtype)
        added = torch.cat([pooled, size.expand(len(pooled), -1)], -1)
        return Conditioning(keys, self.add_embedding(added), scale)

    def embed_time(self, t: Tensor, conditioning: Conditioning) -> Shifts:
        """What a time, float32 [1] on its device, means to each residual block.

        It depends on the conditioning only where that has something `added` or a `guidance`.
        """
        time = sinusoids(t, self._width, self._flip, self._shift)
        time = time.to(self.conv_in.bias.dtype)
        time = self.time_embedding(
            time if conditioning.guidance is None else time + conditioning.guidance
        )
        time = silu(time if conditioning.added is None else time + conditioning.added)
        if self._all_shifts is None:
            return [block.shift(time) for block in self._res_blocks]
        return nn.functional.linear(time, *self._all_shifts)

    def forward(self, x: Tensor, shifts: Shifts, conditioning: Conditioning) -> Tensor:
        """What it says of latents [n, c, h, w] at the time that was embedded.

        One row for each of the conditioning. Where the latents are fewer, they are repeated: row i
        is of latent i mod n.
        """
        moved, keys = iter(self._each_shift(shifts)), iter(self._keys(conditioning.keys))
        skips = [self.conv_in(x)]
        for block in self.down_blocks:
            # torch 2.11 does not compile a += here
            skips.extend(cast("Down", block)(skips[-1], moved, keys))
        x = self.mid_block(skips[-1], moved, keys) if hasattr(self, "mid_block") else skips[-1]
        for block in self.up_blocks:
            x = block(x, skips, moved, keys)
        return self.conv_out(self.conv_norm_out(x, silu=True))

    def lay_out(self) -> None:
        """On CUDA, make one linear map of those of the time, and one of those of the prompt."""
        if not joins(self):
            return
        blocks = self._res_blocks
        weight, bias = stacked([cast("Linear", b.time_emb_proj) for b in blocks])
        self._all_shifts = weight, cast("Tensor", bias) + torch.cat([b.conv1.bias for b in blocks])
        if len({layer.to_kv.weight.shape[1] for layer in self._cross_attentions}) == 1:
            self._all_kv, _ = stacked([layer.to_kv for layer in self._cross_attentions])

    def _each_shift(self, shifts: Shifts) -> Sequence[Tensor]:
        """What each residual block raises its channels by, [1, channels] or [n, channels]."""
        if not isinstance(shifts, Tensor):
            return shifts
        widths = [len(block.conv1.bias) for block in self._res_blocks]
        return torch.split(shifts, widths, -1)

    def _keys(self, read: list[Keys] | Tensor) -> Sequence[Keys]:
        """What the prompt looks like to each layer of attention."""
        if not isinstance(read, Tensor):
            return read
        widths = [width for layer in self._cross_attentions for width in [layer.width] * 2]
        parts = torch.split(read, widths, -1)
        each = zip(self._cross_attentions, parts[0::2], parts[1::2], strict=True)
        return [layer.keys(keys, values) for layer, keys, values in each]
