"""`sdfast batch`: pictures from a file of jobs, as many as it may be."""

from __future__ import annotations

import threading
from functools import partial
from typing import Annotated, Any

import typer

from sdfast.cli import flags, remarks
from sdfast.cli.batching import check_devices, hired, list_missing, paint_missing
from sdfast.cli.how import How, with_how
from sdfast.cli.job_flags import of_a_job
from sdfast.cli.output import policy
from sdfast.cli.telling import Telling
from sdfast.errors import UsageError


@with_how(How)
@of_a_job
def batch(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE|-",
            show_default=False,
            help="Prompts (.txt), jobs (.jsonl) or rows (.csv), one a line; `-` is stdin.",
        ),
    ],
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="txt, jsonl or csv. [by ending or 1st line]"),
    ] = None,
    seed: Annotated[str | None, flags.seed("each line's own, always the same")] = None,
    count: Annotated[Any, flags.count("Pictures a line; key `n`.")] = None,
    preset: flags.PresetName = None,
    *,
    given: dict[str, Any],
    out: Annotated[str | None, flags.out("FOLDER/|TEMPLATE|URL", "[{slug}-{seed}.png]")] = None,
    manifest: Annotated[
        str | None,
        typer.Option("--manifest", metavar="FOLDER/", help="Where it is kept. [the output folder]"),
    ] = None,
    exists: flags.Exists = "rename",
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try what has failed before, too.")
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="End with the first job that fails.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Paint at most N this time.")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Every N-th job from the I-th on."),
    ] = None,
    batch_size: Annotated[Any, flags.together("Pictures a network call.")] = "auto",
    gpus: Annotated[
        str | None,
        typer.Option("--gpus", metavar="all|0,1", help="A process for each of these devices."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="auto|local|ADDRESS", help="Paint on a Ray cluster."),
    ] = None,
    cpus_per_worker: Annotated[
        float,
        typer.Option(
            "--cpus-per-worker", min=0.01, metavar="N", help="Of a Ray cluster without GPUs."
        ),
    ] = 1.0,
    no_metadata: flags.NoMetadata = False,
    as_json: flags.AsJson = False,
    how: How,
) -> int:
    from sdfast.batch import blocks, lines
    from sdfast.batch.manifest import manifest_folder, mark_of
    from sdfast.batch.pictures import Naming
    from sdfast.batch.run import Rules
    from sdfast.batch.shards import read_shard
    from sdfast.batch.sources import Sources
    from sdfast.batch.store import open_store
    from sdfast.batch.studio import Setting
    from sdfast.batch.tasks import Beneath, count_pictures, read_tasks
    from sdfast.config import load_config
    from sdfast.job import FILES
    from sdfast.jobs import resolve
    from sdfast.seeds import seed_ranges

    if gpus is not None and ray is not None:
        raise UsageError("`--gpus` is for one machine and `--ray` for many", "give one of them")
    if how.device != "auto" and gpus is not None:
        raise UsageError("`--gpus` names the devices, and so does `--device`", "give one of them")
    config = load_config()
    asked = resolve(given, preset, None, config)
    for remark in asked.remarks:
        how.note(f"note: {remark}")
    record = asked.record
    record |= {key: given[key] for key in FILES if given[key] is not None}
    _check(given, record)
    seed_ranges(seed, count, 0)  # is refused here if it is wrong for every line
    if ray is None and not how.dry_run:  # Ray's workers have devices of their own
        check_devices(how.device, gpus)
    rules = Rules(read_shard(shard), limit, fail_fast=fail_fast, retry_failed=retry_failed)
    found = how.find(record.get("model"), config)
    store, template = open_store(out or config.out)
    home = manifest_folder(manifest, store)
    stop = threading.Event()
    form_said = lines.form_of(file, form)
    beneath = Beneath(
        record, found.name if found else str(record["model"]), seed, count, config.loras
    )
    pictures = 0
    if blocks.can_be_read_twice(file):
        with blocks.opened(file, stop) as all_of_it:
            pictures = count_pictures(lines.read(all_of_it, form_said), beneath)
    naming = Naming(
        store=store,
        template=template,
        tag=rules.shard.tag + mark_of(home, store),
        exists=policy(exists),
        preset=config.recipe(preset),
        count=pictures,
        black=not how.no_safety,
    )
    ending = naming.ending()
    with blocks.opened(file, stop) as arriving:
        records = lines.read(arriving, form_said)
        tasks = read_tasks(records, beneath)
        sources = Sources(
            config.aliases, how.offline, fetch=not how.dry_run, safety=not how.no_safety
        )
        if how.dry_run:
            return list_missing(tasks, home, naming, sources, rules, file)
        if found and not how.no_safety and (remark := remarks.lacks_checker(found)):
            how.say(f"note: {remark}")
        setting = Setting(
            device=how.device,
            dtype=how.dtype,
            offline=how.offline,
            aliases=config.aliases,
            together=batch_size,
            metadata=not no_metadata,
            vram=how.vram,
            ending=ending,
            safety=not how.no_safety,
        )
        hire = partial(hired, setting, gpus, ray, cpus_per_worker)
        telling = Telling(file, how, as_json=as_json, retried=retry_failed)
        return paint_missing(tasks, home, naming, sources, rules, stop, hire, telling)


def _check(given: dict[str, Any], record: dict[str, Any]) -> None:
    """Refuse what is wrong for every line: a value out of place, a file that is not there.

    What values are together is each line's own: it may name another model, or a picture.
    """
    from sdfast.canvas import file_size
    from sdfast.job import BEGINNINGS, OF_ONE_PICTURE, VARIATION, Weights, read_job
    from sdfast.models.dressed import check_there

    common = record.keys() - {*OF_ONE_PICTURE}
    read_job({"prompt": "any", **{key: record[key] for key in common}})
    varied = {key: given[key] for key in VARIATION if given[key] is not None}
    read_job({"prompt": "any", **dict.fromkeys(VARIATION, 1), **varied})  # lines say the other
    said = {key: given[key] for key in ("init", "hires", "strength") if given[key] is not None}
    if said:
        somewhere = said if "hires" in said else {"init": "any", **said}
        read_job({"prompt": "any", "steps": 1000, **somewhere})
    for key in BEGINNINGS:
        if given[key] is not None:
            file_size(given[key])
    check_there(Weights(None, given["lora"] or (), given["embedding"] or (), given["vae"]))
