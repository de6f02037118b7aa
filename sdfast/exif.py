"""What a JPEG or a WebP says in its Exif data, where other programs put the recipe that a PNG has.

AUTOMATIC1111's web UI, its kin and Civitai write their `parameters` as the user comment; ComfyUI
writes `prompt:{...}` and `workflow:{...}` as the make and model of a camera. Pillow finds them, and
no pixel is decoded.
"""

import warnings
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from typing import BinaryIO

from sdfast.errors import MetadataError

_LIMIT = 2**20
"""Characters of text, as in a PNG."""
_EXIF, _COMMENT = 0x8769, 0x9286
"""The block of tags that belong to Exif, and in it the user comment."""
_CAMERA = (0x010F, 0x0110)
"""Make and model."""
_IN_COMFY = ("prompt", "workflow")


def is_photo(start: bytes) -> bool:
    """Whether a file that starts with these twelve bytes is a JPEG or a WebP."""
    return start.startswith(b"\xff\xd8\xff") or (start[:4], start[8:]) == (b"RIFF", b"WEBP")


def read_comments(file: BinaryIO) -> tuple[tuple[int, int], dict[str, str]]:
    """A photo's size, and its texts by the names that they have in a PNG. Raises MetadataError."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=("JPEG", "WEBP")) as image:
                tags = image.getexif()
                comment = tags.get_ifd(_EXIF).get(_COMMENT)
                camera = [str(tags.get(tag, "")) for tag in _CAMERA]
                size = image.size
    except Exception as error:  # a broken file raises whatever its decoder raises
        raise MetadataError("is damaged") from error
    said = (text.strip("\0").partition(":") for text in camera)
    texts = {name.lower(): text for name, _, text in said if name.lower() in _IN_COMFY}
    parameters = _text(comment).strip("\0 \n")
    if "Steps: " in parameters:  # else it is what somebody wrote about a photo
        texts["parameters"] = parameters
    if any(len(text) > _LIMIT for text in texts.values()):
        raise MetadataError(f"has a recipe of more than {_LIMIT // 2**20} MiB")
    return size, texts


def _text(comment: object) -> str:
    """A user comment's text: eight bytes name its encoding, but not the order of the bytes."""
    if not isinstance(comment, bytes):
        return str(comment or "")
    code, text = comment[:8], comment[8:]
    if code == b"UNICODE\0":
        if text.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
            return text.decode("utf-16", "replace")
        low = text[1::2].count(0) > text[::2].count(0)  # of Latin letters the high byte is 0
        return text.decode("utf-16-le" if low else "utf-16-be", "replace")
    known = code in (b"ASCII\0\0\0", bytes(8))
    return (text if known else comment).decode(errors="replace")
