"""Labels as lines of letters: the font that has them, and where they break."""

from collections.abc import Iterable, Iterator, Sequence
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
_NO_LETTER = "\U0010ffff"


def open_font(path: str | None, height: int, labels: Sequence[str]) -> FreeTypeFont:
    """The font named, or else one that lacks the fewest letters; `height` in pixels.

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
    return (
        own
        if not lacking(own, labels)
        else min((own, *_found(height)), key=lambda font: len(lacking(font, labels)))
    )


def _found(height: int) -> Iterator[FreeTypeFont]:
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


def broken(font: FreeTypeFont, text: str, width: int, most: int) -> list[str]:
    """The text in lines of so many pixels, broken between words where that can be.

    What does not fit into `most` lines is cut off, and an ellipsis says so.
    """
    lines: list[str] = []
    rest = " ".join(printable(text).split())
    for _ in range(most):
        if not rest:
            return lines
        line = rest[: _fitting(font, rest, width)]
        if len(line) < len(rest) and " " in rest[: len(line) + 1]:
            line = rest[: len(line) + 1].rpartition(" ")[0]
        lines.append(line)
        rest = rest[len(line) :].strip()
    if rest:
        room = width - font.getlength("…")
        lines[-1] = lines[-1][: _fitting(font, lines[-1], room)] + "…"
    return lines


def _fitting(font: FreeTypeFont, text: str, width: float) -> int:
    """How many of its letters fit; one at least."""
    longer = range(2, len(text) + 1)
    return next((n - 1 for n in longer if font.getlength(text[:n]) > width), len(text))
