"""The page of a sheet: pictures where they belong, and labels beside them."""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from PIL.Image import Image
from PIL.Image import new as new_image
from PIL.ImageDraw import Draw
from PIL.ImageFont import FreeTypeFont

from sdfast.errors import UsageError
from sdfast.grid.letters import broken
from sdfast.sheet import Sheet

_MOST_PIXELS = 2**28
"""Of a page, which takes 0.8 GB then; beyond, viewers give up as well."""
_LINES = 4
"""Of a label, where the picture beside it is not as high as more of them."""
_PAPER, _INK = "white", "black"


def letter_height(sizes: Sequence[tuple[int, int]]) -> int:
    """Pixels of a label's letters beside pictures of these sizes."""
    return max(12, min(map(min, sizes)) // 20)


class _Label(NamedTuple):
    """Lines of one font, and how much room they take."""

    font: FreeTypeFont
    lines: list[str]

    @property
    def width(self) -> int:
        return max(round(self.font.getlength(line)) for line in self.lines)

    @property
    def line(self) -> int:
        return sum(self.font.getmetrics())

    @property
    def height(self) -> int:
        return self.line * len(self.lines)


class Page:
    """Paper with labels, on which pictures are pasted in any order."""

    def __init__(
        self, sheet: Sheet, sizes: Sequence[tuple[int, int]], font: FreeTypeFont | None
    ) -> None:
        """For pictures of these sizes, row by row; without a font there are no labels.

        Raises UsageError for a page of too many pixels.
        """
        across = sheet.columns
        rows = [sizes[k : k + across] for k in range(0, len(sizes), across)]
        widths = [max(width for width, _ in sizes[k::across]) for k in range(across)]
        heights = [max(height for _, height in row) for row in rows]
        gap = round(font.size / 2) if font else 0
        tops = _labels(font, sheet.tops, [(width, _LINES) for width in widths])
        room = [height // sum(font.getmetrics()) for height in heights] if font else []
        lefts = _labels(font, sheet.lefts, [(max(widths), max(_LINES, n)) for n in room])
        of_row = [tops[k : k + across] for k in range(0, len(sizes), across)]
        heads = [max(label.height for label in row) + gap if row else 0 for row in of_row]
        side = max((label.width + gap for label in lefts), default=0)
        xs = [*accumulate((width + gap for width in widths), initial=side + gap)]
        tall = (head + height + gap for head, height in zip(heads, heights, strict=True))
        ys = [*accumulate(tall, initial=gap)]
        size = xs[-1], ys[-1]
        if size[0] * size[1] > _MOST_PIXELS:
            hint = "fewer pictures or a smaller --size; `sdfast batch` makes them without a sheet"
            raise UsageError("a sheet of {}x{} pixels is too large".format(*size), hint)
        self.image = new_image("RGB", size, _PAPER)
        self._cells = [
            (xs[column], ys[row] + heads[row], widths[column], heights[row])
            for row, column in (divmod(place, across) for place in range(len(sizes)))
        ]
        for label, (x, y, width, _) in zip(tops, self._cells, strict=False):
            self._write(label, x + width // 2, y - gap // 2 - label.height)
        for label, (_, y, _, height) in zip(lefts, self._cells[::across], strict=False):
            self._write(label, gap // 2 + side // 2, y + (height - label.height) // 2)

    def _write(self, label: _Label, middle: int, top: int) -> None:
        draw = Draw(self.image)
        for k, line in enumerate(label.lines):
            draw.text((middle, top + k * label.line), line, _INK, label.font, anchor="ma")

    def paste(self, place: int, picture: Image) -> None:
        """Put the picture of that place, counted row by row, in the middle of its cell."""
        x, y, width, height = self._cells[place]
        at = x + (width - picture.width) // 2, y + (height - picture.height) // 2
        self.image.paste(picture, at)


def _labels(
    font: FreeTypeFont | None, texts: Sequence[str], rooms: Sequence[tuple[int, int]]
) -> list[_Label]:
    """Labels broken to widths and numbers of lines, which are gone through in turn."""
    if font is None:
        return []
    return [
        _Label(font, broken(font, text, *rooms[k % len(rooms)]) or [""])
        for k, text in enumerate(texts)
    ]
