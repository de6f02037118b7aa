"""Scenes as pixels, painted where they are needed.

A batch is painted at a time, on any device; so nothing is stored, every picture is new, and a GPU
is not kept waiting for a disk.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from backdrops import SIDE, Backdrop, Colour
from scenes import Layer, Scene
from things import THINGS

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
"""Where Debian's fonts-noto-color-emoji puts the font."""

_LANCZOS = Image.Resampling.LANCZOS


@dataclass
class Painter:
    """Paints scenes with the glyphs of a colour font."""

    device: torch.device
    font: Path = FONT
    _mips: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        font = ImageFont.truetype(str(self.font), 109)
        glyphs = [self._glyph(char, font) for char in THINGS]
        self._mips = [
            torch.stack([_premultiplied(g.resize((s, s), _LANCZOS)) for g in glyphs]).to(
                self.device
            )
            for s in (SIDE, SIDE // 2)
        ]

    @staticmethod
    def _glyph(char: str, font: ImageFont.FreeTypeFont) -> Image.Image:
        """The glyph in the middle of a square."""
        wide = Image.new("RGBA", (180, 180))
        ImageDraw.Draw(wide).text((20, 20), char[0], font=font, embedded_color=True)
        box = wide.getbbox()
        if box is None:
            raise SystemExit(f"the font has no glyph for {char}")
        glyph = wide.crop(box)
        side = max(glyph.size)
        square = Image.new("RGBA", (side, side))
        square.paste(glyph, ((side - glyph.width) // 2, (side - glyph.height) // 2))
        return square

    def paint(self, scenes: Sequence[Scene]) -> Tensor:
        """The scenes as pixels, [n, 3, 128, 128] in [-1, 1]."""
        canvas = self._backdrops([s.backdrop for s in scenes])
        for depth in range(max(len(s.layers) for s in scenes)):
            rows = [i for i, s in enumerate(scenes) if len(s.layers) > depth]
            layers = [scenes[i].layers[depth] for i in rows]
            for mip, keep in enumerate((lambda s: s > 72, lambda s: s <= 72)):
                chosen = [(i, la) for i, la in zip(rows, layers, strict=True) if keep(la.size)]
                if not chosen:
                    continue
                index = torch.tensor([i for i, _ in chosen], device=self.device)
                over = self._layers([la for _, la in chosen], self._mips[mip])
                canvas[index] = over[:, :3] + (1 - over[:, 3:]) * canvas[index]
        return canvas * 2 - 1

    def _layers(self, layers: Sequence[Layer], mip: Tensor) -> Tensor:
        theta = torch.zeros(len(layers), 2, 3)
        for i, la in enumerate(layers):
            zoom, turn = SIDE / la.size, -1 if la.flip else 1
            theta[i, 0, 0], theta[i, 0, 2] = turn * zoom, -turn * zoom * (2 * la.x / SIDE - 1)
            theta[i, 1, 1], theta[i, 1, 2] = zoom, -zoom * (2 * la.y / SIDE - 1)
        grid = F.affine_grid(
            theta.to(self.device), [len(layers), 4, SIDE, SIDE], align_corners=False
        )
        glyphs = mip[torch.tensor([la.thing for la in layers], device=self.device)]
        return F.grid_sample(glyphs, grid, align_corners=False)

    def _backdrops(self, backdrops: Sequence[Backdrop]) -> Tensor:
        def colours(values: list[Colour]) -> Tensor:
            return torch.tensor(values, device=self.device)[:, :, None, None] / 255

        down = torch.linspace(0, 1, SIDE, device=self.device)[None, None, :, None]
        top, bottom = colours([b.top for b in backdrops]), colours([b.bottom for b in backdrops])
        canvas = (top + (bottom - top) * down).expand(-1, -1, -1, SIDE).contiguous()
        y, x = torch.meshgrid(*[torch.arange(SIDE, device=self.device) + 0.5] * 2, indexing="ij")
        for i, backdrop in enumerate(backdrops):
            for dot in backdrop.dots:
                far = torch.hypot(x - dot.x, y - dot.y) - dot.radius
                cover = (0.5 - (far.abs() - 0.6 if dot.ring else far)).clamp(0, 1)
                canvas[i] = torch.lerp(canvas[i], colours([dot.colour])[0], cover)
            for band in backdrop.bands:
                line = band.top + band.wave * torch.sin(x / band.length + band.phase)
                canvas[i] = torch.lerp(
                    canvas[i], colours([band.colour])[0], (y - line + 0.5).clamp(0, 1)
                )
        return canvas


def _premultiplied(glyph: Image.Image) -> Tensor:
    """A glyph as [4, h, w] in [0, 1], its colours multiplied by its opacity."""
    pixels = torch.from_numpy(np.asarray(glyph, np.float32) / 255).permute(2, 0, 1)
    return torch.cat([pixels[:3] * pixels[3:], pixels[3:]])


def thumbnails(pictures: Tensor) -> Tensor:
    """The latents tiny works in, [n, 4, 16, 16]: what each 8 x 8 block looks like from afar.

    Three channels hold the block's mean colour and the fourth how much its brightness varies.
    They are smooth and known beforehand, so the UNet can learn them while the VAE still learns
    to paint from them.
    """
    mean = F.avg_pool2d(pictures, 8)
    light = pictures.mean(1, keepdim=True)
    spread = F.avg_pool2d(light.square(), 8) - F.avg_pool2d(light, 8).square()
    return torch.cat([mean, 4 * spread.clamp_min(0).sqrt() - 0.6], 1)


LATENT_SCALE = 1.75
"""Brings the thumbnails near unit variance; Stable Diffusion calls it `scaling_factor`."""


def sheet(pictures: Tensor, columns: int) -> Image.Image:
    """Pictures in [-1, 1] laid out in rows."""
    n, _, h, w = pictures.shape
    page = Image.new("RGB", (columns * w, math.ceil(n / columns) * h))
    pixels = ((pictures.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    for i, picture in enumerate(pixels):
        page.paste(Image.fromarray(picture), (i % columns * w, i // columns * h))
    return page
