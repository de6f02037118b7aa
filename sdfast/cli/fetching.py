"""A model on its way from the Hub: a bar on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sdfast.cli.complaint import counted

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from sdfast.fields import HubName
    from sdfast.models.blob import Lost
    from sdfast.models.download import Planned, Progress

_TENTHS = 10


def fetch(
    repo: str,
    say: Callable[[str], None],
    *,
    draw: bool,
    colour: bool,
    full: bool = False,
    offline: bool = False,
    safety: bool = True,
    named: HubName | None = None,
) -> Path:
    """Pull a model, or what else `pull` knows by these; its folder.

    The bar is drawn on stderr if that is a terminal and `draw`.
    """
    from sdfast.models.download import Planned, Pulled, pull

    events = pull(repo, full=full, offline=offline, safety=safety, named=named)
    planned = next(events)
    assert isinstance(planned, Planned)
    say(_plan(planned))
    shown = _drawn if draw and sys.stderr.isatty() else _told
    *_, pulled = shown(events, planned, say, colour)
    assert isinstance(pulled, Pulled)
    return pulled.folder


def _plan(planned: Planned) -> str:
    from sdfast.models.cache import amount, cache_folder

    listing = planned.listing
    if planned.there == listing.size:
        return f"`{listing.repo}` is in the cache already, as the Hub has it"
    files = f"{counted(len(listing.files), 'file')}, {amount(listing.size)}"
    precision = f" in {listing.precision}" if listing.precision else ""
    there = f", {amount(planned.there)} of them there already" if planned.there else ""
    return f"fetching `{listing.repo}` into {cache_folder()}: {files}{precision}{there}"


def _told(
    events: Iterator[Progress], planned: Planned, say: Callable[[str], None], colour: bool
) -> Iterator[Progress]:
    """Pass events on, and say how far it is at every tenth."""
    import time

    from sdfast.models.blob import Lost
    from sdfast.models.cache import amount
    from sdfast.models.download import Fetched

    begun, total = time.perf_counter(), planned.listing.size
    tenth = _TENTHS * planned.there // max(total, 1)
    for event in events:
        if isinstance(event, Lost):
            say(_lost(event))
        if isinstance(event, Fetched) and (now := _TENTHS * event.done // max(total, 1)) > tenth:
            tenth = now
            pace = (event.done - planned.there) / (time.perf_counter() - begun)
            done = f"{amount(event.done)} of {amount(total)}"
            say(f"{100 // _TENTHS * tenth} %, {done}, {amount(pace)}/s")
        yield event


def _drawn(
    events: Iterator[Progress], planned: Planned, say: Callable[[str], None], colour: bool
) -> Iterator[Progress]:
    """Pass events on, and draw them."""
    from sdfast.models.blob import Lost
    from sdfast.models.download import Fetched

    with _bar(colour) as bar:
        task = bar.add_task("fetching", total=planned.listing.size, completed=planned.there)
        for event in events:
            if isinstance(event, Lost):
                bar.console.print(_lost(event), markup=False, highlight=False)
            if isinstance(event, Fetched):
                bar.update(task, completed=event.done)
            yield event


def _bar(colour: bool) -> Bar:
    from rich.progress import BarColumn, DownloadColumn, TransferSpeedColumn

    from sdfast import bars

    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), bars.left()
    return bars.bar(*columns, console=bars.on_stderr(colour=colour))


def _lost(event: Lost) -> str:
    return f"note: the connection broke ({event.why}); going on in {event.seconds:g} s"
