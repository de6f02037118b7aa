"""What a person has settled once: config.yaml, aliases, and the environment above them."""

import os
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sdfast.errors import PresetError, SdfastError, printable
from sdfast.presets import as_yaml, config_folder, read_yaml, write_text
from sdfast.wording import nearest, quoted
from sdfast.writing import unwritable

CONFIG_KEYS = ("model", "preset", "out", "keep_warm", "loras")

_MODEL = "SDFAST_MODEL"

TIME = "a time such as `90s`, `10m` or `1h`"


@dataclass(frozen=True, slots=True)
class Config:
    """Defaults of `sdfast gen`; None where nothing is settled."""

    model: str | None = None
    preset: str | None = None
    out: str | None = None
    aliases: dict[str, str] = field(default_factory=dict[str, str])
    keep_warm: float | None = None
    """Seconds a worker waits for another picture with the model loaded; None starts none."""
    loras: str | None = None
    """The folder of those that prompts name."""

    def recipe(self, said: str | None) -> str:
        """The preset that a command walks by: the one it was told, else the settled one."""
        return said or self.preset or "default"

    @contextmanager
    def naming(self, key: Literal["model", "preset"]) -> Generator[None]:
        """Have the error of a settled name that stands for nothing say where it is settled."""
        try:
            yield
        except SdfastError as error:
            if error.unknown and error.unknown == getattr(self, key):
                place = f"`{key}` in {config_file()}"
                if key == "model" and os.environ.get(_MODEL):
                    place = _MODEL
                error.hint = printable("; ".join(filter(None, (error.hint, f"{place} names it"))))
            raise


def config_file() -> Path:
    return config_folder() / "config.yaml"


def aliases_file() -> Path:
    return config_folder() / "aliases.yaml"


def load_config() -> Config:
    """The settled defaults; SDFAST_MODEL, SDFAST_OUTPUT and SDFAST_LORAS win over the file.

    Raises PresetError for a file that cannot be read.
    """
    settled = _texts(config_file(), CONFIG_KEYS)
    environment = {"model": _MODEL, "out": "SDFAST_OUTPUT", "loras": "SDFAST_LORAS"}
    settled |= {key: said for key, name in environment.items() if (said := os.environ.get(name))}
    keep_warm = settled.pop("keep_warm", None)
    if keep_warm is not None and seconds_of(keep_warm) is None:
        raise PresetError(f"{config_file()}: keep_warm must be {TIME}, not {quoted(keep_warm)}")
    return Config(
        **settled,
        keep_warm=None if keep_warm is None else seconds_of(keep_warm),
        aliases=_texts(aliases_file()),
    )


def lasting_name(model: str | None, aliases: Mapping[str, str]) -> str | None:
    """The Hub id that a person's own alias stands for; any other name as it is."""
    target = aliases.get(model or "")
    return model if target is None or Path(target).is_absolute() else target


_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(text: str) -> float | None:
    """The seconds of a `TIME`; None for what is none. It has five digits at most."""
    if not (said := re.fullmatch(r"([1-9]\d{0,4}) ?([smh])", text.strip(), re.ASCII)):
        return None
    return int(said[1]) * _SECONDS[said[2]]


def save_alias(name: str, target: str | None) -> dict[str, str]:
    """Let a name stand for a model from now on, or no longer; all that do then.

    Raises PresetError, and UsageError where nothing can be written.
    """
    with _alone(aliases_file()):
        aliases = _texts(aliases_file())
        if target is not None:
            aliases[name] = target
        elif aliases.pop(name, None) is None:
            raise PresetError(f"there is no alias `{name}` of yours", nearest(name, tuple(aliases)))
        write_text(aliases_file(), as_yaml(aliases))
    return aliases


@contextmanager
def _alone(file: Path) -> Generator[None]:
    """In here no other call changes the file. Raises UsageError if its folder cannot be written."""
    from filelock import FileLock

    with ExitStack() as held:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(file.with_suffix(".lock"), timeout=10))
        except NotImplementedError:  # a drive without locks
            pass
        except OSError as error:
            raise unwritable(file, error) from error
        yield


def _is_plain(text: str) -> bool:
    """Whether it has no NUL and no half of a letter, which no path can hold."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _texts(path: Path, keys: Sequence[str] = ()) -> dict[str, str]:
    """A YAML file of names, these alone if any are given, and texts; empty if there is none."""
    if not os.path.lexists(path):  # nor where no folder of theirs may be entered
        return {}
    found, lines = read_yaml(path, str(path))
    for key, value in found.items():
        if keys and key not in keys:
            raise PresetError(f"{path}:{lines[key]}: there is no key `{key}`", nearest(key, keys))
        if not isinstance(value, str) or not _is_plain(value):
            must = TIME if key == "keep_warm" else "text"
            raise PresetError(f"{path}:{lines[key]}: {key} must be {must}")
    return found
