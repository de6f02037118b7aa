"""What a file in a batch's place says of itself: whose picture it is, and whether it is whole.

A picture carries the key of its job, so that it is known again. One that a model's safety checker
has made black says so as well, and is no picture to whoever wants it without. In a PNG both are
text chunks, in a JPEG or WebP tags of its Exif data.
"""

import os
import re
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from sdfast import exif
from sdfast.errors import MetadataError
from sdfast.exif import KEY, NSFW

_PNG = b"\x89PNG\r\n\x1a\n"
_BEGINNINGS = (_PNG, b"\xff\xd8\xff", b"RIFF")
_CHUNKS = 100_000
"""Of a PNG, at the most."""


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


_CUT = Seen(whole=False)


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
    if start.startswith(_PNG):
        return _look_into_png(file, size)
    return _look_into_photo(file, start, size) if exif.is_photo(start) else None


def _look_into_png(file: BinaryIO, size: int) -> Seen:
    key, is_black = None, False
    file.seek(len(_PNG))
    for _ in range(_CHUNKS):
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
                key = _key(text.decode("latin-1"))
            length = 0
        file.seek(length + 4, os.SEEK_CUR)
    return _CUT


def _look_into_photo(file: BinaryIO, start: bytes, size: int) -> Seen:
    if start.startswith(b"RIFF"):
        whole = size >= 8 + int.from_bytes(start[4:8], "little")
    else:
        file.seek(-2, os.SEEK_END)
        whole = file.read(2) == b"\xff\xd9"
    if not whole:
        return _CUT
    file.seek(0)
    try:
        _, texts = exif.read_comments(file)
    except MetadataError:
        return _CUT
    return Seen(True, _key(texts.get(KEY, "")), NSFW in texts)


def _key(text: str) -> bytes | None:
    return bytes.fromhex(text) if re.fullmatch(r"[0-9a-f]{32}", text) else None
