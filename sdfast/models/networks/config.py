"""A network's config.json, asked key by key. What it says and we cannot do is named."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast


class Config:
    """What a network should look like. Each question raises ValueError naming the key at fault.

    A key that is absent or null has its default.
    """

    def __init__(self, found: Mapping[str, Any]) -> None:
        self._found = found

    def get(self, key: str, default: object = None) -> Any:
        value = self._found.get(key)
        return default if value is None else value

    def literal(self, key: str, default: object) -> Any:
        """The value as it stands, where null means something else than absence."""
        return self._found.get(key, default)

    def only(self, allowed: Mapping[str, Collection[object]]) -> None:
        """Refuse every other value of these keys; absent and null are always allowed."""
        for key, values in allowed.items():
            value = self.get(key)
            if value is not None and not any(value == v and type(value) is type(v) for v in values):
                raise _refusal(key, value)

    def one_of(self, key: str, names: Collection[str], default: str) -> str:
        """A name out of a few."""
        value = self.get(key, default)
        if not isinstance(value, str) or value not in names:
            raise _refusal(key, value)
        return value

    def count(
        self, key: str, default: int | None = None, most: int = 1_000_000, least: int = 1
    ) -> int:
        """A whole number."""
        return _count(key, self.get(key, default), most, least)

    def number(self, key: str, default: float) -> float:
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _refusal(key, value)
        if not math.isfinite(value):
            raise _refusal(key, value)
        return float(value)

    def numbers(self, key: str, default: Sequence[float]) -> list[float]:
        """As many numbers as there are by default."""
        values = _listed(self.get(key, default))
        if values is None:
            raise _refusal(key, self.get(key))
        _check_length(key, values, len(default), "channels")
        return [Config({key: value}).number(key, math.nan) for value in values]

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise _refusal(key, value)
        return value

    def each(self, key: str, levels: int, default: Any = None, most: int = 1_000_000) -> list[int]:
        """A count for every level; one number stands for all of them."""
        value = self.get(key, default)
        listed = _listed(value)
        return _counts(key, [value] * levels if listed is None else listed, levels, most)

    def depths(
        self, key: str, layers: Sequence[int], default: Sequence[int] | None = None
    ) -> list[list[int]]:
        """A count for every layer of every level; one number stands for all within."""
        value = self.get(key, 1 if default is None else default)
        listed = _listed(value)
        values = [value] * len(layers) if listed is None else listed
        _check_length(key, values, len(layers), "levels")
        return [
            _counts(key, [v] * n if (within := _listed(v)) is None else within, n, 256, "layers")
            for v, n in zip(values, layers, strict=True)
        ]

    def widths(self, key: str = "block_out_channels") -> list[int]:
        """Channels from level to level, as many as there are."""
        values = _listed(self.get(key))
        if not values:
            raise _refusal(key, self.get(key))
        return _counts(key, values, min(len(values), 16), 100_000)

    def kinds(self, key: str, levels: int, known: Collection[str]) -> list[str]:
        """The kind of every level's block."""
        names = _listed(self.get(key)) or []
        if len(names) != levels:
            raise ValueError(f"`{key}` names {len(names)} blocks where there are {levels} levels")
        for name in names:
            if not isinstance(name, str) or name not in known:
                raise _refusal(key, name)
        return cast("list[str]", list(names))

    def divides(self, key: str, parts: int, *wholes: int) -> None:
        """Refuse a number of groups or heads that some width cannot be cut into."""
        for whole in wholes:
            if whole % parts:
                raise ValueError(f"`{key}` is {parts}, which does not divide {whole} channels")


def _counts(
    key: str, values: Sequence[object], number: int, most: int, of: str = "levels"
) -> list[int]:
    _check_length(key, values, number, of)
    return [_count(key, value, most) for value in values]


def _check_length(key: str, values: Sequence[object], number: int, of: str) -> None:
    if len(values) != number:
        raise ValueError(f"`{key}` has {len(values)} entries where there are {number} {of}")


def _listed(value: object) -> list[object] | None:
    """The entries of a list, or None for anything else."""
    return list(cast("Sequence[object]", value)) if isinstance(value, (list, tuple)) else None


def _count(key: str, value: object, most: int, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _refusal(key, value)
    return value


def _refusal(key: str, value: object) -> ValueError:
    return ValueError(f"`{key}` is {str(value)[:60]!r}, which is not known here")
