"""`sdfast gen`: from words to pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdfast.cli import flags, remarks
from sdfast.cli.complaint import counted
from sdfast.cli.how import HowHere, with_how
from sdfast.cli.job_flags import of_a_job
from sdfast.cli.model import find_as_painted
from sdfast.cli.output import Output, policy
from sdfast.cli.painter import wanted_of
from sdfast.cli.painting import paint
from sdfast.cli.piping import on_disk
from sdfast.cli.streams import json_line
from sdfast.errors import UsageError

if TYPE_CHECKING:
    from sdfast.job import Job, Sampler
    from sdfast.recipes import Recipe


@with_how(HowHere)
@of_a_job
def gen(
    prompts: flags.Prompts = None,
    seed: Annotated[str | None, flags.seed("a new one each time")] = None,
    count: Annotated[Any, flags.count("Pictures of each prompt: seed, seed + 1, ...")] = None,
    preset: flags.PresetName = None,
    *,
    context: typer.Context,
    given: dict[str, Any],
    source: Annotated[str | None, flags.source("a picture, or in a text")] = None,
    out: Annotated[
        str | None,
        flags.out(
            "FILE|FOLDER/|TEMPLATE|-",
            "Where to write, .png, .jpg or .webp; `-` is a PNG on stdout. [{slug}-{seed}.png]",
        ),
    ] = None,
    exists: flags.Exists = "rename",
    no_metadata: flags.NoMetadata = False,
    save: Annotated[
        str | None,
        typer.Option("--save", metavar="NAME", help="Keep these flags as a preset, too."),
    ] = None,
    as_json: flags.AsJson = False,
    show: flags.Show = False,
    batch_size: Annotated[
        Any, flags.together("Pictures a network call; more of them a second than one by one.")
    ] = "1",
    how: HowHere,
) -> None:
    from sdfast.config import load_config
    from sdfast.jobs import make_jobs, read_source, resolve
    from sdfast.models.dressed import dressed
    from sdfast.naming import as_folder
    from sdfast.presets import check_free, save_preset
    from sdfast.prompt_texts import read_prompts

    config = load_config()
    recipe = read_source(source, prompts or [])
    said = "-" in [source, *(prompts or [])]
    given = on_disk(given, context, taken=said, dry=how.dry_run)
    asked = resolve(given, preset, recipe, config)
    for remark in asked.remarks:
        how.note(f"note: {remark}")
    jobs = make_jobs(asked.record, list(read_prompts(prompts or [])), seed, count)
    jobs = _with_loras(jobs, recipe, config.loras, how.note, typed=bool(prompts))
    output = Output(
        out=out or (config.out and as_folder(config.out)),
        presets=[config.recipe(preset)],
        exists=policy(exists),
        metadata=not no_metadata,
        as_json=as_json,
        say=how.say,
        count=len(jobs),
        aliases=config.aliases,
        show=show,
        colour=how.colour,
    )
    output.check(jobs[0])
    if save is not None:
        check_free(save)
        if how.dry_run:
            how.note(f"note: a dry run saves no preset `{save}`")
    _remark_on_steps(jobs[0].sampler, given["steps"], how.say)
    name = jobs[0].model
    if asked.model_from_picture and name is not None:
        found = find_as_painted(name, config)
    else:
        found = how.find(name, config)
    if found is not None:
        found = dressed(found, jobs[0].weights)
    if how.dry_run:
        from sdfast.recipes import spelled_out

        for job in jobs:
            print(json_line(spelled_out(found.complete(job) if found else job)))
        return
    assert found is not None
    wanted = wanted_of(how, config, jobs, [found], batch_size)
    if not how.no_safety and (remark := remarks.lacks_checker(found)):
        how.say(f"note: {remark}")
    paint(jobs, found, output, wanted)
    if save is not None:
        from sdfast.models.find import from_anywhere

        fitted = "corrections" in asked.record  # to its model
        others = () if fitted or given["model"] is not None else ("model",)
        kept = {k: v for k, v in asked.record.items() if k not in others}
        if kept.get("model") is not None:
            kept["model"] = from_anywhere(kept["model"], config.aliases)
        save_preset(save, kept)


def _with_loras(
    jobs: list[Job],
    recipe: Recipe | None,
    folder: str | None,
    say: Callable[[str], None],
    *,
    typed: bool,
) -> list[Job]:
    """The jobs with the LoRAs that their prompts name, which must be the same for all."""
    from sdfast.jobs import with_named_loras

    both = [with_named_loras(job, recipe, folder, typed=typed) for job in jobs]
    for remark in both[0][1]:
        say(f"note: {remark}")
    if len({job.lora for job, _ in both}) > 1:
        raise UsageError("these prompts name different LoRAs", "`sdfast batch` paints them")
    return [job for job, _ in both]


def _remark_on_steps(sampler: Sampler, given: int | None, say: Callable[[str], None]) -> None:
    if sampler.solver not in ("dpm++", "dpm") or sampler.twice:
        return
    if sampler.method == "adaptive":
        if given is not None:
            say("note: an adaptive walk takes as many steps as it needs; --steps does not count")
        return
    if sampler.steps < 10:
        say(f"note: {counted(sampler.steps, 'step')} is few; DPM-Solver wants 10 to 25")
    if sampler.steps > 25:
        say(f"note: {sampler.steps} steps is many; from 25 on DPM-Solver gains next to nothing")
