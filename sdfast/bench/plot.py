"""Measurements as pictures: error against calls, and bars; the one place that knows matplotlib."""

import io
import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

from sdfast.bench.accuracy import Measured
from sdfast.bench.best import MEASURES, Measure, value
from sdfast.errors import UsageError

_MOST = 4
"""Lines of one family; more could not be told apart."""

_KNOWN = ("tuned", "default", "DPM++2M", "PNDM shipped")
"""Drawn wherever they are measured: what is fitted and what is shipped here, diffusers'
DPM-Solver++ as it comes, and what Stable Diffusion was shipped with. The others are the nearest of
a family."""

_LOOKS = {
    "sdfast": ("-", "os^D", ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e")),
    "diffusers": ("--", "v<>P", ("#222222", "#666666", "#999999", "#bbbbbb")),
}
"""Ours in colours and whole lines, theirs in greys and broken ones."""

_TITLES: dict[Measure, str] = {"rms": "root mean square error", "median": "median error"}

_Points = list[tuple[int, float]]


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

    A row looks alike in all panels. Of each family the known rows are drawn, and of the others
    those that are nearest over all panels and numbers of calls.
    """
    from matplotlib.figure import Figure  # pyright: ignore

    problems = list(dict.fromkeys(one.problem for one in found))
    kind: Any = Figure
    figure = kind(figsize=(6.5 * len(problems), 10), dpi=120, layout="constrained")
    panels = figure.subplots(2, len(problems), squeeze=False)
    for family, (dashes, marks, colours) in _LOOKS.items():
        rows = _chosen([one for one in found if one.family == family and one.test])
        for mark, colour, row in zip(marks, colours, rows, strict=False):
            look = {"color": colour, "marker": mark, "ms": 4, "label": f"{family} {row}"}
            of_row = [one for one in found if (one.family, one.row) == (family, row)]
            for column, problem in enumerate(problems):
                here = [one for one in of_row if one.problem == problem and one.test]
                for panel, measure in zip(panels[:, column], MEASURES, strict=True):
                    calls, errors = zip(*_points(here, measure), strict=True) if here else ((), ())
                    panel.plot(calls, errors, dashes, **look)
    calls = sorted({one.budget for one in found})
    for column, problem in enumerate(problems):
        for panel, measure in zip(panels[:, column], MEASURES, strict=True):
            _set_up(panel, calls, f"{problem}: {_TITLES[measure]}")
    handles, labels = panels[0][0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
    return _png(figure)


def _set_up(panel: Any, calls: Sequence[int], title: str) -> None:
    panel.set(xscale="log", yscale="log", xlabel="network calls", ylabel="error", title=title)
    panel.set_xticks(calls, [str(n) for n in calls])
    panel.xaxis.minorticks_off()
    panel.grid(True, which="major", alpha=0.3)


def bars(rows: Sequence[Bar], title: str, unit: str) -> bytes:
    """A PNG with a bar for each row, the first on top, and its middle half as a whisker."""
    from matplotlib.figure import Figure  # pyright: ignore

    kind: Any = Figure
    figure = kind(figsize=(9, 1.6 + 0.5 * len(rows)), dpi=120, layout="constrained")
    panel = figure.subplots()
    most = max(row.high for row in rows)
    for place, row in enumerate(rows):
        colour = _LOOKS[row.family][2][0]
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


def _points(found: Sequence[Measured], measure: Measure) -> _Points:
    return [(one.calls, max(value(one.test, measure), 1e-12)) for one in found]


def _chosen(found: Sequence[Measured]) -> list[str]:
    """The rows of a family to draw; of rows that walk alike only the first by rank."""
    rows: dict[str, _Points] = {}
    for one in found:
        both = [point for measure in MEASURES for point in _points([one], measure)]
        rows.setdefault(one.row, []).extend(both)

    def rank(name: str) -> tuple[int, int, float]:
        """The known, then those measured most often, and of these the least error on average."""
        known = _KNOWN.index(name) if name in _KNOWN else len(_KNOWN)
        points = rows[name]
        return known, -len(points), sum(math.log(error) for _, error in points) / len(points)

    by_rank = sorted(rows, key=rank)
    alike = {tuple(rows[name]): name for name in reversed(by_rank)}
    return [name for name in by_rank if name in alike.values()][:_MOST]
