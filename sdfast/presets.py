"""Presets: sampler recipes in YAML, and the one place where YAML is read and written.

A preset is a record of job keys under a name. The shipped ones stand in `presets/` at the top of
the project; a person's own stand in the configuration folder and win over those of that name.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from platformdirs import user_config_path

from sdfast.errors import JobError, PresetError, printable
from sdfast.fields import named, scaled
from sdfast.job import KEYS, OF_ONE_PICTURE, Job, Record, read_job, sampler_record
from sdfast.layering import on_top
from sdfast.sampler import Sampler
from sdfast.wording import nearest, nearest_key
from sdfast.writing import check_folder, is_void, unwritable, write_whole

PRESET_KEYS = ("about", *(k for k in KEYS if k not in ("prompt", "seed", *OF_ONE_PICTURE)))
"""What a preset may say: anything of a job but what is about one picture."""

_LARGEST = 64 * 1024
_DEEPEST = 3
_ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Preset:
    """A sampler recipe: some of a job's keys, checked, under a name."""

    name: str
    record: Record
    about: str = ""

    @property
    def sampler(self) -> Sampler:
        """How it walks; what it leaves open is as in a job that asks for nothing."""
        return _job(self.record).sampler

    def job(self, prompt: str, **keys: Any) -> Job:
        """A picture painted so; keys are a job file's and stand above the preset's, as flags do.

        Raises JobError that names the key and what it may be.
        """
        sampler = keys.pop("sampler", None)
        walk = sampler_record(sampler) if isinstance(sampler, Sampler) else {"sampler": sampler}
        return read_job(on_top(self.record, {"prompt": prompt, **walk, **keys}))


def config_folder() -> Path:
    """Where a person's presets, aliases and config.yaml stand; SDFAST_CONFIG names another."""
    chosen = os.environ.get("SDFAST_CONFIG")
    try:
        return Path(chosen).expanduser() if chosen else user_config_path("sdfast")
    except RuntimeError as error:
        raise PresetError(f"SDFAST_CONFIG: there is no folder `{chosen}`") from error


def folders() -> tuple[Path, ...]:
    """Where presets are looked for, the first find wins: a person's own, then the shipped ones."""
    package = Path(__file__).parent
    packed = package / "shipped_presets"
    return config_folder() / "presets", packed if packed.is_dir() else package.parent / "presets"


def names() -> dict[str, Path]:
    """Every preset's file by its name."""
    found: dict[str, Path] = {}
    for folder in folders():
        listed = sorted(folder.iterdir()) if os.path.lexists(folder) and folder.is_dir() else ()
        for path in (one for one in listed if one.suffix in _ENDINGS):
            found.setdefault(path.stem, path)
    return found


def load_preset(name: str) -> Preset:
    """The preset of a name or of a YAML file's path. Raises PresetError."""
    if _is_path(name):
        return read_preset(Path(name), name)
    known = names()
    if name not in known:
        prompt = 'a prompt needs no flag: sdfast gen "a cat"'
        hint = prompt if " " in name.strip() else nearest(name, tuple(known))
        raise PresetError(f"there is no preset `{_clean(name)}`", hint, unknown=name)
    return read_preset(known[name], name)


def _is_path(name: str) -> bool:
    return name.endswith(_ENDINGS) or "/" in name or os.sep in name


def hides_shipped(path: Path) -> bool:
    """Whether it is a person's own preset by the name of a shipped one."""
    own, shipped = folders()
    return path.parent == own and any((shipped / f"{path.stem}{e}").exists() for e in _ENDINGS)


def remove_preset(name: str) -> Path:
    """Take away a person's own preset. Raises PresetError if there is none of that name."""
    path, (folder, _) = names().get(name), folders()
    if path is None or path.parent != folder:
        own = [one for one, place in names().items() if place.parent == folder]
        raise PresetError(f"there is no preset `{_clean(name)}` of yours", nearest(name, own))
    try:
        for ending in _ENDINGS:
            (folder / f"{name}{ending}").unlink(missing_ok=True)
    except OSError as error:
        raise PresetError(f"`{path}` stays: {error.strerror}") from error
    return path


def save_preset(name: str, record: Record, about: str = "", *, replace: bool | None = None) -> Path:
    """Write a person's own preset. Raises PresetError if the name or the record will not do, and
    UsageError if it cannot be written.

    `replace` is as `check_free` has it.
    """
    from sdfast.naming import Exists, keep  # which reading a preset has no use for

    path = check_free(name, replace=replace)
    kept = {k: v for k, v in record.items() if k in PRESET_KEYS}
    _job(kept)
    text = as_yaml(({"about": about} if about else {}) | kept)
    if replace:
        write_text(path, text)
        path.with_suffix(".yml").unlink(missing_ok=True)
    elif keep(text.encode(), path, exists=Exists.SKIP) is None:  # somebody has saved one meanwhile
        raise _taken(name, replace)
    return path


def check_free(name: str, *, replace: bool | None = None) -> Path:
    """Where a person's preset of that name would stand.

    Raises PresetError for what is no name, and for one that is taken, be it by a shipped preset,
    unless it is to be replaced; None is said where nobody could ask for that.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,63}", name) or name.endswith(_ENDINGS):
        raise PresetError(
            f"`{_clean(name)}` is no name for a preset",
            "letters, digits, `-`, `_` and `.` make one",
        )
    path = config_folder() / "presets" / f"{name}.yaml"
    if name in names() and not replace and not is_void(path):
        raise _taken(name, replace)
    check_folder(path.parent)
    return path


def _taken(name: str, replace: bool | None) -> PresetError:
    hint = "another name" if replace is None else "--force puts yours in its place"
    return PresetError(f"there is a preset `{name}` already", hint)


def as_yaml(values: Record) -> str:
    """A record as YAML in the order given, lists on one line."""
    return "".join(_line(key, value) for key, value in values.items())


def _line(key: str, value: Any) -> str:
    """As JSON, which is YAML as well, unless there is something in it that YAML reads otherwise."""
    line = f"{key}: {json.dumps(value, ensure_ascii=False)}\n"
    with suppress(yaml.YAMLError):
        if yaml.safe_load(line) == {key: value}:
            return line
    return yaml.safe_dump({key: value})


def read_yaml(path: Path, shown: str) -> tuple[Record, dict[str, int]]:
    """A YAML file's mapping, and the line each key stands on; keys are what is typed there.

    Duplicate keys, anchors (a file of a few lines can unfold to gigabytes), tags, deep nesting and
    files beyond 64 kB are refused: PresetError says where.
    """
    name, text = _clean(shown), _text(path, _clean(shown))
    found: Record = {}
    lines: dict[str, int] = {}
    try:
        _refuse_tricks(text, name)
        loader: Any = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return {}, {}
        if not isinstance(node, yaml.MappingNode):
            raise PresetError(f"`{name}` must hold keys and values")
        for key, value in cast("Any", node).value:
            where = f"{name}:{key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise PresetError(f"{where}: a key must be a word")
            if key.value in lines:
                raise PresetError(f"{where}: `{_clean(key.value)}` stands there twice")
            lines[key.value] = key.start_mark.line + 1
            found[key.value] = loader.construct_object(value, deep=True)
    except yaml.YAMLError as error:
        mark: Any = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "is no YAML"
        raise PresetError(f"{name}{where}: {_clean(str(problem))}") from error
    except (ValueError, TypeError, OverflowError) as error:
        raise PresetError(f"`{name}` is no YAML that makes sense") from error
    return found, lines


def _text(path: Path, name: str) -> str:
    try:
        with path.expanduser().open("rb") as file:
            content = file.read(_LARGEST + 1)
    except (FileNotFoundError, RuntimeError) as error:
        raise PresetError(f"there is no file `{name}`") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise PresetError(f"`{name or path}` cannot be read: {why}") from error
    if len(content) > _LARGEST:
        raise PresetError(f"`{name}` is larger than 64 kB, and no file of settings")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise PresetError(f"`{name}` is not UTF-8 text") from error


def _refuse_tricks(text: str, name: str) -> None:
    """Raise PresetError for what settings have no use for and a hostile file would do harm with."""
    depth = 0
    for event in cast("Iterator[Any]", yaml.parse(text, Loader=yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        for trick, used in {
            "anchors": getattr(event, "anchor", None),
            "tags": getattr(event, "tag", None),
            "deep nesting": depth > _DEEPEST,
        }.items():
            if used:
                line = event.start_mark.line + 1
                raise PresetError(f"{name}:{line}: YAML {trick} may not be used")


def write_text(path: Path, text: str) -> None:
    """A whole file or none; its folders are made. Raises UsageError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path.parent, error) from error
    write_whole(path, text.encode())


def read_preset(path: Path, name: str) -> Preset:
    """The preset of a file, found by this name or path. Raises PresetError."""
    shown = _clean(name if _is_path(name) else path.name)
    record, lines = read_yaml(path, shown)
    for key in record:
        if key not in PRESET_KEYS:
            hint = nearest_key(key, PRESET_KEYS)
            raise PresetError(f"{shown}:{lines[key]}: there is no key `{_clean(key)}`", hint)
    about = record.pop("about", "")
    if not isinstance(about, str):
        raise PresetError(f"{shown}:{lines['about']}: about must be text")
    try:
        _job(record)
    except JobError as error:
        where = f":{lines[error.key]}" if error.key in lines else ""
        raise PresetError(f"{shown}{where}: {error}", error.hint) from error
    record |= _beside(path, record)
    called = path.stem if path.suffix in _ENDINGS else path.name
    return Preset(called if _is_path(name) else name, record, about)


def _beside(path: Path, record: Record) -> Record:
    """The files that lie beside the preset's own, by whole paths, to be found from anywhere."""
    folder = path.expanduser().absolute().parent

    def whole(value: str, file: str) -> str:
        with suppress(OSError):  # a name that is too long
            if (folder / file).is_file():
                return f"{folder / file}{value[len(file) :]}"
        return value

    found: Record = {}
    for key, part in (("lora", scaled), ("embedding", named), ("vae", None)):
        given: Any = record.get(key)
        if isinstance(given, str):
            found[key] = whole(given, part(given).path if part else given)
        elif given is not None:
            found[key] = [whole(one, part(one).path if part else one) for one in given]
    return found


def _job(record: Record) -> Job:
    """Some job of the record. Raises JobError if there can be none."""
    return read_job({"prompt": "any", "seed": 0, **record})


def _clean(text: str) -> str:
    """What a file says, fit for one line of a terminal."""
    return " ".join(printable(str(text)).split())[:200]
