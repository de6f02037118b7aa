"""`sdfast bench`: how long pictures take, or how near samplers come, side by side."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from sdfast.cli import flags
from sdfast.cli.accuracy import CALLS, PROBLEMS


def bench(
    rows: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PRESET...",
            show_default=False,
            help="Presets or their files; with --accuracy also rows such as 'dpm++2M:*'.",
        ),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            metavar="KEY=A,B",
            help="A row for every value of a job's key, or of dtype; repeat it to cross them.",
        ),
    ] = None,
    runs: Annotated[
        Any,
        typer.Option("-r", "--runs", parser=flags.number, metavar="N", help="Pictures a row. [5]"),
    ] = None,
    warmup: Annotated[
        Any,
        typer.Option(
            "-w", "--warmup", parser=flags.number, metavar="N", help="Uncounted before them. [1]"
        ),
    ] = None,
    vs: Annotated[
        list[str] | None,
        typer.Option(
            "--vs",
            metavar="diffusers[:bf16,channels_last,fused,compile]",
            help="Measure it in turns with ours; repeat it for several set-ups.",
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option("--batch-size", metavar="N,N,...", help="Pictures painted at once. [1]"),
    ] = None,
    cold: Annotated[
        bool, typer.Option("--cold", help="Time `sdfast gen` and a diffusers script as processes.")
    ] = False,
    no_start: Annotated[
        bool,
        typer.Option("--no-start", help="Leave out what takes a process: load, first, memory."),
    ] = False,
    steps: flags.Steps = None,
    guidance: flags.Guidance = None,
    seed: Annotated[
        Any, typer.Option("--seed", parser=flags.number, metavar="N", help="Of the noise. [1]")
    ] = None,
    size: flags.Size = None,
    model: flags.ModelName = None,
    accuracy: Annotated[
        bool, typer.Option("--accuracy", help="Measure errors against the converged picture.")
    ] = False,
    calls: Annotated[
        str | None,
        typer.Option("--calls", metavar="N,N,...", help=f"Accuracy: calls a sample. [{CALLS}]"),
    ] = None,
    problem: Annotated[
        str | None,
        typer.Option(
            "--problem",
            metavar="NAME,...",
            help="Accuracy: uncond, cfg7.5, cfg3:1 (guidance 3, prompt 1). "
            f"[{PROBLEMS}; none with a model]",
        ),
    ] = None,
    count: Annotated[
        Any,
        typer.Option(
            "-n",
            "--count",
            parser=flags.number,
            metavar="N",
            help="Accuracy: noises a problem [96], or seeds a prompt [1].",
        ),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts", metavar="FILE", help="Accuracy: prompts for a model, one a line."
        ),
    ] = None,
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
        typer.Option("--plot", metavar="FILE.png", help="A picture of it; needs matplotlib."),
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Draw no progress.")] = False,
    device: flags.Device = "auto",
    dtype: flags.Dtype = "auto",
    compiled: flags.Compile = False,
) -> None:
    from sdfast.cli.tables import places

    of_accuracy = {"--calls": calls, "--problem": problem, "-n": count, "--prompts": prompts}
    of_timing = {
        "--sweep": sweep,
        "-r": runs,
        "-w": warmup,
        "--cold": cold or None,
        "--batch-size": batch,
        "--compile": compiled or None,
    }
    of_timing |= {"--no-start": no_start or None}
    of_timing |= {"-s": steps, "--seed": seed, "--size": size}
    _refuse(of_timing if accuracy else of_accuracy, accuracy=accuracy)
    files = {"json": export_json, "markdown": export_markdown, "csv": export_csv, "plot": plot}
    if accuracy:
        from sdfast.cli import accuracy as errors

        families = _families(vs or [])
        question = errors.Question(
            rows=rows or [],
            calls=calls,
            problem=problem,
            count=count,
            vs=families,
            model=model,
            prompts=prompts,
            guidance=guidance,
            device=device,
            dtype=dtype,
            quiet=quiet,
        )
        errors.accuracy(question, places(files))
        return
    from sdfast.cli import timing

    given = {"steps": steps, "guidance": guidance, "seed": seed, "size": size, "model": model}
    question = timing.Question(
        presets=rows or [],
        sweeps=sweep or [],
        given=given,
        runs=5 if runs is None else runs,
        warmup=1 if warmup is None else warmup,
        vs=vs or [],
        batches=batch or "1",
        cold=cold,
        start=not no_start,
        device=device,
        dtype=dtype,
        compiled=compiled,
        quiet=quiet,
    )
    timing.timing(question, places(files), command_line(sys.argv[1:]))


def _refuse(given: dict[str, Any], *, accuracy: bool) -> None:
    """Raise UsageError for a flag of the other kind of bench."""
    from sdfast.errors import UsageError

    for flag, value in given.items():
        if value is not None:
            other = "without" if accuracy else "with"
            raise UsageError(f"{flag} goes {other} --accuracy")


def _families(vs: list[str]) -> bool:
    """Whether diffusers' schedulers are to be measured as well."""
    from sdfast.errors import UsageError
    from sdfast.wording import quoted

    for word in vs:
        if word != "diffusers":
            raise UsageError(f"--vs cannot be {quoted(word)}", "known is `diffusers`")
    return bool(vs)


_FILES = ("--export-json", "--export-markdown", "--export-csv", "--plot")


def command_line(words: list[str]) -> str:
    """What was typed, without where the exports go, and of paths the last part only."""
    import shlex

    kept = ["sdfast"]
    for before, word in zip(["", *words], words, strict=False):
        if before in _FILES or word.split("=")[0] in _FILES:
            continue
        name = _file_name(word)
        if name == word:  # or paths among other words
            name = re.sub(r"[^,=]*/[^,=]*", lambda found: _file_name(found[0]), word)
        kept.append(name)
    return shlex.join(kept)


def _file_name(path: str) -> str:
    """The last part of a path that is there; a scale or a token may stand behind it."""
    with suppress(OSError):  # too long to be asked for
        if "/" in path and (Path(path).exists() or Path(path.rpartition(":")[0]).is_file()):
            return Path(path).name
    return path
