"""Painting the pictures of `grid` onto their page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdfast.cli import remarks
from sdfast.cli.complaint import counted
from sdfast.cli.output import Output, line_of, tell_times
from sdfast.cli.painter import Wanted, hire, leave_worker
from sdfast.cli.painting import Walk, numbered, tell, walks
from sdfast.cli.streams import json_line
from sdfast.errors import SdfastError, UsageError

if TYPE_CHECKING:
    from sdfast.grid.page import Page
    from sdfast.job import Job
    from sdfast.models.source import Source
    from sdfast.sheet import Sheet


def new_page(sheet: Sheet, font: str | None, say: Callable[[str], None], *, labelled: bool) -> Page:
    """Paper for a sheet of complete jobs, with labels in that font or one that has their letters.

    Raises UsageError for what is no font, and for too large a page.
    """
    from sdfast.grid.letters import lacking, open_font
    from sdfast.grid.page import Page, letter_height

    sizes = [job.size or (0, 0) for job in sheet.jobs]
    if not labelled:
        return Page(sheet, sizes, None)
    labels = (*sheet.tops, *sheet.lefts)
    opened = open_font(font, letter_height(sizes), labels)
    if missing := lacking(opened, labels):
        say(f"note: the labels' font lacks `{missing[:20]}`; --font names another")
    return Page(sheet, sizes, opened)


def paint_sheet(
    sheet: Sheet,
    models: Sequence[Source],
    page: Page,
    output: Output,
    cells: Output | None,
    wanted: Wanted,
) -> None:
    """Paint a sheet of complete jobs and write it; every picture, too, if there are `cells`.

    Each job is of the model in its place. One model is in memory at a time, and paints all that are
    of its weights.
    """
    from sdfast import recipes
    from sdfast.image_files import check_room, encode
    from sdfast.models.malloc import tidy

    begun = time.perf_counter()
    (destination,) = output.places(list(sheet.jobs[:1]))
    if not output.ready(destination, {"pictures": len(sheet.jobs)}):
        return
    places = cells.places(list(sheet.jobs)) if cells else []
    if destination in places:
        raise UsageError(f"the sheet and one of its pictures cannot both be `{destination}`")
    kept = [cells.keeps(place) for place in places] if cells else []
    if cells:
        cells.check_room(sheet.jobs, places)
    told = [output.recipe(job) for job in sheet.jobs] if output.metadata else []
    text = recipes.texts_of_sheet(sheet, told) if told else {}
    check_room(text, destination, page.image.size)
    easel = _Easel(sheet, page, output, cells, places, kept)
    of_models = _of_one_model(sheet.jobs)
    try:
        for some in of_models:
            last = some is of_models[-1]
            easel.paint(some, models[some[0]], wanted, last=last)
            if not last:
                tidy()
    except (SdfastError, KeyboardInterrupt):
        if cells is None:
            output.say("note: no sheet is written; with --cells, its pictures are as they come")
        raise
    _tell(sheet, output.put(encode(page.image, text, destination), destination), output, begun)
    output.draw(page.image)


def _of_one_model(jobs: Sequence[Job]) -> list[list[int]]:
    """The places of the jobs that share loaded weights."""
    alike: dict[object, list[int]] = {}
    for place, job in enumerate(jobs):
        alike.setdefault(job.weights, []).append(place)
    return [*alike.values()]


@dataclass(frozen=True, slots=True)
class _Easel:
    """A page in the making, and where its pictures go besides."""

    sheet: Sheet
    page: Page
    output: Output
    cells: Output | None
    places: Sequence[Path]
    kept: Sequence[bool]
    """Which of these are there already and stay as they are."""

    def paint(self, some: list[int], found: Source, wanted: Wanted, *, last: bool) -> None:
        """Paint what is of one model's weights; when this returns, they can be forgotten."""
        jobs = [self.sheet.jobs[place] for place in some]
        painter, how = hire(found, wanted), wanted.how
        many = counted(len(jobs), "picture")
        how.say(f"{found.name} {painter.dtype} on {painter.device}, {many}")
        tell(painter, found, jobs, how)
        if not how.no_safety and (remark := remarks.lacks_checker(found)):
            how.say(f"note: {remark}")
        named = numbered(self.sheet.jobs, self.sheet.short_name)
        in_order = painter.is_worker or wanted.together == 1
        groups = _groups(self.sheet.jobs, some, None if in_order else painter.together)
        for walk in walks(self.sheet.jobs, groups, painter, found, wanted, named):
            self._lay(walk)
            painter = walk.painter
        if last:
            leave_worker(painter, found, wanted)

    def _lay(self, walk: Walk) -> None:
        """Paste pictures, write them where they are wanted, too, and tell of them."""
        from sdfast.image_files import encode

        for done, place in zip(walk.painted, walk.which, strict=True):
            begun = time.perf_counter()
            self.page.paste(place, done.image)
            line: dict[str, Any] = {"cell": self.sheet.name(place)}
            if self.cells is not None:
                path = self.places[place]
                if not self.kept[place]:
                    path = self.cells.put(
                        encode(done.image, self.cells.recipe(done.job), path), path
                    )
                line["path"] = str(path)
                if not self.output.as_json and not self.output.to_stdout:
                    print(path, flush=True)
            spent = time.perf_counter() - begun
            if self.output.as_json:
                line |= line_of(done, walk.painter, spent)
                print(json_line(line), flush=True)
            tell_times(done, walk.painter, spent, self.output.say, self.sheet.short_name(place))


def _groups(
    jobs: Sequence[Job], places: Sequence[int], most: Callable[[Job], int] | None
) -> Iterator[list[int]]:
    """Pictures that are painted together: those whose walks agree, wherever they stand.

    At most so many; None is one by one, in their order.
    """
    if most is None:
        yield from ([place] for place in places)
        return
    alike: dict[object, list[int]] = {}
    for place in places:
        alike.setdefault(jobs[place].way, []).append(place)
    for some in alike.values():
        while some:
            few = some[: most(jobs[some[0]])]
            yield few
            some = some[len(few) :]


def _tell(sheet: Sheet, path: Path, output: Output, begun: float) -> None:
    """Where the sheet is, and what it took."""
    spent = time.perf_counter() - begun
    if output.as_json:
        told = {"path": str(path), "pictures": len(sheet.jobs), "seconds": round(spent, 6)}
        print(json_line(told | sheet.layout), flush=True)
    elif not output.to_stdout:
        print(path, flush=True)
    output.say(f"{counted(len(sheet.jobs), 'picture')} in {spent:.2f} s")
