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
Negative = Annotated[
    str | None,
    typer.Option("-x", "--negative", metavar="TEXT", help="What the picture should not show."),
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
GuidanceInterval = Annotated[
    str | None,
    typer.Option(
        "--guidance-interval",
        metavar="FROM:TO",
        help="Guide on this part of the way only, such as 0.2:0.8; the rest costs half.",
    ),
]
GuidanceRescale = Annotated[
    Any,
    typer.Option(
        "--guidance-rescale",
        parser=number,
        metavar="SHARE",
        help="How much of a guided step keeps the spread of an unguided one, such as 0.7: strong "
        "guidance burns less. [0]",
    ),
]
ClipSkip = Annotated[
    Any,
    typer.Option(
        "--clip-skip",
        parser=number,
        metavar="N",
        help="Listen to the text encoder's layer N from the end; 1 is the last. [the model's]",
    ),
]
VariationSeed = Annotated[
    Any,
    typer.Option(
        "--variation-seed",
        parser=number,
        metavar="N",
        help="Vary the picture towards that of this seed.",
    ),
]
VariationStrength = Annotated[
    Any,
    typer.Option(
        "--variation-strength",
        parser=number,
        metavar="SHARE",
        help="How far: 0 not at all, 0.2 to a near relative, 1 to the picture itself.",
    ),
]
Rng = Annotated[
    str | None,
    typer.Option(
        "--rng",
        metavar="NAME",
        help="Whose noise a seed is: the cpu's, or that of NVIDIA's GPUs (cuda), as the web UI's "
        "and stable-diffusion.cpp's are. [cpu]",
        autocompletion=completing.rngs,
    ),
]
SamplerName = Annotated[
    str | None,
    typer.Option(
        "--sampler",
        metavar="NAME",
        help="A solver (dpm++, ddim, ...) or another program's name for one ('DPM++ 2M Karras', "
        "dpmpp_sde_karras, ...): `sdfast samplers` lists them.",
        autocompletion=completing.samplers,
    ),
]
Order = Annotated[
    Any, typer.Option("--order", parser=number, metavar="1|2|3", help="The solver's order. [2]")
]
Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="NAME",
        help="multistep, singlestep, midpoint, fast or adaptive. [multistep]",
        autocompletion=completing.methods,
    ),
]
Spacing = Annotated[
    str | None,
    typer.Option(
        "--spacing",
        metavar="NAME",
        help="Where the steps fall: beta, karras, ...",
        autocompletion=completing.spacings,
    ),
]
Size = Annotated[
    str | None,
    typer.Option("--size", metavar="WxH", help="Pixels, in multiples of 8. [the model's]"),
]
Init = Annotated[
    str | None,
    typer.Option(
        "--init",
        metavar="PICTURE",
        help="Begin from that picture; painted in its size unless --size says another.",
    ),
]
Hires = Annotated[
    Any,
    typer.Option(
        "--hires",
        parser=number,
        metavar="TIMES",
        help="Paint smaller first, enlarge that so many times a side, and paint it over: --size, "
        "or so many times the model's own.",
    ),
]
Mask = Annotated[
    str | None,
    typer.Option(
        "--mask",
        metavar="PICTURE",
        help="Repaint only where that picture is white, not where it is black or transparent.",
    ),
]
Strength = Annotated[
    Any,
    typer.Option(
        "--strength",
        parser=number,
        metavar="SHARE",
        help="How far to leave the picture of --init, or what --hires enlarges: that share of the "
        "steps is walked, above 0 and up to 1. [0.75; with a mask 1; with --hires 0.5]",
    ),
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
Lora = Annotated[
    list[str] | None,
    typer.Option(
        "--lora",
        metavar="ID|FILE[:SCALE]",
        help="Change the weights by a LoRA, DoRA, LoHa or LoKr; may be repeated.",
    ),
]
Embedding = Annotated[
    list[str] | None,
    typer.Option(
        "--embedding",
        metavar="ID|FILE[:TOKEN]",
        help="Teach the model a word, by textual inversion; may be repeated. "
        "[TOKEN: the file's name]",
    ),
]
Vae = Annotated[
    str | None,
    typer.Option(
        "--vae", metavar="ID|PATH", help="Another autoencoder: a Hub id, a folder or a file."
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
