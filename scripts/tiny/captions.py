"""The words that ask for a picture: templates, synonyms, and what people say besides.

Two words for the same are drawn here by chance, so that a model learns what they have in common. A
few of them mean nothing at all: whatever stands between two things, they are two things.
"""

import random
import re
from collections.abc import Sequence
from functools import cache

from backdrops import COLOURS
from things import PAIRS, THINGS, UNCOUNTED, many, one

PLACES: dict[str, tuple[str, ...]] = {
    "meadow": (
        "in a meadow",
        "on the grass",
        "in a green field",
        "in a field",
        "on a lawn",
        "on a green hill",
    ),
    "beach": ("on the beach", "at the beach", "on a sandy beach", "by the sea", "at the seaside"),
    "night": ("at night", "under the stars", "in the night", "under a starry sky", "at midnight"),
    "snow": ("in the snow", "in winter", "on a snowy day", "in a snowy field", "in falling snow"),
    "desert": ("in the desert", "in a sandy desert", "in the dunes", "on a sand dune"),
    "sunset": ("at sunset", "in the sunset", "at dusk", "in the evening", "in the evening sun"),
    "space": ("in space", "in outer space", "in the galaxy"),
    "underwater": ("underwater", "under the sea", "under water", "deep in the ocean"),
}
"""Scenes, and how people ask for them."""

_ON = (
    " on a {} background",
    " on a {} background",
    " on a {} background",
    " on {}",
    ", {} background",
    " against a {} background",
    " in front of a {} wall",
    " with a {} background",
    ", simple {} background",
    " on a solid {} background",
    ", {} backdrop",
)
_BEFORE = (
    "a picture of ",
    "a photo of ",
    "an image of ",
    "a drawing of ",
    "an illustration of ",
    "a painting of ",
    "an emoji of ",
    "a photograph of ",
    "a cartoon of ",
    "a sketch of ",
    "an icon of ",
)
_OF_ONE = ("a close-up of ", "a portrait of ")
_AFTER = (
    ", digital art",
    ", high quality",
    ", cartoon style",
    ", colorful",
    ", 4k",
    ", 8k, highly detailed",
    ", masterpiece, best quality",
    ", highly detailed",
    ", realistic",
    ", trending on artstation",
    ", sharp focus",
    ", studio lighting",
    ", flat design",
    ", vector art",
    ", simple",
    ".",
)
_ADJECTIVES = """
    cute happy beautiful lovely funny pretty nice friendly shiny cool perfect fluffy
    cheerful magical classic realistic colorful lonely fresh sweet young old round
""".split()  # noqa: SIM905 - a line each would be thirty lines
_DOING = """
    sitting standing lying waiting resting flying floating playing swimming walking running
    sleeping smiling
""".split()  # noqa: SIM905 - a line each would be thirty lines
_SIZES = {
    "small": ("small", "tiny", "little", "miniature"),
    "big": ("big", "large", "huge", "giant", "enormous"),
}
_SIDES = (
    "{} on the {}",
    "{} on the {}",
    "{} on the {} side",
    "{} to the {}",
    "{} at the {}",
    "{}, {}",
)
_COUNTED: dict[int, tuple[str, ...]] = {
    2: (
        "two {many}",
        "two {many}",
        "two {many}",
        "2 {many}",
        "a pair of {many}",
        "{one} and {one}",
        "{one} and a second {name}",
        "{one} next to {one}",
        "exactly two {many}",
        "a duo of {many}",
        "twin {many}",
        "two identical {many}",
        "{many}, two in all",
        "{many}: two",
        "two {many} side by side",
    ),
    3: (
        "three {many}",
        "three {many}",
        "three {many}",
        "3 {many}",
        "{one}, {one} and {one}",
        "two {many} and a third {name}",
        "exactly three {many}",
        "a trio of {many}",
        "three identical {many}",
        "{many}, three in all",
        "{many}: three",
    ),
}
_PAIRED = (
    "{left} and {right}",
    "{left} and {right}",
    "{left} and {right}",
    "{left} and {right}",
    "{left} next to {right}",
    "{left} with {right}",
    "{left} near {right}",
    "{left} by {right}",
    "{left} alongside {right}",
    "{left} plus {right}",
    "{left} & {right}",
    "{left}, {right}",
    "{left} as well as {right}",
    "{left} and also {right}",
    "{left} close to {right}",
    "{left} and {right} side by side",
    "{left} {nothing} {right}",
    "{left} {nothing} {right}",
    "{left} to the left of {right}",
    "{left} left of {right}",
    "{right} to the right of {left}",
    "{right} right of {left}",
    "{left} on the left and {right} on the right",
)


def _nothing(r: random.Random) -> str:
    """A word that means nothing."""
    while True:
        pairs = "".join(r.choice(_CONSONANTS) + r.choice("aeiou") for _ in range(r.choice((1, 2))))
        word = pairs + r.choice(("", "n", "s", "t", "r"))
        if word not in _meaning():
            return word


_CONSONANTS = "bcdfghjklmnprstvwyz"


@cache
def _meaning() -> frozenset[str]:
    """Words that mean something."""
    every = phrases(len(THINGS), scenes=True)
    return frozenset(word for text in every for word in re.findall("[a-z]+", text.lower()))


def called(thing: int, r: random.Random) -> str:
    """What the thing is called this time."""
    names = list(THINGS.values())[thing]
    return r.choice(names) if r.random() < 0.4 else names[0]


def _with_adjective(adjective: str, name: str) -> str:
    if name in PAIRS or name in UNCOUNTED:
        return f"{adjective} {name}"
    return f"{'an' if adjective[0] in 'aeiou' else 'a'} {adjective} {name}"


def _one(name: str, r: random.Random) -> str:
    """One of it, now and then with a word of praise."""
    return _with_adjective(r.choice(_ADJECTIVES), name) if r.random() < 0.1 else one(name)


def _many(name: str, r: random.Random) -> str:
    return f"{r.choice(_ADJECTIVES)} {many(name)}" if r.random() < 0.1 else many(name)


def alone(name: str, r: random.Random) -> str:
    """One of it and nothing besides."""
    words = r.choice((_one(name, r),) * 5 + (name, f"the {name}"))
    return words.replace("the the", "the")


def sized(name: str, size: str, r: random.Random) -> str:
    """A `small` or a `big` one."""
    return _with_adjective(r.choice(_SIZES[size]), name)


def at_side(name: str, side: str, r: random.Random) -> str:
    """One on the `left` or `right`."""
    return r.choice(_SIDES).format(one(name), side)


def counted(name: str, count: int, r: random.Random) -> str:
    """Two or three of it."""
    words = {"many": _many(name, r), "one": _one(name, r), "name": name}
    forms = _COUNTED[count]
    if name in PAIRS or name in UNCOUNTED:  # there is no second bread
        forms = tuple(form for form in forms if "{one}" not in form and "{name}" not in form)
    return r.choice(forms).format(**words)


def paired(left: str, right: str, r: random.Random) -> str:
    """One thing on the left and another on the right."""
    sides = {"left": _one(left, r), "right": _one(right, r)}
    return r.choice(_PAIRED).format(**sides, nothing=_nothing(r))


def on_colour(name: str, r: random.Random, *, wordings: bool) -> str:
    """A background of that colour."""
    said = r.choice(_ON if wordings else _ON[:1]).format(_shade(name, r) if wordings else name)
    return said.replace("a orange", "an orange")


def _shade(name: str, r: random.Random) -> str:
    return r.choice(("gray", "grey")) if name == "gray" else name


def in_place(scene: str, r: random.Random) -> str:
    """In one of the scenes."""
    return " " + r.choice(PLACES[scene])


def sentence(what: str, where: str, r: random.Random, *, filling: bool) -> str:
    """What and where in one prompt, with what people say before, after and in between.

    `filling`: it is one thing, and neither small nor aside.
    """
    before = r.choice(_BEFORE + _OF_ONE * filling) if r.random() < 0.45 else ""
    luck = r.random()
    if where and luck < 0.15:
        said = f"{where.strip(' ,')}, {before}{what}"
    elif where.startswith(" ") and luck < 0.25:
        said = f"{before}{what} {r.choice(_DOING)}{where}"
    elif where.startswith(" ") and luck < 0.32:
        said = f"{before}{what},{where}"
    else:
        said = before + what + where
    return _in_passing(said + (r.choice(_AFTER) if r.random() < 0.3 else ""), r)


def _in_passing(said: str, r: random.Random) -> str:
    """The caption, a fifth of the time with a word or two that mean nothing.

    People say more than a model knows; what it has met as noise does not lead it astray.
    """
    if r.random() >= 0.2:
        return said
    words = said.split(" ")
    for _ in range(r.choice((1, 1, 2))):
        words.insert(r.randint(0, len(words)), _nothing(r))
    return " ".join(words)


def phrases(things: int, *, scenes: bool) -> list[str]:
    """Every phrase that a caption of the first `things` can hold, the names in full."""
    rows = list(THINGS.values())[:things]
    names = [form for row in rows for n in row for form in (n, one(n), many(n))]
    places = [w for wordings in PLACES.values() for w in wordings if scenes]
    frames = [text.format(colour) for text in _ON for colour in (*COLOURS, "grey")]
    groups: Sequence[str] = (*_PAIRED, *_COUNTED[2], *_COUNTED[3], *_SIDES)
    rest = [re.sub(r"\{\w*\}", "", text) for text in groups]
    sizes = [word for words in _SIZES.values() for word in words]
    return [
        *(names + places + frames + rest + sizes),
        *(*_BEFORE, *_OF_ONE, *_AFTER, *_ADJECTIVES, *_DOING),
        *("left", "right", "the", "an orange"),
    ]
