"""Whether a picture is whole, and which job it belongs to."""

import os
import re
import struct
from pathlib import Path
from typing import BinaryIO

KEY = "sdfast-key"
"""The text chunk that names a picture's job, in 32 hexadecimal digits."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST = 100_000
"""Chunks."""


def carried_key(path: Path) -> bytes | None:
    """The key of the job that made this picture; None unless the picture is whole."""
    try:
        with path.open("rb") as file:
            return key_in(file)
    except (OSError, ValueError):
        return None


def key_in(file: BinaryIO) -> bytes | None:
    """As `carried_key`, of a file that is open."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(8) != _SIGNATURE:
        return None
    key = None
    for _ in range(_MOST):
        head = file.read(8)
        if len(head) < 8:
            return None
        length, kind = struct.unpack(">I4s", head)
        if file.tell() + length + 4 > size:
            return None
        if kind == b"IEND":
            return key
        if kind == b"tEXt" and length < 100:
            name, _, text = file.read(length).partition(b"\0")
            if name == KEY.encode() and re.fullmatch(rb"[0-9a-f]{32}", text):
                key = bytes.fromhex(text.decode())
            length = 0
        file.seek(length + 4, os.SEEK_CUR)
    return None
