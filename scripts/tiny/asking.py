"""Held-out wordings: what a person might type that no training caption ever said.

They ask for the things a model was taught, by their plain names, in another grammar: the background
comes first, verbs ask for the picture, and no caption has the words that link two things here or
count them.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

from backdrops import COLOURS
from scenes import Lesson
from things import PAIRS, THINGS, UNCOUNTED, many, one

COLOURED = (
    "on a {colour} background i see {what}",
    "{colour} background with {what}",
    "{what} with a background in {colour}",
    "{what}, the background is {colour}",
    "draw {what} on {colour}",
    "show me {what} on a {colour} background",
    "{what} painted on a {colour} wall",
    "i want {what} in front of a plain {colour} background",
)
IN_SCENES = (
    "{where} i see {what}",
    "draw {what} {where}",
    "{what} out {where}",
    "i want {what} {where}",
    "show me {what} {where}",
)
OPEN = (
    "draw {what}",
    "show me {what}",
    "i want {what}",
    "only {what}",
    "{what}, please",
    "{what} alone",
)
PLACES: dict[str, tuple[str, ...]] = {
    "meadow": ("in a meadow", "on the grass", "in a green field"),
    "beach": ("on the beach", "at the beach", "on a sandy beach"),
    "night": ("at night", "under the stars", "in the night"),
    "snow": ("in the snow", "in winter"),
    "desert": ("in the desert",),
    "sunset": ("at sunset", "in the sunset"),
    "space": ("in space", "in outer space"),
    "underwater": ("underwater", "under the sea", "under water"),
}
WHAT: dict[str, tuple[str, ...]] = {
    "": ("{one}",),
    "one": ("one {name}", "a single {name}"),
    "two": ("two {many}", "a couple of {many}", "{many}, two of them", "{one} and another {name}"),
    "three": ("three {many}", "{many}, three of them", "a group of three {many}"),
    "pair": ("{one} beside {other}", "{one} together with {other}", "both {one} and {other}"),
}
"""What is asked for, by the count it asks for; one thing may leave its count unsaid."""

_SINGLE = ("", "", "", "one")
_GROUPED = ("two", "three", "pair", "pair")
_COUNTLESS = PAIRS | UNCOUNTED


class Asked(NamedTuple):
    """A prompt and what its picture should show; what it leaves open is empty."""

    prompt: str
    things: frozenset[int]
    """Rows of THINGS."""
    background: str
    count: str
    wording: str
    """The frame the prompt was put in."""


def _backdrop(r: random.Random, lesson: Lesson) -> tuple[str, str, str]:
    """A frame, the words for the background within it, and the background's name."""
    luck = r.random()
    if luck < 0.6:
        colour = r.choice(list(COLOURS))
        return r.choice(COLOURED), colour, colour
    if luck < 0.8 and lesson.scenes:
        scene = r.choice(list(PLACES))
        return r.choice(IN_SCENES), r.choice(PLACES[scene]), scene
    return r.choice(OPEN), "", ""


def _ask(r: random.Random, thing: int, taught: int, lesson: Lesson) -> Asked:
    name, *_ = list(THINGS.values())[thing]
    count = ""
    if name not in _COUNTLESS:
        count = r.choice(_GROUPED if lesson.groups and r.random() < 0.3 else _SINGLE)
    other = (thing + r.randrange(1, taught)) % taught
    beside, *_ = list(THINGS.values())[other]
    what = r.choice(WHAT[count]).format(
        name=name, one=one(name), many=many(name), other=one(beside)
    )
    frame, where, background = _backdrop(r, lesson)
    prompt = frame.format(what=what, colour=where, where=where).replace("a orange", "an orange")
    things = frozenset((thing, other) if count == "pair" else (thing,))
    return Asked(prompt, things, background, count, frame)


def ask(count: int, lesson: Lesson, seed: int) -> Sequence[Asked]:
    """Prompts for what the lesson teaches, each thing asked for as often as the others."""
    r = random.Random(f"held out {seed}")
    asked: list[Asked] = []
    while len(asked) < count:
        things = r.sample(range(lesson.things), lesson.things)
        asked += [_ask(r, thing, lesson.things, lesson) for thing in things]
    return asked[:count]
