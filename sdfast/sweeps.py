"""Several values of one key in one word: `steps=10,20`, `seed=1..4`, `prompt="a cat, up",a dog`."""

import csv
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from sdfast.errors import UsageError
from sdfast.wording import nearest_key, quoted

_MOST = 1000


class Sweep(NamedTuple):
    """A key and the values it takes in turn."""

    key: str
    values: tuple[Any, ...]


def read_sweep(word: str, flag: str, keys: Sequence[str], texts: Sequence[str] = ()) -> Sweep:
    """The values between commas, each once, numbers from `a..b` one by one or, `a..b..s`, s by s.

    One that holds a comma, or nothing, stands in double quotes. The values of `texts` stay text; of
    other keys numbers and truths are read. Raises UsageError for a key that is not of these, for no
    values and for too many.
    """
    key, equals, listed = word.partition("=")
    key = key.strip().replace("-", "_")
    if equals and key not in keys:
        raise UsageError(f"{quoted(key)} cannot be swept", nearest_key(key, keys))
    values = [value.strip() for value in _parted(listed)]
    nothings = len(_NOTHING.findall(listed)) if key in texts else 0
    if not (equals and values) or values.count("") > nothings:
        named = equals and values and key in texts
        nothing = f'a value of nothing is "", for a shell {flag} \'{key}="",...\''
        hint = nothing if named else f"{flag} steps=10,20"
        raise UsageError(f"{quoted(word)} is no sweep", hint)
    if key not in texts:
        values = [each for value in values for each in _counted(value)]
    if len(values) > _MOST:
        raise UsageError(f"{quoted(word)} is more than {_MOST} values")
    return Sweep(key, tuple(dict.fromkeys(values)))


_NOTHING = re.compile(r'(?:^|(?<=,))\s*""\s*(?=,|$)')
"""A value of nothing."""


def _parted(listed: str) -> list[str]:
    try:
        return [
            v
            for row in csv.reader([listed.strip()], skipinitialspace=True, strict=True)
            for v in row
        ]
    except csv.Error as error:
        quote = 'a value with a comma or a line break is "quoted", a quote in it is doubled'
        raise UsageError(f"{quoted(listed)} cannot be parted at its commas", quote) from error


_NUMBER = r"(\d{0,20}\.?\d{1,20})"


def _counted(text: str) -> Sequence[Any]:
    """The values of a text: numbers in a row, or one."""
    # what other programs mean rows by, `1-5`, `1-5 (+2)` and `1..5 [3]`, is no number either
    if row := re.fullmatch(r"(\d{1,20})(?:-|\.\.(?=.*[\[(]))(\d{1,20})\s*([\[(].*)?", text):
        whole = f"{row[1]}..{row[2]}"
        hint = f"{whole} is each number of these, {whole}..2 every second"
        raise UsageError(f"{quoted(text)} is no number", hint)
    if row := re.fullmatch(rf"{_NUMBER}\.\.{_NUMBER}(?:\.\.{_NUMBER})?", text):
        if row[3] is None and "." in row[1] + row[2]:
            hint = f"with a step, {row[1]}..{row[2]}..0.5"
            raise UsageError(f"{quoted(text)} is no row of whole numbers", hint)
        low, high, step = (Decimal(number or 1) for number in row.groups())
        if not (low <= high and step and (high - low) / step < _MOST):
            raise UsageError(f"`{text}` must rise, over at most {_MOST} numbers")
        many = (low + k * step for k in range(int((high - low) / step) + 1))
        return [_value(f"{number:f}") for number in many]
    return (_value(text),)


def _value(text: str) -> Any:
    """The number or truth that a text says; else the text, for the job to judge."""
    if re.fullmatch(r"[+-]?\d{1,20}", text):
        return int(text)
    if re.fullmatch(r"[+-]?\d*\.?\d+([eE][+-]?\d+)?", text):
        return float(text)
    return {"true": True, "false": False}.get(text.lower(), text)
