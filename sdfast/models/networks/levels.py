"""The levels of a UNet: down through narrower pictures, the middle, and up again."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from sdfast.models.networks.blocks import Downsample, Keys, ResBlock, Transformer, Upsample


class Level(NamedTuple):
    """What the blocks of one level have in common."""

    width: int
    heads: int
    context_dim: int
    groups: int
    eps: float
    time: int

    def block(self, in_channels: int) -> ResBlock:
        return ResBlock(in_channels, self.width, self.groups, self.eps, self.time)

    def transformer(self, depth: int) -> Transformer:
        return Transformer(self.width, self.heads, self.context_dim, self.groups, depth)


class _Block(nn.Module):
    """Residual blocks of one level, each with a transformer behind it or none."""

    def __init__(self, level: Level, inputs: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(level.block(in_channels) for in_channels in inputs)
        if depths:
            self.attentions = nn.ModuleList(level.transformer(depth) for depth in depths)

    def layer(
        self,
        i: int,
        x: Tensor,
        shifts: Iterator[Tensor],
        prompt: Iterator[Keys],
        skip: Tensor | None = None,
    ) -> Tensor:
        x = self.resnets[i](x, next(shifts), skip)
        return self.attentions[i](x, prompt) if hasattr(self, "attentions") else x


class Down(_Block):
    def __init__(
        self, level: Level, inputs: Sequence[int], depths: Sequence[int], *, last: bool
    ) -> None:
        super().__init__(level, inputs, depths)
        if not last:
            self.downsamplers = nn.ModuleList([Downsample(level.width)])

    def forward(
        self, x: Tensor, shifts: Iterator[Tensor], prompt: Iterator[Keys]
    ) -> Iterator[Tensor]:
        """Everything seen on the way, the last of it smaller."""
        for i in range(len(self.resnets)):
            yield (x := self.layer(i, x, shifts, prompt))
        if hasattr(self, "downsamplers"):
            yield self.downsamplers[0](x)


class Middle(_Block):
    def __init__(self, level: Level, depth: int) -> None:
        super().__init__(level, [level.width] * (2 if depth else 1), [depth] if depth else [])

    def forward(self, x: Tensor, shifts: Iterator[Tensor], prompt: Iterator[Keys]) -> Tensor:
        x = self.layer(0, x, shifts, prompt)
        return x if len(self.resnets) == 1 else self.resnets[1](x, next(shifts))


class Up(_Block):
    def __init__(
        self, level: Level, inputs: Sequence[int], depths: Sequence[int], *, last: bool
    ) -> None:
        super().__init__(level, inputs, depths)
        if not last:
            self.upsamplers = nn.ModuleList([Upsample(level.width)])

    def forward(
        self, x: Tensor, skips: list[Tensor], shifts: Iterator[Tensor], prompt: Iterator[Keys]
    ) -> Tensor:
        for i in range(len(self.resnets)):
            x = self.layer(i, x, shifts, prompt, skip=skips.pop())
        if hasattr(self, "upsamplers"):  # an odd size is not twice another
            x = self.upsamplers[0](x, skips[-1].shape[-2:])
        return x
