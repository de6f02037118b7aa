"""Painting the pictures of `grid` onto their page."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sdfast.cli import remarks
from sdfast.cli.output import Output, line_of, recipe_of, tell_times
from sdfast.cli.painting import Audience, Walk, hire, tell, walks

if TYPE_CHECKING:
    from sdfast.cli.painter import Wanted
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
    audience: Audience,
) -> None:
    """Paint a sheet of complete jobs and write it; every picture, too, if there are `cells`.

    Each job is of the model in its place, and each model is loaded once.
    """
    begun = time.perf_counter()
    (destination,) = output.places(list(sheet.jobs[:1]))
    if not output.ready(sheet.jobs[0], destination):
        return
    places = cells.places(list(sheet.jobs)) if cells else []
    for some in _of_one_model(sheet.jobs):
        for walk in _painted(sheet, some, models[some[0]], wanted, audience):
            _lay(walk, sheet, page, cells, places, output)
    _write(sheet, page, destination, output, time.perf_counter() - begun)


def _of_one_model(jobs: Sequence[Job]) -> list[list[int]]:
    """The places of the jobs that share a loaded model."""
    alike: dict[object, list[int]] = {}
    for place, job in enumerate(jobs):
        alike.setdefault(job.weights, []).append(place)
    return [*alike.values()]


def _painted(
    sheet: Sheet, places: list[int], found: Source, wanted: Wanted, audience: Audience
) -> Iterator[Walk[int]]:
    from sdfast.models.malloc import tidy

    jobs = [sheet.jobs[place] for place in places]
    painter = hire(found, wanted, audience)
    pictures = "1 picture" if len(jobs) == 1 else f"{len(jobs)} pictures"
    audience.say(f"{found.name} {painter.dtype} on {painter.device}, {pictures}")
    tell(painter, found, jobs, audience)
    if not wanted.unchecked and (remark := remarks.unchecked(found)):
        audience.say(f"note: {remark}")
    names = {sheet.jobs[place]: sheet.name(place) for place in reversed(places)}
    groups = _groups(sheet.jobs, places, wanted.together)
    yield from walks(groups, painter, found, wanted, audience, names.__getitem__)
    del painter
    tidy()


def _groups(
    jobs: Sequence[Job], places: Sequence[int], most: int
) -> Iterator[list[tuple[Job, int]]]:
    """Pictures that are painted together: in a row, and alike in what their walk must agree in."""
    some: list[tuple[Job, int]] = []
    for place in places:
        if some and not (len(some) < most and _walk_together(some[0][0], jobs[place])):
            yield some
            some = []
        some.append((jobs[place], place))
    yield some


def _walk_together(one: Job, other: Job) -> bool:
    from sdfast.engine import walk_of

    return one.sampler.calls is not None and walk_of(one) == walk_of(other)


def _lay(
    walk: Walk[int],
    sheet: Sheet,
    page: Page,
    cells: Output | None,
    places: Sequence[Path],
    output: Output,
) -> None:
    """Paste pictures, write them where they are wanted, too, and tell of them."""
    from sdfast import png

    for done, place in zip(walk.painted, walk.places, strict=True):
        begun = time.perf_counter()
        page.paste(place, done.image)
        line: dict[str, object] = {"cell": sheet.name(place)}
        if cells is not None:
            recipe = recipe_of(done.job, cells.aliases) if cells.metadata else {}
            kept = cells.put(png.encode(done.image, recipe), places[place])
            line["path"] = str(kept)
            if not output.as_json and not output.to_stdout:
                print(kept, flush=True)
        spent = time.perf_counter() - begun
        if output.as_json:
            line |= line_of(done, walk.painter, spent)
            print(json.dumps(line, ensure_ascii=False), flush=True)
        tell_times(done, walk.painter, spent, output.say, sheet.name(place))


def _write(sheet: Sheet, page: Page, place: Path, output: Output, spent: float) -> None:
    """Write the sheet, and tell of it."""
    from sdfast import png

    recipes = [recipe_of(job, output.aliases) for job in sheet.jobs] if output.metadata else []
    texts = png.sheet_recipe(sheet, recipes) if recipes else {}
    kept = output.put(png.encode(page.image, texts), place)
    if output.as_json:
        told = {"path": str(kept), "pictures": len(sheet.jobs), "seconds": round(spent, 6)}
        told |= sheet.layout
        print(json.dumps(told, ensure_ascii=False), flush=True)
    elif not output.to_stdout:
        print(kept, flush=True)
    output.say(f"{len(sheet.jobs)} pictures in {spent:.2f} s")
