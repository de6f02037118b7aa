"""Events as the terminal shows them: a bar while a picture is painted."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import assert_never

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TimeElapsedColumn,
)

from sdfast import bars
from sdfast.events import Encoded, Event, Finished, Stepped
from sdfast.job import Job


@contextmanager
def waiting(text: str, console: Console) -> Generator[None]:
    """What is waited for, and for how long, while nobody can tell for how much longer."""
    columns = SpinnerColumn(), bars.text(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        bar.add_task(text, total=None)
        yield


def watch(
    events: Iterable[Event], console: Console, named: Callable[[Job], str]
) -> Iterator[Event]:
    """Pass events on, drawing each as it goes by; a picture is called as `named`."""
    counted = BarColumn(), MofNCompleteColumn(), bars.text("fields[pace]")
    bar = bars.bar(*counted, bars.left(), console=console)
    begun, encoded = 0.0, 0
    with bar:
        task = bar.add_task("reading the prompt", total=None, pace="")
        for event in events:
            match event:
                case Encoded(job):
                    begun, encoded = time.perf_counter(), encoded + 1
                    one = named(job)
                    who = one if encoded == 1 else f"{encoded} pictures"
                    bar.update(task, description=who)
                case Stepped(index, total):
                    encoded = 0
                    pace = 1000 * (time.perf_counter() - begun) / index
                    bar.update(task, completed=index, total=total, pace=f"{pace:.1f} ms/step")
                case Finished():
                    bar.update(task, description="painted")
                case _:
                    assert_never(event)
            yield event
