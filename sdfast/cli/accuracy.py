"""`sdfast bench --accuracy`: samplers side by side, by their errors."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from sdfast.cli.complaint import say
from sdfast.cli.model import find_model
from sdfast.cli.questions import CALLS, PROBLEMS, OfErrors
from sdfast.cli.tables import print_tables, progress, whole_number, whole_numbers
from sdfast.errors import UsageError

if TYPE_CHECKING:
    from sdfast.bench.accuracy import Event, Measured, Posed, Settling
    from sdfast.bench.exports import Run


def accuracy(asked: OfErrors, paths: dict[str, Path]) -> None:
    """Measure, print and write. Raises UsageError for what cannot be measured."""
    from sdfast.prompt_texts import read_lines
    from sdfast.wording import quoted

    for flag, given in (("--prompts", asked.prompts), ("-g/--guidance", asked.guidance)):
        if given is not None and asked.model is None:
            raise UsageError(f"{flag} is for a model", "-m NAME says which")
    for word in asked.vs or []:
        if word != "diffusers":
            raise UsageError(f"--vs cannot be {quoted(word)}", "known is `diffusers`")
    budgets = whole_numbers(asked.calls or CALLS, "--calls", 1000)
    counted = None if asked.count is None else whole_number(asked.count, "--count", 100_000)
    words = None
    if asked.prompts is not None:
        words = list(dict.fromkeys(read_lines(Path(asked.prompts))))

    from sdfast.bench.accuracy import measure
    from sdfast.bench.peers import peers
    from sdfast.bench.poses import pose_problem
    from sdfast.bench.problems import COUNT, named
    from sdfast.bench.report import worth_showing
    from sdfast.bench.rows import TUNED, USUAL, USUAL_ON_A_MODEL, ours, picked, presets, usual

    known = [*ours(), *(peers() if asked.vs else [])]
    plainly = (USUAL_ON_A_MODEL if asked.model else USUAL) + ((TUNED,) if asked.vs else ())
    chosen = picked(asked.rows or [], known, usual(known, plainly))
    names = list[str]()
    if asked.problem is not None or asked.model is None:
        listed = PROBLEMS if asked.problem is None else asked.problem
        names = list(dict.fromkeys(listed.split(",")))
    for name in names:
        named(name)
    training = bool(asked.vs) or any(row.name == TUNED for row in chosen)
    poses = [pose_problem(name, counted or COUNT, training=training) for name in names]
    if asked.model is not None:
        poses.append(_pose(asked.model, words, counted or 1, asked, training=training))
    events = measure(poses, chosen, budgets)
    if not asked.quiet and sys.stderr.isatty():
        events = _watch(events, len(poses) * len(chosen) * len(budgets))
    run = _gathered(events)
    meant = [row.name for row in picked(asked.rows, known, [])] if asked.rows else [*presets()]
    _print(run.found, worth_showing(run.found, meant))
    _write(run, paths)


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
    from sdfast.bench.exports import TEXTS
    from sdfast.bench.plot import plot
    from sdfast.writing import write_whole

    for kind, path in paths.items():
        write_whole(path, plot(run.found) if kind == "plot" else TEXTS[kind](run).encode())


def _pose(
    name: str, prompts: list[str] | None, count: int, asked: OfErrors, *, training: bool
) -> Iterator[Settling | Posed]:
    """The model with its prompts, each checked as a job's before the model is loaded."""
    from sdfast.bench.poses import PROMPTS, pose_model
    from sdfast.config import load_config
    from sdfast.job import read_job
    from sdfast.models import load_model

    said = prompts or list(PROMPTS)
    scale = {} if asked.guidance is None else {"guidance": asked.guidance}
    jobs = [read_job({"prompt": prompt, "seed": 1, **scale}) for prompt in said]
    found = find_model(name, load_config(), say, safety=False, draw=not asked.quiet)
    assert found is not None
    loaded = load_model(found, device=asked.device, dtype=asked.dtype, safety=False)
    return pose_model(loaded, name, said, count, jobs[0].guidance, training=training)


def _watch(events: Iterator[Event], total: int) -> Iterator[Event]:
    """Pass events on, drawing on stderr how far they are."""
    from sdfast.bench.accuracy import Measured, Posed, Settling

    with progress() as bar:
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
    from sdfast.bench.report import failures, tables

    print_tables(tables(shown, found))
    for line in failures(found):
        print(line)
    hidden = len({(m.family, m.row) for m in found}) - len({(m.family, m.row) for m in shown})
    if hidden:
        print(f"{hidden} rows that are best at nothing are not shown; --export-json has them all")
