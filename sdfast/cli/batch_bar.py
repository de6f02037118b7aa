"""A batch as the terminal shows it: how far it is, how fast, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from math import inf

from rich.progress import BarColumn, MofNCompleteColumn

from sdfast import bars
from sdfast.batch.events import BatchEvent, Failed, Kept, Painted

_PAUSE = 0.1
"""Seconds between two drawings while nothing is told."""


def draw(
    events: Iterable[BatchEvent], total: int | None, limit: int | None, *, colour: bool
) -> Iterator[BatchEvent]:
    """Pass events on, and draw how many of the jobs are done with.

    The bar is away while an event is told of that is worth a line of its own.
    """
    counted = BarColumn(), MofNCompleteColumn(), bars.text("fields[pace]")
    bar = bars.bar(
        *counted, console=bars.on_stderr(colour=colour), redirect_stderr=True, auto_refresh=False
    )
    begun = time.perf_counter()
    painted = settled = 0
    with bar:
        task = bar.add_task("looking at what is there", total=total, pace="")
        bar.refresh()
        drawn = begun
        for event in events:
            if isinstance(event, (Painted, Kept, Failed)):
                settled += 1
            if isinstance(event, Painted):
                painted += 1
                each = (time.perf_counter() - begun) / painted
                rest = min(
                    inf if total is None else total - settled,
                    inf if limit is None else limit - painted,
                )
                left = "" if rest == inf else f", {_clock(each * max(rest, 0))} left"
                bar.update(task, description="painting", pace=f"{_pace(each)}{left}")
            bar.update(task, completed=settled)
            if _is_silent(event):
                yield event
            else:
                bar.stop()
                yield event
                bar.start()
            if time.perf_counter() - drawn > _PAUSE:
                bar.refresh()
                drawn = time.perf_counter()


def _is_silent(event: BatchEvent) -> bool:
    return isinstance(event, Kept) or (isinstance(event, Failed) and event.before)


def _pace(each: float) -> str:
    return f"{each:.2f} s/picture" if each >= 1 else f"{1 / each:.1f} pictures/s"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
