"""Pictures to files, and from a file back to what made it.

A PNG carries its recipe in two text chunks: `parameters`, which other programs read, and `sdfast`,
the whole job as JSON. Writing is all or nothing: a file appears under its name complete or not at
all, and takes nobody's place unless told to. Reading trusts nothing: it walks the chunks by hand,
decodes no pixel, unpacks no more than a recipe can fill, and needs no Pillow.
"""

import io
import json
import os
import re
import secrets
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from sdfast import elsewhere, infotext
from sdfast.errors import JobError, MetadataError
from sdfast.job import Job, Record, read_job
from sdfast.naming import Exists, settle, unwritable

if TYPE_CHECKING:
    from PIL.Image import Image

SCHEMA = 1
"""The version of the `sdfast` chunk."""


def recipe(job: Job, *, version: str, model: str | None, size: tuple[int, int]) -> dict[str, str]:
    """The text chunks of a picture that this job made.

    The model is told by its alias, its Hub id or, of a path, the last part. What the job leaves
    open stays open, so give it with the model's own guidance filled in.
    """
    public = None if model is None else _public(model)
    files = {"init": job.init, "mask": job.mask}
    named = {key: file and re.split(r"[/\\]", file)[-1] for key, file in files.items()}
    told = job.model_copy(update={"model": public, "size": size, **named})
    ours = {"schema": SCHEMA, "version": version, "job": _spelled_out(told)}
    text = infotext.write(told, version=version, model=public, size=size)
    return {"parameters": text, "sdfast": json.dumps(ours)}


def lasting_name(model: str | None, aliases: Mapping[str, str]) -> str | None:
    """The Hub id that a person's own alias stands for; any other name as it is."""
    target = aliases.get(model or "")
    return model if target is None or Path(target).is_absolute() else target


def _public(model: str) -> str | None:
    """The model's name without the folders that lead to it."""
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model) and not model.endswith(".safetensors"):
        return model
    return re.split(r"[/\\]", model.rstrip("/\\"))[-1] or None


def _spelled_out(job: Job) -> Record:
    """The job's record with its defaults, which another version may have changed."""
    walk = job.sampler.model_dump(mode="json", exclude_none=True)
    solver = {"sampler": walk.pop("solver")}
    return job.record | {"negative": job.negative} | solver | walk


_LEVEL = 4
"""Of zlib's compression: from there on files get hardly smaller, and take far longer."""


def encode(image: "Image", text: Mapping[str, str]) -> bytes:
    """The picture as a PNG file with these text chunks."""
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    for name, value in text.items():
        chunks.add_text(name, value.encode(errors="replace").decode().replace("\0", " "))
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=chunks, compress_level=_LEVEL)
    return file.getvalue()


def save(
    image: "Image", path: Path, *, text: Mapping[str, str], exists: Exists = Exists.RENAME
) -> Path | None:
    """Write the picture; where it went, or None if it was skipped as already there.

    Missing folders are made. Raises UsageError if the place cannot be written, and then, as after
    an interrupt, leaves no file behind.
    """
    return keep(encode(image, text), path, exists=exists)


def keep(data: bytes, path: Path, *, exists: Exists, draft: Path | None = None) -> Path | None:
    """Write a whole file, as `save` does; `draft` is where it is written before it has its name."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = draft or path.with_name(f".sdfast-{secrets.token_hex(8)}.tmp")
        try:
            with draft.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if exists is Exists.OVERWRITE:
                return draft.replace(path)
            return settle(path, exists, partial(_took, draft))
        finally:
            draft.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error


def _took(draft: Path, name: Path) -> bool:
    """Whether the draft could have the name, in one step that nobody can come between."""
    try:
        name.hardlink_to(draft)
    except FileExistsError:
        return False
    except OSError:  # FAT and some network drives have no links: hold the name, then fill it
        try:
            name.touch(exist_ok=False)
        except FileExistsError:
            return False
        try:
            draft.replace(name)
        except BaseException:
            name.unlink(missing_ok=True)
            raise
    return True


@dataclass(frozen=True, slots=True)
class Recipe:
    """What made a picture, as far as the file tells."""

    program: str
    """`sdfast`, `AUTOMATIC1111`, `stable-diffusion.cpp`, another's name or `unknown`."""
    record: Record
    """The job's keys that it gives, each checked."""
    unknown: dict[str, str]
    """What else it says, by name, which sdfast cannot follow."""
    size: tuple[int, int]
    """Width and height in pixels."""


def read_recipe(path: Path) -> Recipe:
    """What made this PNG. Raises MetadataError if it does not tell, or not in good order."""
    try:
        if not path.is_file():
            raise MetadataError("is not a file" if path.exists() else "does not exist")
        with path.open("rb") as file:
            return _recipe(*_texts(file))
    except MetadataError as error:
        raise MetadataError(f"`{path}` {error}", error.hint) from error
    except OSError as error:
        raise MetadataError(f"`{path}` cannot be read: {str(error.strerror).lower()}") from error


_ELSEWHERE = {
    "workflow": "ComfyUI",
    "prompt": "ComfyUI",
    "invokeai_metadata": "InvokeAI",
    "sd-metadata": "InvokeAI",
}
"""Where other programs keep a recipe in a form of their own."""
_READERS = {
    "prompt": elsewhere.read_comfy,
    "invokeai_metadata": elsewhere.read_invoke,
    "sd-metadata": elsewhere.read_old_invoke,
}
_BY_VERSION = {
    r"sdfast ": "sdfast",
    r"stable-diffusion\.cpp": "stable-diffusion.cpp",
    r"f\d": "Forge",
    r"Fooocus": "Fooocus",
    r"v?\d|$": "AUTOMATIC1111",
}


def _recipe(size: tuple[int, int], texts: dict[str, str]) -> Recipe:
    """What the first recipe that can be read says, ours before any other."""
    if "sdfast" in texts:
        return Recipe("sdfast", _our_record(texts["sdfast"]), {}, size)
    if "parameters" not in texts:
        for name, read in _READERS.items():
            if texts.get(name):
                record, unknown = read(texts[name])
                if record.keys() - {"negative"}:
                    return Recipe(_ELSEWHERE[name], record, unknown, size)
        for name in _ELSEWHERE.keys() & texts:
            raise MetadataError(f"was made by {_ELSEWHERE[name]}, whose recipe sdfast cannot read")
        raise MetadataError("holds no recipe", "some programs and sites remove it")
    said = infotext.read(texts["parameters"])
    version = said.pairs.get("Version", "")
    program = next((p for v, p in _BY_VERSION.items() if re.match(v, version)), "unknown")
    if program == "stable-diffusion.cpp":
        said = infotext.read(_as_utf8(texts["parameters"]))
    record, names = infotext.to_record(said)
    unknown = {name: said.pairs.get(name, "") for name in names}
    if program == "AUTOMATIC1111" and "seed" in record and "RNG" not in said.pairs:
        unknown["RNG"] = "GPU, as it does not say CPU"
    return Recipe(program, record, unknown, size)


def _as_utf8(text: str) -> str:
    """The text of a chunk that should be Latin-1 but was written in UTF-8."""
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text


def _our_record(text: str) -> Record:
    """The job in our own chunk, with its defaults spelled out."""
    try:
        match json.loads(text):
            case {"schema": 1, "job": {"prompt": _, "seed": _} as record}:
                return _spelled_out(read_job(record))
            case {"schema": int(schema)} if schema != SCHEMA:
                raise MetadataError(
                    f"has a recipe of schema {str(schema)[:20]}; this sdfast knows {SCHEMA}",
                    "a newer sdfast may read it",
                )
            case _:
                raise MetadataError("has an `sdfast` chunk without a job")
    except JobError as error:
        raise MetadataError(f"has a recipe that cannot be: {error}", error.hint) from error
    except (ValueError, RecursionError) as error:
        raise MetadataError("has an `sdfast` chunk that is not JSON") from error


_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BEGINNINGS = {
    _SIGNATURE: "",
    b"\xff\xd8\xff": "is a JPEG, not a PNG",
    b"RIFF": "is a WebP, not a PNG",
    b"": "is not a PNG",
}
"""What is wrong with a file, by its first bytes."""
_LIMIT = 2**20
"""Bytes of text; the longest prompts of our own stay far below."""
_SIDE = 2**16
"""Pixels."""
_COUNT = 100_000
"""Chunks in a file."""


def _texts(file: BinaryIO) -> tuple[tuple[int, int], dict[str, str]]:
    """A PNG's size and its recipes by their names, empty where they cannot be read."""
    start = file.read(8)
    if wrong := next(words for magic, words in _BEGINNINGS.items() if start.startswith(magic)):
        raise MetadataError(wrong if start else "is empty")
    size, texts = (0, 0), dict[str, str]()
    for kind, content in _chunks(file):
        if kind == b"IHDR":
            size = struct.unpack(">II", content[:8].rjust(8, b"\0"))
            continue
        keyword, _, rest = content.partition(b"\0")
        name = keyword.decode("latin-1")
        if name in ("sdfast", "parameters") and name not in texts:
            texts[name] = _text(kind, rest)
        elif name in _ELSEWHERE and name not in texts:
            texts[name] = ""
            if name in _READERS:
                with suppress(MetadataError):  # what is damaged or too long is not needed by all
                    texts[name] = _text(kind, rest)
    if not all(1 <= side <= _SIDE for side in size):
        raise MetadataError("claims to be {} by {} pixels".format(*size))
    return size, texts


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The header and each text, to a little over the limit; what lies between is leapt over."""
    for _ in range(_COUNT):
        length, kind = struct.unpack(">I4s", _exactly(file, 8))
        if kind == b"IEND":
            return
        if kind != b"IHDR" and kind not in _DECODERS:
            file.seek(length + 4, os.SEEK_CUR)
            continue
        content = _exactly(file, min(length, _LIMIT + 100))
        if len(content) < length:
            file.seek(length - len(content) + 4, os.SEEK_CUR)
        elif struct.unpack(">I", _exactly(file, 4)) != (zlib.crc32(kind + content),):
            raise MetadataError("is damaged: a checksum is wrong")
        yield kind, content
    raise MetadataError(f"has more than {_COUNT} parts")


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
    if len(text) > _LIMIT:
        raise MetadataError(f"has a recipe of more than {_LIMIT // 2**20} MiB")
    return text


def _unpacked(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, _LIMIT + 1)


def _international(content: bytes) -> str:
    packed, (_, _, text) = content[0], content[2:].split(b"\0", 2)
    return (_unpacked(text) if packed else text).decode()


_DECODERS: dict[bytes, Callable[[bytes], str]] = {
    b"tEXt": lambda content: content.decode("latin-1"),
    b"zTXt": lambda content: _unpacked(content[1:]).decode("latin-1"),
    b"iTXt": _international,
}
