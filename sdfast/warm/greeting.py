"""What a worker holds, and whether a picture painted by it is the one asked for.

Alike are the code, the model's files, the device, the precision, and the circumstances that decide
what torch computes with and which file a path names. `auto` is what the worker made of `auto`: it
is never compared with a name.
"""

import dataclasses
import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from sdfast import __version__
from sdfast.models.source import Source
from sdfast.warm.neighbours import namespace
from sdfast.warm.wire import VERSION, GarbledError

_DECIDE = (
    *("ATEN_", "CUBLAS", "CUDA", "CUDNN", "DNNL_", "HIP_", "HSA_", "MKL_", "NVIDIA_", "OMP_"),
    *("ONEDNN_", "PYTORCH_", "ROCR_", "TORCH_"),
)
"""How variables begin that decide what torch computes with."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a worker says to everybody who comes in."""

    pid: int
    version: str
    code: str
    """Names the program's files; see `this_code`."""
    model: str
    """As it was called when the worker was started."""
    folder: str
    stamp: str
    """Names the model's files; see `stamp`."""
    wanted_device: str
    """As the worker was asked for it, `auto` for one."""
    wanted_dtype: str
    device: str
    dtype: str
    circumstances: dict[str, str]
    since: float
    """When it was ready, in seconds since 1970."""
    idle: float
    """Seconds without a picture after which it leaves."""
    left: float
    """Seconds of these that are left."""
    painted: int = 0
    waiting: int = 0
    """Pictures in the line, the one being painted among them."""

    @property
    def record(self) -> dict[str, Any]:
        return {"wire": VERSION, **dataclasses.asdict(self)}

    def unlike(self, found: Source, device: str, dtype: str) -> str:
        """Why this is not what is asked for, in words; empty if it is."""
        mine, folder = circumstances(), str(found.path.resolve())
        other = sorted({name for name, _ in mine.items() ^ self.circumstances.items()})
        alike = {
            "it runs another version of sdfast": self.code == this_code(),
            f"it holds `{self.model}`": self.folder == folder,
            "it holds the model alone, without LoRAs, embeddings and another VAE": found.is_bare,
            f"the files of `{self.model}` have changed since": self.stamp == stamp(found),
            f"it is on {self.device}": _same(device, self.wanted_device, self.device),
            f"it computes in {self.dtype}": _same(dtype, self.wanted_dtype, self.dtype),
            f"it has another {' and another '.join(other)}": not other,
        }
        return next((why for why, holds in alike.items() if not holds), "")


def holding(
    found: Source,
    files: str,
    around: dict[str, str],
    *,
    wanted: tuple[str, str],
    given: tuple[str, str],
    idle: float,
) -> Greeting:
    """The greeting of this process, which has just loaded the model.

    `files` is the model's stamp from before that, and `around` are the circumstances; `wanted` and
    `given` are a device and a dtype.
    """
    return Greeting(
        pid=os.getpid(),
        version=__version__,
        code=this_code(),
        model=found.name,
        folder=str(found.path.resolve()),
        stamp=files,
        wanted_device=wanted[0],
        wanted_dtype=wanted[1],
        device=given[0],
        dtype=given[1],
        circumstances=around,
        since=time.time(),
        idle=idle,
        left=idle,
    )


def read_greeting(record: Mapping[str, Any]) -> Greeting:
    """The greeting of a record. Raises GarbledError for one of another version or of nobody."""
    if record.get("wire") != VERSION:
        raise GarbledError("it speaks as another version of sdfast does")
    kinds: dict[str, type] = {"pid": int, "painted": int, "waiting": int, "circumstances": dict}
    kinds |= dict.fromkeys(("since", "idle", "left"), float)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(Greeting):
        value = values[field.name] = record.get(field.name)
        if not isinstance(value, kinds.get(field.name, str)):
            raise GarbledError("its greeting is not one")
    return Greeting(**values)


def _same(wanted: str, asked: str, resolved: str) -> bool:
    """Whether a device or a dtype is the wanted one: by the word it was asked for, or by name."""
    return wanted == asked or (wanted != "auto" and resolved in (wanted, f"{wanted}:0"))


def circumstances() -> dict[str, str]:
    """What decides what torch computes with, and which file a path names: by what it is called."""
    read = {name: value for name, value in os.environ.items() if name.startswith(_DECIDE)}
    root = Path("/").stat()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else ""
    return read | {
        "set of cores": f"{cores}",
        "root folder": f"{root.st_dev}:{root.st_ino}",
        "mount namespace": namespace("mnt"),
    }


@cache
def this_code() -> str:
    """A digest that changes with sdfast: its version, its place and its files' sizes and times."""
    package = Path(__file__).parent.parent
    return _digest([__version__, sys.prefix, str(package), *_files(package, "*.py")])


def stamp(found: Source) -> str:
    """A digest that changes with the model: what is known of it, its files' sizes and times."""
    known = {f.name: getattr(found, f.name) for f in dataclasses.fields(found) if f.name != "name"}
    return _digest([known, *(file for path in _paths(found) for file in _files(path, "*"))])


def _paths(found: Source) -> list[Path]:
    """The model's folder or file, and what of it lies elsewhere."""
    apart = [file for part in found.parts.values() for file in part.files]
    apart += [words.folder for words in found.vocabularies]
    apart += [extra.path for extra in (*found.loras, *found.embeddings)]
    return [found.path, *(path for path in apart if not path.is_relative_to(found.path))]


def _files(folder: Path, pattern: str) -> list[tuple[str, int, int]]:
    """Every file beneath, or the file itself, with its size in bytes and time in nanoseconds."""
    found = sorted(folder.rglob(pattern)) if folder.is_dir() else [folder]
    seen = [(str(path.relative_to(folder)), path.stat()) for path in found if path.is_file()]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in seen]


def _digest(values: object) -> str:
    text = json.dumps(values, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    match value:
        case frozenset() | set():
            return sorted(map(str, cast("frozenset[object]", value)))
        case Mapping():
            return dict(cast("Mapping[str, object]", value))
        case Path():
            return str(value.resolve())
        case _:
            return str(value)
