"""`sdfast presets`: the sampler recipes there are."""

from typing import Annotated

import typer

from sdfast.cli import completing, flags
from sdfast.cli.panels import Panelled

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_presets()


@app.command("list", help="Every preset: its name, steps, sampler and what it is for.")
def list_presets() -> None:
    from sdfast.errors import PresetError, printable
    from sdfast.job import schedule_name
    from sdfast.presets import hides_shipped, load_preset, names

    rows: list[tuple[str, str, str, str]] = []
    for name, path in sorted(names().items()):
        try:
            preset = load_preset(name)
        except PresetError as error:
            rows.append((name, "", "broken", f"{path.parent}/{error}"))
            continue
        sampler = preset.sampler
        kind = " ".join(schedule_name(sampler))
        yours = "(yours, in place of the shipped one)" if hides_shipped(path) else ""
        rows.append((name, f"{sampler.steps}", kind, f"{preset.about} {yours}".strip()))
    wide = [max(len(row[i]) for row in rows) for i in range(3)]
    for name, steps, kind, about in rows:
        line = f"{name:<{wide[0]}}  {steps:>{wide[1]}}  {kind:<{wide[2]}}  {about}"
        print(printable(line).rstrip())


@app.command("show", help="A preset as YAML.")
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME|FILE.yaml", autocompletion=completing.presets)
    ],
) -> None:
    from sdfast.presets import as_yaml, load_preset

    preset = load_preset(name)
    about = {"about": preset.about} if preset.about else {}
    print(as_yaml(about | preset.record), end="")


@app.command("save", help="Keep flags as a preset of your own.", cls=Panelled)
def save(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    about: Annotated[str, typer.Option("--about", metavar="TEXT", help="What it is for.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace one of that name.")] = False,
    preset: flags.PresetName = None,
    steps: flags.Steps = None,
    guidance: flags.Guidance = None,
    sampler: flags.SamplerName = None,
    order: flags.Order = None,
    method: flags.Method = None,
    spacing: flags.Spacing = None,
    size: flags.Size = None,
    negative: flags.Negative = None,
    model: flags.ModelName = None,
    settings: flags.Settings = None,
) -> None:
    from sdfast.config import load_config
    from sdfast.job import layered, on_top
    from sdfast.models.find import from_anywhere
    from sdfast.presets import load_preset, save_preset

    given = {
        "steps": steps,
        "guidance": guidance,
        "sampler": sampler,
        "order": order,
        "method": method,
        "spacing": spacing,
        "size": size,
        "negative": negative,
        "model": None if model is None else from_anywhere(model, load_config().aliases),
    }
    given |= flags.settings(settings)
    record = on_top(layered(load_preset(preset or "default").record), given)
    print(save_preset(name, record, about, replace=force))


@app.command("rm", help="Take away a preset of your own.")
def rm(
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=completing.own_presets)],
) -> None:
    from sdfast.presets import remove_preset

    print(remove_preset(name))


@app.command("path", help="The folders presets are read from, the first find wins.")
def path() -> None:
    from sdfast.presets import folders

    for folder in folders():
        print(folder)


@app.command("schema", help="The JSON schema of a preset, for your editor.")
def schema() -> None:
    import json

    from sdfast import preset_schema

    print(json.dumps(preset_schema.schema(), indent=2))
