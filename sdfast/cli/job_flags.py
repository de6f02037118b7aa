"""The flags that name a job's keys, as one record."""

from collections.abc import Callable, Mapping
from typing import Any

from sdfast.cli import flags
from sdfast.cli.spreading import keyword, spread
from sdfast.errors import UsageError

_OF_A_JOB: dict[str, Any] = {
    "negative": flags.Negative,
    "steps": flags.Steps,
    "guidance": flags.Guidance,
    "guidance_interval": flags.GuidanceInterval,
    "guidance_rescale": flags.GuidanceRescale,
    "clip_skip": flags.ClipSkip,
    "variation_seed": flags.VariationSeed,
    "variation_strength": flags.VariationStrength,
    "rng": flags.Rng,
    "sampler": flags.SamplerName,
    "order": flags.Order,
    "method": flags.Method,
    "spacing": flags.Spacing,
    "size": flags.Size,
    "init": flags.Init,
    "mask": flags.Mask,
    "hires": flags.Hires,
    "strength": flags.Strength,
    "model": flags.ModelName,
    "lora": flags.Lora,
    "embedding": flags.Embedding,
    "vae": flags.Vae,
}


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
