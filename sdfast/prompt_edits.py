"""Prompts that change on the way from noise to image, in AUTOMATIC1111's grammar.

    a [cat:dog:0.5]     a cat for the first half of the network's calls, and then a dog
    a [cat:dog:8]       a dog after the eighth call
    a [dog:8], [cat::8] something that comes, something that goes
    a [cat|dog]         one and the other in turns

The rules are those of `get_learned_conditioning_prompt_schedules` in the web UI's
modules/prompt_parser.py. It counts from 1 what it decides by and from 0 what it looks up, so that
the first text lasts a call longer than it says; so it does here. There, a `|`, a bracket or a
backslash in a wrong place leaves the whole prompt as it is; here they are letters.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple


class Turn(NamedTuple):
    """What a prompt and a negative prompt say up to a call of the network."""

    last: int
    """The call, counted from 0; that of the last turn is how many there are."""
    prompt: str
    negative: str


_Text = list["str | _Then | _Or"]
"""Text with what changes in it."""


class _Then(NamedTuple):
    """`[before:after:when]`"""

    before: _Text
    after: _Text
    when: int


class _Or(NamedTuple):
    """`[this|that|...]`"""

    options: list[_Text]


_NUMBER = re.compile(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)\s*")
_TOKEN = re.compile(r"[^\\()\[\]:|]+|\\.?|.", re.DOTALL)
_CLOSES = {"]": "[", ")": "("}
_DEEP = 50
"""Square brackets within each other; one further in is a plain letter."""


def turns(prompt: str, negative: str, calls: int) -> list[Turn]:
    """What the two say in a walk of so many calls, one turn for each change; at least one."""
    sides = [_read(text, calls) for text in (prompt, negative)]
    ends = sorted({calls, *(end for side in sides for end in _ends(side, calls))})
    said = [Turn(end, *(_said(side, end) for side in sides)) for end in ends]
    return [turn for turn, then in pairwise(said) if turn[1:] != then[1:]] + said[-1:]


class _Open(NamedTuple):
    """A bracket that has not been closed, and what stands behind it, parted by `:` and `|`."""

    bracket: str
    pieces: _Text
    marks: list[tuple[int, str]]
    """Where among the pieces a separator stands."""


def _read(prompt: str, calls: int) -> _Text:
    """The prompt as text and what changes in it. What is no whole change is text."""
    open_, deep = [_Open("", [], [])], 0
    for token in _TOKEN.findall(prompt):
        here = open_[-1]
        if token == "(" or (token == "[" and deep < _DEEP):
            open_.append(_Open(token, [], []))
            deep += token == "["
        elif token in _CLOSES and here.bracket == _CLOSES[token]:
            open_.pop()
            deep -= token == "]"
            change = _change(here, calls) if token == "]" else None
            open_[-1].pieces.extend([change] if change else [here.bracket, *here.pieces, token])
        else:
            if token in (":", "|"):
                here.marks.append((len(here.pieces), token))
            here.pieces.append(token)
    whole = open_[0].pieces
    for unclosed in open_[1:]:
        whole += [unclosed.bracket, *unclosed.pieces]
    return whole


def _change(closed: _Open, calls: int) -> _Then | _Or | None:
    """What a pair of square brackets means, if it is more than emphasis."""
    *texts, last = _parted(closed, ":")
    if 1 <= len(texts) <= 2 and (said := _NUMBER.fullmatch(_plain(last))):
        before, after = texts if len(texts) == 2 else ([], *texts)
        return _Then(before, after, _when(said[1], calls))
    options = _parted(closed, "|")
    return _Or(options) if len(options) > 1 and not texts else None


def _parted(closed: _Open, mark: str) -> list[_Text]:
    """What stands between separators of one kind."""
    places = [place for place, found in closed.marks if found == mark]
    sides = zip([-1, *places], [*places, len(closed.pieces)], strict=True)
    return [closed.pieces[begin + 1 : end] for begin, end in sides]


def _plain(text: _Text) -> str:
    """The text if nothing in it changes."""
    words = [piece for piece in text if isinstance(piece, str)]
    return "".join(words) if len(words) == len(text) else ""


def _when(number: str, calls: int) -> int:
    """A call, or a share of them where there is a point."""
    value = float(number) * (calls if "." in number else 1)
    return int(max(-1.0, min(value, float(calls))))


def _ends(text: _Text, calls: int) -> Iterator[int]:
    """The calls, counted from 1, after which the text may change."""
    for piece in text:
        match piece:
            case _Then(before, after, when):
                yield from (when,) if when >= 1 else ()
                yield from _ends([*before, *after], calls)
            case _Or():
                yield from range(1, calls + 1)
            case _:
                pass


def _said(text: _Text, call: int) -> str:
    """The text at a call, counted from 1."""
    said = ""
    for piece in text:
        match piece:
            case _Then(before, after, when):
                said += _said(before if call <= when else after, call)
            case _Or(options):
                said += _said(options[(call - 1) % len(options)], call)
            case _:
                said += piece
    return said
