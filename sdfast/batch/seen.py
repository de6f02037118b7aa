"""What a file in a batch's place says of itself: whose picture it is, and whether it is whole.

A picture carries the key of its job, so that it is known again. One that a model's safety checker
has made black says so as well, and is no picture to whoever wants it without. In a PNG both are
text chunks, in a JPEG or WebP tags of its Exif data. Nothing is trusted: parts are leapt over by
their lengths, so many at the most, and no pixel is decoded. What is not known to be ours and cut
short is somebody's, and whole.
"""

import os
import re
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from sdfast import exif
from sdfast.exif import KEY, NSFW
from sdfast.png_texts import MOST_CHUNKS, PNG, is_png

_BEGINNINGS = (PNG, b"\xff\xd8\xff", b"RIFF")
_SEGMENTS = 1000
"""Of a JPEG or WebP."""
_APP1, _PIXELS = 0xE1, 0xDA
"""A JPEG's segments: of Exif data, and the one before the pixels."""
_HAVE_LENGTHS = {*range(0xC0, 0xD0), *range(0xDA, 0xFF)}
_BLOCK, _TAIL = 2**21, 2**16
"""Bytes of Exif data that are read, and bytes at the end among which a JPEG has ended."""


class Seen(NamedTuple):
    """A file that begins as a picture does."""

    whole: bool
    key: bytes | None = None
    """Of the job that made it, where it says so."""
    black: bool = False
    """A safety checker has made it so."""

    def of(self, *, black: bool) -> bytes | None:
        """The key, if the picture is whole and, unless `black` ones count, not black."""
        return self.key if self.whole and (black or not self.black) else None


_CUT, _ANOTHERS = Seen(whole=False), Seen(whole=True)


def look(path: Path) -> Seen | None:
    """What a file says of itself; None if it does not even begin as a picture does."""
    try:
        if not path.is_file():  # a pipe would have us wait
            return None
        with path.open("rb") as file:
            return look_into(file)
    except (OSError, ValueError):
        return None


def look_into(file: BinaryIO) -> Seen | None:
    """As `look`, of a file that is open."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(12)
    if len(start) < 12:
        begins = any(start[: len(one)] == one[: len(start)] for one in _BEGINNINGS)
        return _CUT if begins else None
    if is_png(start):
        return _look_into_png(file, size)
    if not exif.is_photo(start):
        return None
    if start.startswith(b"RIFF"):
        return _look_into_webp(file, int.from_bytes(start[4:8], "little"), size)
    return _look_into_jpeg(file, size)


def _look_into_png(file: BinaryIO, size: int) -> Seen:
    key, is_black = None, False
    file.seek(len(PNG))
    for _ in range(MOST_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head)
        if file.tell() + length + 4 > size:
            break
        if kind == b"IEND":
            return Seen(True, key, is_black)
        if kind == b"tEXt" and length < 100:
            name, _, text = file.read(length).partition(b"\0")
            is_black |= name == NSFW.encode()
            if name == KEY.encode():
                key = key_of(text.decode("latin-1"))
            length = 0
        file.seek(length + 4, os.SEEK_CUR)
    return _CUT


def _look_into_jpeg(file: BinaryIO, size: int) -> Seen:
    block, at = b"", 2
    for _ in range(_SEGMENTS):
        file.seek(at)
        head = file.read(4)
        if len(head) < 4:
            return _CUT
        length = int.from_bytes(head[2:])  # its own two bytes included
        if head[0] != 0xFF or head[1] not in _HAVE_LENGTHS or length < 2:
            return _ANOTHERS
        at += 2 + length
        if head[1] == _PIXELS:
            break
        if head[1] == _APP1 and not block:
            content = file.read(length - 2)
            block = content if content.startswith(b"Exif\0") else b""
        if at > size:
            return _CUT
    else:
        return _ANOTHERS
    seen = _marked(block)
    file.seek(max(at, size - _TAIL))
    return seen if seen.key is None or b"\xff\xd9" in file.read(_TAIL) else _CUT


def _look_into_webp(file: BinaryIO, length: int, size: int) -> Seen:
    if size < 8 + length:
        return _CUT
    at = 12
    for _ in range(_SEGMENTS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            break
        length = int.from_bytes(head[4:], "little")
        if head[:4] == b"EXIF":
            return _marked(file.read(length)) if length <= _BLOCK else _ANOTHERS
        at += 8 + length + length % 2
    return _ANOTHERS


def _marked(block: bytes) -> Seen:
    key, is_black = exif.marks(block)
    return Seen(True, key_of(key), is_black)


def key_of(text: str) -> bytes | None:
    """A job's key as it stands in files; None for what is none."""
    return bytes.fromhex(text) if re.fullmatch(r"[0-9a-f]{32}", text) else None
