"""What made a picture: told in its file, and read from there.

A PNG of ours carries its recipe in two text chunks: `parameters`, which other programs read, and
`sdfast`, the whole job as JSON. Other programs' recipes are read from their pictures, and from a
text by itself, as the web UI writes beside its pictures and sites give it to be copied.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

from sdfast import infotext
from sdfast.elsewhere import Said
from sdfast.errors import JobError, MetadataError, UsageError
from sdfast.exif import is_photo, read_comments
from sdfast.job import KEYS, Job, Record, read_job
from sdfast.models.find import public_name
from sdfast.png_texts import MOST_TEXT, is_png, read_texts
from sdfast.sheet import Sheet, in_common, read_sheet, sheet_record
from sdfast.wording import from_home, last_part

SCHEMA = 1
"""The version of the `sdfast` chunk."""
_MOST_PIPED = 2**28
"""Bytes of a picture on stdin."""


def texts_of(job: Job, *, version: str, model: str | None, size: tuple[int, int]) -> dict[str, str]:
    """The text chunks of a picture that this job made.

    The model is told by its alias, its Hub id or, of a path, the last part; other weights by their
    paths, which name nobody's home. What the job leaves open stays open, so give it with the
    model's own guidance filled in.
    """
    public = None if model is None else public_name(model)
    files = {"init": job.init, "mask": job.mask}
    named = {key: file and last_part(file) for key, file in files.items()}
    weights = {
        "lora": tuple(map(from_home, job.lora)),
        "embedding": tuple(map(from_home, job.embedding)),
        "vae": job.vae and from_home(job.vae),
    }
    told = job.model_copy(update={"model": public, "size": size, **named, **weights})
    ours = {"schema": SCHEMA, "version": version, "job": spelled_out(told)}
    text = infotext.write(told, version=version, model=public, size=size)
    return {"parameters": text, "sdfast": json.dumps(ours)}


def texts_of_sheet(sheet: Sheet, texts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The text chunks of a sheet, of those of its pictures; other programs read the first's.

    Raises UsageError if they are longer than anybody would read.
    """
    told = [json.loads(each["sdfast"]) for each in texts]
    ours = {**told[0], "sheet": sheet_record(sheet, [each["job"] for each in told])}
    del ours["job"]
    text = json.dumps(ours, ensure_ascii=False)
    if len(text.encode(errors="replace")) > MOST_TEXT:
        raise UsageError(
            f"the recipe of a sheet of these {len(sheet.jobs)} pictures is too long to be read",
            "--no-metadata leaves it out; shorter prompts or fewer pictures make it shorter",
        )
    return {"parameters": texts[0]["parameters"], "sdfast": text}


def spelled_out(job: Job) -> Record:
    """The job's record with its defaults, which another version may have changed."""
    walk = job.sampler.model_dump(mode="json", exclude_none=True)
    solver = {"sampler": walk.pop("solver")}
    return job.record | {"negative": job.negative} | solver | walk


@dataclass(frozen=True, slots=True)
class Recipe:
    """What made a picture, as far as the file tells."""

    place: Path
    """The file; `-` is stdin."""
    program: str
    """`sdfast`, `AUTOMATIC1111`, `stable-diffusion.cpp`, another's name or `unknown`."""
    record: Record
    """The job's keys that it gives, each checked."""
    unknown: dict[str, str]
    """What else it says, by name, which sdfast cannot follow."""
    size: tuple[int, int] | None
    """Width and height in pixels; None of a text."""
    sheet: Sheet | None = None
    """Where it holds many pictures; the record then is what they have in common."""

    @property
    def job(self) -> Job:
        """What it says to make. Raises JobError where it names no prompt, as a sheet's may not."""
        return read_job(self.record)

    @property
    def named(self) -> str:
        """The file, as it is spoken of."""
        return _named(self.place)


def read_recipe(path: str | Path) -> Recipe:
    """What made this picture, PNG, JPEG or WebP, or what this text says of one; `-` is stdin.

    Raises MetadataError if it does not tell, or not in good order.
    """
    path = Path(path)
    try:
        if str(path) == "-":
            return _read(path, BytesIO(sys.stdin.buffer.read(_MOST_PIPED)))
        if path.is_fifo():
            with path.open("rb") as pipe:
                return _read(path, BytesIO(pipe.read(_MOST_PIPED)))
        if not path.is_file():
            raise MetadataError("is not a file" if path.exists() else "does not exist")
        with path.open("rb") as file:
            return _read(path, file)
    except MetadataError as error:
        raise MetadataError(f"{_named(path)} {error}", error.hint) from error
    except OSError as error:
        why = str(error.strerror).lower()
        raise MetadataError(f"{_named(path)} cannot be read: {why}") from error


def _named(path: Path) -> str:
    return "what came on stdin" if str(path) == "-" else f"`{path}`"


def _read(path: Path, file: BinaryIO) -> Recipe:
    start = file.read(12)
    file.seek(0)
    if is_png(start):
        return _recipe(path, *read_texts(file, _OURS, _OTHERS))
    if is_photo(start):
        return _recipe(path, *read_comments(file))
    return _recipe(path, None, _alone(file.read(MOST_TEXT + 1)))


def _alone(content: bytes) -> dict[str, str]:
    """A text that stands for itself, by the name it would have in a PNG."""
    try:
        if b"\0" in content:
            raise ValueError("no text has it")
        text = content.decode("utf-8-sig").strip()
    except ValueError as error:
        raise MetadataError("is no PNG, JPEG, WebP or text") from error
    if not text:
        raise MetadataError("is empty")
    if len(content) > MOST_TEXT:
        raise MetadataError(f"is a text of more than {MOST_TEXT // 2**20} MiB")
    with suppress(ValueError, RecursionError):
        if isinstance(found := json.loads(text), dict):
            return _in_json(cast("dict[str, Any]", found))
    if text.startswith("{") and "\n{" in text:
        raise MetadataError("holds several recipes", "`sed -n 2p` picks the second of such lines")
    if "Steps" not in infotext.read(text).pairs:
        raise MetadataError("holds no recipe", "its last line would be `Steps: 20, Sampler: ...`")
    return {"parameters": text}


def _in_json(found: dict[str, Any]) -> dict[str, str]:
    """The same for a program's own form."""
    match found:
        case {"schema": _, "job": _} | {"schema": _, "sheet": _}:
            name = "sdfast"
        case {"job": {"prompt": _, "seed": _} as job}:  # as `info --json` tells it
            return _in_json({"schema": SCHEMA, "job": job})
        case {"prompt": str(), "seed": _, "guidance": _, "steps": _, "sampler": _}:  # `gen --json`
            return _in_json({"job": {key: found[key] for key in KEYS if key in found}})
        case {"image": dict()}:
            name = "sd-metadata"
        case {"positive_prompt": _}:
            name = "invokeai_metadata"
        case {"prompt": dict()}:  # as ComfyUI is asked for it
            return _in_json(cast("dict[str, Any]", found["prompt"]))
        case {"nodes": list()}:
            hint = "its Export (API) writes one that is read"
            raise MetadataError("is a workflow as ComfyUI's editor keeps it", hint)
        case _:
            name = "prompt"
            if not any("class_type" in node for node in found.values() if isinstance(node, dict)):
                hint = "`sdfast batch` takes jobs as JSON lines"
                raise MetadataError("holds no recipe that is known here", hint)
    return {name: json.dumps(found)}


_ELSEWHERE = {
    "workflow": "ComfyUI",
    "prompt": "ComfyUI",
    "invokeai_metadata": "InvokeAI",
    "sd-metadata": "InvokeAI",
}
"""Where other programs keep a recipe in a form of their own."""
_READABLE = ("prompt", "invokeai_metadata", "sd-metadata")
_OURS = ("sdfast", "parameters")
_OTHERS = {name: name in _READABLE for name in _ELSEWHERE}
_BY_VERSION = {
    r"sdfast ": "sdfast",
    r"stable-diffusion\.cpp": "stable-diffusion.cpp",
    r"f\d": "Forge",
    r"Fooocus": "Fooocus",
    r"v?\d|$": "AUTOMATIC1111",
}


def _recipe(path: Path, size: tuple[int, int] | None, texts: dict[str, str]) -> Recipe:
    """What the first recipe that can be read says, ours before any other."""
    if "sdfast" in texts:
        return _our_recipe(path, size, texts["sdfast"])
    written = texts.get("parameters")
    if written is None or _is_object(written):
        for name in _READABLE:
            if texts.get(name):
                record, unknown = _said_elsewhere(name, texts[name])
                if record.keys() - {"negative"}:
                    return Recipe(path, _ELSEWHERE[name], record, unknown, size)
        if written is not None:
            raise MetadataError("has its recipe in JSON of a kind that is not known here")
        for name in _ELSEWHERE.keys() & texts:
            raise MetadataError(f"was made by {_ELSEWHERE[name]}, whose recipe sdfast cannot read")
        raise MetadataError("holds no recipe", "some programs and sites remove it")
    said = infotext.read(written)
    version = said.pairs.get("Version", "")
    program = next((p for v, p in _BY_VERSION.items() if re.match(v, version)), "unknown")
    if not said.pairs:
        program = "unknown"
    if program == "stable-diffusion.cpp":
        said = infotext.read(_as_utf8(written))
    record, names = infotext.to_record(said)
    unknown = {name: said.pairs.get(name, "") for name in names}
    if "Sampler" in unknown and (kind := said.pairs.get("Schedule type", "Automatic")):
        unknown["Sampler"] = infotext.a1111_name(unknown["Sampler"], kind)
    if program in ("AUTOMATIC1111", "Forge") and "seed" in record and "RNG" not in said.pairs:
        record["rng"] = "cuda"  # what it draws on, unless it says otherwise
    return Recipe(path, program, record, unknown, size)


def _is_object(text: str) -> bool:
    """Whether a text is JSON as Fooocus can write it, and no prompt in braces."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _said_elsewhere(name: str, text: str) -> Said:
    """What another program's own form says. Its readers are not for pictures that are written."""
    from sdfast.comfy import read_comfy
    from sdfast.invoke import read_invoke, read_old_invoke

    if name == "prompt":
        return read_comfy(text)
    return read_invoke(text) if name == "invokeai_metadata" else read_old_invoke(text)


def _as_utf8(text: str) -> str:
    """The text of a chunk that should be Latin-1 but was written in UTF-8."""
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text


def _our_recipe(path: Path, size: tuple[int, int] | None, text: str) -> Recipe:
    """What our own chunk says, with the defaults spelled out."""
    try:
        match json.loads(text):
            case {"schema": int(schema)} if schema != SCHEMA:
                raise MetadataError(
                    f"has a recipe of schema {str(schema)[:20]}; this sdfast knows {SCHEMA}",
                    "a newer sdfast may read it",
                )
            case {"schema": int(), "job": {"prompt": _, "seed": _} as record}:
                return Recipe(path, "sdfast", spelled_out(read_job(record)), {}, size)
            case {"schema": int(), "sheet": record}:
                sheet = read_sheet(record)
                shared = in_common([spelled_out(job) for job in sheet.jobs])
                return Recipe(path, "sdfast", shared, {}, size, sheet)
            case _:
                raise MetadataError("has an `sdfast` chunk without a job")
    except JobError as error:
        raise MetadataError(f"has a recipe that cannot be: {error}", error.hint) from error
    except (ValueError, RecursionError) as error:
        raise MetadataError("has an `sdfast` chunk that is not JSON") from error
