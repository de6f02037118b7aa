"""The jobs of `batch` that are missing, told or painted, and its exit code."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, redirect_stdout, suppress
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from sdfast.cli.breaking import ENDING, broken_off_by
from sdfast.cli.complaint import say_error
from sdfast.cli.streams import json_line
from sdfast.cli.telling import named
from sdfast.errors import INTERRUPTED

if TYPE_CHECKING:
    from sdfast.batch.crew import Crew
    from sdfast.batch.lines import Broken
    from sdfast.batch.manifest import Known
    from sdfast.batch.pictures import Naming
    from sdfast.batch.run import Rules
    from sdfast.batch.sources import Sources
    from sdfast.batch.studio import Setting
    from sdfast.batch.tasks import Task
    from sdfast.cli.telling import Telling

_SOME_FAILED = 5
"""The exit code."""


def list_missing(
    tasks: Iterator[Task | Broken | None],
    home: Path,
    naming: Naming,
    sources: Sources,
    rules: Rules,
    file: str,
) -> int:
    """Print the jobs that are missing, and say what is wrong with others."""
    from sdfast.batch.events import Failed
    from sdfast.batch.run import missing
    from sdfast.batch.window import Ready
    from sdfast.recipes import spelled_out

    failed = False
    knows = _known(home, naming)
    pictures = naming.pictures(datetime.now(), knows.cut)
    events = missing(tasks, knows, pictures, sources, rules)
    left = rules.limit
    for event in events:
        if isinstance(event, Failed) and not event.before:
            failed = True
            say_error(f"{named(file)}:{event.number}: {event.error}", event.error.hint)
        elif isinstance(event, Ready):
            said = {"key": event.task.key.hex(), **spelled_out(event.job)}
            print(json_line(said))
            left = None if left is None else left - 1
        if left == 0 or (failed and rules.fail_fast):
            break
    return _SOME_FAILED if failed else 0


def paint_missing(
    tasks: Iterator[Task | Broken | None],
    home: Path,
    naming: Naming,
    sources: Sources,
    rules: Rules,
    stop: threading.Event,
    hire: Callable[[], Crew],
    telling: Telling,
) -> int:
    """Paint the jobs that are missing, until they are done or a signal comes."""
    from sdfast.batch.manifest import mark_of, open_manifest
    from sdfast.batch.run import Books, run

    tasks = _begun(tasks)
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(sys.stderr))  # Ray's own words are no results
        crew = stack.enter_context(closing(hire()))  # nothing is written if nobody can paint
        manifest = stack.enter_context(closing(open_manifest(home, rules.shard)))
        for tag in manifest.tags:
            naming.store.clear(f".{tag}{mark_of(home, naming.store)}+*.tmp")
        knows = _known(home, naming)
        books = Books(manifest, knows, naming.pictures(manifest.begun, knows.cut), sources)
        telling.begin(manifest.path, books.known, sources, rules.shard.share(naming.count))
        stack.enter_context(_signals(stop, telling.say))
        for event in telling.drawn(run(tasks, books, crew, rules, stop), rules.limit):
            telling.tell(event)
        broken_off = stop.is_set() or telling.broke_off or (rules.fail_fast and telling.failed)
        if not broken_off and rules.limit is None:
            manifest.end()
    telling.end()
    if stop.is_set():
        return INTERRUPTED
    return _SOME_FAILED if telling.failed or telling.broke_off else 0


def _known(home: Path, naming: Naming) -> Known:
    from sdfast.batch.manifest import known

    return known(home, naming.store, black=naming.black, others=naming.exists == "skip")


def _begun(tasks: Iterator[Task | Broken | None]) -> Iterator[Task | Broken | None]:
    """The tasks, once the first is there: what is no batch at all is refused before anything is."""
    first = next((task for task in tasks if task is not None), None)
    return tasks if first is None else chain([first], tasks)


def check_devices(device: str, gpus: str | None) -> None:
    """Raise DeviceError or UsageError for those that are not there, before anything is written."""
    if gpus is not None:
        from sdfast.batch.crew import devices_of

        devices_of(gpus)
    elif device != "auto":
        from sdfast.models.device import pick_device

        pick_device(device)


def hired(setting: Setting, gpus: str | None, ray: str | None, cpus: float) -> Crew:
    """Who paints: this process, a process for each device, or a cluster's workers."""
    from sdfast.batch.crew import Alone, Processes, devices_of

    if ray is not None:
        from sdfast.batch.cluster import Cluster

        return Cluster(setting, ray, cpus)
    if gpus is not None:
        return Processes(setting, devices_of(gpus))
    return Alone(setting)


def _signals(stop: threading.Event, say: Callable[[str], None]) -> AbstractContextManager[None]:
    """The first signal lets what is in hand be finished, a SIGINT after it ends at once.

    Another of the others does not: some that send one send it twice.
    """
    heard = False

    def ends_at_once(number: int) -> bool:
        nonlocal heard
        if heard:
            return number == signal.SIGINT
        heard = True  # before the event is set: a signal in there would wait for itself
        stop.set()
        with suppress(OSError, RuntimeError):  # nobody hears it, or it was being written to
            say("finishing what is in hand; Ctrl-C ends at once")
        return False

    return broken_off_by(*ENDING, when=ends_at_once)
