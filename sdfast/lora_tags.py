"""`<lora:name:scale>` in a prompt, as the web UI writes it: a LoRA of that name in one's folder.

It is no words: the job has the file among its LoRAs, and the rest of the prompt.
"""

import os
import re
from functools import cache
from pathlib import Path

from sdfast.errors import JobError, UsageError
from sdfast.fields import SCALE
from sdfast.job import Job, read_job
from sdfast.wording import nearest, quoted

_TAG = re.compile(r"<lora:([^<>:]{1,200})((?::[^<>:]{0,40}){0,4})>")
_ENDING = ".safetensors"


def followed(job: Job, folder: str | None) -> Job:
    """The job with what the tags of its prompt name; without a folder of LoRAs, the job as it is.

    Raises UsageError for a name that is not there, JobError for what is no scale or two.
    """
    if folder is None or not (tags := _TAG.findall(job.prompt)):
        return job
    folder = os.path.abspath(Path(folder).expanduser())  # noqa: PTH100
    loras = [f"{_file(folder, name.strip())}:{_scale(name, said)}" for name, said in tags]
    said = {"prompt": _TAG.sub("", job.prompt).strip(), "lora": (*job.lora, *loras)}
    return read_job(job.record | said)


def _file(folder: str, name: str) -> str:
    if name not in _files(folder):
        _files.cache_clear()  # it may have come since
    files = _files(folder)
    if name not in files:
        close = nearest(name, tuple(files))
        hint = "" if close.startswith("known") else close  # there may be thousands
        raise UsageError(f"there is no LoRA {quoted(name)} in {quoted(folder)}", hint)
    return files[name]


@cache
def _files(folder: str) -> dict[str, str]:
    """The LoRAs in a folder and those within by their names; of two alike, the first."""
    found: dict[str, str] = {}
    for place, inner, names in os.walk(folder, followlinks=True):
        inner.sort()
        for name in sorted(names):
            if name.endswith(_ENDING):
                found.setdefault(name.removesuffix(_ENDING), os.path.join(place, name))  # noqa: PTH118
    return found


def _scale(name: str, said: str) -> str:
    """`:0.8`, or the same for the text encoder and the UNet; without one the scale is 1."""
    words = [word.partition("=")[2] or word for word in said.split(":")[1:] if word] or ["1"]
    if not all(map(SCALE.fullmatch, words)) or len(set(map(float, words))) > 1:
        known = f"<lora:{name}:0.8>"
        raise JobError(f"`<lora:{name}{said}>` has no scale that is one number", known)
    return words[0]
