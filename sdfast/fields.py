"""What single values of a job look like, and what they may be."""

import os
import re
from glob import escape
from pathlib import PurePath
from typing import Annotated, Any, Literal, NamedTuple, cast

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from sdfast.wording import last_part


def _size(value: Any) -> Any:
    match value:
        case str() if found := re.fullmatch(r"([0-9]{1,9})[xX]([0-9]{1,9})", value.strip()):
            return int(found[1]), int(found[2])
        case [int(), int()]:
            return cast("Any", value)
        case _:
            raise ValueError("must be WIDTHxHEIGHT, such as 512x768")


LEAST_SIDE, MOST_SIDE = 64, 4096
"""Of a picture that is painted, in pixels."""


def _paintable(size: tuple[int, int]) -> tuple[int, int]:
    if any(side % 8 or not LEAST_SIDE <= side <= MOST_SIDE for side in size):
        raise ValueError("must be two multiples of 8 from 64 to 4096")
    return size


_Sides = Annotated[str, Field(pattern=r"^[0-9]+[xX][0-9]+$")]
Size = Annotated[
    tuple[int, int],
    BeforeValidator(_size, json_schema_input_type=_Sides),
    AfterValidator(_paintable),
    PlainSerializer(lambda size: f"{size[0]}x{size[1]}"),
]


_HUB_NAME = re.compile(
    r"""([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?<!\.safetensors))  # OWNER/NAME
    (?:/([^/.\\:][^/\\:]*(?:/[^/.\\:][^/\\:]*)*\.safetensors))?  # /FOLDER/FILE""",
    re.VERBOSE,
)


ADAPTER = "adapter_config.json"
"""What peft writes beside a LoRA, and its strength into."""

_NO_NAMES = (".bin", ".ckpt", ".pt", ".pth")
"""What ends in these is a file that was meant."""


class HubName(NamedTuple):
    """A repository of the Hub, or a file in one."""

    repo: str
    file: str
    """Empty for the repository itself."""

    @property
    def text(self) -> str:
        """As it is typed."""
        return f"{self.repo}/{self.file}" if self.file else self.repo

    @property
    def patterns(self) -> list[str]:
        """What to fetch of it alone, with what says more of it; nothing for all of it."""
        folder, slash, _ = self.file.rpartition("/")
        files = [self.file, f"{folder}{slash}{ADAPTER}"] if self.file else []
        return [*map(escape, files)]


def hub_name(name: str) -> HubName | None:
    """What a name means on the Hub; None if it cannot, or if something on this disk has it."""
    match = _HUB_NAME.fullmatch(name)
    if match is None or name.endswith(_NO_NAMES) or os.path.exists(name):  # noqa: PTH110
        return None
    return HubName(match[1], match[2] or "")


def begun_size(size: tuple[int, int], hires: float) -> tuple[int, int]:
    """The size of what is enlarged to this one: that which `enlarged_size` leads from, or near."""

    def begun(side: int) -> int:
        near = round(side / hires / 8) * 8
        return next((one for one in (near, near + 8) if _enlarged(one, hires) == side), near)

    return begun(size[0]), begun(size[1])


def enlarged_size(size: tuple[int, int], hires: float) -> tuple[int, int]:
    """The size that this one is enlarged to, in multiples of 8, as the web UI rounds."""
    return _enlarged(size[0], hires), _enlarged(size[1], hires)


def _enlarged(side: int, hires: float) -> int:
    return int(side * hires) // 8 * 8


_SHARE = r"\s*([0-9.e-]{1,30})\s*"


def _shares(value: Any) -> Any:
    match value:
        case str() if found := re.fullmatch(f"{_SHARE}:{_SHARE}", value):
            return found[1], found[2]
        case [int() | float(), int() | float()]:
            return cast("Any", value)
        case _:
            raise ValueError("must be two shares such as 0.2:0.8")


def _rising(interval: tuple[float, float]) -> tuple[float, float]:
    begin, end = interval
    if not 0 <= begin < end <= 1:
        raise ValueError("must rise, within 0:1")
    return interval


_Shares = Annotated[str, Field(pattern=r"^[0-9.e-]+:[0-9.e-]+$")]
Interval = Annotated[
    tuple[float, float],
    BeforeValidator(_shares, json_schema_input_type=_Shares | tuple[float, float]),
    AfterValidator(_rising),
    PlainSerializer(lambda interval: ":".join(repr(x).removesuffix(".0") for x in interval)),
]


def _path(value: Any) -> Any:
    return str(value) if isinstance(value, PurePath) else value


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    return text


_Path = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_no_nul)]
Name = _Path
"""Of a model: an alias, a Hub id or a path."""
Rng = Literal["cpu", "cuda"]
"""Whose noise a seed stands for."""

File = Annotated[_Path, BeforeValidator(_path, json_schema_input_type=_Path)]
_Files = Annotated[tuple[File, ...], Field(max_length=64)]


class Scaled(NamedTuple):
    """A file of weights, and how strongly they count."""

    path: str
    scale: float


SCALE = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")
"""How a scale is written."""


def scaled(text: str) -> Scaled:
    """`PATH` or `PATH:SCALE`; without one the scale is 1."""
    path, colon, scale = text.rpartition(":")
    if colon and path and SCALE.fullmatch(scale):
        return Scaled(path, float(scale))
    return Scaled(text, 1.0)


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, (str, PurePath)) else value


def _of_sane_scale(files: tuple[str, ...]) -> tuple[str, ...]:
    if any(abs(scaled(file).scale) > 100 for file in files):
        raise ValueError("must have a scale from -100 to 100")
    return files


ScaledFiles = Annotated[
    _Files,
    BeforeValidator(_listed, json_schema_input_type=File | _Files),
    AfterValidator(_of_sane_scale),
]


class Named(NamedTuple):
    """A file that teaches a word, and the word."""

    path: str
    token: str


def named(text: str) -> Named:
    """`PATH` or `PATH:TOKEN`; without one the token is the file's name without its ending."""
    path, colon, token = text.rpartition(":")
    if colon and path and token.strip() and not re.search(r"[/\\]|\.safetensors$", token):
        return Named(path, token.strip())
    return Named(text, last_part(text).removesuffix(".safetensors").strip() or text)


def _of_own_token(files: tuple[str, ...]) -> tuple[str, ...]:
    tokens = [named(file).token.lower() for file in files]
    if len(set(tokens)) < len(tokens):
        raise ValueError("must each have a token of its own (PATH:TOKEN)")
    return files


NamedFiles = Annotated[
    _Files,
    BeforeValidator(_listed, json_schema_input_type=File | _Files),
    AfterValidator(_of_own_token),
]
