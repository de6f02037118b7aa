"""`sdfast samplers`: every name that `--sampler` takes, and what it stands for."""

from typing import Annotated

import typer

from sdfast.cli.streams import json_line

_SOLVERS = {
    "dpm++": "DPM-Solver++, of order 1 to 3; multistep, singlestep, fast, adaptive, midpoint (2)",
    "dpm": "DPM-Solver, the same",
    "sde-dpm++": "DPM-Solver++ that draws noise on the way; multistep, midpoint (order 2)",
    "ddim": "the first order of them all",
    "ddpm": "the same, with the noise of the diffusion itself",
    "pndm": "PLMS, as Stable Diffusion shipped it",
    "euler": "Euler's method",
    "heun": "Heun's, two calls a step",
    "lms": "Adams and Bashforth's of order 4",
    "rk45": "Dormand and Prince's, in time",
    "lcm": "for latent consistency models",
}


def samplers(
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON line per name, with the keys it stands for.")
    ] = False,
) -> None:
    from sdfast.sampler_names import NAMES, SOLVERS, listed

    if as_json:
        for name, keys in NAMES.items():
            print(json_line({"name": name, **keys}))
        return
    for solver in SOLVERS:
        print(f"{solver:<13}{_SOLVERS[solver]}")
    print("\nOther programs' names: the web UI's, ComfyUI's, what they stand for.\n")
    rows = listed()
    wide = [max(len(row[i]) for row in rows) for i in range(2)]
    for theirs, comfys, keys in rows:
        said = (
            value if key == "sampler" else f"{key} {_plain(value)}" for key, value in keys.items()
        )
        print(f"{theirs:<{wide[0]}}  {comfys:<{wide[1]}}  {', '.join(said)}")
    print(
        "\n* also with a schedule, as `DPM++ 2M Karras` or `dpmpp_2m_karras`: Karras,\n"
        "  Exponential, Polyexponential, SGM Uniform, Uniform (normal), Simple or Beta.\n"
        "  `euler` and the like are bare solvers."
    )


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{value}".lower()
