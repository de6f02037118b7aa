"""What stands behind a thing, in a few numbers: plain colours, pale shades, painted scenes."""

import colorsys
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SIDE = 128
"""Pixels along a picture's edge."""

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


def near(colour: Colour, r: random.Random, by: int = 7) -> Colour:
    """Nearly that colour."""
    red, green, blue = (min(255.0, max(0.0, c + r.randint(-by, by))) for c in colour)
    return red, green, blue


def pastel(r: random.Random) -> Backdrop:
    """From one pale shade to another that has no name."""
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
        near((104, 180, 70), r),
        r.uniform(0, 6),
        r.uniform(20, 50),
        r.uniform(0, 6),
    )
    return Backdrop((120, 190, 245), (205, 232, 250), bands=(ground,))


def _beach(r: random.Random) -> Backdrop:
    sea = r.uniform(60, 72)
    sand = Band(
        sea + r.uniform(14, 24), near((238, 214, 160), r), 3, r.uniform(14, 20), r.uniform(0, 6)
    )
    return Backdrop(
        (130, 200, 245), (200, 235, 250), bands=(Band(sea, near((40, 140, 200), r)), sand)
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
        near((222, 170, 96), r),
        r.uniform(3, 8),
        r.uniform(18, 24),
        r.uniform(0, 6),
    )
    return Backdrop((250, 205, 140), (252, 232, 190), bands=(ground,))


def _sunset(r: random.Random) -> Backdrop:
    horizon = r.uniform(88, 104)
    sun = Dot(r.uniform(20, 108), horizon, r.uniform(14, 22), (255, 226, 120))
    return Backdrop((96, 60, 140), (250, 140, 70), (sun,), (Band(horizon, near((70, 44, 80), r)),))


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


SCENES: dict[str, Callable[[random.Random], Backdrop]] = {
    "meadow": _meadow,
    "beach": _beach,
    "night": _night,
    "snow": _snow,
    "desert": _desert,
    "sunset": _sunset,
    "space": _space,
    "underwater": _underwater,
}
