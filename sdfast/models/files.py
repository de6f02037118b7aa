"""A model's files, opened with care: anybody may have written them, and a link leads anywhere."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_MOST = 10_000_000
"""Bytes of a config or a vocabulary; a tokenizer.json, the largest, has under four million."""


def open_regular(path: Path) -> BinaryIO:
    """A regular file's bytes. Raises OSError for a pipe, which waits, or a device, without end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return path.open("rb")


def read_text(path: Path) -> str:
    """The text of a small file. Raises OSError, also for one that is not small, and ValueError."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > _MOST:
            raise OSError(errno.EFBIG, f"it has over {_MOST // 1_000_000} MB", str(path))
        return file.read(size).decode("utf-8")
