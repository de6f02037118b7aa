"""A batch as the terminal shows it: how far it is, how fast, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from sdfast.batch.events import BatchEvent, Failed, Kept, Painted


def draw(events: Iterable[BatchEvent], total: int | None, *, colour: bool) -> Iterator[BatchEvent]:
    """Pass events on, and draw how many of the jobs are done with."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        console=Console(stderr=True, no_color=True if not colour else None),
        transient=True,
        redirect_stdout=False,  # or paths would be drawn on stderr
        redirect_stderr=False,
    )
    begun = time.perf_counter()
    painted = settled = 0
    with bar:
        task = bar.add_task("looking at what is there", total=total, pace="")
        for event in events:
            if isinstance(event, (Painted, Kept, Failed)):
                settled += 1
            if isinstance(event, Painted):
                painted += 1
                each = (time.perf_counter() - begun) / painted
                left = "" if total is None else f", {_clock(each * max(total - settled, 0))} left"
                bar.update(task, description="painting", pace=f"{_pace(each)}{left}")
            bar.update(task, completed=settled)
            yield event


def _pace(each: float) -> str:
    return f"{each:.2f} s/picture" if each >= 1 else f"{1 / each:.1f} pictures/s"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
