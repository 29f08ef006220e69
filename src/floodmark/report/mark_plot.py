"""The trials of a search as one inline SVG: latency and delivered rate over the value that was varied.

Input: a `Mark`. Output: SVG text for an HTML page, or nothing when no trial was measured. What held is a filled circle, what broke a cross,
what could not be judged an open square; the bracket between the two ends of the mark is tinted and named. The colours are variables of the
page, as in every picture (`picture.py`), so that one picture serves light and dark.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

from floodmark.model.mark import Mark, MarkTrial, Outcome
from floodmark.report.picture import STAND_INS, WIDTH, inline, tick

_PANEL, _TOP, _BOTTOM, _LEFT, _RIGHT, _GAP = 132, 40, 44, 66, 96, 40
_MARKERS: dict[Outcome, tuple[str, str, str]] = {  # colour, shape, name
    Outcome.HELD: ("pass", "o", "held"),
    Outcome.BROKE: ("fail", "x", "broke"),
    Outcome.UNKNOWN: ("muted", "s", "not judged"),
}
_SPREAD = 0.04  # of the whole range, left and right of the outermost trials
_DECADE_LEAST = 0.35  # of a picture of rates that hardly differ


def draw(mark: Mark) -> str:
    """Draw the trials. Returns: an `<svg>` element, or an empty text."""
    panels: list[tuple[str, str, list[tuple[MarkTrial, float]]]] = [
        ("Response latency p99, log scale", "latency", _points(mark, lambda trial: float(trial.p99_ns))),
        ("Delivered per second, log scale", "rate", _points(mark, lambda trial: trial.throughput_hz)),
    ]
    panels = [panel for panel in panels if panel[2]]
    if not panels:
        return ""
    import matplotlib
    from matplotlib.figure import Figure

    height = _TOP + len(panels) * (_PANEL + _GAP) - _GAP + _BOTTOM
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": mark.vary, "font.size": 11, "axes.unicode_minus": False}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
        for place, (title, unit, points) in enumerate(panels):
            low = height - _TOP - (place + 1) * _PANEL - place * _GAP
            box = (_LEFT / WIDTH, low / height, (WIDTH - _LEFT - _RIGHT) / WIDTH, _PANEL / height)
            axes = figure.add_axes(box, facecolor="none")
            _dress(axes, mark, title, last=place == len(panels) - 1)
            _scale(axes, [value for _, value in points], unit)
            _bracket(axes, mark, named=place == 0)
            _draw_points(axes, points)
        _legend(figure.axes[0], mark)
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    return inline(written.getvalue(), f"mark {mark.vary}", over=mark.vary)


def _points(mark: Mark, figure: Callable[[MarkTrial], float]) -> list[tuple[MarkTrial, float]]:
    """The trials that have this figure; a log axis has no place for 0."""
    return [(trial, value) for trial in mark.trials if (value := figure(trial)) > 0 and math.isfinite(value)]


def _dress(axes: Any, mark: Mark, title: str, *, last: bool) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    values = [trial.value for trial in mark.trials]
    axes.set_xscale("log")
    low, high = math.log10(min(values)), math.log10(max(values))
    room = max((high - low) * _SPREAD, 0.02)
    axes.set_xlim(10 ** (low - room), 10 ** (high + room))
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set(color=STAND_INS["muted"], linewidth=0.7)
    axes.grid(axis="y", color=STAND_INS["line"], linewidth=0.7)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(FixedLocator(ticks(min(values), max(values))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: tick(value, "rate"))
    axes.tick_params(which="both", length=0, labelsize=10.5, labelcolor=STAND_INS["muted"], labelbottom=last)
    axes.text(-_LEFT / (WIDTH - _LEFT - _RIGHT), 1 + 15 / _PANEL, title, transform=axes.transAxes, color=STAND_INS["ink"], weight="bold")
    if last:
        name = f"{mark.vary}, {mark.unit}" if mark.unit else mark.vary
        axes.text(1.0, -30 / _PANEL, name, transform=axes.transAxes, color=STAND_INS["muted"], ha="right", fontsize=10.5, parse_math=False)


def ticks(low: float, high: float, *, most: int = 9) -> list[float]:
    """Round values of a log axis from `low` to `high`: as many of 1, 2, 5 in each decade as have room; the ends where there are none.

    >>> ticks(1000, 40_000)
    [1000.0, 2000.0, 5000.0, 10000.0, 20000.0]
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 5), (1, 3), (1,)):
        found = [step * 10.0**decade for decade in decades for step in steps]
        found = [value for value in found if low * 0.999 <= value <= high * 1.001]
        if 2 <= len(found) <= most:
            return found
    return sorted({low, high})


def _scale(axes: Any, values: Sequence[float], unit: str) -> None:
    """A log axis with room around the points, at least a third of a decade."""
    from matplotlib.ticker import FixedLocator, NullLocator

    low, high = math.log10(min(values)), math.log10(max(values))
    room = max(0.08 * (high - low), (_DECADE_LEAST - (high - low)) / 2, 0.05)
    axes.set_yscale("log")
    axes.set_ylim(10 ** (low - room), 10 ** (high + room))
    axes.yaxis.set_major_locator(FixedLocator(ticks(10 ** (low - room), 10 ** (high + room), most=5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: tick(value, unit))


def _bracket(axes: Any, mark: Mark, *, named: bool) -> None:
    """Tint what lies between the ends of the mark, and draw each end that there is."""
    if mark.held is not None and mark.broke is not None:
        axes.axvspan(mark.held, mark.broke, color=STAND_INS["mark"], alpha=0.16, linewidth=0, zorder=0)
    for value in (mark.held, mark.broke):
        if value is not None:
            axes.axvline(value, color=STAND_INS["mark"], linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
    if named:
        ends = ((mark.held, "held ", "right"), (mark.broke, " broke", "left"))
        for value, word, side in ends:
            if value is not None:
                place = axes.get_xaxis_transform()
                axes.text(value, 1 + 3 / _PANEL, word, transform=place, color=STAND_INS["mark"], fontsize=10, ha=side)


def _draw_points(axes: Any, points: Sequence[tuple[MarkTrial, float]]) -> None:
    medians = _line(points)
    axes.plot([x for x, _ in medians], [y for _, y in medians], color=STAND_INS["muted"], linewidth=0.8, zorder=2)
    for outcome, (colour, shape, _) in _MARKERS.items():
        chosen = [(trial.value, value) for trial, value in points if trial.outcome is outcome]
        if chosen:
            axes.plot(
                [x for x, _ in chosen],
                [y for _, y in chosen],
                linestyle="none",
                marker=shape,
                markersize=6,
                markeredgewidth=1.6,
                color=STAND_INS[colour],
                markerfacecolor="none" if outcome is Outcome.UNKNOWN else STAND_INS[colour],
                zorder=3,
            )


def _line(points: Sequence[tuple[MarkTrial, float]]) -> list[tuple[float, float]]:
    """The middle of each value's trials, by value."""
    found = []
    for value in sorted({trial.value for trial, _ in points}):
        here = sorted(seen for trial, seen in points if trial.value == value)
        found.append((value, here[len(here) // 2]))
    return found


def _legend(axes: Any, mark: Mark) -> None:
    """Name the shapes that occur, at the right of the first picture."""
    present = [outcome for outcome in _MARKERS if any(trial.outcome is outcome for trial in mark.trials)]
    for place, outcome in enumerate(present):
        colour, shape, name = _MARKERS[outcome]
        height = 1 - (8 + place * 17) / _PANEL
        face = "none" if outcome is Outcome.UNKNOWN else STAND_INS[colour]
        axes.plot(
            [1.03],
            [height],
            transform=axes.transAxes,
            marker=shape,
            markersize=6,
            markeredgewidth=1.6,
            color=STAND_INS[colour],
            markerfacecolor=face,
            linestyle="none",
            clip_on=False,
        )
        axes.text(1.045, height, name, transform=axes.transAxes, color=STAND_INS["ink"], va="center", fontsize=10.5)
