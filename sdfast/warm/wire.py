"""What a worker and its client say to each other, as data.

A frame is two lengths, a record as JSON and, with a picture, its pixels. The conversation:

    worker    a greeting: what it holds
    client    {"job": ...}
    worker    {"is": "queued", "ahead": pictures that are painted first}
              {"is": "encoded"}
              {"is": "stepped", "index": 1, "total": 20}, ...
              {"is": "finished", "size": [w, h], "times": [...], "again": false, "tiles": 1,
               "unsafe": null}
              and the pixels
           or {"is": "error", "kind": "DeviceError", "text": ..., "hint": ...} at any point

Nobody trusts a length before it is checked, nor a value before it has its type.
"""

import json
import socket
import struct
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, assert_never, cast

from sdfast import errors
from sdfast.errors import SdfastError
from sdfast.job import Job

if TYPE_CHECKING:
    from sdfast.events import Event

VERSION = 1
"""Changes with the frames."""

_LENGTHS = struct.Struct(">II")
_MOST_WORDS = 2**20
"""Bytes of a record; the longest job stays far below."""
_MOST_PIXELS = 3 * 4096 * 4096

_ERRORS: dict[str, type[SdfastError]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, SdfastError)
}


class GarbledError(Exception):
    """What came is no frame, or not one that belongs here."""


class Frame(NamedTuple):
    record: dict[str, Any]
    pixels: bytes = b""


def packed(record: Mapping[str, Any], pixels: bytes = b"") -> bytes:
    """A frame as bytes."""
    words = json.dumps(record).encode()
    return _LENGTHS.pack(len(words), len(pixels)) + words + pixels


def receive(connection: socket.socket, within: float | None, most_pixels: int = 0) -> Frame:
    """The next frame, all of it within so many seconds; None waits as long as it takes.

    Raises OSError (a TimeoutError) if the other end is silent, and as `read_frame` does.
    """
    end = None if within is None else time.monotonic() + within

    def read(count: int) -> bytes:
        if end is not None:
            connection.settimeout(max(end - time.monotonic(), 0.001))
        return connection.recv(count)

    return read_frame(read, most_pixels)


def read_frame(read: Callable[[int], bytes], most_pixels: int = 0) -> Frame:
    """The next frame, from what hands out at most so many bytes.

    Raises GarbledError for what is none, and EOFError where it ends.
    """
    words, pixels = _LENGTHS.unpack(_exactly(read, _LENGTHS.size))
    if words > _MOST_WORDS or pixels > most_pixels:
        raise GarbledError(f"a frame of {words + pixels} bytes")
    try:
        record: object = json.loads(_exactly(read, words))
    except (ValueError, RecursionError) as error:
        raise GarbledError("a frame that is not JSON") from error
    if not isinstance(record, dict):
        raise GarbledError("a frame that is no JSON object")
    return Frame(cast("dict[str, Any]", record), _exactly(read, pixels))


def _exactly(read: Callable[[int], bytes], count: int) -> bytes:
    parts: list[bytes] = []
    while count:
        part = read(min(count, 2**20))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def told(event: "Event") -> bytes:
    """An event as a frame."""
    from sdfast.events import Encoded, Finished, Stepped

    match event:
        case Encoded():
            return packed({"is": "encoded"})
        case Stepped(index, total):
            return packed({"is": "stepped", "index": index, "total": total})
        case Finished(_, image, times, again, tiles, unsafe):
            spent = [times.encode, list(times.steps), times.decode]
            record = {"is": "finished", "size": image.size, "times": spent, "again": again}
            return packed(
                record | {"tiles": tiles, "unsafe": unsafe}, image.convert("RGB").tobytes()
            )
        case _:
            assert_never(event)


def told_error(error: SdfastError) -> bytes:
    """An error as a frame."""
    kind = type(error).__name__
    return packed({"is": "error", "kind": kind, "text": str(error), "hint": error.hint})


def hear_event(connection: socket.socket, job: Job) -> "Event":
    """The next event of this job's walk; raises the error that ended it, and as `receive` does."""
    from PIL import Image

    from sdfast.events import Encoded, Finished, Stepped, Times

    record, pixels = receive(connection, None, _MOST_PIXELS)
    match record:
        case {"is": "encoded"}:
            return Encoded(job)
        case {"is": "stepped", "index": int(index), "total": int() | None as total} if index > 0:
            return Stepped(index, total)
        case {
            "is": "finished",
            "size": [int(width), int(height)],
            "times": [float(encode), [*steps], float(decode)],
            "again": bool(again),
            "tiles": int(tiles),
            "unsafe": bool() | None as unsafe,
        } if (
            (width, height) == job.size
            and len(pixels) == 3 * width * height
            and steps
            and all(isinstance(step, float) for step in steps)
        ):
            image = Image.frombytes("RGB", (width, height), pixels)
            spent = Times(encode, tuple(steps), decode)
            return Finished(job, image, spent, again, tiles, unsafe)
        case {"is": "error"}:
            raise heard_error(record)
        case _:
            raise GarbledError("a frame that tells of no event")


def heard_error(record: Mapping[str, Any]) -> SdfastError:
    """The error of a record: of the same class, with the same words. Raises GarbledError."""
    match record:
        case {"kind": str(kind), "text": str(text), "hint": str(hint)} if kind in _ERRORS:
            return _ERRORS[kind](text, hint)
        case _:
            raise GarbledError("a frame that tells of no error")
