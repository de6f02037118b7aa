"""Many pictures on one page: the job of each, and what the page says of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from sdfast.errors import JobError, printable
from sdfast.job import Job, Record, read_job
from sdfast.wording import shortened

MOST = 1000
"""Pictures on a sheet."""
LONGEST = 200
"""Letters of a label."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Pictures in rows, a label over each column, or over each picture, and before each row."""

    jobs: tuple[Job, ...]
    """Row by row."""
    columns: int
    varies: tuple[str, ...]
    """The keys in which the pictures differ."""
    tops: tuple[str, ...]
    """As many as columns, as pictures, or none."""
    lefts: tuple[str, ...]
    """As many as rows, or none."""

    @property
    def rows(self) -> int:
        return -(-len(self.jobs) // self.columns)

    def name(self, place: int) -> str:
        """What tells the picture at that place from the others."""
        return ", ".join(self._labels(place))

    def short_name(self, place: int) -> str:
        """The same for people, who read it in a line beside other things."""
        return ", ".join(map(shortened, self._labels(place)))

    def _labels(self, place: int) -> tuple[str, ...]:
        row, column = divmod(place, self.columns)
        top = self.tops[place if len(self.tops) > self.columns else column :][:1]
        return (*top, *self.lefts[row:][:1])

    @property
    def layout(self) -> Record:
        """How the pictures stand, as plain values."""
        return {
            "columns": self.columns,
            "varies": list(self.varies),
            "tops": list(self.tops),
            "lefts": list(self.lefts),
        }


def in_common(records: Sequence[Record]) -> Record:
    """What is the same in all of them."""
    first, *others = records
    return {k: v for k, v in first.items() if all(k in o and o[k] == v for o in others)}


def sheet_record(sheet: Sheet, jobs: Sequence[Record]) -> Record:
    """Plain values that `read_sheet` makes the sheet of, its jobs told as these records."""
    shared = in_common(jobs)
    cells = [{k: v for k, v in job.items() if k not in shared} for job in jobs]
    return sheet.layout | {"job": shared, "cells": cells}


def read_sheet(record: Any) -> Sheet:
    """The sheet of a record. Raises JobError for what is none."""
    match record:
        case {
            "columns": int(columns),
            "varies": [*varies],
            "tops": [*tops],
            "lefts": [*lefts],
            "job": dict(),
            "cells": [*cells],
        } if 1 <= columns <= len(cells) <= MOST and all(isinstance(c, dict) for c in cells):
            labels = [varies, tops, lefts]
        case _:
            raise JobError("its sheet is laid out in no known way")
    if not all(_are_labels(some) for some in labels) or isinstance(columns, bool):
        raise JobError("its sheet is labelled in no known way")
    shared = cast("Record", record["job"])
    jobs = tuple(read_job({**shared, **cell}) for cell in cast("list[Record]", cells))
    sheet = Sheet(jobs, columns, *(tuple(map(printable, some)) for some in labels))
    if len(sheet.tops) not in (0, columns, len(jobs)) or len(sheet.lefts) not in (0, sheet.rows):
        raise JobError("its sheet has not as many labels as rows and columns")
    return sheet


def _are_labels(values: list[Any]) -> bool:
    return len(values) <= MOST and all(
        isinstance(value, str) and len(value) <= LONGEST for value in values
    )
