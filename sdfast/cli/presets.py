"""`sdfast presets`: the sampler recipes there are."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sdfast.cli import completing, flags
from sdfast.cli.job_flags import of_a_preset
from sdfast.cli.panels import Panelled
from sdfast.cli.streams import json_line
from sdfast.errors import PresetError, printable

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_presets()


@app.command("list", help="Every preset: its name, steps, sampler and what it is for.")
def list_presets(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line each.")] = False,
) -> None:
    from sdfast.presets import names

    found = sorted(names().items())
    if as_json:
        for name, path in found:
            print(json_line(_entry(name, path)))
        return

    rows = [_row(name, path) for name, path in found]
    wide = [max(len(row[i]) for row in rows) for i in range(3)]
    for name, steps, kind, about in rows:
        line = f"{name:<{wide[0]}}  {steps:>{wide[1]}}  {kind:<{wide[2]}}  {about}"
        print(printable(line).rstrip())


def _entry(name: str, path: Path) -> dict[str, Any]:
    """A preset as JSON has it."""
    from sdfast.presets import read_preset

    told = {"name": name, "path": str(path)}
    try:
        preset = read_preset(path, name)
    except PresetError as error:
        return told | {"broken": str(error)}
    return told | {"about": preset.about} | preset.record


def _row(name: str, path: Path) -> tuple[str, str, str, str]:
    """And as people read it: its name, steps, walk, and what it is for."""
    from sdfast.presets import hides_shipped, read_preset
    from sdfast.schedule_names import schedule_name

    try:
        preset = read_preset(path, name)
    except PresetError as error:
        return name, "", "broken", f"{path.parent}/{error}"
    kind = " ".join(schedule_name(preset.sampler))
    yours = "(yours, in place of the shipped one)" if hides_shipped(path) else ""
    return name, f"{preset.sampler.steps}", kind, f"{preset.about} {yours}".strip()


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
@of_a_preset
def save(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    about: Annotated[str, typer.Option("--about", metavar="TEXT", help="What it is for.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace one of that name.")] = False,
    preset: flags.PresetName = None,
    *,
    given: dict[str, Any],
) -> None:
    from sdfast.config import load_config
    from sdfast.jobs import placed
    from sdfast.layering import layered, on_top
    from sdfast.models.find import from_anywhere
    from sdfast.presets import load_preset, save_preset

    config = load_config()
    if given["model"] is not None:
        given["model"] = from_anywhere(given["model"], config.aliases)
    with config.naming("preset"):
        beneath = load_preset(config.recipe(preset))
    record = placed(on_top(layered(beneath.record), given))
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
    from sdfast import preset_schema

    print(json.dumps(preset_schema.schema(), indent=2))
