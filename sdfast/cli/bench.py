"""`sdfast bench`: samplers side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, assert_never

import typer

from sdfast.cli import flags
from sdfast.cli.model import find_model

if TYPE_CHECKING:
    from rich.table import Table as Drawing

    from sdfast.bench.accuracy import Event, Measured, Posed, Settling
    from sdfast.bench.exports import Run
    from sdfast.bench.report import Table

CALLS = "5,8,10,12,15,20,25,50"
PROBLEMS = "uncond,cfg7.5"


def bench(
    rows: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ROW...",
            show_default=False,
            help="Presets, a preset's file, or rows such as 'dpm++2M:*'. [all]",
        ),
    ] = None,
    accuracy: Annotated[
        bool, typer.Option("--accuracy", help="Measure errors against the converged picture.")
    ] = False,
    calls: Annotated[
        str, typer.Option("--calls", metavar="N,N,...", help="Network calls a sample.")
    ] = CALLS,
    problem: Annotated[
        str | None,
        typer.Option(
            "--problem",
            metavar="NAME,...",
            help=f"uncond, cfg7.5, cfg3:1 (guidance 3, prompt 1). [{PROBLEMS}; none with a model]",
        ),
    ] = None,
    count: Annotated[
        Any,
        typer.Option(
            "-n",
            "--count",
            parser=flags.number,
            metavar="N",
            help="Noises a problem [96], or seeds a prompt [1].",
        ),
    ] = None,
    vs: Annotated[
        str | None,
        typer.Option("--vs", metavar="diffusers", help="Measure its schedulers as well."),
    ] = None,
    model: flags.ModelName = None,
    prompts: Annotated[
        str | None,
        typer.Option("--prompts", metavar="FILE", help="Prompts for the model, one a line."),
    ] = None,
    guidance: flags.Guidance = None,
    export_json: Annotated[
        str | None, typer.Option("--export-json", metavar="FILE", help="Everything measured.")
    ] = None,
    export_markdown: Annotated[
        str | None, typer.Option("--export-markdown", metavar="FILE", help="All rows' tables.")
    ] = None,
    export_csv: Annotated[
        str | None, typer.Option("--export-csv", metavar="FILE", help="A line a measurement.")
    ] = None,
    plot: Annotated[
        str | None,
        typer.Option("--plot", metavar="FILE.png", help="Error against calls; needs matplotlib."),
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Draw no progress.")] = False,
    device: flags.Device = "auto",
    dtype: flags.Dtype = "auto",
) -> None:
    from sdfast.errors import UsageError
    from sdfast.jobs import read_lines
    from sdfast.wording import quoted

    if not accuracy:
        raise UsageError("bench measures accuracy only so far", "sdfast bench --accuracy")
    if vs not in (None, "diffusers"):
        raise UsageError(f"--vs cannot be {quoted(vs)}", "known is `diffusers`")
    for flag, given in (("--prompts", prompts), ("-g/--guidance", guidance)):
        if given is not None and model is None:
            raise UsageError(f"{flag} is for a model", "-m NAME says which")
    budgets = whole_numbers(calls, "--calls", 1000)
    counted = None if count is None else whole_numbers(f"{count}", "--count", 100_000)[0]
    words = None if prompts is None else list(dict.fromkeys(read_lines(Path(prompts))))
    places = {"json": export_json, "markdown": export_markdown, "csv": export_csv, "plot": plot}
    paths = _places({kind: place for kind, place in places.items() if place is not None})

    from sdfast.bench.accuracy import measure
    from sdfast.bench.peers import peers
    from sdfast.bench.poses import pose_problem
    from sdfast.bench.problems import COUNT, named
    from sdfast.bench.report import worth_showing
    from sdfast.bench.rows import TUNED, USUAL, USUAL_ON_A_MODEL, ours, picked, presets, usual

    known = [*ours(), *(peers() if vs else [])]
    plainly = (USUAL_ON_A_MODEL if model else USUAL) + ((TUNED,) if vs else ())
    chosen = picked(rows or [], known, usual(known, plainly))
    names = (
        [] if problem is None and model else list(dict.fromkeys((problem or PROBLEMS).split(",")))
    )
    for name in names:
        named(name)
    training = bool(vs) or any(row.name == TUNED for row in chosen)
    poses = [pose_problem(name, counted or COUNT, training=training) for name in names]
    if model is not None:
        poses.append(_pose(model, words, counted or 1, guidance, device, dtype, training=training))
    events = measure(poses, chosen, budgets)
    if not quiet and sys.stderr.isatty():
        events = _watch(events, len(poses) * len(chosen) * len(budgets))
    run = _gathered(events)
    asked = [row.name for row in picked(rows, known, [])] if rows else [*presets()]
    _print(run.found, worth_showing(run.found, asked))
    _write(run, paths)


def _places(given: dict[str, str]) -> dict[str, Path]:
    """Where files will go. Raises UsageError, before anything is measured, if they could not."""
    from sdfast.bench.exports import check_place
    from sdfast.bench.plot import check_plot
    from sdfast.errors import UsageError

    if "plot" in given:
        check_plot(given["plot"])
    paths = {kind: check_place(place) for kind, place in given.items()}
    if len(set(paths.values())) < len(paths):
        raise UsageError("two exports cannot be written to one file")
    return paths


def _gathered(events: Iterator[Event]) -> Run:
    """Everything that was posed and measured."""
    from sdfast.bench.accuracy import Measured, Posed, Settling
    from sdfast.bench.exports import Run

    run = Run({}, found := list[Measured]())
    for event in events:
        match event:
            case Measured():
                found.append(event)
            case Posed():
                run.problems[event.name] = event.about
            case Settling():
                pass
            case _:
                assert_never(event)
    return run


def _write(run: Run, paths: dict[str, Path]) -> None:
    from sdfast.bench.exports import TEXTS, write_whole
    from sdfast.bench.plot import plot

    for kind, path in paths.items():
        write_whole(path, plot(run.found) if kind == "plot" else TEXTS[kind](run).encode())


def whole_numbers(text: str, flag: str, most: int) -> list[int]:
    """Numbers between commas, each once and in order. Raises UsageError for what is none."""
    from sdfast.errors import UsageError
    from sdfast.wording import quoted

    words = text.split(",")
    if not all(w.isascii() and w.isdigit() and 1 <= int(w[:9]) <= most for w in words):
        raise UsageError(f"{flag} takes numbers from 1 to {most}, not {quoted(text)}")
    return sorted({int(word) for word in words})


def _pose(
    name: str,
    prompts: list[str] | None,
    count: int,
    guidance: Any,
    device: str,
    dtype: str,
    *,
    training: bool,
) -> Iterator[Settling | Posed]:
    """The model with its prompts, each checked as a job's before the model is loaded."""
    from sdfast.bench.poses import PROMPTS, pose_model
    from sdfast.config import load_config
    from sdfast.job import read_job
    from sdfast.models import load_model

    said = prompts or list(PROMPTS)
    scale = {} if guidance is None else {"guidance": guidance}
    jobs = [read_job({"prompt": prompt, "seed": 1, **scale}) for prompt in said]
    found = find_model(name, load_config(), _say, offline=False, fetch=True)
    assert found is not None
    loaded = load_model(found, device=device, dtype=dtype)
    return pose_model(loaded, name, said, count, jobs[0].guidance, training=training)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _watch(events: Iterator[Event], total: int) -> Iterator[Event]:
    """Pass events on, drawing on stderr how far they are."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from sdfast.bench.accuracy import Measured, Posed, Settling

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with bar:
        settling = bar.add_task("", visible=False)
        task = bar.add_task("measuring", total=total)
        for event in events:
            match event:
                case Settling(problem, done, of):
                    text = f"{problem}: converged answers"
                    bar.update(settling, description=text, completed=done, total=of, visible=True)
                case Posed():
                    bar.update(settling, visible=False)
                case Measured():
                    words = f"{event.problem}: {event.row}"
                    bar.update(task, description=words, advance=1)
                case _:
                    assert_never(event)
            yield event


def _print(found: Sequence[Measured], shown: Sequence[Measured]) -> None:
    """The tables of what is worth showing, the failures, and how much there is besides."""
    from rich.console import Console

    from sdfast.bench.report import failures, tables

    console = Console(highlight=False, markup=False, width=400)
    for table in tables(shown, found):
        console.print(table.title, style="bold")
        console.print(_drawn(table))
        console.print()
    for line in failures(found):
        print(line)
    hidden = len({(m.family, m.row) for m in found}) - len({(m.family, m.row) for m in shown})
    if hidden:
        print(f"{hidden} rows that are best at nothing are not shown; --export-json has them all")


def _drawn(table: Table) -> Drawing:
    from rich.table import Table as Drawing
    from rich.text import Text

    drawing = Drawing(box=None, pad_edge=False)
    for i, head in enumerate(table.heads):
        drawing.add_column(head, justify="left" if i in table.left else "right", no_wrap=True)
    for line in table.lines:
        drawing.add_row(*map(Text, line))
    return drawing
