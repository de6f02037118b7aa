"""Pictures to files, PNG, JPEG or WebP, with texts in them.

Writing is all or nothing: a file appears under its name complete or not at all, and takes nobody's
place unless told to.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sdfast import exif
from sdfast.naming import Exists, settle
from sdfast.png_strips import encode_in_strips
from sdfast.writing import draft_beside, drafted, is_void, took, unwritable

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.PngImagePlugin import PngInfo

_A_PNG = Path("any.png")


def encode(image: "Image", text: Mapping[str, str], place: Path = _A_PNG) -> bytes:
    """The picture as the file of that name, with these texts."""
    return encode_all([(image, text)], place)[0]


def encode_all(
    pictures: Sequence[tuple["Image", Mapping[str, str]]], place: Path = _A_PNG
) -> list[bytes]:
    """The pictures as files of one kind, by the ending of a name, encoded side by side."""
    if is_photo(place):
        return [exif.encode(image, text, place.suffix) for image, text in pictures]
    return encode_in_strips([(image, _info(text)) for image, text in pictures])


def check_room(text: Mapping[str, str], place: Path, size: tuple[int, int]) -> None:
    """Raise UsageError unless a file of that name can hold the texts, and so large a picture."""
    if is_photo(place):
        exif.check_room(text, place.suffix, size)


def is_photo(place: Path) -> bool:
    """Whether a file of that name is a JPEG or a WebP."""
    return place.suffix.lower() in exif.ENDINGS


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
            if exists is Exists.OVERWRITE or (exists is Exists.SKIP and is_void(path)):
                return draft.replace(path)
            return settle(path, exists, partial(took, draft))
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error
