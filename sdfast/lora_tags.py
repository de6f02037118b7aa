"""`<lora:name:scale>` in a prompt, as the web UI writes it: a LoRA of that name in one's folder.

It is no words: the job has the file among its LoRAs, and the rest of the prompt.
"""

import os
import re
from functools import cache
from pathlib import Path
from unicodedata import normalize

from sdfast.errors import JobError, UsageError
from sdfast.fields import SCALE
from sdfast.job import Job, read_job
from sdfast.wording import near, quoted

_TAG = re.compile(r"<(?:lora|lyco):([^<>:]{1,200})((?::[^<>:]{0,40}){0,4})>")
_ENDING = ".safetensors"


def followed(job: Job, folder: str | None, missing: list[str] | None = None) -> Job:
    """The job with what the tags of its prompt name; without a folder of LoRAs, the job as it is.

    missing     takes the names that are not there, which are left out then

    Raises UsageError for a folder or, without `missing`, a name that is not there, and JobError for
    what is no scale, or two.
    """
    if not folder or not (tags := _TAG.findall(job.prompt)):
        return job
    root, loras = _root(folder), list[str]()
    for name, said in ((name.strip(), said) for name, said in tags):
        path = _find(root, normalize("NFC", name))
        if path is not None:
            loras.append(f"{path}:{_scale(name, said)}")
        elif missing is not None:
            missing.append(name)
        else:
            raise _unknown(root, name)
    rest = _TAG.sub("", job.prompt).strip()
    if not rest:
        raise JobError(f"{quoted(job.prompt)} has no words besides its LoRAs")
    return read_job(job.record | {"prompt": rest, "lora": (*job.lora, *loras)})


def names(prompt: str) -> list[str]:
    """What the tags of a prompt name."""
    return [name.strip() for name, _ in _TAG.findall(prompt)]


def _root(folder: str) -> str:
    try:
        root = os.path.abspath(Path(folder).expanduser())  # noqa: PTH100
    except RuntimeError:  # no such user
        root = folder
    if not Path(root).is_dir():
        raise UsageError(f"there is no folder {quoted(folder)} of LoRAs")
    return root


def _find(root: str, name: str) -> str | None:
    if name not in _files(root):
        _files.cache_clear()  # it may have come since
    return _files(root).get(name)


def _unknown(root: str, name: str) -> UsageError:
    hint = near(name, tuple(_files(root)))  # not all of them: there may be thousands
    return UsageError(f"there is no LoRA {quoted(name)} in {quoted(root)}", hint)


@cache
def _files(root: str) -> dict[str, str]:
    """The LoRAs in a folder and those within by their names; of two alike, the first.

    Letters are put together: some systems keep an accent by itself.
    """
    found, walked = dict[str, str](), set[str]()
    for place, inner, files in os.walk(root, followlinks=True):
        inner[:] = sorted(name for name in inner if _real(place, name) not in walked)
        walked |= {_real(place, name) for name in inner} | {_real(place)}
        for name in sorted(files):
            if name.endswith(_ENDING):
                path = os.path.join(place, name)  # noqa: PTH118
                found.setdefault(normalize("NFC", name.removesuffix(_ENDING)), path)
    return found


def _real(*parts: str) -> str:
    return os.path.realpath(os.path.join(*parts))  # noqa: PTH118


def _scale(name: str, said: str) -> str:
    """`:0.8`, of the text encoder and the UNet; without one it is 1.

    By itself or with `te=` and `unet=`; two must be the same, as one is for both here.
    """
    scales: dict[str, str] = {}
    for place, word in enumerate(said.split(":")[1:]):
        key, equals, value = word.rpartition("=")
        scales[key if equals else f"{place}"] = value
    text = scales.pop("te", scales.pop("0", "")) or "1"
    image = scales.pop("unet", scales.pop("1", "")) or text
    both = SCALE.fullmatch(text) and SCALE.fullmatch(image)
    if scales or not both or float(text) != float(image):
        known = f"<lora:{name}:0.8>"
        raise JobError(f"`<lora:{name}{said}>` has no scale that is one number", known)
    return text
