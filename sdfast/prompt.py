r"""What a prompt says beyond its words: emphasis and breaks, in AUTOMATIC1111's grammar.

    a (very:1.3) red [old] cat BREAK by the sea \(oil\)

`(words)` weighs them 1.1, `[words]` 1/1.1 and `(words:1.3)` as it says; brackets within brackets
multiply. A backslash takes a bracket or a backslash as it stands. `BREAK` has what follows begin a
new chunk. A bracket that closes nothing is text, and one that is never closed reaches to the end.

The rules are those of `parse_prompt_attention` in the web UI's modules/prompt_parser.py but for
three cases it gets wrong: `BREAK` within brackets is a break as everywhere else, what is no number
is text and no failure, and a weight stays within 1000.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple


class Weighted(NamedTuple):
    """Words that are weighed alike."""

    words: str
    weight: float


class _Span(NamedTuple):
    """What a pair of brackets encloses, by the numbers of pieces."""

    begin: int
    end: int
    factor: float


_TOKEN = re.compile(
    r"\\[()\[\]\\]?|[()\[\]]|:\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*\)|[^\\()\[\]:]+|:"
)
_BREAK = re.compile(r"\bBREAK\b")
_FACTORS = {"(": 1.1, "[": 1 / 1.1}
_CLOSES = {")": "(", "]": "["}
_MOST = 1000.0


def read_prompt(prompt: str) -> list[list[Weighted]]:
    """The prompt's parts between its breaks, each as words with their weights; at least one part.

    Words without any syntax are one part of weight 1.
    """
    pieces: list[str | None] = []  # None is a break
    opened: dict[str, list[int]] = {kind: [] for kind in _FACTORS}
    spans: dict[str, list[_Span]] = {kind: [] for kind in _FACTORS}

    def close(kind: str, factor: float) -> None:
        spans[kind].append(_Span(opened[kind].pop(), len(pieces), _bounded(factor)))

    for found in _TOKEN.finditer(prompt):
        token, number = found[0], found[1]
        closes = "(" if number else _CLOSES.get(token, "")
        if token.startswith("\\"):
            pieces.append(token[1:])
        elif token in opened:
            opened[token].append(len(pieces))
        elif opened.get(closes):
            close(closes, float(number) if number else _FACTORS[closes])
        else:
            first, *more = _BREAK.split(token)
            pieces.append(first.rstrip() if more else first)
            for count, piece in enumerate(more, 1):
                piece = piece.lstrip()
                pieces += [None, piece.rstrip() if count < len(more) else piece]
    for kind, begins in opened.items():
        while begins:
            close(kind, _FACTORS[kind])

    parts: list[list[Weighted]] = [[]]
    products = zip(*(_products(spans[kind], len(pieces)) for kind in spans), strict=True)
    for piece, (of_round, of_square) in zip(pieces, products, strict=True):
        if piece is None:
            parts.append([])
        elif piece:
            _add(parts[-1], Weighted(piece, _bounded(of_round * of_square)))
    return parts


def _add(part: list[Weighted], piece: Weighted) -> None:
    """Put the piece behind the others, into the last if that is weighed alike."""
    if part and part[-1].weight == piece.weight:
        piece = Weighted(part.pop().words + piece.words, piece.weight)
    part.append(piece)


def _products(spans: Iterable[_Span], count: int) -> list[float]:
    """For each piece the factors of all the spans that it lies in, multiplied."""
    waiting = sorted(spans, key=lambda span: (-span.begin, span.end))  # the next one stands last
    around: list[tuple[int, float]] = [(count, 1.0)]
    products: list[float] = []
    for place in range(count):
        while around[-1][0] <= place:
            around.pop()
        while waiting and waiting[-1].begin == place:
            _, end, factor = waiting.pop()
            if end > place:
                around.append((end, _bounded(around[-1][1] * factor)))
        products.append(around[-1][1])
    return products


def _bounded(weight: float) -> float:
    return max(-_MOST, min(_MOST, weight))


def bare_words(prompt: str) -> str:
    """The prompt's words without its syntax."""
    return " ".join(piece.words for part in read_prompt(prompt) for piece in part)


_OTHER = re.compile(
    r"""
    <\w+:[^<>]{1,200}>  # <lora:name:weight>
    | \bAND\b
    """,
    re.VERBOSE,
)


def not_followed(prompts: Iterable[str]) -> list[str]:
    """What the web UI would take for more than words, and is read as words here.

    Extra networks, and prompts composed with `AND`.
    """
    found = (found[0] for prompt in dict.fromkeys(prompts) for found in _OTHER.finditer(prompt))
    return list(dict.fromkeys(found))
