"""From what a line asks for to the jobs it means, each with the key that names it for good.

A job's key is the first 16 bytes of a SHA-256 over all that decides its picture: the flags and the
preset with the line's own keys on top. Where in the file the line stands does not count. The second
of two equal lines has another key than the first, the third another than both.

A line without a seed has one of its own: the first 31 bits of its prompt's SHA-256, and one more
for each picture that was asked for before in the same words. So whoever runs the file again makes
the same pictures, and equal lines make different ones.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import cast

from sdfast.batch.lines import RECORD_KEYS, TOLD, Broken, Line
from sdfast.errors import JobError, UsageError
from sdfast.job import FILES, Job, Record, read_job
from sdfast.jobs import placed
from sdfast.layering import layered, on_top
from sdfast.lora_tags import followed
from sdfast.presets import Preset, load_preset
from sdfast.sampler import SAMPLER_KEYS
from sdfast.seeds import seed_ranges
from sdfast.wording import nearest_key, quoted


@dataclass(frozen=True, slots=True)
class Task:
    """One picture that a batch asks for."""

    key: bytes
    job: Job
    number: int
    """The line, from 1."""
    index: int
    """Which of the file's pictures it is, from 1."""
    preset: str | None = None
    """The line's own; None is that of the flags."""


@dataclass(frozen=True, slots=True)
class Beneath:
    """What the flags say, which a line may say otherwise."""

    record: Record
    model: str
    seed: str | None = None
    count: object = None
    loras: str | None = None
    """The folder of those that prompts name."""


def read_tasks(
    lines: Iterable[Line | Broken | None], beneath: Beneath
) -> Iterator[Task | Broken | None]:
    """Every picture that is asked for, in order."""
    seen: dict[bytes, int] = {}
    find = cache(load_preset)
    index = 0
    for line in lines:
        if not isinstance(line, Line):
            yield line
            continue
        try:
            own, name = _apart(line.record)
            under = beneath if name is None else _instead(beneath, find(name))
            for key, job in _jobs(own, under, seen):
                index += 1
                yield Task(key, job, line.number, index, name)
        except UsageError as error:
            yield Broken(line.number, error, _hash("broken", repr(line.record)))


def _apart(record: Record) -> tuple[Record, str | None]:
    """A line's keys without its preset, and that."""
    match record.get("preset"):
        case None:
            return record, None
        case str(name) if name:
            return {key: value for key, value in record.items() if key != "preset"}, name
        case _:
            raise JobError("preset must be a name or a file's path", key="preset")


def _instead(beneath: Beneath, preset: Preset) -> Beneath:
    """A line's preset in the place of the flags' and of what they say of the sampler."""
    others = {k: v for k, v in beneath.record.items() if k not in SAMPLER_KEYS}
    return replace(beneath, record=layered(others, preset.record))


def _jobs(record: Record, beneath: Beneath, seen: dict[bytes, int]) -> Iterator[tuple[bytes, Job]]:
    record = {key: value for key, value in record.items() if key not in TOLD}
    for key in record:
        if key not in RECORD_KEYS:
            raise JobError(f"there is no key {quoted(key)}", nearest_key(key, RECORD_KEYS), key=key)
    line = {key: value for key, value in record.items() if key not in ("seed", "n")}
    if "init" in line:  # the flags' mask and strength are meant for each line's picture
        line = {k: v for k, v in beneath.record.items() if k in ("mask", "strength")} | line
    first = read_job({"model": beneath.model, **on_top(beneath.record, line), "seed": 0})
    asked = first.record
    del asked["seed"]
    files = placed({key: asked[key] for key in FILES if key in asked})
    told, own = first.prompt, len(first.lora)
    first = followed(first.model_copy(update=files), beneath.loras)
    if named := [Path(lora).name for lora in first.lora[own:]]:
        asked["named"] = named
    content = json.dumps(asked, sort_keys=True)
    seeds = chain.from_iterable(_seeds(record, beneath))
    if record.get("seed", beneath.seed) is None:
        begin = _own_seed(told)
        for _ in seeds:
            key, before = _named(seen, _hash(content))
            yield key, first.model_copy(update={"seed": begin + before})
        return
    for one in seeds:
        key, _ = _named(seen, _hash(content, one))
        yield key, first.model_copy(update={"seed": one})


def count_pictures(lines: Iterable[Line | Broken | None], beneath: Beneath) -> int:
    """How many pictures are asked for; a line that is seen to be broken counts as one."""
    return sum(
        _count(line.record, beneath) if isinstance(line, Line) else 1
        for line in lines
        if line is not None
    )


def _count(record: Record, beneath: Beneath) -> int:
    try:
        return sum(map(len, _seeds(record, beneath)))
    except UsageError:
        return 1


def _seeds(record: Record, beneath: Beneath) -> list[range]:
    """The seeds of a line; where it names none, as many from 0 on."""
    count, seed = record.get("n", beneath.count), record.get("seed", beneath.seed)
    if seed is None:
        return seed_ranges(None, count, 0)
    if "seed" in record and "n" not in record:  # several of its own say how many it wants
        own = seed_ranges(*_said(seed, None))
        if sum(map(len, own)) > 1:
            return own
    return seed_ranges(*_said(seed, count))


def _said(seed: object, count: object) -> tuple[str | None, object, int]:
    """What a line says of seeds: `7`, `"1..4"` or `[1, 5, 9]`."""
    match seed:
        case bool() | float():
            raise JobError(f"seed must be a whole number, not `{seed}`", key="seed")
        case int():
            return None, count, seed
        case str():
            return seed, count, 0
        case list() if seed:
            return ",".join(str(one) for one in cast("list[object]", seed)), count, 0
        case _:
            raise JobError("seed must be a number, a list of them or such as `1..4`", key="seed")


def _named(seen: dict[bytes, int], content: bytes) -> tuple[bytes, int]:
    """The key of what is asked for, and how often that was asked for before."""
    before = seen.get(content, 0)
    seen[content] = before + 1
    return (_hash(content.hex(), before) if before else content), before


def _own_seed(prompt: str) -> int:
    return int.from_bytes(_hash(prompt)[:4]) >> 1


def _hash(*parts: object) -> bytes:
    return hashlib.sha256("\n".join(map(str, parts)).encode(errors="replace")).digest()[:16]
