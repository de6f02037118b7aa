"""What a training picture shows: things on a backdrop, and the words that ask for them.

A `Scene` says in a few numbers what stands where on which backdrop, and in words what a person
would type to get it (`captions.py`).
"""

import random
from dataclasses import dataclass

from backdrops import COLOURS, SCENES, SIDE, Backdrop, near, pastel
from captions import alone, at_side, called, counted, in_place, on_colour, paired, sentence, sized
from things import THINGS, one


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


_ASIDE = 72
"""Things of at most as many pixels are called small, or stand to a side."""
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
        return pastel(r), "", ""
    if luck < 0.7 or not lesson.scenes:
        name = r.choice(list(COLOURS))
        colour = near(COLOURS[name], r)
        return Backdrop(colour, colour), on_colour(name, r, wordings=lesson.wordings), name
    name = r.choice(list(SCENES))
    return SCENES[name](r), in_place(name, r), name


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
        return counted(called(thing, r), count, r), layers
    other = r.randrange(lesson.things)
    size = r.uniform(52, 58)
    left = Layer(thing, 34 + r.uniform(-2, 2), 64 + r.uniform(-6, 6), size, r.random() < 0.3)
    right = Layer(other, 94 + r.uniform(-2, 2), 64 + r.uniform(-6, 6), size, r.random() < 0.3)
    return paired(called(thing, r), called(other, r), r), (left, right)


def _single(r: random.Random, lesson: Lesson) -> tuple[str, tuple[Layer, ...]]:
    """One thing: plainly in the middle, or small, big, to the left, to the right."""
    thing = r.randrange(lesson.things)
    name, flip = called(thing, r), lesson.places and r.random() < 0.25
    if lesson.places and (luck := r.random()) < 0.28:
        if luck < 0.1:
            x, y = 64 + r.uniform(-14, 14), 64 + r.uniform(-14, 14)
            return sized(name, "small", r), (Layer(thing, x, y, r.uniform(46, 56), flip),)
        if luck < 0.18:
            layer = Layer(thing, size=r.uniform(112, 120), flip=flip)
            return sized(name, "big", r), (layer,)
        side = r.choice(("left", "right"))
        x = (34 if side == "left" else 94) + r.uniform(-3, 3)
        layer = Layer(thing, x, 64 + r.uniform(-6, 6), r.uniform(52, 62), flip)
        return at_side(name, side, r), (layer,)
    by = 6 if lesson.places else 3
    layer = Layer(
        thing, 64 + r.uniform(-by, by), 64 + r.uniform(-by, by), 94 + r.uniform(-10, 10), flip
    )
    return alone(name, r) if lesson.wordings else one(name), (layer,)


def imagine(r: random.Random, lesson: Lesson) -> Scene:
    """A scene that the lesson allows."""
    backdrop, where, background = _backdrop(r, lesson)
    grouped = lesson.groups and r.random() < lesson.groups
    what, layers = (_group if grouped else _single)(r, lesson)
    filling = len(layers) == 1 and layers[0].size > _ASIDE
    caption = sentence(what, where, r, filling=filling) if lesson.wordings else what + where
    return Scene(caption, backdrop, layers, background)
