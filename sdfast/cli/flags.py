"""The flags that name job keys, each written down once."""

from typing import Annotated

import typer

_PROMPT, _SAMPLING, _MODEL = "Prompt", "Sampling", "Model"

Negative = Annotated[
    str | None,
    typer.Option("-x", "--negative", metavar="TEXT", help="What the picture should not show."),
]
PresetName = Annotated[
    str | None,
    typer.Option(
        "-p", "--preset", metavar="NAME|FILE.yaml", help="A sampler recipe. [default: default]"
    ),
]
Steps = Annotated[
    int | None,
    typer.Option("-s", "--steps", metavar="N", help="Network calls, 10 to 25 as a rule. [20]"),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        "-g", "--guidance", metavar="SCALE", help="How strongly to follow the prompt. [the model's]"
    ),
]
SamplerName = Annotated[
    str | None,
    typer.Option(
        "--sampler",
        metavar="NAME",
        help="dpm++, dpm, ddim, or an A1111 name such as 'DPM++ 2M Karras'.",
    ),
]
Order = Annotated[
    int | None, typer.Option("--order", metavar="1|2|3", help="The solver's order. [2]")
]
Method = Annotated[
    str | None,
    typer.Option("--method", metavar="NAME", help="multistep or singlestep. [multistep]"),
]
Spacing = Annotated[
    str | None,
    typer.Option("--spacing", metavar="NAME", help="Where the steps fall: rho, karras, ..."),
]
Size = Annotated[
    str | None,
    typer.Option("--size", metavar="WxH", help="Pixels, in multiples of 8. [the model's]"),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "-m", "--model", metavar="NAME|ID|FOLDER", help="tiny, an alias, a Hub id or a folder."
    ),
]
