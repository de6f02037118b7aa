"""A prompt as chunks, each as long as a text encoder reads at once.

As AUTOMATIC1111's web UI has it (modules/sd_hijack_clip.py): a prompt of any length fills as many
chunks as it takes, 75 tokens in each for CLIP, and each is a text of its own between its two ends.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sdfast.models.learned import Learned
from sdfast.models.tokenizer import Reader
from sdfast.prompt import Weighted, read_prompt

BACKTRACK = 20
"""A chunk that is full ends at a comma instead, if one stands within so many tokens."""


class Token(NamedTuple):
    """A word or a part of one, by its number, and how much it is to weigh."""

    id: int
    weight: float
    more: int = 0
    """How many tokens follow that must stand in the same chunk, as those of an embedding do."""


Chunk = list[Token]


def room_of(reader: Reader, places: int) -> int:
    """The tokens that a chunk has room for between its ends."""
    return min(places, reader.limit or places) - 2


def read_chunks(
    prompt: str, reader: Reader, places: int, learned: Learned | None = None
) -> list[Chunk]:
    """The prompt's chunks, each of the same length, its ends included; at least one.

    A word that was `learned` is as many tokens as its embedding has rows, all in one chunk.
    """
    room = room_of(reader, places)
    parts = [
        [token for piece in part for token in _tokens(piece, reader, learned or Learned())]
        for part in read_prompt(prompt)
    ]
    begin, end, pad = (Token(mark, 1.0) for mark in reader.marks)
    return [
        [begin, *chunk, end, *[pad] * (room - len(chunk))]
        for chunk in lay_out(parts, room, reader.comma)
    ]


def _tokens(piece: Weighted, reader: Reader, learned: Learned) -> Iterator[Token]:
    for said in learned.split(piece.words):
        if isinstance(said, str):
            yield from (Token(i, piece.weight) for i in reader.read(said))
        else:
            yield from (Token(i, piece.weight, len(said) - k) for k, i in enumerate(said, start=1))


def lay_out(parts: Sequence[Sequence[Token]], room: int, comma: int | None) -> list[Chunk]:
    """The tokens in order, at most `room` in a chunk; every part begins a new one."""
    chunks: list[Chunk] = []
    for part in parts:
        chunks.append([])
        for token in part:
            if len(chunks[-1]) == room:
                chunks.append([] if token.id == comma else _taken_back(chunks[-1], comma))
            if len(chunks[-1]) + 1 + token.more > room:
                chunks.append([])
            chunks[-1].append(token)
    if len(chunks) > 1 and not chunks[-1]:
        chunks.pop()
    return chunks


def _taken_back(chunk: Chunk, comma: int | None) -> Chunk:
    """What stands behind the last comma, taken out of the chunk, if that is near its end."""
    for place in range(len(chunk) - 1, max(len(chunk) - BACKTRACK, 0) - 1, -1):
        if chunk[place].id == comma:
            taken = chunk[place + 1 :]
            del chunk[place + 1 :]
            return taken
    return []
