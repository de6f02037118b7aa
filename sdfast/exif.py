"""JPEGs and WebPs, and in their Exif data the recipe that a PNG has in its text chunks.

AUTOMATIC1111's web UI, its kin and Civitai write their `parameters` as the user comment, and so do
we; ComfyUI writes `prompt:{...}` and `workflow:{...}` as the make and model of a camera, and we
`sdfast:{...}` as the description. A batch's key is Exif's unique ID of an image. Pillow finds them,
and no pixel is decoded.
"""

import json
import warnings
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

from sdfast.errors import MetadataError, UsageError

if TYPE_CHECKING:
    from PIL import Image

_LIMIT = 2**20
"""Characters of text, as in a PNG."""
_EXIF, _COMMENT = 0x8769, 0x9286
"""The block of tags that belong to Exif, and in it the user comment."""
_DESCRIPTION = 0x010E
_ID, _KEYWORDS, _SOFTWARE = 0xA420, 0x9C9E, 0x0131
"""Of Exif, 32 hexadecimal digits; what Windows shows as tags; and who made the picture."""
KEY = "sdfast-key"
"""The text that names a picture's job in a batch, in 32 hexadecimal digits."""
NSFW = "sdfast-nsfw"
"""The text of a picture that a safety checker has made black."""
_NAMED = (_DESCRIPTION, 0x010F, 0x0110)
"""Texts that begin with their names: the description, make and model."""
_NAMES = ("sdfast", "prompt", "workflow")


ENDINGS = {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""The formats by what their files' names end in, in small letters."""
_HOW: dict[str, Any] = {"JPEG": {"subsampling": 0}, "WEBP": {"method": 4}}
_QUALITY = 95
_ROOM = {"JPEG": 65_533, "WEBP": 2 * _LIMIT}
"""Bytes of Exif data, heading and all, that a file can hold, or that we would read."""
_SIDE = {"JPEG": 65_500, "WEBP": 16_383}
"""Pixels along a side, at the most."""


def encode(image: "Image.Image", text: Mapping[str, str], ending: str) -> bytes:
    """The picture as a file whose name ends so, with a recipe's texts."""
    kind, file = ENDINGS[ending.lower()], BytesIO()
    image.save(file, kind, quality=_QUALITY, exif=_tags(text), **_HOW[kind])
    return file.getvalue()


def check_room(text: Mapping[str, str], ending: str, size: tuple[int, int]) -> None:
    """Raise UsageError if texts or sides are too long for a file whose name ends so."""
    kind = ENDINGS[ending.lower()]
    if max(size) > _SIDE[kind]:
        sides = f"a {ending.lower()} has at most {_SIDE[kind]} pixels along a side"
        raise UsageError(f"{sides}, not {max(size)}", "a PNG may have more")
    ours = len(_description(text)) > _LIMIT  # by as many characters it would not be read
    if ours or len(_tags(text)) > _ROOM[kind]:
        hint = "a PNG can; --no-metadata leaves it out"
        raise UsageError(f"a {ending.lower()} cannot hold so long a recipe", hint)


def _description(text: Mapping[str, str]) -> str:
    """Our own text, in ASCII as a description is."""
    return "sdfast:" + json.dumps(json.loads(text["sdfast"])) if "sdfast" in text else ""


def _tags(text: Mapping[str, str]) -> bytes:
    """The texts `parameters`, `sdfast` and a batch's as Exif data."""
    from PIL import Image

    tags, block = Image.Exif(), dict[int, Any]()
    if description := _description(text):
        tags[_DESCRIPTION] = description
    if "parameters" in text:
        comment = text["parameters"].encode("utf-16-be", "replace")
        block[_COMMENT] = b"UNICODE\0" + comment
    if KEY in text:
        tags[_SOFTWARE], block[_ID] = "sdfast", text[KEY]
    if NSFW in text:
        tags[_KEYWORDS] = f"{NSFW}\0".encode("utf-16-le")
    if block:
        tags[_EXIF] = block  # what is set in `get_ifd` itself is not written by older Pillows
    return tags.tobytes() if text else b""


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
                named = [str(tags.get(tag, "")) for tag in _NAMED]
                size = image.size
    except Exception as error:  # a broken file raises whatever its decoder raises
        raise MetadataError("is damaged") from error
    said = (text.strip("\0").partition(":") for text in named)
    texts = {
        name.lower(): text
        for name, _, text in said
        if name.lower() in _NAMES and text.startswith("{")
    }
    parameters = _text(comment).strip("\0 \n")
    if "Steps: " in parameters:  # else it is what somebody wrote about a photo
        texts["parameters"] = parameters
    if any(len(text) > _LIMIT for text in texts.values()):
        raise MetadataError(f"has a recipe of more than {_LIMIT // 2**20} MiB")
    return size, texts


def marks(block: bytes) -> tuple[str, bool]:
    """What a batch has written into a block of Exif data: a job's key, and whether it is black."""
    from PIL import Image

    tags = Image.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tags.load(block)
            ours = f"{tags.get(_SOFTWARE, '')}".strip("\0") == "sdfast"
            key, keywords = tags.get_ifd(_EXIF).get(_ID), tags.get(_KEYWORDS)
    except Exception:  # somebody else's, and broken
        return "", False
    black = isinstance(keywords, bytes) and NSFW in keywords.decode("utf-16-le", "replace")
    return f"{key or ''}".strip("\0") * ours, black and ours


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
