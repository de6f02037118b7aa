"""`sdfast info`: what made these pictures, or what texts say of some."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from sdfast.cli.complaint import complain
from sdfast.cli.streams import json_line
from sdfast.errors import MetadataError, printable


def info(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line per file.")] = False,
) -> None:
    from sdfast.job import FILE_LISTS
    from sdfast.prompt import not_followed
    from sdfast.recipes import read_recipe
    from sdfast.sampler import idle

    failed = False
    for path in files:
        try:
            recipe = read_recipe(path)
        except MetadataError as error:
            failed = True
            complain(error)
            continue
        size = recipe.size and "{}x{}".format(*recipe.size)
        texts = (str(recipe.record.get(key, "")) for key in ("prompt", "negative"))
        if others := not_followed(texts):
            recipe = replace(recipe, unknown=recipe.unknown | {"Prompt": ", ".join(others)})
        if as_json:
            told = {"file": str(path), "program": recipe.program, "size": size}
            line = {**told, "job": recipe.record, "unknown": recipe.unknown}
            if recipe.sheet is not None:
                line["sheet"] = recipe.sheet.layout
            print(json_line(line))
            continue
        print("  ".join((printable(str(path)), *filter(None, (size,)), recipe.program)))
        unused = idle(recipe.record.get("sampler"))
        for key, value in recipe.record.items():
            if key in unused:
                continue
            values = value if key in FILE_LISTS else (value,)  # a line for each file
            for one in values:
                print(f"  {key:<9} {printable(str(one))}")
        if recipe.sheet is not None:
            for key, values in (("across", recipe.sheet.tops), ("down", recipe.sheet.lefts)):
                if values:
                    print(f"  {key:<9} {printable(', '.join(values))}")
        if recipe.unknown:
            print("  and, not known to sdfast:")
        for key, value in recipe.unknown.items():
            print(f"  {printable(key)}: {printable(value)}")
    if failed:
        raise typer.Exit(MetadataError.exit_code)
