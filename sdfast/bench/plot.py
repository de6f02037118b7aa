"""Error against calls as a picture; the one place that knows matplotlib."""

import io
import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

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


def check_plot(place: str) -> None:
    """Raise UsageError unless a plot can be drawn and is to be a PNG."""
    if not place.lower().endswith(".png"):
        raise UsageError(f"a plot is a PNG, and `{place}` does not end in .png")
    if find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib", 'pip install "sdfast[plot]"')


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
