"""What is timed: a row for every preset and every combination of what is swept, for every painter.

A row is named by what tells it from the others. Nothing here imports torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple, cast

from sdfast.errors import UsageError
from sdfast.job import FILES, KEYS, Job, Record
from sdfast.machine import PRECISIONS
from sdfast.sampler import SAMPLER_KEYS
from sdfast.sweeps import read_sweep
from sdfast.wording import last_part, nearest, quoted

OURS = "sdfast"

SWEPT = (*(k for k in KEYS if k not in ("timesteps", "corrections")), "dtype")
"""What can be swept: all of a job that is one value, and the precision."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: who paints which job."""

    family: str
    """`sdfast`, or a pipeline of diffusers as `--vs` says it."""
    name: str
    job: Job
    model: str
    """What the job's model stands for, in words that any process understands; empty until it has
    been looked for."""
    dtype: str
    batch: int = 1
    """Pictures painted at once, of seeds counted up."""
    compiled: bool = False
    """Whether ours is compiled; a pipeline says so in its family."""

    @property
    def jobs(self) -> list[Job]:
        """Of all its pictures."""
        seeds = range(self.job.seed, self.job.seed + self.batch)
        return [self.job.model_copy(update={"seed": seed}) for seed in seeds]

    @property
    def label(self) -> str:
        return f"{self.family} {self.name}"

    @property
    def side(self) -> tuple[object, ...]:
        """What has to be loaded for it; rows that share it share the networks."""
        return self.family, self.model, self.job.weights, self.dtype, self.compiled


def beside(ours: Sequence[Entry], families: Sequence[str]) -> list[Entry]:
    """Our rows, each followed by the other families' that paint the same.

    The precision of a pipeline is its own, so of rows that differ by ours it paints one. Raises
    UsageError for a row that no pipeline paints.
    """
    rows: dict[tuple[str, str, Job, int], Entry] = {}
    for entry in ours:
        if families and (more := unmatched(entry.job)):
            raise UsageError(f"diffusers cannot match {more}, which `{entry.name}` has")
        rows[entry.family, entry.dtype, entry.job, entry.batch] = entry
        for family in families:
            name = " ".join(w for w in entry.name.split(" ") if not w.startswith("dtype="))
            peer = replace(entry, family=family, name=name or "default", dtype="", compiled=False)
            rows.setdefault((family, "", entry.job, entry.batch), peer)
    return list(rows.values())


_MATCHED = ("prompt", "negative", "model", "seed", "size", "guidance", *SAMPLER_KEYS)
"""The keys of a job that a pipeline of diffusers is told of."""


def unmatched(job: Job) -> str:
    """What of a job no pipeline of diffusers paints here, if there is such a thing."""
    if job.sampler.calls is None:
        return "an adaptive walk"
    return next((f"`{key}`" for key in job.record if key not in _MATCHED), "")


def pairs(entries: Sequence[Entry]) -> list[tuple[Entry, Entry]]:
    """Ours and another's row of the same pictures."""
    return [
        (one, other)
        for one in entries
        for other in entries
        if one.family == OURS != other.family and (one.job, one.batch) == (other.job, other.batch)
    ]


def read_sweeps(words: Sequence[str], given: Mapping[str, Any]) -> list[Record]:
    """All combinations of `key=a,b` words. Raises UsageError for a key that is none, is swept
    twice, or is `given` a single value elsewhere."""
    swept: dict[str, tuple[Any, ...]] = {}
    for word in words:
        key, values = read_sweep(word, "--sweep", SWEPT, FILES)
        if key in swept or given.get(key) is not None:
            raise UsageError(f"{key} is given twice", f"--sweep {key}=... alone is enough")
        swept[key] = values
    return [dict(zip(swept, values, strict=True)) for values in product(*swept.values())]


def shown(key: str, value: object) -> object:
    """A job's value as a table or an export has it: files by their names alone."""
    if key not in FILES:
        return value
    if isinstance(value, (list, tuple)):
        return [shown(key, one) for one in cast("Sequence[object]", value)]
    return last_part(f"{value}")


def named(preset: str, swept: Record, presets: int) -> str:
    """A row's name among those of so many presets."""
    words = [f"{key}={shown(key, value)}" for key, value in swept.items()]
    return " ".join([preset, *words] if presets > 1 or not words else words)


PEER = "diffusers"
TWEAKS = ("channels_last", "fused", "compile")
"""Accelerations that diffusers documents, in the order they are applied in."""


class Settings(NamedTuple):
    """How a pipeline of diffusers is set up."""

    dtype: str
    tweaks: tuple[str, ...]


def read_settings(family: str) -> Settings:
    """What `diffusers:bf16,channels_last` asks for; float32 unless it says, as from_pretrained.

    `compile` brings channels_last and fused projections along. Raises UsageError for what is no
    pipeline.
    """
    name, _, listed = family.partition(":")
    words = listed.split(",") if listed else []
    known = (*PRECISIONS, *TWEAKS)
    if name != PEER:
        raise UsageError(f"--vs cannot be {quoted(family)}", "known is `diffusers`")
    for word in words:
        if word not in known:
            raise UsageError(f"--vs knows no {quoted(word)}", nearest(word, known))
    precisions = [word for word in words if word in PRECISIONS] or ["fp32"]
    if len(precisions) > 1:
        raise UsageError(f"{quoted(family)} asks for two precisions at once")
    wanted = TWEAKS if "compile" in words else tuple(t for t in TWEAKS if t in words)
    return Settings(precisions[0], wanted)
