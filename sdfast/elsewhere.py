"""What readers of other programs' recipes share: what a job can have is taken, the rest named."""

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from sdfast.errors import JobError, MetadataError
from sdfast.job import Record, read_job

Said = tuple[Record, dict[str, str]]
"""The job's keys that a recipe gives, and what else it says."""


def taken(said: Mapping[str, object], unknown: dict[str, str]) -> Said:
    """The values that a job can have; the others are named, too."""
    record: Record = {"negative": ""}  # that none is given means that there is none
    for key, value in said.items():
        if value is None or value == "":
            continue
        try:
            read = read_job({"prompt": "any", key: value}).record[key]
        except (JobError, KeyError):
            unknown[key] = short(value)
        else:
            record[key] = value if key == "sampler" else read
    return record, unknown


def as_object(text: str) -> dict[str, Any]:
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MetadataError("has a recipe that is no JSON") from error
    if not isinstance(found, dict):
        raise MetadataError("has a recipe that is no JSON object")
    return cast("dict[str, Any]", found)


def literal(text: str) -> str:
    """A prompt of a program to which square brackets are plain letters."""
    return re.sub(r"(?<!\\)[\[\]]", r"\\\g<0>", text)


def short(value: object) -> str:
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = ""
    return text[:200]
