"""What a PNG says in its text chunks, before anybody asks what it means.

Nothing is trusted: the chunks are walked by hand, no pixel is decoded, no more is unpacked than a
recipe can fill, and Pillow is not needed.
"""

import os
import struct
import zlib
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import suppress
from typing import BinaryIO

from sdfast.errors import MetadataError

PNG = b"\x89PNG\r\n\x1a\n"
"""How a file begins."""
MOST_TEXT = 2**20
"""Bytes of text; the longest prompts of our own stay far below."""
_SIDE = 2**16
"""Pixels."""
MOST_CHUNKS = 100_000
"""Chunks in a file."""


def is_png(start: bytes) -> bool:
    """Whether a file that starts with these bytes is a PNG."""
    return start.startswith(PNG)


def read_texts(
    file: BinaryIO, needed: Container[str], others: Mapping[str, bool]
) -> tuple[tuple[int, int], dict[str, str]]:
    """A PNG's size, and its texts by their names.

    needed  names of texts that must be in order: else a MetadataError is raised
    others  names of texts that are empty where they are not, or need not be read at all
    """
    file.seek(len(PNG))
    size, texts = (0, 0), dict[str, str]()
    for kind, content in _chunks(file):
        if kind == b"IHDR":
            size = struct.unpack(">II", content[:8].rjust(8, b"\0"))
            continue
        keyword, _, rest = content.partition(b"\0")
        name = keyword.decode("latin-1")
        if name in needed and name not in texts:
            texts[name] = _text(kind, rest)
        elif name in others and name not in texts:
            texts[name] = ""
            if others[name]:
                with suppress(MetadataError):  # what is damaged or too long is not needed by all
                    texts[name] = _text(kind, rest)
    if not all(1 <= side <= _SIDE for side in size):
        raise MetadataError("claims to be {} by {} pixels".format(*size))
    return size, texts


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The header and each text, to a little over the limit; what lies between is leapt over."""
    for _ in range(MOST_CHUNKS):
        length, kind = struct.unpack(">I4s", _exactly(file, 8))
        if kind == b"IEND":
            return
        if kind != b"IHDR" and kind not in _DECODERS:
            file.seek(length + 4, os.SEEK_CUR)
            continue
        content = _exactly(file, min(length, MOST_TEXT + 100))
        if len(content) < length:
            file.seek(length - len(content) + 4, os.SEEK_CUR)
        elif struct.unpack(">I", _exactly(file, 4)) != (zlib.crc32(kind + content),):
            raise MetadataError("is damaged: a checksum is wrong")
        yield kind, content
    raise MetadataError(f"has more than {MOST_CHUNKS} parts")


def _exactly(file: BinaryIO, count: int) -> bytes:
    if len(content := file.read(count)) < count:
        raise MetadataError("is cut short")
    return content


def _text(kind: bytes, content: bytes) -> str:
    """What a text chunk says after its keyword."""
    try:
        text = _DECODERS[kind](content)
    except (ValueError, IndexError, zlib.error) as error:
        raise MetadataError("has a recipe that is damaged") from error
    if len(text) > MOST_TEXT:
        raise MetadataError(f"has a recipe of more than {MOST_TEXT // 2**20} MiB")
    return text


def _unpacked(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, MOST_TEXT + 1)


def _international(content: bytes) -> str:
    packed, (_, _, text) = content[0], content[2:].split(b"\0", 2)
    return (_unpacked(text) if packed else text).decode()


_DECODERS: dict[bytes, Callable[[bytes], str]] = {
    b"tEXt": lambda content: content.decode("latin-1"),
    b"zTXt": lambda content: _unpacked(content[1:]).decode("latin-1"),
    b"iTXt": _international,
}
