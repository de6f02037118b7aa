"""Presets: sampler recipes in YAML, and the one place where YAML is read and written.

A preset is a record of job keys under a name. The shipped ones stand in `presets/` at the top of
the project; a person's own stand in the configuration folder and win over those of that name.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from platformdirs import user_config_path

from sdfast.errors import JobError, PresetError
from sdfast.job import KEYS, Job, Record, Sampler, nearest, read_job, read_sampler

PRESET_KEYS = ("about", *(k for k in KEYS if k not in ("prompt", "seed")))
"""What a preset may say: anything of a job but its prompt and seed."""

_LARGEST = 64 * 1024


@dataclass(frozen=True, slots=True)
class Preset:
    """A sampler recipe: some of a job's keys, checked, under a name."""

    name: str
    record: Record
    about: str = ""

    @property
    def sampler(self) -> Sampler:
        return read_sampler({k: v for k, v in self.record.items() if k not in _OF_JOB})


_OF_JOB = frozenset(Job.model_fields) - {"sampler"}


def config_folder() -> Path:
    """Where a person's presets, aliases and config.yaml stand; SDFAST_CONFIG names another."""
    chosen = os.environ.get("SDFAST_CONFIG")
    return Path(chosen).expanduser() if chosen else user_config_path("sdfast")


def folders() -> tuple[Path, ...]:
    """Where presets are looked for, the first find wins: a person's own, then the shipped ones."""
    package = Path(__file__).parent
    packed = package / "shipped_presets"
    return config_folder() / "presets", packed if packed.is_dir() else package.parent / "presets"


def names() -> dict[str, Path]:
    """Every preset's file by its name."""
    found: dict[str, Path] = {}
    for folder in folders():
        for path in sorted(folder.glob("*.yaml")) if folder.is_dir() else ():
            found.setdefault(path.stem, path)
    return found


def load_preset(name: str) -> Preset:
    """The preset of a name or of a YAML file's path. Raises PresetError."""
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return _read(Path(name).expanduser(), name)
    known = names()
    if name not in known:
        raise PresetError(f"there is no preset `{_clean(name)}`", nearest(name, tuple(known)))
    return _read(known[name], name)


def save_preset(name: str, record: Record, about: str = "", *, replace: bool = False) -> Path:
    """Write a person's own preset. Raises PresetError if the name or the record will not do."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,63}", name):
        raise PresetError(
            f"`{_clean(name)}` is no name for a preset",
            "letters, digits, `-`, `_` and `.` make one",
        )
    kept = {k: v for k, v in record.items() if k in PRESET_KEYS}
    _check(kept)
    folder = config_folder() / "presets"
    path = folder / f"{name}.yaml"
    if path.exists() and not replace:
        raise PresetError(f"there is a preset `{name}` already", "--force replaces it")
    text = as_yaml(({"about": about} if about else {}) | kept)
    write_text(path, text)
    return path


def as_yaml(values: Record) -> str:
    """A record as YAML in the order given, lists on one line."""
    lines = (f"{k}: {json.dumps(v, ensure_ascii=False)}\n" for k, v in values.items())
    return "".join(
        line if yaml.safe_load(line) == {k: v} else yaml.safe_dump({k: v})
        for line, (k, v) in zip(lines, values.items(), strict=True)
    )


def schema() -> dict[str, Any]:
    """The JSON schema of a preset file, for editors that check YAML while it is typed."""
    job = Job.model_json_schema()["properties"]
    sampler = Sampler.model_json_schema()["properties"]
    sampler["sampler"] = {"type": "string", "description": "dpm++, dpm, ddim or an A1111 name"}
    known = {"about": {"type": "string"}, "size": {"type": "string", "pattern": r"^\d+x\d+$"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sdfast preset",
        "type": "object",
        "additionalProperties": False,
        "properties": {k: known.get(k) or sampler.get(k) or job[k] for k in PRESET_KEYS},
    }


def read_yaml(path: Path, shown: str) -> tuple[Record, dict[str, int]]:
    """A YAML file's mapping, and the line each key stands on.

    Duplicate keys, anchors (a file of a few lines can unfold to gigabytes), tags and files beyond
    64 kB are refused: PresetError says where.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise PresetError(f"`{_clean(shown)}` is larger than 64 kB; that is no preset")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise PresetError(f"there is no file `{_clean(shown)}`") from error
    except UnicodeDecodeError as error:
        raise PresetError(f"`{_clean(shown)}` is not UTF-8 text") from error
    except OSError as error:
        raise PresetError(f"`{_clean(shown)}` cannot be read: {error.strerror}") from error
    try:
        for event in cast("Iterator[Any]", yaml.parse(text, Loader=yaml.SafeLoader)):
            if isinstance(event, yaml.AliasEvent):
                line = cast("Any", event).start_mark.line + 1
                raise PresetError(f"{_clean(shown)}:{line}: a preset may not use YAML anchors")
        node = cast("Any", yaml.compose(text, Loader=yaml.SafeLoader))
        if node is None:
            return {}, {}
        if not isinstance(node, yaml.MappingNode):
            raise PresetError(f"`{_clean(shown)}` must hold keys and values")
        lines: dict[str, int] = {}
        for key, _ in cast("Any", node).value:
            line = key.start_mark.line + 1
            if str(key.value) in lines:
                raise PresetError(
                    f"{_clean(shown)}:{line}: `{_clean(key.value)}` stands there twice"
                )
            lines[str(key.value)] = line
        found: object = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark: Any = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "is no YAML"
        raise PresetError(f"{_clean(shown)}{where}: {_clean(str(problem))}") from error
    except (RecursionError, ValueError, TypeError) as error:
        raise PresetError(f"`{_clean(shown)}` is no YAML that makes sense") from error
    return {str(k): v for k, v in cast("dict[object, Any]", found).items()}, lines


def write_text(path: Path, text: str) -> None:
    """A whole file or none. Raises PresetError where it cannot be written."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise PresetError(f"`{path}` cannot be written: {error.strerror}") from error


def _read(path: Path, name: str) -> Preset:
    record, lines = read_yaml(path, name if name.endswith((".yaml", ".yml")) else path.name)
    shown = _clean(name)
    for key in record:
        if key not in PRESET_KEYS:
            hint = nearest(key, PRESET_KEYS)
            raise PresetError(f"{shown}:{lines[key]}: there is no key `{_clean(key)}`", hint)
    about = record.pop("about", "")
    if not isinstance(about, str):
        raise PresetError(f"{shown}:{lines['about']}: about must be text")
    try:
        _check(record)
    except JobError as error:
        where = f":{lines[error.key]}" if error.key in lines else ""
        raise PresetError(f"{shown}{where}: {error}", error.hint) from error
    return Preset(path.stem if name.endswith((".yaml", ".yml")) else name, record, about)


def _check(record: Record) -> None:
    """Raise JobError unless a job could be made of the record."""
    read_job({"prompt": "any", "seed": 0, **{k: v for k, v in record.items() if v is not None}})


def _clean(text: str) -> str:
    """What a file says, fit for one line of a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())[:200]
