"""`sdfast info`: what made this PNG."""

from pathlib import Path
from typing import Annotated

import typer


def info(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line per file.")] = False,
) -> None:
    import json

    from sdfast.png import read_recipe

    for path in files:
        recipe = read_recipe(path)
        if as_json:
            print(
                json.dumps(
                    {
                        "file": str(path),
                        "program": recipe.program,
                        "size": f"{recipe.size[0]}x{recipe.size[1]}",
                        "job": recipe.record,
                        "unknown": list(recipe.unknown),
                    },
                    ensure_ascii=False,
                )
            )
            continue
        print(f"{path}  {recipe.size[0]}x{recipe.size[1]}  {recipe.program}")
        for key, value in recipe.record.items():
            print(f"  {key:<9} {_printable(value)}")
        if recipe.unknown:
            print(f"  not known to sdfast: {_printable(', '.join(recipe.unknown))}")


def _printable(value: object) -> str:
    """A value from a file, unable to move the cursor or colour the screen."""
    return "".join(c if c.isprintable() else " " for c in str(value))
