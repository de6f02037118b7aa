"""Measurements as tables of words, for a terminal or a Markdown file."""

from collections.abc import Iterator, Sequence

from sdfast.bench.accuracy import Measured, Score
from sdfast.bench.best import MEASURES, Best, best_of, least
from sdfast.bench.files import Table

FAMILIAR = ("DPM++2M", "DPM++2M karras", "UniPC2", "PNDM shipped", "DDIM shipped", "Euler")
"""diffusers' rows that people know, shown whether or not they are the best at anything."""

_SAID = {
    "rms": "root mean square error",
    "median": "median error",
    "elsewhere": "share of samples that end elsewhere, %",
}


def worth_showing(found: Sequence[Measured], named: Sequence[str]) -> list[Measured]:
    """The measurements of the rows named, of familiar ones, and of those best at anything."""
    rows = {*named, *FAMILIAR}
    by_cell: dict[tuple[str, str, int], list[Measured]] = {}
    for one in found:
        if one.test:
            by_cell.setdefault((one.family, one.problem, one.budget), []).append(one)
    for here in by_cell.values():
        for measure in MEASURES:
            rows.add(least(here, measure).row)
    return [one for one in found if one.row in rows]


def tables(shown: Sequence[Measured], found: Sequence[Measured]) -> Iterator[Table]:
    """A table of every problem and measure, and the best of both sides where there are two.

    The best are of all that was found, the other tables of what is to be shown of it.
    """
    best = best_of(found)
    for problem in dict.fromkeys(one.problem for one in found):
        here = [one for one in shown if one.problem == problem]
        for measure, said in _SAID.items():
            yield _table(f"{problem}: {said}", here, measure)
        if duels := [one for one in best if one.problem == problem]:
            yield best_table(problem, duels)


def _table(title: str, found: Sequence[Measured], measure: str) -> Table:
    budgets = sorted({one.budget for one in found})
    rows: dict[tuple[str, str, str], dict[int, str]] = {}
    for one in found:
        end = "0" if one.end == "zero" else "min"
        rows.setdefault((one.family, one.row, end), {})[one.budget] = cell(one, measure)
    lines = [(*row, *(cells.get(budget, "-") for budget in budgets)) for row, cells in rows.items()]
    return Table(title, ("by", "row", "end", *map(str, budgets)), lines, (0, 1, 2))


def cell(one: Measured, measure: str) -> str:
    """A number of a measurement; `@7` says that it made 7 calls, fewer than it might have."""
    if one.test is None:
        return "fails" if one.failure else "-"
    number: float = getattr(one.test, measure)
    words = f"{100 * number:.0f}" if measure == "elsewhere" else figure(number)
    return words if one.calls == one.budget else f"{words} @{one.calls}"


def figure(number: float) -> str:
    """An error in three figures, small ones as 1.2e-05."""
    return (
        f"{number:.3g}" if number >= 1 else f"{number:.4f}" if number >= 1e-3 else f"{number:.1e}"
    )


def best_table(problem: str, duels: Sequence[Best]) -> Table:
    """The best of both sides, chosen on training noises and judged on the test noises."""
    lines = [
        (
            str(one.budget),
            one.measure,
            one.ours.row,
            figure(one.values[0]),
            one.peer.row,
            figure(one.values[1]),
            f"{one.ratio:.3f}",
        )
        for one in sorted(duels, key=lambda one: (one.measure != "rms", one.budget))
    ]
    title = f"{problem}: the best of both, chosen on the training noises, judged on the test noises"
    peer = duels[0].peer.family
    return Table(
        title, ("calls", "by", "sdfast", "error", peer, "error", "ratio"), lines, (1, 2, 4)
    )


def failures(found: Sequence[Measured]) -> list[str]:
    """Why rows failed, each reason once, with the numbers of calls it happened at."""
    at: dict[tuple[str, str, str, str], list[str]] = {}
    for one in found:
        if one.failure:
            key = (one.problem, one.family, one.row, one.failure)
            at.setdefault(key, []).append(str(one.budget))
    return [
        f"{problem}: {family} {row} at {', '.join(budgets)}: {failure}"
        for (problem, family, row, failure), budgets in at.items()
    ]


def numbers(score: Score | None) -> dict[str, float | None]:
    """A score's numbers by name."""
    return dict.fromkeys(Score._fields) if score is None else score._asdict()
