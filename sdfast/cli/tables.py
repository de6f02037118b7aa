"""What the two kinds of bench print and write alike."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sdfast.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress

    from sdfast.bench.files import Table


def places(given: dict[str, str | None]) -> dict[str, Path]:
    """Where files will go. Raises UsageError, before anything is measured, if they could not."""
    from sdfast.bench.files import check_place
    from sdfast.bench.plot import check_plot

    asked = {kind: place for kind, place in given.items() if place is not None}
    if "plot" in asked:
        check_plot(asked["plot"])
    paths = {kind: check_place(place) for kind, place in asked.items()}
    if len(set(paths.values())) < len(paths):
        raise UsageError("two exports cannot be written to one file")
    return paths


def print_tables(tables: Iterable[Table]) -> None:
    """Tables on stdout, a blank line after each."""
    from rich.console import Console
    from rich.table import Table as Drawing
    from rich.text import Text

    console = Console(highlight=False, markup=False, width=400)
    for table in tables:
        console.print(table.title, style="bold")
        drawing = Drawing(box=None, pad_edge=False)
        for i, head in enumerate(table.heads):
            drawing.add_column(head, justify="left" if i in table.left else "right", no_wrap=True)
        for line in table.lines:
            drawing.add_row(*map(Text, line))
        console.print(drawing)
        console.print()


def progress() -> Progress:
    """A bar on stderr that is gone afterwards."""
    from rich.progress import BarColumn, MofNCompleteColumn

    from sdfast import bars

    return bars.bar(BarColumn(), MofNCompleteColumn(), bars.left())


def whole_numbers(text: str, flag: str, most: int, least: int = 1) -> list[int]:
    """Numbers between commas, each once and in order. Raises UsageError for what is none."""
    from sdfast.wording import quoted

    words = text.split(",")
    plain = all(re.fullmatch("[0-9]{1,9}", word) for word in words)
    if not plain or not all(least <= int(word) <= most for word in words):
        raise UsageError(f"{flag} takes numbers from {least} to {most}, not {quoted(text)}")
    return sorted({int(word) for word in words})


def whole_number(given: object, flag: str, most: int, least: int = 1) -> int:
    """The one number of a flag. Raises UsageError for none, and for several."""
    from sdfast.wording import quoted

    if "," in (text := f"{given}"):
        raise UsageError(f"{flag} takes one number, not {quoted(text)}")
    return whole_numbers(text, flag, most, least)[0]
