"""The header of a safetensors file, which says what tensors follow: read with care, without them.

    8 bytes, the header's length; JSON, each tensor's dtype, shape and place; the tensors

A file that is no such thing, or not as long as its header says, is refused before anything else is
read of it.
"""

import json
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, cast

from sdfast.errors import ModelError
from sdfast.models.files import open_regular

_LONGEST = 25_000_000
"""Bytes of a header; the largest models' are under one million."""

_BITS = {
    **dict.fromkeys(("F64", "I64", "U64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL"), 8),
}

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
"""How files of PyTorch's own end."""

_PICKLED = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""How they begin: as a zip archive or as a pickle."""


class Header(NamedTuple):
    """What tensors are in a file, and what it says of itself."""

    shapes: Mapping[str, tuple[int, ...]]
    about: Mapping[str, str]
    """The file's own remarks, which anybody may have written."""


def read_header(path: Path, shown: str) -> Header:
    """The header of a whole file. Raises ModelError that begins with `shown`, which names it."""
    try:
        size = path.stat().st_size
        with open_regular(path) as file:
            begin, brace = file.read(8), file.read(1)
            if begin.startswith(_PICKLED) and brace != b"{":  # a length may look like one
                raise pickled(shown)
            (length,) = struct.unpack("<Q", begin)
            if not 2 <= length <= min(size - 8, _LONGEST):
                raise ValueError
            found = cast("dict[str, Any]", json.loads(brace + file.read(length - 1)))
        about = dict(found.pop("__metadata__", None) or {})
        shapes = {name: _shape(said) for name, said in found.items()}
        ends = [int(said["data_offsets"][1]) for said in found.values()]
    except ModelError:
        raise
    except FileNotFoundError as error:
        raise ModelError(f"{shown} is not there") from error
    except OSError as error:
        raise ModelError(f"{shown} cannot be read: {error.strerror}") from error
    except Exception as error:  # whatever a hostile header raises, the file is broken
        raise ModelError(f"{shown} is broken or no safetensors file") from error
    wanted = 8 + length + max(ends, default=0)
    if size != wanted:
        raise ModelError(
            f"{shown} is truncated or overlong: {size} bytes where {wanted} belong",
            "fetch it again; of a model from the Hub, `sdfast models rm` and `pull` do",
        )
    return Header(shapes, {str(k): str(v) for k, v in about.items()})


def _shape(said: Mapping[str, Any]) -> tuple[int, ...]:
    shape = tuple(map(int, said["shape"]))
    begin, end = map(int, said["data_offsets"])
    whole = len(shape) <= 8 and begin >= 0 and all(side >= 0 for side in shape)
    if not whole or 8 * (end - begin) != _BITS[said["dtype"]] * prod(shape):
        raise ValueError
    return shape


def pickled(shown: str) -> ModelError:
    """Why PyTorch's own files are not read."""
    return ModelError(
        f"{shown} is a pickle, which can run any code",
        "sdfast reads safetensors only; most models are offered in them by now",
    )
