"""Labels as lines of letters: the font that has them, and where they break."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL.Image import new as new_image
from PIL.ImageDraw import Draw
from PIL.ImageFont import FreeTypeFont, load_default, truetype

from sdfast.errors import UsageError, printable

_ELSEWHERE = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf"),
    *("arial.ttf", "Arial Unicode.ttf", "NotoSansCJK-Regular.ttc", "DroidSansFallbackFull.ttf"),
    *("Hiragino Sans GB.ttc", "msyh.ttc", "YuGothM.ttc", "malgun.ttf"),
)
"""Fonts that systems have, for letters which Pillow's own lacks: it has those of English."""
_LINES = 4
"""That a label is broken into; what does not fit in ends with an ellipsis."""
_NO_LETTER = "\U0010ffff"


def open_font(path: str | None, height: int, labels: Sequence[str]) -> FreeTypeFont:
    """The font named, or one that has all the letters, or else Pillow's own; `height` in pixels.

    Raises UsageError for a file that is no font.
    """
    if path is not None:
        try:
            return truetype(str(Path(path).expanduser()), height)
        except (OSError, RuntimeError, ValueError) as error:
            raise UsageError(f"`{path}` cannot be read as a font") from error
    own = load_default(height)
    if not isinstance(own, FreeTypeFont):
        raise UsageError("this Pillow draws no letters", "--no-labels does without")
    if not lacking(own, labels):
        return own
    return next((font for font in _found(height) if not lacking(font, labels)), own)


def _found(height: int) -> Iterable[FreeTypeFont]:
    for name in _ELSEWHERE:
        try:
            yield truetype(name, height)
        except OSError:
            continue


def lacking(font: FreeTypeFont, labels: Iterable[str]) -> str:
    """The letters of the labels that the font has not."""
    none = _shape(font, _NO_LETTER)
    letters = dict.fromkeys(c for c in printable("".join(labels)) if not c.isspace())
    return "".join(c for c in letters if _shape(font, c) == none)


def _shape(font: FreeTypeFont, letter: str) -> bytes:
    side = round(2 * font.size)
    paper = new_image("L", (side, side))
    Draw(paper).text((0, 0), letter, 255, font)
    return paper.tobytes()


def broken(font: FreeTypeFont, text: str, width: int) -> list[str]:
    """The text in lines of at most so many pixels, broken between words where that can be."""
    lines: list[str] = []
    rest = " ".join(printable(text).split())
    for _ in range(_LINES):
        if not rest:
            return lines
        line = rest[: _fitting(font, rest, width)]
        if len(line) < len(rest) and " " in rest[: len(line) + 1]:
            line = rest[: len(line) + 1].rpartition(" ")[0]
        lines.append(line)
        rest = rest[len(line) :].strip()
    if rest:
        lines[-1] = lines[-1][: max(len(lines[-1]) - 1, 1)] + "…"
    return lines


def _fitting(font: FreeTypeFont, text: str, width: int) -> int:
    """How many of its letters fit; one at least."""
    longer = range(2, len(text) + 1)
    return next((n - 1 for n in longer if font.getlength(text[:n]) > width), len(text))
