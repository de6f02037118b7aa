"""A picture as a PNG file, made of strips side by side.

Pillow filters each row, by the row above where that helps, and zlib packs what is left. Neither
needs the GIL, and both can begin anew anywhere: a strip is given the row above it as well, and a
stream of zlib's may be put together of parts that end at whole bytes, as pigz does it. So each
strip is a small file of Pillow's, unpacked, whose rows are packed. How many processors there are
changes no byte.
"""

import io
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.PngImagePlugin import PngInfo

_STRIP = 2**17
"""Bytes of a strip, about."""
_LITTLE = 1 / 5
"""Of a picture's bytes: a page of text leaves less, painted pictures more."""
_LEVEL = 5
"""Of zlib's whole search: from there on files get hardly smaller, and take far longer."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ZLIB = b"\x78\x01"
"""Begins a stream; the parts are bare of it (`-MAX_WBITS`)."""


class _Strip(NamedTuple):
    head: list[tuple[bytes, bytes]]
    """The chunks of its file but for the pixels."""
    rows: memoryview
    """Each filtered, behind a byte that says how."""
    packed: bytes


class _Task(NamedTuple):
    image: "Image"
    text: "PngInfo | None"
    top: int
    bottom: int


def encode_in_strips(pictures: Sequence[tuple["Image", "PngInfo"]]) -> list[bytes]:
    """The pictures as PNG files with their texts.

    zlib looks for runs only: what PNG's filters leave of a painted picture hardly repeats itself
    otherwise, so files are about as small as after a whole search, in half of the time. Where
    little is left, as of a page of text, the whole search is made as well, through all strips.
    """
    cut = [_cut(image, text) for image, text in pictures]
    tasks = [task for strips in cut for task in strips]
    if len(tasks) == 1:
        made = map(_strip, tasks)
    else:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(len(tasks), os.cpu_count() or 1)) as pool:
            made = iter(list(pool.map(_strip, tasks)))
    return [_joined(strips[-1].bottom, [next(made) for _ in strips]) for strips in cut]


def _cut(image: "Image", text: "PngInfo") -> list[_Task]:
    size = image.width * len(image.getbands()) * image.height
    rows = -(-image.height // -(-size // _STRIP))
    tops = range(0, image.height, rows)
    return [_Task(image, None if t else text, t, min(t + rows, image.height)) for t in tops]


def _strip(task: _Task) -> _Strip:
    image, text, top, bottom = task
    above = min(top, 1)
    part = image.crop((0, top - above, image.width, bottom))
    file = io.BytesIO()
    part.save(file, "PNG", pnginfo=text, compress_level=0)
    chunks = list(_chunks(file.getvalue()))
    rows = zlib.decompress(b"".join(content for kind, content in chunks if kind == b"IDAT"))
    own = memoryview(rows)[above * len(rows) // part.height :]
    packed = _packed(own, last=bottom == image.height, strategy=zlib.Z_RLE)
    return _Strip([chunk for chunk in chunks if chunk[0] != b"IDAT"], own, packed)


def _packed(
    rows: bytes | memoryview, *, last: bool, strategy: int = zlib.Z_DEFAULT_STRATEGY
) -> bytes:
    """A part of a stream, to its end or to a whole byte."""
    pack = zlib.compressobj(_LEVEL, wbits=-zlib.MAX_WBITS, memLevel=9, strategy=strategy)
    return pack.compress(rows) + pack.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH)


def _joined(height: int, strips: Sequence[_Strip]) -> bytes:
    """A file of the whole height, with what the first strip's file says besides."""
    check = 1
    for strip in strips:
        check = zlib.adler32(strip.rows, check)
    packed = b"".join(strip.packed for strip in strips)
    if len(packed) <= _LITTLE * sum(len(strip.rows) for strip in strips):
        rows = b"".join(strip.rows for strip in strips)
        packed = min(packed, _packed(rows, last=True), key=len)
    stream = _ZLIB + packed + struct.pack(">I", check)
    (_, header), *others, end = strips[0].head
    header = header[:4] + struct.pack(">I", height) + header[8:]
    chunks = [(b"IHDR", header), *others, (b"IDAT", stream), end]
    return b"".join([_SIGNATURE, *(_chunk(*chunk) for chunk in chunks)])


def _chunks(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_SIGNATURE)
    while at < len(file):
        length, kind = struct.unpack_from(">I4s", file, at)
        yield kind, file[at + 8 : at + 8 + length]
        at += length + 12


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)
