"""The flags that name a job's keys, as one record."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from sdfast.cli import completing, flags
from sdfast.cli.spreading import keyword, spread
from sdfast.errors import UsageError

_OF_A_JOB: dict[str, Any] = {
    "negative": Annotated[
        str | None,
        typer.Option("-x", "--negative", metavar="TEXT", help="What the picture should not show."),
    ],
    "steps": flags.Steps,
    "guidance": flags.Guidance,
    "guidance_interval": Annotated[
        str | None,
        typer.Option(
            "--guidance-interval",
            metavar="FROM:TO",
            help="Guide on this part of the way only, such as 0.2:0.8; the rest costs half.",
        ),
    ],
    "guidance_rescale": Annotated[
        Any,
        typer.Option(
            "--guidance-rescale",
            parser=flags.number,
            metavar="SHARE",
            help="How much of a guided step keeps the spread of an unguided one, such as 0.7: "
            "strong guidance burns less. [0]",
        ),
    ],
    "clip_skip": Annotated[
        Any,
        typer.Option(
            "--clip-skip",
            parser=flags.number,
            metavar="N",
            help="Listen to the text encoder's layer N from the end; 1 is the last. [the model's]",
        ),
    ],
    "variation_seed": Annotated[
        Any,
        typer.Option(
            "--variation-seed",
            parser=flags.number,
            metavar="N",
            help="Vary the picture towards that of this seed.",
        ),
    ],
    "variation_strength": Annotated[
        Any,
        typer.Option(
            "--variation-strength",
            parser=flags.number,
            metavar="SHARE",
            help="How far: 0 not at all, 0.2 to a near relative, 1 all the way.",
        ),
    ],
    "rng": Annotated[
        str | None,
        typer.Option(
            "--rng",
            metavar="NAME",
            help="Whose noise a seed is: the cpu's, or that of NVIDIA's GPUs (cuda), as the web "
            "UI's and stable-diffusion.cpp's are. [cpu]",
            autocompletion=completing.rngs,
        ),
    ],
    "sampler": Annotated[
        str | None,
        typer.Option(
            "--sampler",
            metavar="NAME",
            help="A solver (dpm++, ddim, ...) or another program's name for one ('DPM++ 2M "
            "Karras', dpmpp_sde_karras, ...): `sdfast samplers` lists them.",
            autocompletion=completing.samplers,
        ),
    ],
    "order": Annotated[
        Any,
        typer.Option(
            "--order", parser=flags.number, metavar="1|2|3", help="The solver's order. [2]"
        ),
    ],
    "method": Annotated[
        str | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help="multistep, singlestep, midpoint, fast or adaptive. [multistep]",
            autocompletion=completing.methods,
        ),
    ],
    "spacing": Annotated[
        str | None,
        typer.Option(
            "--spacing",
            metavar="NAME",
            help="Where the steps fall: beta, karras, ...",
            autocompletion=completing.spacings,
        ),
    ],
    "size": flags.Size,
    "init": Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="PICTURE",
            help="Begin from that picture; painted in its size unless --size says another.",
        ),
    ],
    "mask": Annotated[
        str | None,
        typer.Option(
            "--mask",
            metavar="PICTURE",
            help="Repaint only where that picture is white, not where it is black or transparent.",
        ),
    ],
    "hires": Annotated[
        Any,
        typer.Option(
            "--hires",
            parser=flags.number,
            metavar="TIMES",
            help="Paint smaller first, enlarge that so many times a side, and paint it over: "
            "--size, or so many times the model's own.",
        ),
    ],
    "strength": Annotated[
        Any,
        typer.Option(
            "--strength",
            parser=flags.number,
            metavar="SHARE",
            help="How far to leave the picture of --init, or what --hires enlarges: that share of "
            "the steps is walked, above 0 and up to 1. [0.75; with a mask 1; with --hires 0.5]",
        ),
    ],
    "model": flags.ModelName,
    "lora": Annotated[
        list[str] | None,
        typer.Option(
            "--lora",
            metavar="ID|FILE[:SCALE]",
            help="Change the weights by a LoRA, DoRA, LoHa or LoKr; may be repeated.",
        ),
    ],
    "embedding": Annotated[
        list[str] | None,
        typer.Option(
            "--embedding",
            metavar="ID|FILE[:TOKEN]",
            help="Teach the model a word, by textual inversion; may be repeated. "
            "[TOKEN: the file's name]",
        ),
    ],
    "vae": Annotated[
        str | None,
        typer.Option(
            "--vae", metavar="ID|PATH", help="Another autoencoder: a Hub id, a folder or a file."
        ),
    ],
}
"""The flag of each key. What commands without jobs have as well stands in `flags`."""


def of_a_job(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with the flags of a job's keys in the place of its parameter `given`.

    It gets them as one record, with None for each flag that is not given. Seeds and prompts, of
    which a command may take several, are its own.
    """
    return _with(_OF_A_JOB, command)


def of_a_preset(command: Callable[..., Any]) -> Callable[..., Any]:
    """As `of_a_job`, without the keys that are of one picture."""
    from sdfast.presets import PRESET_KEYS

    return _with({key: kind for key, kind in _OF_A_JOB.items() if key in PRESET_KEYS}, command)


def _with(keys: dict[str, Any], command: Callable[..., Any]) -> Callable[..., Any]:
    parameters = [keyword(key, kind) for key, kind in keys.items()]
    return spread(command, "given", [*parameters, keyword("settings", flags.Settings)], _gathered)


def _gathered(said: Mapping[str, Any]) -> dict[str, Any]:
    from sdfast.job import FILE_LISTS

    given = {key: value for key, value in said.items() if key != "settings"}
    for key in FILE_LISTS:
        given[key] = tuple(given[key]) if given[key] else None
    return given | settings(said["settings"])


def settings(words: list[str] | None) -> dict[str, Any]:
    """What `--set` says of a sampler. Raises UsageError for a key that is no such, or set twice."""
    if not words:
        return {}
    from sdfast.sampler import SAMPLER_KEYS
    from sdfast.sweeps import read_sweep
    from sdfast.wording import nearest_key, quoted

    keys = [k for k in SAMPLER_KEYS if k not in _OF_A_JOB and k != "corrections"]
    said: dict[str, Any] = {}
    for word in words:
        key, _, value = map(str.strip, word.partition("="))
        if key == "timesteps" and value.startswith("[") and value.endswith("]"):
            value = value[1:-1].strip()
            word = f"{key}={value}"
        if key not in keys:
            flag = f"that is a flag, --{key.replace('_', '-')}" if key in _OF_A_JOB else ""
            raise UsageError(f"--set cannot set {quoted(key)}", flag or nearest_key(key, keys))
        if key in said or not value:
            why = "is set twice" if key in said else "is set to nothing"
            raise UsageError(f"{key} {why}", f"--set {key}=VALUE")
        first, *more = read_sweep(word, "--set", keys).values
        if key == "timesteps" and len(more) < value.count(","):
            raise UsageError(f"{quoted(word)} has a time twice", "each step has one of its own")
        if key != "timesteps" and more:
            raise UsageError(f"{quoted(word)} is several values", "`sdfast grid` tries them all")
        said[key] = (first, *more) if key == "timesteps" else first
    return said
