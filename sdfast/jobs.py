"""From what was asked for to the jobs it means, without a terminal and without torch.

Precedence, lowest first: the model's own, config file, preset, `--from`, flag.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sdfast.config import Config
from sdfast.errors import UsageError
from sdfast.fields import hub_name, named, scaled
from sdfast.job import BEGINNINGS, FILE_LISTS, FILES, Job, Record, read_job, read_sampler
from sdfast.layering import layered, on_top
from sdfast.lora_tags import followed, names
from sdfast.presets import Preset, load_preset
from sdfast.sampler import DEFAULT, SAMPLER_KEYS
from sdfast.seeds import list_seeds
from sdfast.wording import quoted, shortened

if TYPE_CHECKING:
    from sdfast.recipes import Recipe


@dataclass(frozen=True, slots=True)
class Asked:
    """What all the layers together ask for."""

    record: Record
    remarks: tuple[str, ...] = ()
    """What of a picture's recipe is not followed, and what of the layers beneath had to go."""
    model_from_picture: bool = False
    """The model is what a picture says, whoever made it; nobody here has asked for it."""


def read_source(source: str | None, prompts: Iterable[str]) -> "Recipe | None":
    """The recipe that `--from` begins with. Raises UsageError, MetadataError."""
    if source is None:
        return None
    if source == "-" and "-" in prompts:
        raise UsageError("stdin holds a recipe or prompts, not both", "a file for one of them")
    from sdfast.recipes import read_recipe

    return read_recipe(Path(source))


def resolve(given: Record, preset: str | None, recipe: "Recipe | None", config: Config) -> Asked:
    """One record from all the layers, the flags on top.

    Raises UsageError for the recipe of a sheet.
    """
    chosen, beneath = _beneath(preset, config)
    if recipe is None:
        asked, remarks = _fitted(f"`{chosen.name}`", chosen.record, placed(on_top(beneath, given)))
        return Asked(asked, remarks=remarks)
    if recipe.sheet is not None:
        several = f"{recipe.named} is a sheet of {len(recipe.sheet.jobs)} pictures"
        raise UsageError(several, "`sdfast grid --from` paints it again")
    record, unknown = _over_another(recipe, given)
    hashed = _hashed(unknown.get("Lora hashes", ""))
    if config.loras and {*hashed} <= {*names(str(record.get("prompt")))}:
        unknown.pop("Lora hashes", None)  # the prompt says the same
    painted = layered(beneath, record | _beside(recipe.place, record))
    asked = placed(on_top(painted, given))
    _check_beginnings(recipe.place, {k: v for k, v in asked.items() if given.get(k) is None})
    asked, unfitted = _fitted("that picture's walk", recipe.record, asked)
    above = (f"the picture's recipe stands above the preset `{preset}`",) if preset else ()
    others = (*(_in_words(*pair, record) for pair in unknown.items()), *_noise(recipe, given))
    return Asked(
        asked,
        (*_not_followed(others), *above, *unfitted, *_drawn(recipe, given)),
        "model" in recipe.record and given.get("model") is None,
    )


def with_named_loras(
    job: Job, recipe: "Recipe | None", folder: str | None, *, typed: bool
) -> tuple[Job, list[str]]:
    """The job with the LoRAs that its prompt names, and a remark on each that is not there.

    In a prompt that was typed all must be there; in that of a recipe, whose program may have had
    them, some may not. To some programs, and so in our own pictures, tags are words.

    Raises UsageError, JobError.
    """
    if typed or recipe is None:
        return followed(job, folder), []
    if recipe.program in _READ_AS_WORDS:
        return job, []
    missing: list[str] = []
    job = followed(job, folder, missing)
    return job, [
        f"that picture's LoRA {quoted(name)} is not there and left out" for name in missing
    ]


_READ_AS_WORDS = ("sdfast", "ComfyUI", "InvokeAI")


def _over_another(recipe: "Recipe", given: Record) -> tuple[Record, dict[str, str]]:
    """The recipe's keys and what is not followed of it, beneath flags that name others of these.

    Another picture to begin from brings its own size, and how far to leave it is what the web UI's
    recipe says of that, if it is a step at least, and not of a second pass, which goes.
    """
    record, unknown = {**recipe.record}, {**recipe.unknown}
    if given.get("sampler") is not None:
        unknown.pop("Sampler", None)
    if given.get("init") is None:
        return record, unknown
    if Path(given["init"]).name != Path(str(record.get("init"))).name:
        record.pop("size", None)
    if record.pop("hires", None) is not None:
        record.pop("strength", None)
    elif not any(name.startswith("Hires") for name in unknown):
        with suppress(ValueError, KeyError, TypeError):  # what are no steps, the job says
            share = float(unknown["Denoising strength"])
            steps = given.get("steps") or record.get("steps") or DEFAULT.steps
            if 1 / steps <= share <= 1:
                record["strength"] = share
                del unknown["Denoising strength"]
    return record, unknown


def _beneath(preset: str | None, config: Config) -> tuple[Preset, Record]:
    """The preset and the layers up to it."""
    with config.naming("preset"):
        chosen = load_preset(config.recipe(preset))
    return chosen, layered({"model": config.model}, chosen.record)


def _noise(recipe: "Recipe", given: Record) -> tuple[str, ...]:
    """That another program's sampler is followed, but draws other noise on its way here."""
    keys = {key: value for key, value in recipe.record.items() if key in SAMPLER_KEYS}
    if recipe.program == "sdfast" or given.get("sampler") is not None or "sampler" not in keys:
        return ()
    return ("the noise of its steps",) if read_sampler(keys).noisy else ()


def _drawn(recipe: "Recipe", given: Record) -> tuple[str, ...]:
    """That another program's noise is followed, which it may not have said."""
    if recipe.program == "sdfast" or recipe.record.get("rng") != "cuda" or given.get("rng"):
        return ()
    return ("the first noise is drawn as on an NVIDIA GPU; --rng cpu draws it as on a processor",)


def _fitted(name: str, beneath: Record, asked: Record) -> tuple[Record, tuple[str, ...]]:
    """The record without corrections that were fitted to another walk, and a remark that says so.

    name, beneath   of the preset or the picture's walk that they are from
    """
    fit = beneath.get("corrections")
    if not fit or ("corrections" in asked and not _begins_within(asked)):
        return asked, ()
    text = f"{name} is fitted to {len(fit)} steps of its model and has no fit for "
    if "corrections" not in asked:
        return asked, (f"{text}these flags; `sdfast tune` fits another",)
    whole = {key: value for key, value in asked.items() if key != "corrections"}
    return whole, (f"{text}a walk that begins from a picture",)


def _begins_within(asked: Record) -> bool:
    """Whether a walk leaves out its first steps."""
    if asked.get("init") is None and asked.get("hires") is None:
        return False
    return read_job({**asked, "prompt": "any", "seed": 0}).begin > 0


def _check_beginnings(picture: Path, found: Record) -> None:
    """Raise UsageError if a picture would begin from itself: it has the name of what it began from.

    found   what was found by its name
    """
    for key in BEGINNINGS:
        with suppress(OSError):
            if isinstance(path := found.get(key), str) and Path(path).samefile(picture):
                raise UsageError(
                    f"`{picture}` began from another `{picture.name}`, which is not here",
                    f"--{key} says where it is",
                )


def _beside(picture: Path, record: Record) -> Record:
    """What a picture began from, where it lies beside it and not here: only its name is told."""
    said = {key: record[key] for key in BEGINNINGS if isinstance(record.get(key), str)}
    places = {key: picture.with_name(name) for key, name in said.items() if Path(name).name == name}
    return {
        key: str(place)
        for key, place in places.items()
        if not Path(said[key]).exists() and place.exists()
    }


_MOST_NAMED = 20


def _not_followed(others: Sequence[str]) -> tuple[str, ...]:
    """What a picture says besides, and sdfast cannot do, in a line; none if it says nothing."""
    if not others:
        return ()
    listed = ", ".join(shortened(each, 100) for each in others[:_MOST_NAMED])
    more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
    return (f"of that picture's recipe, not followed: {listed}{more}",)


def _in_words(name: str, value: str, record: Record) -> str:
    """What is not followed: the sampler by its name, the web UI's embeddings by theirs."""
    if name == "Sampler" and value and isinstance(near := record.get("sampler"), str):
        return f"Sampler ({value}; `{near}` here walks otherwise)"
    if name in ("RNG", "Sampler", "Hires steps", "Hires upscaler") and value:
        return f"{name} ({value})"
    found = _hashed(value) if name == "TI hashes" else ()
    return f"{name} ({', '.join(found)})" if found else name


def _hashed(text: str) -> list[str]:
    """The names in what the web UI says as `name: hash, name: hash`."""
    return [part.partition(":")[0].strip() for part in text.split(",") if ":" in part]


def placed(record: Record) -> Record:
    """The record, its files by their whole paths: who paints may stand in another folder.

    What means something on the Hub keeps its name.
    """
    single = (key for key in FILES if key not in FILE_LISTS)
    whole: Record = {k: _placed(k, v) for k in single if isinstance(v := record.get(k), str) and v}
    for key in FILE_LISTS:
        given: Any = record.get(key)
        given = (given,) if isinstance(given, str) else given
        if isinstance(given, (list, tuple)):
            whole[key] = tuple(
                _placed(key, v) if isinstance(v, str) and v else v
                for v in cast("list[object]", given)
            )
    return record | whole


def _placed(key: str, value: str) -> str:
    if key in BEGINNINGS:
        return _whole(value)
    name = {"lora": scaled, "embedding": named}[key](value).path if key in FILE_LISTS else value
    before, _, scale = name.rpartition(":")
    mistyped = key == "lora" and hub_name(before) and not scale.endswith(".safetensors")
    return value if hub_name(name) or mistyped else _whole(value)


def _whole(path: str) -> str:
    try:
        return os.path.abspath(Path(path).expanduser())  # noqa: PTH100
    except RuntimeError as error:
        raise UsageError(f"{quoted(path)} names no such user's home folder") from error


def make_jobs(record: Record, prompts: list[str], seed: str | None, count: object) -> list[Job]:
    """Every prompt with every seed. Without a seed, all prompts share a new one."""
    if not prompts and "prompt" not in record:
        raise UsageError("there is no prompt", 'sdfast gen "a cat"')
    asked = [{**record, "prompt": p} for p in prompts] or [record]
    first = read_job(asked[0])
    seeds = list_seeds(seed, count, first.seed)
    return [read_job({**one, "seed": s}) for one in asked for s in seeds]
