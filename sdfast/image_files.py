"""Pictures as files, PNG, JPEG or WebP, with texts in them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sdfast import exif
from sdfast.png_strips import encode_in_strips

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
