"""Events as the terminal shows them: a bar while a picture is painted."""

import time
from collections.abc import Iterable, Iterator
from typing import assert_never

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sdfast.events import Encoded, Event, Finished, Stepped


def watch(events: Iterable[Event], console: Console) -> Iterator[Event]:
    """Pass events on, drawing each as it goes by."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        redirect_stdout=False,  # or paths would be drawn on stderr
        redirect_stderr=False,
    )
    begun = 0.0
    with bar:
        task = bar.add_task("reading the prompt", total=None, pace="")
        for event in events:
            match event:
                case Encoded(job):
                    begun = time.perf_counter()
                    bar.update(task, description=f"seed {job.seed}", total=job.sampler.calls)
                case Stepped(index):
                    pace = 1000 * (time.perf_counter() - begun) / index
                    bar.update(task, completed=index, pace=f"{pace:.1f} ms/step")
                case Finished():
                    bar.update(task, description="painted")
                case _:
                    assert_never(event)
            yield event
