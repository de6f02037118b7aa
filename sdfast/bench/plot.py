"""Measurements as pictures: error against calls, and bars; the one place that knows matplotlib."""

import io
import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

from sdfast.bench.accuracy import Measured
from sdfast.bench.best import MEASURES, Measure, value
from sdfast.errors import UsageError

_MOST = 5
"""Lines of one family in one panel; more could not be told apart."""

_MARKS = "osD^v"
_LOOKS = {
    "sdfast": ("-", ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e")),
    "diffusers": ("--", ("#222222", "#555555", "#777777", "#999999", "#bbbbbb")),
}
"""Ours in colours and whole lines, theirs in greys and broken ones."""

_TITLES: dict[Measure, str] = {"rms": "root mean square error", "median": "median error"}

Points = list[tuple[int, float]]


class Bar(NamedTuple):
    """One row: whose it is, its middle and the quartiles around it."""

    family: str
    label: str
    middle: float
    low: float
    high: float


def check_plot(place: str) -> None:
    """Raise UsageError unless a plot can be drawn and is to be a PNG."""
    if not place.lower().endswith(".png"):
        raise UsageError(f"a plot is a PNG, and `{place}` does not end in .png")
    if find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib", "pip install matplotlib")


def plot(found: Sequence[Measured]) -> bytes:
    """A PNG with a panel for each problem and measure: error against calls, both in logs.

    Of each family the rows are drawn that are nearest over all numbers of calls.
    """
    from matplotlib.figure import Figure  # pyright: ignore

    problems = list(dict.fromkeys(one.problem for one in found))
    kind: Any = Figure
    figure = kind(figsize=(9 * len(problems), 10), dpi=120, layout="constrained")
    panels = figure.subplots(2, len(problems), squeeze=False)
    for column, problem in enumerate(problems):
        here = [one for one in found if one.problem == problem and one.test]
        for line, measure in enumerate(MEASURES):
            _panel(panels[line][column], here, measure)
            panels[line][column].set_title(f"{problem}: {_TITLES[measure]}")
    return _png(figure)


def bars(rows: Sequence[Bar], title: str, unit: str) -> bytes:
    """A PNG with a bar for each row, the first on top, and its middle half as a whisker."""
    from matplotlib.figure import Figure  # pyright: ignore

    kind: Any = Figure
    figure = kind(figsize=(9, 1.6 + 0.5 * len(rows)), dpi=120, layout="constrained")
    panel = figure.subplots()
    most = max(row.high for row in rows)
    for place, row in enumerate(rows):
        colour = _LOOKS[row.family][1][0]
        whiskers = [[row.middle - row.low], [row.high - row.middle]]
        style = {"capsize": 3, "ecolor": "#999999"}
        panel.barh(place, row.middle, 0.7, color=colour, xerr=whiskers, error_kw=style)
        panel.text(row.high + 0.01 * most, place, f"{row.middle:.4g}", va="center", fontsize=9)
    panel.set_yticks(range(len(rows)), [row.label for row in rows])
    panel.set(title=title, xlabel=unit, xlim=(0, 1.12 * most))
    panel.invert_yaxis()
    panel.grid(True, axis="x", alpha=0.3)
    panel.set_axisbelow(True)
    return _png(figure)


def _png(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _panel(panel: Any, found: Sequence[Measured], measure: Measure) -> None:
    for family, (dashes, colours) in _LOOKS.items():
        rows = _rows([one for one in found if one.family == family], measure)
        for mark, colour, (name, points) in zip(_MARKS, colours, _nearest(rows), strict=False):
            calls, errors = zip(*points, strict=True)
            label = f"{family} {name}"
            panel.plot(calls, errors, dashes, color=colour, marker=mark, ms=4, label=label)
    calls = sorted({one.budget for one in found})
    panel.set(xscale="log", yscale="log", xlabel="network calls", ylabel="error")
    panel.set_xticks(calls, [str(n) for n in calls])
    panel.xaxis.minorticks_off()
    panel.grid(True, which="major", alpha=0.3)
    if panel.get_legend_handles_labels()[0]:
        panel.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0))


def _rows(found: Sequence[Measured], measure: Measure) -> dict[str, Points]:
    """Each row's errors by calls; of rows that walk alike only the first."""
    rows: dict[str, Points] = {}
    for one in found:
        rows.setdefault(one.row, []).append((one.calls, max(value(one.test, measure), 1e-12)))
    alike = {tuple(sorted(points)): name for name, points in reversed(rows.items())}
    return {name: list(points) for points, name in reversed(alike.items())}


def _nearest(rows: dict[str, Points]) -> list[tuple[str, Points]]:
    """The rows measured most often, and of those the ones with the least error on average."""

    def rank(row: tuple[str, Points]) -> tuple[int, float]:
        _, points = row
        return -len(points), sum(math.log(error) for _, error in points) / len(points)

    return sorted(rows.items(), key=rank)[:_MOST]
