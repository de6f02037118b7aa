"""Pictures to files, and from a file back to what made it.

A PNG carries its recipe in two text chunks: `parameters`, which other programs read, and `sdfast`,
the whole job as JSON. Writing is all or nothing: a file appears under its name complete or not at
all, and takes nobody's place unless told to.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sdfast import elsewhere, infotext
from sdfast.errors import JobError, MetadataError, UsageError
from sdfast.exif import is_photo, read_comments
from sdfast.job import Job, Record, read_job
from sdfast.naming import Exists, settle
from sdfast.png_strips import encode_in_strips
from sdfast.png_texts import MOST_TEXT, read_texts
from sdfast.sheet import Sheet, in_common, read_sheet, sheet_record
from sdfast.writing import draft_beside, drafted, unwritable

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.PngImagePlugin import PngInfo

SCHEMA = 1
"""The version of the `sdfast` chunk."""


def recipe(job: Job, *, version: str, model: str | None, size: tuple[int, int]) -> dict[str, str]:
    """The text chunks of a picture that this job made.

    The model is told by its alias, its Hub id or, of a path, the last part; other weights by their
    paths, which name nobody's home. What the job leaves open stays open, so give it with the
    model's own guidance filled in.
    """
    public = None if model is None else _public(model)
    files = {"init": job.init, "mask": job.mask}
    named = {key: file and re.split(r"[/\\]", file)[-1] for key, file in files.items()}
    weights = {
        "lora": tuple(map(_from_home, job.lora)),
        "embedding": tuple(map(_from_home, job.embedding)),
        "vae": job.vae and _from_home(job.vae),
    }
    told = job.model_copy(update={"model": public, "size": size, **named, **weights})
    ours = {"schema": SCHEMA, "version": version, "job": spelled_out(told)}
    text = infotext.write(told, version=version, model=public, size=size)
    return {"parameters": text, "sdfast": json.dumps(ours)}


def sheet_recipe(sheet: Sheet, recipes: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The text chunks of a sheet, of those of its pictures; other programs read the first's.

    Raises UsageError if they are longer than anybody would read.
    """
    told = [json.loads(recipe["sdfast"]) for recipe in recipes]
    ours = {**told[0], "sheet": sheet_record(sheet, [each["job"] for each in told])}
    del ours["job"]
    text = json.dumps(ours, ensure_ascii=False)
    if len(text.encode(errors="replace")) > MOST_TEXT:
        raise UsageError(
            f"the recipe of a sheet of these {len(sheet.jobs)} pictures is too long to be read",
            "--no-metadata leaves it out; shorter prompts or fewer pictures make it shorter",
        )
    return {"parameters": recipes[0]["parameters"], "sdfast": text}


def _public(model: str) -> str | None:
    """The model's name without the folders that lead to it."""
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model) and not model.endswith(".safetensors"):
        return model
    return re.split(r"[/\\]", model.rstrip("/\\"))[-1] or None


def _from_home(path: str) -> str:
    """A path below the home folder as `~/...`, which tells nobody's name; any other as it is."""
    home = os.path.expanduser("~").rstrip(os.sep) + os.sep  # noqa: PTH111 - there may be none
    return f"~{os.sep}{path[len(home) :]}" if path.startswith(home) and home != os.sep else path


def spelled_out(job: Job) -> Record:
    """The job's record with its defaults, which another version may have changed."""
    walk = job.sampler.model_dump(mode="json", exclude_none=True)
    solver = {"sampler": walk.pop("solver")}
    return job.record | {"negative": job.negative} | solver | walk


def encode(image: "Image", text: Mapping[str, str]) -> bytes:
    """The picture as a PNG file with these text chunks."""
    return encode_all([(image, text)])[0]


def encode_all(pictures: Sequence[tuple["Image", Mapping[str, str]]]) -> list[bytes]:
    """The pictures as PNG files, encoded side by side."""
    return encode_in_strips([(image, _info(text)) for image, text in pictures])


def _info(text: Mapping[str, str]) -> "PngInfo":
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    for name, value in text.items():
        chunks.add_text(name, value.encode(errors="replace").decode().replace("\0", " "))
    return chunks


def keep(data: bytes, path: Path, *, exists: Exists, draft: Path | None = None) -> Path | None:
    """Write a whole file; where it went, or None if it was skipped as already there.

    `draft` is where it is written before it has its name, a place that nobody else writes to.
    Missing folders are made. Raises UsageError if the place cannot be written, and then, as after
    an interrupt, leaves no file behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if draft is None:
            draft = draft_beside(path)
        else:
            draft.unlink(missing_ok=True)  # of a run that was killed
        with drafted(data, draft):
            if exists is Exists.OVERWRITE:
                return draft.replace(path)
            return settle(path, exists, partial(_took, draft))
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
    sheet: Sheet | None = None
    """Where it holds many pictures; the record then is what they have in common."""


def read_recipe(path: Path) -> Recipe:
    """What made this picture: PNG, JPEG or WebP.

    Raises MetadataError if it does not tell, or not in good order.
    """
    try:
        if not path.is_file():
            raise MetadataError("is not a file" if path.exists() else "does not exist")
        with path.open("rb") as file:
            photo = is_photo(file.read(12))
            file.seek(0)
            said = read_comments(file) if photo else read_texts(file, _OURS, _OTHERS)
            return _recipe(*said)
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
_OURS = ("sdfast", "parameters")
_OTHERS = {name: name in _READERS for name in _ELSEWHERE}
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
        return _our_recipe(texts["sdfast"], size)
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
    if not said.pairs:
        program = "unknown"
    if program == "stable-diffusion.cpp":
        said = infotext.read(_as_utf8(texts["parameters"]))
    record, names = infotext.to_record(said)
    unknown = {name: said.pairs.get(name, "") for name in names}
    if "Sampler" in unknown and (kind := said.pairs.get("Schedule type", "Automatic")):
        unknown["Sampler"] = infotext.a1111_name(unknown["Sampler"], kind)
    if program == "AUTOMATIC1111" and "seed" in record and "RNG" not in said.pairs:
        unknown["RNG"] = "GPU, as it does not say CPU"
    return Recipe(program, record, unknown, size)


def _as_utf8(text: str) -> str:
    """The text of a chunk that should be Latin-1 but was written in UTF-8."""
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text


def _our_recipe(text: str, size: tuple[int, int]) -> Recipe:
    """What our own chunk says, with the defaults spelled out."""
    try:
        match json.loads(text):
            case {"schema": 1, "job": {"prompt": _, "seed": _} as record}:
                return Recipe("sdfast", spelled_out(read_job(record)), {}, size)
            case {"schema": 1, "sheet": record}:
                sheet = read_sheet(record)
                shared = in_common([spelled_out(job) for job in sheet.jobs])
                return Recipe("sdfast", shared, {}, size, sheet)
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
