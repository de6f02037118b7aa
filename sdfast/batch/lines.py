"""A batch file, line by line: prompts, JSON objects or CSV rows.

A line that cannot be read is a `Broken` and the next one goes on. Where lines arrive while we
read, as through a pipe, `None` stands for each moment in which no more has come.
"""

import contextlib
import csv
import hashlib
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, cast

from sdfast.errors import JobError, UsageError
from sdfast.job import FILE_LISTS, FILES, KEYS, Record
from sdfast.wording import near_key, nearest, nearest_key, quoted

RECORD_KEYS = (*KEYS, "n", "preset")
"""What a line may say: a job's keys, how many seeds, and a preset beneath its other keys."""
TOLD = ("key", "cell")
"""What dry runs tell of a job besides: their lines are jobs, too."""

_LONGEST = 2**20
"""Bytes of a line; the longest job of our own stays far below."""
_MOST_ROWS = 50
"""Lines that one CSV row may go on for."""


class Form(StrEnum):
    """How a batch file is written."""

    TXT = "txt"
    JSONL = "jsonl"
    CSV = "csv"


_ENDINGS = {
    ".txt": Form.TXT,
    ".jsonl": Form.JSONL,
    ".ndjson": Form.JSONL,
    ".json": Form.JSONL,
    ".csv": Form.CSV,
    ".tsv": Form.CSV,
}


class Text(NamedTuple):
    number: int
    """From 1."""
    text: str


class Line(NamedTuple):
    """What a line asks for, not checked yet."""

    number: int
    record: Record


@dataclass(frozen=True, slots=True)
class Broken:
    """A line of which no job can be made."""

    number: int
    error: UsageError
    key: bytes
    """Names the line by what stands there."""


def form_of(name: str, said: str | None) -> Form | None:
    """How the file is written, by what was said or by its ending; None leaves it to be guessed."""
    if said is None:
        return _ENDINGS.get(Path(name).suffix.lower())
    if said not in [*Form]:
        raise UsageError(f"`--format` cannot be {quoted(said)}", nearest(said, [*Form]))
    return Form(said)


def read(blocks: Iterable[bytes], form: Form | None) -> Iterator[Line | Broken | None]:
    """Every line that says something. Raises UsageError for a CSV header that is none, and for JSON
    that is an array.
    """
    texts = _texts(blocks)
    for text in texts:
        if not isinstance(text, Text):
            yield text
        elif text.text.strip():
            yield from _READERS[form or _guessed(text.text)](chain([text], texts))


def _texts(blocks: Iterable[bytes]) -> Iterator[Text | Broken | None]:
    number = 0
    for raw in _split(blocks):
        if raw is None:
            yield None
            continue
        number += 1
        if len(raw) > _LONGEST:
            yield broken(number, raw, f"is longer than {_LONGEST // 2**20} MiB")
        elif (text := _decoded(raw, "utf-8-sig" if number == 1 else "utf-8")) is None:
            yield broken(number, raw, "is not UTF-8 text", "save the file as UTF-8")
        else:
            yield Text(number, text.rstrip("\r"))


def _decoded(raw: bytes, encoding: str) -> str | None:
    """None for other text: UTF-16, as Windows has it, would pass for UTF-8 full of zeros."""
    try:
        return None if b"\0" in raw else raw.decode(encoding)
    except UnicodeDecodeError:
        return None


def _split(blocks: Iterable[bytes]) -> Iterator[bytes | None]:
    """Lines without their ends. Of one that never ends, a little more than the limit is kept."""
    rest = bytearray()
    for block in blocks:
        if not block:
            yield None
            continue
        *whole, tail = block.split(b"\n")
        for piece in whole:
            yield bytes(rest + piece)
            rest.clear()
        rest += tail[: max(_LONGEST + 1 - len(rest), 0)]
    if rest:
        yield bytes(rest)


def broken(number: int, raw: bytes, problem: str, hint: str = "") -> Broken:
    key = hashlib.sha256(b"broken\n" + raw).digest()[:16]
    return Broken(number, JobError(problem, hint), key)


def _guessed(first: str) -> Form:
    if re.match(r"\s*(\{|\[\s*([{\"\]]|$))", first):  # `[less] of this` is a prompt
        return Form.JSONL
    names = {name.strip().strip('"').lower() for name in first.split(_delimiter(first))}
    return Form.CSV if "prompt" in names and names <= {*RECORD_KEYS} else Form.TXT


def _prompts(texts: Iterable[Text | Broken | None]) -> Iterator[Line | Broken | None]:
    for text in texts:
        if not isinstance(text, Text):
            yield text
        elif (prompt := text.text.strip()) and not prompt.startswith("#"):
            yield Line(text.number, {"prompt": prompt})


def _objects(texts: Iterable[Text | Broken | None]) -> Iterator[Line | Broken | None]:
    first = True
    for text in texts:
        if not isinstance(text, Text):
            yield text
        elif said := text.text.strip():
            if first and said.startswith("["):
                raise UsageError(
                    "a JSON array is no batch: each line is an object of its own",
                    "jq -c '.[]' FILE | sdfast batch - --format jsonl",
                )
            first = False
            yield _object(text)


_SUCH_AS = 'a line is {"prompt": "a cat", "seed": 1}'


def _object(text: Text) -> Line | Broken:
    raw = text.text.encode()
    try:
        found: object = json.loads(text.text, object_pairs_hook=_once)
    except JobError as error:
        return broken(text.number, raw, str(error))
    except (ValueError, RecursionError):
        return broken(text.number, raw, "is not JSON", _SUCH_AS)
    if not isinstance(found, dict):
        return broken(text.number, raw, "is no JSON object", _SUCH_AS)
    return Line(text.number, cast("Record", found))


def _once(pairs: list[tuple[str, Any]]) -> Record:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise JobError(f"{quoted(twice)} stands there twice")
    return found


def _rows(texts: Iterable[Text | Broken | None]) -> Iterator[Line | Broken | None]:
    """CSV. A row ends where its quotes do, be it some lines further on."""
    header: list[str] = []
    delimiter = ","
    begun: list[Text] = []
    for text in texts:
        if not isinstance(text, Text):
            yield text
        elif not header:
            delimiter = _delimiter(text.text)
            header = _header(text.text, delimiter)
        else:
            yield from _complete(begun, deque([text]), header, delimiter)
    yield from _complete(begun, deque(), header, delimiter)


def _complete(
    begun: list[Text], more: deque[Text], header: list[str], delimiter: str
) -> Iterator[Line | Broken]:
    """The rows that end in the next lines, or in what has begun if there are no more of them.

    A row whose quotes do not end in time is given up: it is broken, and the lines after its first
    are read again.
    """
    ends = not more
    while more or (ends and begun):
        if more:
            begun.append(more.popleft())
        number, text = begun[0]
        try:
            cells = _cells("\n".join(t.text for t in begun), delimiter)
        except csv.Error as error:
            may_go_on = bool(more) if ends else len(begun) < _MOST_ROWS
            if "unexpected end" in str(error) and may_go_on:
                continue
            yield broken(number, text.encode(), "is no CSV: is a quote left open?")
            more.extendleft(reversed(begun[1:]))
            begun.clear()
        else:
            begun.clear()
            yield from _row(number, cells, header)


def _delimiter(header: str) -> str:
    return max(",;\t", key=header.count)


def _cells(text: str, delimiter: str) -> list[str]:
    """A row's cells. Raises csv.Error, also if a quote is still open."""
    return next(csv.reader([text], delimiter=delimiter, strict=True), list[str]())


def _header(text: str, delimiter: str) -> list[str]:
    try:
        names = [name.strip().lower() for name in _cells(text, delimiter)]
    except csv.Error as error:
        raise UsageError(f"the CSV header cannot be read: {error}") from error
    for name in names:
        if name not in RECORD_KEYS:
            hint = nearest_key(name, RECORD_KEYS)
            if not {*names} & {*RECORD_KEYS} and not near_key(name, RECORD_KEYS):
                hint = "the first line names the columns, such as `prompt,seed`"
            raise UsageError(f"the CSV header names {quoted(name)}, which is no key", hint)
    if len(set(names)) < len(names):
        raise UsageError("the CSV header has a key twice")
    return names


_NAMES = ("model", "preset", "sampler", "method", "spacing", "final", "weights")
_TEXTS = ("prompt", "negative", "size", "seed", *_NAMES, *FILES)
"""Keys whose cells are text, whatever they look like; several files are a list in JSON."""


def _row(number: int, cells: list[str], header: list[str]) -> Iterator[Line | Broken]:
    if not any(cell.strip() for cell in cells):
        return
    if len(cells) > len(header):
        said = f"has {len(cells)} cells where the header has {len(header)}"
        yield broken(number, "\0".join(cells).encode(), said)
        return
    pairs = zip(header, cells, strict=False)
    yield Line(number, {key: _value(key, cell) for key, cell in pairs if cell.strip()})


def _value(key: str, cell: str) -> Any:
    if key in _TEXTS and not (key in FILE_LISTS and cell.lstrip().startswith("[")):
        return cell.strip()
    for said in (cell, cell.lower()):  # a spreadsheet's TRUE is true
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(said)
    return cell


_READERS: dict[Form, Callable[[Iterator[Any]], Iterator[Line | Broken | None]]] = {
    Form.TXT: _prompts,
    Form.JSONL: _objects,
    Form.CSV: _rows,
}
