"""`sdfast bench`: how long pictures take, part by part, and beside diffusers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from sdfast.cli.complaint import counted, say
from sdfast.cli.flags import MOST_TOGETHER
from sdfast.cli.model import find_model
from sdfast.cli.tables import print_tables, progress, whole_number, whole_numbers
from sdfast.errors import UsageError

if TYPE_CHECKING:
    from sdfast.bench.timing.entries import Entry
    from sdfast.bench.timing.laps import Event
    from sdfast.bench.timing.report import Sheet
    from sdfast.cli.questions import OfTimings

PROMPT, SEED = "a cat", 1
"""What is painted unless something else is swept; no picture takes longer for its subject."""


def timing(asked: OfTimings, paths: dict[str, Path], command: str) -> None:
    """Time, print and write. Raises UsageError for what cannot be timed.

    What has been timed when it is interrupted is printed, but not written: half a run in a file
    could be taken for a whole one.
    """
    from sdfast.bench.timing.entries import PEER, beside, read_settings, unmatched

    runs = whole_number(5 if asked.runs is None else asked.runs, "--runs", 1000)
    warmup = whole_number(1 if asked.warmup is None else asked.warmup, "--warmup", 1000, least=0)
    families = list(dict.fromkeys(asked.vs or [PEER] * asked.cold))
    for family in families:
        read_settings(family)
    rows = _rows(asked)
    more = next((what for row in rows if (what := unmatched(row.job))), "")
    if more and families and not asked.vs:
        say(f"note: diffusers cannot match {more}, and is left out")
        families = []
    asked = replace(asked, device=_device(asked.device))
    with _written(rows if families else []) as folders:
        entries = beside(_found(rows, folders, draw=not asked.quiet), families)
        events = _events(entries, asked, runs, warmup)
        if not asked.quiet and sys.stderr.isatty():
            events = _watch(events, len(entries) * (runs + warmup))
        sheet, whole = _gathered(events, entries, asked, command)
    if sheet.results:
        _print(sheet)
    if not whole:
        raise KeyboardInterrupt
    _write(sheet, paths)


def _device(wanted: str) -> str:
    from sdfast.models.device import pick_device

    return str(pick_device(wanted))


def _rows(asked: OfTimings) -> list[Entry]:
    """Ours for every preset and combination, each checked, their models not looked for yet."""
    from sdfast.bench.timing.entries import OURS, Entry, named, read_sweeps
    from sdfast.config import load_config
    from sdfast.job import read_job
    from sdfast.jobs import resolve
    from sdfast.machine import check_precision
    from sdfast.presets import load_preset

    config = load_config()
    dtype = None if asked.dtype == "auto" else asked.dtype
    combined = read_sweeps(asked.sweep or [], {**asked.given, "dtype": dtype})
    presets = list(dict.fromkeys(asked.rows or [config.recipe(None)]))
    rows: list[Entry] = []
    batches = whole_numbers(asked.batch or "1", "--batch-size", MOST_TOGETHER)
    if asked.cold and batches != [1]:
        raise UsageError("--batch-size cannot be combined with --cold")
    for preset, swept, batch in product(presets, combined, batches):
        precision = swept.get("dtype", asked.dtype)
        check_precision(precision)
        keys = {key: value for key, value in swept.items() if key != "dtype" and value != ""}
        resolved = resolve({**asked.given, **keys}, preset, None, config)
        if resolved.remarks:
            raise UsageError("; ".join(resolved.remarks))
        without = {key for key, value in swept.items() if value == ""}
        record = {key: value for key, value in resolved.record.items() if key not in without}
        job = read_job({"prompt": PROMPT, "seed": SEED, **record})
        if batch > 1 and job.sampler.calls is None:
            raise UsageError("an adaptive walk paints one picture at a time")
        differing = swept | ({"batch": batch} if batches != [1] else {})
        name = named(load_preset(preset).name, differing, len(presets))
        rows.append(Entry(OURS, name, job, "", precision, batch, asked.compiled))
    return rows


def _written(rows: Sequence[Entry]) -> AbstractContextManager[dict[str, Path]]:
    """Folders of the random models among the rows, for a side that reads nothing else."""
    names = [row.job.model for row in rows if (row.job.model or "").startswith("random:")]
    if not names:
        return nullcontext({})
    from sdfast.bench.timing.shapes import written

    return written(name for name in names if name)


def _found(rows: Sequence[Entry], folders: dict[str, Path], *, draw: bool) -> list[Entry]:
    """Each row with its model found and the job as that would have it."""
    from sdfast.config import load_config
    from sdfast.models.find import lasting_target

    config = load_config()
    models = {
        model: find_model(
            str(folders.get(model or "", model or "")) or None,
            config,
            say,
            safety=False,
            draw=draw,
        )
        for model in dict.fromkeys(row.job.model for row in rows)
    }
    entries: list[Entry] = []
    for row in rows:
        found = models[row.job.model]
        assert found is not None
        target = lasting_target(found.name, config.aliases)
        public = Path(target).name if Path(target).is_absolute() else found.name
        public = row.job.model if row.job.model in folders else public
        job = found.complete(row.job).model_copy(update={"model": public})
        entries.append(replace(row, job=job, model=target))
    return entries


def _events(entries: Sequence[Entry], asked: OfTimings, runs: int, warmup: int) -> Iterator[Event]:
    from sdfast.bench.timing.apart import Apart
    from sdfast.bench.timing.cold import processes
    from sdfast.bench.timing.laps import pictures, started
    from sdfast.bench.timing.sides import check_room, load_side
    from sdfast.bench.timing.start import measure_start

    if asked.cold:
        yield from processes(entries, asked.device, runs, warmup)
        return
    check_room(entries, asked.device)
    if not asked.no_start:
        yield from started(entries, lambda entry: measure_start(entry, asked.device))
    alone = len({entry.side for entry in entries}) == 1
    yield from pictures(
        entries,
        lambda entry: load_side(entry, asked.device) if alone else Apart(entry, asked.device),
        runs,
        warmup,
    )


def _gathered(
    events: Iterator[Event], entries: Sequence[Entry], asked: OfTimings, command: str
) -> tuple[Sheet, bool]:
    """Everything that was timed, and whether that is all there was to be."""
    import torch

    from sdfast.bench.files import circumstances
    from sdfast.bench.timing.laps import Compared, Doing, Loaded, Started, Timed
    from sdfast.bench.timing.report import Result, Sheet

    results = {one: Result(one, one.dtype, asked.device, None, ()) for one in entries}
    compared: list[Compared] = []
    whole = True
    try:
        for event in events:
            match event:
                case Started(entry, start):
                    results[entry] = replace(results[entry], start=start)
                case Loaded(entry, dtype, device):
                    results[entry] = replace(results[entry], dtype=dtype, device=device)
                case Timed(entry, lap):
                    laps = (*results[entry].laps, lap)
                    results[entry] = replace(results[entry], laps=laps)
                case Compared():
                    compared.append(event)
                case Doing():
                    pass
                case _:
                    assert_never(event)
    except KeyboardInterrupt:
        whole = False
    timed = [result for result in results.values() if result.laps]
    models = ", ".join(dict.fromkeys(str(one.job.model) for one in entries))
    about = {"invocation": command, "model": models, **circumstances()}
    if cuda := [one.device for one in timed if one.device.startswith("cuda")]:
        about["gpu"] = torch.cuda.get_device_name(cuda[0])
    threads = torch.get_num_threads()
    return Sheet(models, asked.cold, threads, timed, compared, about), whole


def _watch(events: Iterator[Event], total: int) -> Iterator[Event]:
    """Pass events on, drawing on stderr how far they are."""
    from sdfast.bench.timing.laps import Doing

    with progress() as bar:
        task = bar.add_task("", total=total)
        for event in events:
            if isinstance(event, Doing):
                bar.update(task, description=f"{event.what} {event.entry.label}")
            yield event
            if isinstance(event, Doing) and event.what in ("timing", "warming up"):
                bar.advance(task)


def _print(sheet: Sheet) -> None:
    from sdfast.bench.timing.report import lines, tables

    devices = ", ".join(dict.fromkeys(result.device for result in sheet.results))
    threads = counted(sheet.threads, "thread")
    runs = counted(max(len(result.laps) for result in sheet.results), "run")
    print(f"{sheet.model} on {devices}, {threads}; {runs} a row\n")
    print_tables(tables(sheet))
    for line in lines(sheet):
        print(line)


def _write(sheet: Sheet, paths: dict[str, Path]) -> None:
    from sdfast.bench.plot import bars
    from sdfast.bench.timing.exports import TEXTS
    from sdfast.bench.timing.report import bars_of
    from sdfast.writing import write_whole

    for kind, path in paths.items():
        data = bars(*bars_of(sheet)) if kind == "plot" else TEXTS[kind](sheet).encode()
        write_whole(path, data)
