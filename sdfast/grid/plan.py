"""From flags, or from a sheet that is to be painted again, to the jobs of a sheet."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from sdfast.config import Config
from sdfast.errors import UsageError
from sdfast.grid.axes import find_sides, lay_out, replaced
from sdfast.job import FILES, Job, Record, read_job
from sdfast.jobs import Asked, resolve, with_named_loras
from sdfast.recipes import Recipe, spelled_out
from sdfast.sampler import SAMPLER_KEYS
from sdfast.sampler_names import keys_of
from sdfast.seeds import list_seeds
from sdfast.sheet import Sheet

_ANOTHER = "without --from, --x and --y make another sheet"


class Question(NamedTuple):
    """What the words of a call say."""

    prompts: Sequence[str]
    given: Record
    """Job keys that a flag names one value of, or None."""
    x: str | None = None
    y: str | None = None
    columns: int | None = None
    preset: str | None = None
    seed: str | None = None
    number: object = None
    recipe: Recipe | None = None
    """Of the picture to begin with, or of the sheet to make again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A sheet before its models are found."""

    sheet: Sheet
    remarks: tuple[str, ...]
    painted_with: frozenset[str]
    """Models that are named by a picture alone."""
    presets: tuple[str, ...]
    """One for each picture, or a single one for all."""


@dataclass(slots=True)
class _Heard:
    """What is learned of the layers while jobs are made."""

    remarks: dict[str, None] = field(default_factory=dict[str, None])
    painted_with: set[str] = field(default_factory=set[str])
    presets: list[str] = field(default_factory=list[str])

    def record(self, asked: Asked) -> Record:
        self.remarks |= dict.fromkeys(asked.remarks)
        if asked.model_from_picture:
            self.painted_with.add(asked.record["model"])
        return asked.record

    def with_loras(self, job: Job, recipe: Recipe | None, config: Config, *, typed: bool) -> Job:
        job, remarks = with_named_loras(job, recipe, config.loras, typed=typed)
        self.remarks |= dict.fromkeys(remarks)
        return job

    def plan(self, sheet: Sheet, preset: str) -> Plan:
        presets = tuple(self.presets) or (preset,)
        return Plan(sheet, tuple(self.remarks), frozenset(self.painted_with), presets)


def plan_sheet(asked: Question, config: Config) -> Plan:
    """The sheet that is asked for. Raises UsageError for one that cannot be."""
    heard = _Heard()
    if asked.recipe is not None and asked.recipe.sheet is not None:
        sheet = _again(asked, asked.recipe, asked.recipe.sheet, config, heard)
    else:
        sheet = _anew(asked, config, heard)
    return heard.plan(sheet, config.recipe(asked.preset))


def _anew(asked: Question, config: Config, heard: _Heard) -> Sheet:
    base = resolve(asked.given, asked.preset, asked.recipe, config).record
    settled = {"seed": base["seed"]} if "seed" in base else {}
    seeds = list_seeds(asked.seed, asked.number, read_job({"prompt": "any", **settled}).seed)
    said = seeds if asked.seed is not None or asked.number is not None else []
    given = asked.given | {"preset": asked.preset}
    sides = find_sides(asked.x, asked.y, asked.prompts, said, given)
    if not asked.prompts and "prompt" not in base and "prompt" not in sides.keys:
        raise UsageError("there is no prompt", 'sdfast grid "a cat" --x steps=10,20')
    if asked.recipe is not None and "preset" in sides.keys:
        raise UsageError(
            "a picture's recipe stands above every preset, so none can vary with --from"
        )
    words = next((side.values for side in sides if side and side.key == "replace"), ())
    prompt = {"prompt": asked.prompts[0]} if asked.prompts else {}

    def made(cell: Record) -> Job:
        own = {k: cell[k] for k in ("prompt", "seed") if k in cell}
        keys = {k: v for k, v in cell.items() if k not in ("prompt", "seed", "replace", "preset")}
        without = {k for k in FILES if keys.get(k) == ""}
        keys = {k: v for k, v in keys.items() if k not in without}
        preset = cell.get("preset", asked.preset)
        resolved = resolve(asked.given | keys, preset, asked.recipe, config)
        record = heard.record(resolved) | prompt | {"seed": seeds[0]} | own
        if "init" in without:
            without |= {"mask", "strength"}
        record = {k: v for k, v in record.items() if k not in without}
        if "preset" in cell:
            heard.presets.append(preset)
        if "replace" in cell:
            record = replaced(record, words, cell["replace"])
        typed = bool(asked.prompts) or "prompt" in cell
        return heard.with_loras(read_job(record), asked.recipe, config, typed=typed)

    return lay_out(sides, asked.columns, made)


def _labelled(sheet: Sheet) -> set[str]:
    """Keys besides its own that a sheet's labels stand for: names of samplers and presets do."""
    if "preset" in sheet.varies:
        return {*SAMPLER_KEYS}
    if "sampler" in sheet.varies:
        return {key for label in (*sheet.tops, *sheet.lefts) for key in keys_of(label)}
    return set()


def _again(asked: Question, recipe: Recipe, sheet: Sheet, config: Config, heard: _Heard) -> Sheet:
    """The sheet anew, with the flags upon every picture of it."""
    seeds = [] if asked.seed is None else list_seeds(asked.seed, None, 0)
    several = len(asked.prompts) > 1 or len(seeds) > 1 or asked.number is not None
    if several or any(said is not None for said in (asked.x, asked.y, asked.columns)):
        raise UsageError(
            f"{recipe.named} is a sheet; its rows and columns stay as they are", _ANOTHER
        )
    own = {"prompt": asked.prompts[0]} if asked.prompts else {}
    own |= {"seed": seeds[0]} if seeds else {}
    fixed = {"replace": "prompt"}
    for key in sheet.varies:
        if (asked.given | own).get(fixed.get(key, key)) is not None:
            told = f"{key} varies on {recipe.named} and cannot be given one value"
            raise UsageError(told, _ANOTHER)
    for key in _labelled(sheet):
        if asked.given.get(key) is not None:
            told = f"the labels of {recipe.named} stand for the `{key}` of their pictures"
            raise UsageError(told, _ANOTHER)
    jobs: list[Job] = []
    for job in sheet.jobs:
        of_one = replace(recipe, record=spelled_out(job), sheet=None)
        resolved = resolve(asked.given, asked.preset, of_one, config)
        job = read_job(heard.record(resolved) | own)
        jobs.append(heard.with_loras(job, recipe, config, typed="prompt" in own))
    if len(set(jobs)) < len(set(sheet.jobs)):
        told = f"with these flags, pictures of {recipe.named} would be alike that differ"
        raise UsageError(told, _ANOTHER)
    return replace(sheet, jobs=tuple(jobs))
