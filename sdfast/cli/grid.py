"""`sdfast grid`: a labelled sheet of pictures that differ in one thing or in two."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from sdfast.cli import flags
from sdfast.cli.how import HowHere, with_how
from sdfast.cli.job_flags import of_a_job
from sdfast.cli.model import find_as_painted
from sdfast.cli.output import Output, policy
from sdfast.cli.paging import new_page, paint_sheet
from sdfast.cli.painter import wanted_of
from sdfast.cli.piping import on_disk
from sdfast.cli.streams import json_line
from sdfast.errors import UsageError
from sdfast.wording import quoted


@with_how(HowHere)
@of_a_job
def grid(
    prompts: flags.Prompts = None,
    x: Annotated[
        list[str] | None,
        typer.Option(
            "--x",
            metavar="KEY=A,B",
            help="What varies across: a job's key, `preset`, or `replace=cat,dog,...`, which puts "
            "each word in the place of the first. 1..4 is 1,2,3,4, and 1..9..4 is 1,5,9.",
        ),
    ] = None,
    y: Annotated[
        list[str] | None, typer.Option("--y", metavar="KEY=A,B", help="What varies down the sheet.")
    ] = None,
    columns: Annotated[
        int | None,
        typer.Option("--columns", min=1, metavar="N", help="Break a sheet of one axis into rows."),
    ] = None,
    seed: Annotated[str | None, flags.seed("a new one for the whole sheet")] = None,
    count: Annotated[Any, flags.count("That many seeds: seed, seed + 1, ...")] = None,
    preset: flags.PresetName = None,
    *,
    context: typer.Context,
    given: dict[str, Any],
    source: Annotated[str | None, flags.source("a picture or in a text, or repeat a sheet")] = None,
    out: Annotated[
        str | None,
        flags.out("FILE|FOLDER/|TEMPLATE|-", "The sheet, .png, .jpg or .webp. [{slug}-grid.png]"),
    ] = None,
    cells: Annotated[
        str | None,
        typer.Option(
            "--cells",
            metavar="FOLDER/|TEMPLATE",
            help="Write every picture, too, as soon as it is there. [{slug}-{seed}-{i}.png]",
        ),
    ] = None,
    exists: flags.Exists = "rename",
    no_labels: Annotated[bool, typer.Option("--no-labels", help="Leave the labels out.")] = False,
    font: Annotated[
        str | None, typer.Option("--font", metavar="FILE", help="A font for the labels.")
    ] = None,
    no_metadata: flags.NoMetadata = False,
    as_json: flags.AsJson = False,
    show: flags.Show = False,
    batch_size: Annotated[
        Any, flags.together("Pictures a network call, of those whose walks agree.")
    ] = "1",
    how: HowHere,
) -> None:
    from sdfast.config import load_config
    from sdfast.grid.plan import Question, plan_sheet
    from sdfast.jobs import read_source
    from sdfast.models.dressed import dressed
    from sdfast.naming import as_folder, folder_of
    from sdfast.prompt_texts import read_prompts

    config = load_config()
    recipe = read_source(source, prompts or [])
    said = "-" in [source, *(prompts or [])]
    given = on_disk(given, context, taken=said, dry=how.dry_run)
    said = tuple(read_prompts(prompts or []))
    across, down = _once(x, "--x"), _once(y, "--y")
    _check_negative(given["negative"])
    question = Question(said, given, across, down, columns, preset, seed, count, recipe)
    plan = plan_sheet(question, config)
    jobs = plan.sheet.jobs
    output = Output(
        out=out or (config.out and folder_of(config.out)),
        presets=plan.presets,
        exists=policy(exists),
        metadata=not no_metadata,
        as_json=as_json,
        say=how.say,
        count=1,
        aliases=config.aliases,
        show=show,
        colour=how.colour,
        template="{slug}-grid.png",
    )
    several = replace(
        output, out=cells and as_folder(cells), count=len(jobs), template="{slug}-{seed}-{i}.png"
    )
    output.check(jobs[0])
    if cells is not None:
        if several.to_stdout:
            raise UsageError("`--cells` is a folder or a template, not `-`")
        several.check(jobs[0])
    for remark in plan.remarks:
        how.note(f"note: {remark}")
    bare = {
        name: find_as_painted(name, config)
        if name is not None and name in plan.painted_with
        else how.find(name, config)
        for name in dict.fromkeys(job.model for job in jobs)
    }
    found = {
        wanted: (known := bare[wanted.model]) and dressed(known, wanted)
        for wanted in dict.fromkeys(job.weights for job in jobs)
    }
    if how.dry_run:
        from sdfast.recipes import spelled_out

        for place, job in enumerate(jobs):
            model = found[job.weights]
            told = spelled_out(model.complete(job) if model else job)
            print(json_line({"cell": plan.sheet.name(place)} | told))
        return
    sources = {weights: model for weights, model in found.items() if model is not None}
    sheet = replace(plan.sheet, jobs=tuple(sources[job.weights].complete(job) for job in jobs))
    page = new_page(sheet, font, how.say, labelled=not no_labels)
    wanted = wanted_of(how, config, jobs, sources.values(), batch_size)
    models = [sources[job.weights] for job in jobs]
    paint_sheet(sheet, models, page, output, several if cells else None, wanted)


def _once(words: list[str] | None, flag: str) -> str | None:
    """The one axis of a flag; of two, typer would take the last alone."""
    if words and len(words) > 1:
        raise UsageError(f"{flag} is given twice", "a sheet has one axis across and one down")
    return words[0] if words else None


def _check_negative(text: str | None) -> None:
    """Raise UsageError for an axis that was given to `-x`."""
    from sdfast.grid.axes import AXES

    if text is not None and "=" in text and text.partition("=")[0] in AXES:
        raise UsageError(f"-x is the negative prompt, not {quoted(text)}", "--x is what varies")
