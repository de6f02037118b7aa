"""Training pictures, painted where they are needed.

A `Scene` says in a few numbers what stands where on which backdrop, and in words what a person
would type to get it. The `Painter` turns scenes into pixels, a batch at a time, on any device; so
nothing is stored, every picture is new, and a GPU is not kept waiting for a disk.
"""

import colorsys
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from things import PAIRS, THINGS, UNCOUNTED, many, one

SIDE = 128
"""Pixels along a picture's edge."""

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
"""Where Debian's fonts-noto-color-emoji puts the font."""

_LANCZOS = Image.Resampling.LANCZOS

Colour = tuple[float, float, float]

COLOURS: dict[str, Colour] = {
    "white": (250, 250, 250),
    "black": (20, 20, 22),
    "gray": (140, 142, 146),
    "red": (214, 48, 49),
    "orange": (245, 140, 40),
    "yellow": (250, 214, 70),
    "green": (70, 170, 80),
    "blue": (60, 110, 220),
    "purple": (140, 80, 190),
    "pink": (248, 165, 195),
    "brown": (125, 82, 55),
    "turquoise": (80, 210, 200),
}


@dataclass(frozen=True, slots=True)
class Band:
    """Ground or water: everything below a wavy line."""

    top: float
    colour: Colour
    wave: float = 0.0
    length: float = 100.0
    phase: float = 0.0


@dataclass(frozen=True, slots=True)
class Dot:
    """A star, a snowflake, a bubble, the sun: a disc or, with `ring`, its outline."""

    x: float
    y: float
    radius: float
    colour: Colour
    ring: bool = False


@dataclass(frozen=True, slots=True)
class Backdrop:
    """A sky from `top` to `bottom`, discs upon it, and bands that cover both."""

    top: Colour
    bottom: Colour
    dots: tuple[Dot, ...] = ()
    bands: tuple[Band, ...] = ()


@dataclass(frozen=True, slots=True)
class Layer:
    """One thing in the picture; centre and longest side in pixels."""

    thing: int
    x: float = SIDE / 2
    y: float = SIDE / 2
    size: float = 96
    flip: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """What stands in a picture, and the words for it."""

    caption: str
    backdrop: Backdrop
    layers: tuple[Layer, ...]
    background: str = ""
    """The colour or scene that the caption asks for; empty if it leaves it open."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a batch may contain: the first `things` rows, and how freely they are placed."""

    things: int
    places: bool = False
    scenes: bool = False
    groups: float = 0.0
    """Share of pictures that hold two or three things."""
    wordings: bool = True


EVERYTHING = Lesson(len(THINGS), places=True, scenes=True, groups=0.2)


def _near(colour: Colour, r: random.Random, by: int = 7) -> Colour:
    red, green, blue = (min(255.0, max(0.0, c + r.randint(-by, by))) for c in colour)
    return red, green, blue


def _pastel(r: random.Random) -> Backdrop:
    hue = r.random()

    def shade(hue: float, low: float, high: float) -> Colour:
        rgb = colorsys.hls_to_rgb(hue % 1, r.uniform(low, high), r.uniform(0.5, 0.9))
        return 255 * rgb[0], 255 * rgb[1], 255 * rgb[2]

    return Backdrop(shade(hue, 0.84, 0.92), shade(hue + r.uniform(-0.08, 0.08), 0.74, 0.84))


def _scatter(
    r: random.Random, few: int, most: int, low: float, radii: Sequence[float], colour: Colour
) -> tuple[Dot, ...]:
    return tuple(
        Dot(r.uniform(2, SIDE - 3), r.uniform(2, low), r.choice(radii), colour)
        for _ in range(r.randint(few, most))
    )


def _meadow(r: random.Random) -> Backdrop:
    ground = Band(
        r.uniform(72, 92),
        _near((104, 180, 70), r),
        r.uniform(0, 6),
        r.uniform(20, 50),
        r.uniform(0, 6),
    )
    return Backdrop((120, 190, 245), (205, 232, 250), bands=(ground,))


def _beach(r: random.Random) -> Backdrop:
    sea = r.uniform(60, 72)
    sand = Band(
        sea + r.uniform(14, 24), _near((238, 214, 160), r), 3, r.uniform(14, 20), r.uniform(0, 6)
    )
    return Backdrop(
        (130, 200, 245), (200, 235, 250), bands=(Band(sea, _near((40, 140, 200), r)), sand)
    )


def _night(r: random.Random) -> Backdrop:
    return Backdrop(
        (10, 14, 46), (44, 50, 110), _scatter(r, 12, 24, 125, (1.2, 1.2, 2.2), (255, 250, 210))
    )


def _snow(r: random.Random) -> Backdrop:
    ground = Band(
        r.uniform(74, 94), (246, 249, 252), r.uniform(0, 5), r.uniform(20, 30), r.uniform(0, 6)
    )
    flakes = _scatter(r, 14, 24, 80, (2.2,), (255, 255, 255))
    return Backdrop((150, 186, 220), (205, 220, 236), flakes, (ground,))


def _desert(r: random.Random) -> Backdrop:
    ground = Band(
        r.uniform(70, 90),
        _near((222, 170, 96), r),
        r.uniform(3, 8),
        r.uniform(18, 24),
        r.uniform(0, 6),
    )
    return Backdrop((250, 205, 140), (252, 232, 190), bands=(ground,))


def _sunset(r: random.Random) -> Backdrop:
    horizon = r.uniform(88, 104)
    sun = Dot(r.uniform(20, 108), horizon, r.uniform(14, 22), (255, 226, 120))
    return Backdrop((96, 60, 140), (250, 140, 70), (sun,), (Band(horizon, _near((70, 44, 80), r)),))


def _space(r: random.Random) -> Backdrop:
    return Backdrop(
        (8, 6, 20), (28, 14, 50), _scatter(r, 20, 36, 126, (0.8, 1.2, 1.6), (255, 255, 255))
    )


def _underwater(r: random.Random) -> Backdrop:
    bubbles = tuple(
        Dot(r.uniform(4, 123), r.uniform(4, 123), r.uniform(2.5, 5.5), (200, 240, 250), ring=True)
        for _ in range(r.randint(6, 12))
    )
    return Backdrop((80, 190, 225), (10, 70, 130), bubbles)


SCENES: dict[str, tuple[Callable[[random.Random], Backdrop], tuple[str, ...]]] = {
    "meadow": (_meadow, ("in a meadow", "on the grass", "in a green field")),
    "beach": (_beach, ("on the beach", "at the beach", "on a sandy beach")),
    "night": (_night, ("at night", "under the stars", "in the night")),
    "snow": (_snow, ("in the snow", "in winter")),
    "desert": (_desert, ("in the desert",)),
    "sunset": (_sunset, ("at sunset", "in the sunset")),
    "space": (_space, ("in space", "in outer space")),
    "underwater": (_underwater, ("underwater", "under the sea", "under water")),
}

_ON = (
    " on a {} background",
    " on a {} background",
    " on {}",
    ", {} background",
    " against a {} background",
    " in front of a {} wall",
)
_BEFORE = ("",) * 6 + (
    "a picture of ",
    "a photo of ",
    "an image of ",
    "a drawing of ",
    "an illustration of ",
    "a painting of ",
    "an emoji of ",
)
_AFTER = ("",) * 10 + (", digital art", ", high quality", ", cartoon style", ", colorful")
_SMALL, _BIG = ("small", "tiny", "little"), ("big", "large", "huge")
_NUMBERS = {2: ("two", "two", "2", "a pair of"), 3: ("three", "3")}
_SPOTS = {
    2: (((34, 64), (94, 64)),),
    3: (((25, 64), (64, 64), (103, 64)), ((64, 33), (34, 92), (94, 92))),
}


def _backdrop(r: random.Random, lesson: Lesson) -> tuple[Backdrop, str, str]:
    """A backdrop, the words that ask for it, and its name."""
    luck = r.random()
    if luck < 0.12:
        return Backdrop(COLOURS["white"], COLOURS["white"]), "", ""
    if luck < 0.3:
        return _pastel(r), "", ""
    if luck < 0.7 or not lesson.scenes:
        name = r.choice(list(COLOURS))
        colour = _near(COLOURS[name], r)
        words = r.choice(_ON if lesson.wordings else _ON[:1]).format(name)
        return Backdrop(colour, colour), words.replace("a orange", "an orange"), name
    name = r.choice(list(SCENES))
    paint, wordings = SCENES[name]
    return paint(r), " " + r.choice(wordings), name


def _name(thing: int, r: random.Random) -> str:
    names = list(THINGS.values())[thing]
    return r.choice(names) if r.random() < 0.4 else names[0]


def _with_adjective(adjective: str, name: str) -> str:
    plain = name in PAIRS or name in UNCOUNTED
    return f"{adjective} {name}" if plain else f"a {adjective} {name}"


def _group(r: random.Random, lesson: Lesson) -> tuple[str, tuple[Layer, ...]]:
    """Two or three of a thing, or two things side by side."""
    thing = r.randrange(lesson.things)
    if r.random() < 0.5:
        count = r.choice((2, 2, 3))
        spots = r.choice(_SPOTS[count])
        size = {2: 54, 3: 50}[count] if spots[0][0] != 25 else 40
        layers = tuple(
            Layer(thing, x + r.uniform(-2, 2), y + r.uniform(-4, 4), size * r.uniform(0.93, 1.07))
            for x, y in spots
        )
        return f"{r.choice(_NUMBERS[count])} {many(_name(thing, r))}", layers
    other = r.randrange(lesson.things)
    size = r.uniform(52, 58)
    left = Layer(thing, 34 + r.uniform(-2, 2), 64 + r.uniform(-6, 6), size, r.random() < 0.3)
    right = Layer(other, 94 + r.uniform(-2, 2), 64 + r.uniform(-6, 6), size, r.random() < 0.3)
    link = r.choice(("and", "and", "next to", "with"))
    return f"{one(_name(thing, r))} {link} {one(_name(other, r))}", (left, right)


def _single(r: random.Random, lesson: Lesson) -> tuple[str, tuple[Layer, ...]]:
    """One thing: plainly in the middle, or small, big, to the left, to the right."""
    thing = r.randrange(lesson.things)
    name, flip = _name(thing, r), lesson.places and r.random() < 0.25
    if lesson.places and (luck := r.random()) < 0.28:
        if luck < 0.1:
            x, y = 64 + r.uniform(-14, 14), 64 + r.uniform(-14, 14)
            words = _with_adjective(r.choice(_SMALL), name)
            return words, (Layer(thing, x, y, r.uniform(46, 56), flip),)
        if luck < 0.18:
            words = _with_adjective(r.choice(_BIG), name)
            return words, (Layer(thing, size=r.uniform(112, 120), flip=flip),)
        side = r.choice(("left", "right"))
        x = (34 if side == "left" else 94) + r.uniform(-3, 3)
        layer = Layer(thing, x, 64 + r.uniform(-6, 6), r.uniform(52, 62), flip)
        return f"{one(name)} on the {side}", (layer,)
    by = 6 if lesson.places else 3
    layer = Layer(
        thing, 64 + r.uniform(-by, by), 64 + r.uniform(-by, by), 94 + r.uniform(-10, 10), flip
    )
    words = one(name)
    if lesson.wordings:
        words = r.choice((words, words, words, words, words, name, f"the {name}"))
    return words.replace("the the", "the"), (layer,)


def imagine(r: random.Random, lesson: Lesson) -> Scene:
    """A scene that the lesson allows."""
    backdrop, where, background = _backdrop(r, lesson)
    grouped = lesson.groups and r.random() < lesson.groups
    what, layers = (_group if grouped else _single)(r, lesson)
    if not lesson.wordings:
        return Scene(what + where, backdrop, layers, background)
    said = r.choice(_BEFORE) + what
    said = f"{where.strip(' ,')}, {said}" if where and r.random() < 0.15 else said + where
    return Scene(_in_passing(r, said + r.choice(_AFTER)), backdrop, layers, background)


def _in_passing(r: random.Random, said: str) -> str:
    """The caption, a fifth of the time with a word or two that mean nothing.

    People say more than a model knows; what it has met as noise does not lead it astray.
    """
    if r.random() >= 0.2:
        return said
    words = said.split(" ")
    for _ in range(r.choice((1, 1, 2))):
        pairs = (
            r.choice("bcdfghjklmnprstvwyz") + r.choice("aeiou") for _ in range(r.choice((1, 2)))
        )
        words.insert(r.randint(0, len(words)), "".join(pairs) + r.choice(("", "n", "s", "t", "r")))
    return " ".join(words)


def vocabulary(lesson: Lesson = EVERYTHING) -> list[str]:
    """Every phrase a caption of the lesson can hold, the names in full."""
    rows = list(THINGS.values())[: lesson.things]
    names = [form for row in rows for n in row for form in (n, one(n), many(n))]
    places = [w for _, wordings in SCENES.values() for w in wordings if lesson.scenes]
    frames = [text.format(colour) for text in _ON for colour in COLOURS]
    rest = [*_BEFORE, *_AFTER, *_SMALL, *_BIG, *sum(_NUMBERS.values(), ())]
    extra = ["on the left", "on the right", "next to", "with", "and", "an orange"]
    return [*names, *places, *frames, *rest, *extra]


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
