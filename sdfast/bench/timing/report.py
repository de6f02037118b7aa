"""Timings as tables of words and as lines, for a terminal or a Markdown file."""

import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from sdfast.bench.files import Table
from sdfast.bench.plot import Bar
from sdfast.bench.timing.entries import Entry, pairs
from sdfast.bench.timing.laps import Compared
from sdfast.bench.timing.spread import Effort, Spread, doubts, ratios, spread
from sdfast.bench.timing.start import Start
from sdfast.bench.timing.turn import Lap, Phases

_APART = 0.99
"""A cosine of latents below which two sides have not painted the same picture."""


@dataclass(frozen=True, slots=True)
class Result:
    """All that was measured of a row."""

    entry: Entry
    dtype: str
    device: str
    start: Start | None
    laps: tuple[Lap, ...]

    @property
    def walls(self) -> list[float]:
        return [lap.wall for lap in self.laps]

    @property
    def each(self) -> list[float]:
        """Seconds a picture."""
        return [wall / self.entry.batch for wall in self.walls]

    @property
    def phases(self) -> list[Phases]:
        return [lap.phases for lap in self.laps if lap.phases]

    @property
    def steps(self) -> list[float]:
        """Seconds of every step of every picture."""
        return [step for one in self.phases for step in one.steps]

    @property
    def paces(self) -> list[float]:
        """The median step of each picture, in seconds."""
        return [statistics.median(one.steps) for one in self.phases]

    @property
    def processor(self) -> float:
        """Processor seconds a second."""
        return sum(lap.user + lap.system for lap in self.laps) / sum(self.walls)

    @property
    def overhead(self) -> float | None:
        """The share of the walk that is not the network's."""
        if not self.phases or not all(one.network for one in self.phases):
            return None
        return statistics.median(1 - sum(one.network) / sum(one.steps) for one in self.phases)

    @property
    def peak(self) -> int | None:
        """Bytes: of the painting if it was measured apart, else of whole processes."""
        if self.start:
            return self.start.peak
        return max((lap.peak for lap in self.laps if lap.peak), default=None)


@dataclass(frozen=True, slots=True)
class Sheet:
    """Everything that was measured in one run."""

    model: str
    cold: bool
    """Whole processes were timed, and not the painting within one."""
    threads: int
    results: Sequence[Result] = ()
    compared: Sequence[Compared] = ()
    about: dict[str, str] = field(default_factory=dict[str, str])
    """What was typed, the machine, the versions."""


@dataclass(frozen=True, slots=True)
class Duel:
    """Ours and another's row of one job, by how many times as fast ours is."""

    ours: Result
    theirs: Result
    whole: Spread
    """A picture, or with `--cold` a process."""
    step: Spread | None


def duels(sheet: Sheet) -> list[Duel]:
    """Every pair of rows that both have been timed, round by round."""
    by_entry = {result.entry: result for result in sheet.results}
    found: list[Duel] = []
    for one, other in pairs([*by_entry]):
        ours, theirs = by_entry[one], by_entry[other]
        step = ratios(theirs.paces, ours.paces) if ours.paces and theirs.paces else None
        found.append(Duel(ours, theirs, ratios(theirs.walls, ours.walls), step))
    return found


def tables(sheet: Sheet) -> Iterator[Table]:
    """How fast each row is, and where a picture's time goes."""
    if sheet.cold:
        yield _table("processes from nothing to a PNG, seconds", sheet.results, _COLD)
        return
    yield _table("pace", sheet.results, _PACE)
    yield _table("a picture's seconds, medians", sheet.results, _PARTS)


def lines(sheet: Sheet) -> Iterator[str]:
    """What the tables do not say: ratios, whether the pictures are the same, what to doubt."""
    for duel in duels(sheet):
        yield (_share if sheet.cold else _faster)(duel)
    yield from _together(sheet.results)
    for one in sheet.compared:
        same = (
            "paints the same picture" if one.cosine > _APART else "paints another picture, beware"
        )
        yield (
            f"{one.ours.name}: {one.theirs.family} {same}; cosine of the latents "
            f"{one.cosine:.6f}, pixels at most {one.pixels} of 255 apart"
        )
    for result in sheet.results:
        for doubt in doubts(_effort(result, sheet.threads)):
            yield f"doubtful: {result.entry.label}: {doubt}"


def _faster(duel: Duel) -> str:
    said = f"a picture {_times(duel.whole)}"
    if duel.step:
        said = f"a step {_times(duel.step)}, {said}"
    return f"{duel.ours.entry.name}: {said} as fast as {duel.theirs.entry.family}"


def _together(results: Sequence[Result]) -> Iterator[str]:
    """How much more comes of painting several at once, beside one by one of the same job."""
    for many in results:
        for one in results:
            alone = replace(many.entry, name=one.entry.name, batch=1)
            if many.entry.batch > 1 and one.entry == alone:
                pace = _times(ratios(one.each, many.each))
                yield f"{many.entry.label}: {pace} the pictures a second of one by one"


def _times(ratio: Spread) -> str:
    return f"{ratio.median:.2f} times ({ratio.low:.2f} to {ratio.high:.2f})"


def _share(duel: Duel) -> str:
    return (
        f"{duel.ours.entry.name}: sdfast gen takes {1 / duel.whole.median:.2f} of the time of "
        f"{duel.theirs.entry.family} ({1 / duel.whole.high:.2f} to {1 / duel.whole.low:.2f})"
    )


def _effort(result: Result, threads: int) -> Effort:
    own = sum(lap.user + lap.system for lap in result.laps)
    known = [lap.others for lap in result.laps if lap.others is not None]
    others = sum(known) if len(known) == len(result.laps) else None
    on_cpu = threads if result.device == "cpu" else None
    return Effort(result.walls, own, others, os.cpu_count() or 1, on_cpu)


def bars_of(sheet: Sheet) -> tuple[list[Bar], str, str]:
    """What a plot shows: each row's median step, or with `--cold` its process; title and unit."""
    rows: list[Bar] = []
    for result in sheet.results:
        seen = spread(result.walls if sheet.cold else [1000 * step for step in result.steps])
        family, _, _ = result.entry.family.partition(":")
        rows.append(Bar(family, result.entry.label, seen.median, seen.low, seen.high))
    kind = "process from nothing to a PNG" if sheet.cold else "step"
    unit = "seconds" if sheet.cold else "milliseconds"
    where = ", ".join(dict.fromkeys(result.device for result in sheet.results))
    title = f"{sheet.model} on {where}: a {kind}, median and IQR"
    return rows, title, unit


Column = Callable[[Result], str]

_NAMES: dict[str, Column] = {
    "by": lambda result: result.entry.family,
    "row": lambda result: result.entry.name,
}
_ALL: dict[str, Column] = {
    "IQR": lambda result: seconds(spread(result.each).iqr),
    "min": lambda result: seconds(min(result.each)),
    "max": lambda result: seconds(max(result.each)),
}
_PACE: dict[str, Column] = {
    **_NAMES,
    "dtype": lambda result: result.dtype,
    "steps": lambda result: f"{len(result.phases[0].steps)}",
    "step ms": lambda result: _ms(spread(result.steps).median),
    "IQR ms": lambda result: _ms(spread(result.steps).iqr),
    "min ms": lambda result: _ms(min(result.steps)),
    "max ms": lambda result: _ms(max(result.steps)),
    "picture s": lambda result: seconds(spread(result.each).median),
    **_ALL,
    "a second": lambda result: f"{1 / spread(result.each).median:.3g}",
}
_PARTS: dict[str, Column] = {
    **_NAMES,
    "load": lambda result: seconds(result.start and result.start.load),
    "first": lambda result: seconds(result.start and result.start.first),
    "encode": lambda result: _median(result, lambda one: one.encode),
    "walk": lambda result: _median(result, lambda one: sum(one.steps)),
    "decode": lambda result: _median(result, lambda one: one.decode),
    "write": lambda result: _median(result, lambda one: one.write),
    "overhead": lambda result: "-" if result.overhead is None else f"{result.overhead:.1%}",
    "cpu/wall": lambda result: f"{result.processor:.2f}",
    "peak MB": lambda result: _megabytes(result.peak),
}
_COLD: dict[str, Column] = {
    **_NAMES,
    "steps": lambda result: f"{result.entry.job.sampler.calls}",
    "wall": lambda result: seconds(spread(result.walls).median),
    **_ALL,
    "cpu/wall": lambda result: f"{result.processor:.2f}",
    "peak MB": lambda result: _megabytes(result.peak),
}


def _table(title: str, results: Sequence[Result], columns: dict[str, Column]) -> Table:
    left = tuple(i for i, head in enumerate(columns) if head in ("by", "row", "dtype"))
    cells = [tuple(column(result) for column in columns.values()) for result in results]
    return Table(title, tuple(columns), cells, left)


def _median(result: Result, part: Callable[[Phases], float]) -> str:
    return seconds(statistics.median(map(part, result.phases)) / result.entry.batch)


def seconds(number: float | None) -> str:
    """Seconds in three figures or in milliseconds' places; `-` for what was not measured."""
    return "-" if number is None else f"{number:.3f}" if number < 10 else f"{number:.2f}"


def _ms(number: float) -> str:
    return f"{1000 * number:.1f}" if number < 1 else f"{1000 * number:.0f}"


def _megabytes(number: int | None) -> str:
    return "-" if number is None else f"{number / 1e6:.0f}"
