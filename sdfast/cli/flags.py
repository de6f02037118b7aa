"""The flags of several commands, each written down once."""

import re
from typing import Annotated, Any

import typer

from sdfast.cli import completing


def number(text: str) -> int | float | str:
    """The number a flag was given; what is none is left for the job to refuse by its key."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


Prompts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PROMPT",
        show_default=False,
        help="One or more; `-` reads one a line from stdin, `@file` is a whole file.",
    ),
]
PresetName = Annotated[
    str | None,
    typer.Option(
        "-p",
        "--preset",
        metavar="NAME|FILE.yaml",
        help="A sampler recipe. [default: default]",
        autocompletion=completing.presets,
    ),
]
Steps = Annotated[
    Any,
    typer.Option(
        "-s",
        "--steps",
        parser=number,
        metavar="N",
        help="Solver steps, 10 to 25 as a rule; a network call each (two with Heun "
        "or --method midpoint). [20]",
    ),
]
Guidance = Annotated[
    Any,
    typer.Option(
        "-g",
        "--guidance",
        parser=number,
        metavar="SCALE",
        help="How strongly to follow the prompt. [the model's]",
    ),
]
Size = Annotated[
    str | None,
    typer.Option("--size", metavar="WxH", help="Pixels, in multiples of 8. [the model's]"),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        metavar="NAME|ID|PATH",
        help="tiny, an alias, a Hub id, a folder or a file.",
        autocompletion=completing.models,
    ),
]
NoSafety = Annotated[
    bool,
    typer.Option("--no-safety", help="Do not ask the safety checker that some models have."),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        help="auto, cuda, cuda:1, mps or cpu.",
        autocompletion=completing.devices,
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        metavar="NAME",
        help="auto, fp16, bf16 or fp32.",
        autocompletion=completing.dtypes,
    ),
]
Vram = Annotated[
    str,
    typer.Option(
        "--vram",
        metavar="NAME",
        help="auto, full, offload (one network on the GPU at a time) or min (one layer).",
        autocompletion=completing.vrams,
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile", help="CUDA: compile the UNet; minutes the first time, kept for later runs."
    ),
]
Exists = Annotated[
    str,
    typer.Option(
        "--exists",
        metavar="WHAT",
        help="If the name is taken: rename, skip, overwrite or error.",
        autocompletion=completing.exists,
    ),
]
NoMetadata = Annotated[bool, typer.Option("--no-metadata", help="Write no recipe into the files.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say what is decided, and why.")]
NoColor = Annotated[bool, typer.Option("--no-color", help="As NO_COLOR=1.")]
Show = Annotated[
    bool, typer.Option("--show", help="Draw it in the terminal, too, when it is done.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print the jobs to be painted, as JSON lines; load nothing."),
]
Offline = Annotated[bool, typer.Option("--offline", help="Never ask the network.")]

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A sampler's key that has no flag, such as eta=0.5 or rho=3; may be repeated.",
    ),
]


def seed(unsaid: str) -> Any:
    """The noise; and what it is where nothing is said."""
    return typer.Option("--seed", metavar="42|1,5,9|1..8|1..9..4", help=f"[{unsaid}]")


def count(text: str) -> Any:
    """How many pictures, of seeds in a row."""
    return typer.Option("-n", "--count", parser=number, metavar="N", help=text)


def source(text: str) -> Any:
    """A recipe to begin with."""
    return typer.Option("--from", metavar="FILE|-", help=f"Begin with the recipe in {text}.")


def out(kinds: str, text: str) -> Any:
    """Where pictures go."""
    return typer.Option("-o", "--out", metavar=kinds, help=text)


AsJson = Annotated[bool, typer.Option("--json", help="A JSON line per picture on stdout.")]

MOST_TOGETHER = 1024
"""Pictures in one walk."""


def _together(said: object) -> int | None:
    text = f"{said}"
    if text == "auto":
        return None
    if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= MOST_TOGETHER:
        raise typer.BadParameter(
            f"`{text}` is neither `auto` nor a number from 1 to {MOST_TOGETHER}"
        )
    return int(text)


def together(text: str) -> Any:
    """How many pictures are painted in one walk; None is as many as there is room for."""
    return typer.Option("--batch-size", parser=_together, metavar="N|auto", help=text)
