"""A scenario over time as one inline SVG: rate, latency and memory, one above the other on a common time axis.

Input: a Timeline. Output: SVG text for an HTML page, or nothing when there is nothing to draw. No script, no request, no font of its own.
Faults stand as bars in a strip under the first picture, one row for each fault slot, and as bands through all of them.
Curves are thinned (series.thin), which keeps every peak. matplotlib is imported on first use: that takes half a second.
Not here: the colours, and how a picture becomes part of a page (picture.py).
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from floodmark.model.result import FaultResult
from floodmark.report import figures
from floodmark.report.picture import STAND_INS, WIDTH, inline, tick
from floodmark.report.series import Curve, Mark, Timeline, thin

POINTS = 360
_PANEL_HEIGHT, _TOP, _BOTTOM, _LEFT, _RIGHT, _GAP = 118, 52, 34, 66, 128, 34  # units of the viewBox, about pixels
_MARKS_LIMIT = 60
_MARK_ROWS, _MARK_UNITS = 2, 12  # between the first panel and its title
_LABEL_UNITS, _CHARACTER_UNITS = 13, 5.6
_STRIP_LIMIT, _STRIP_UNITS, _BAR_UNITS, _STRIP_FROM = 6, 13, 7, 9  # rows of faults under the first panel
_BLOW_UNITS = 3  # how wide a blow without a length is drawn


class _Stroke(NamedTuple):
    """How one series is drawn."""

    series: str
    label: str
    colour: str
    width: float = 1.5
    dashes: str | tuple[int, tuple[float, ...]] = "solid"


class _Panel(NamedTuple):
    """One of the pictures above each other."""

    title: str
    strokes: tuple[_Stroke, ...]
    unit: str


_DOTS = (0, (1.0, 1.6))
_DASHES = (0, (4.0, 2.0))
_PANELS = (
    _Panel(
        "Rate per second",
        (_Stroke("delivered_hz", "delivered", "plot-a"), _Stroke("published_hz", "published", "plot-b", 1.3, _DASHES)),
        "rate",
    ),
    _Panel(
        "Latency, log scale",
        (
            _Stroke("response_max_ns", "response max", "plot-a", 0.9, _DOTS),
            _Stroke("response_p99_ns", "response p99", "plot-a", 1.7),
            _Stroke("response_p50_ns", "response p50", "plot-c", 1.3),
            _Stroke("service_p99_ns", "service p99", "plot-b", 1.3, _DASHES),
        ),
        "latency",
    ),
    _Panel(
        "Resident memory",
        (_Stroke("target_rss_bytes", "target", "plot-a", 1.7), _Stroke("harness_rss_bytes", "floodmark", "muted", 1.0, _DASHES)),
        "memory",
    ),
)


def draw(seen: Timeline, *, name: str, faults: Sequence[FaultResult] = ()) -> str:
    """Draw a scenario's curves.

    Args:
        faults: what is shown as strip and bands.
        name: told to screen readers; and, made safe, what keeps the ids of several pictures in one page apart.
    Returns: an `<svg>` element, or an empty text when no curve of the panels has a finite value.
    """
    panels = [(panel, curves) for panel in _PANELS if (curves := _drawable(panel, seen.curves))]
    if not panels:
        return ""
    import matplotlib
    from matplotlib.figure import Figure

    strip = _strip(faults)
    room = _room(strip)
    height = _TOP + len(panels) * (_PANEL_HEIGHT + _GAP) - _GAP + _BOTTOM + room
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 11, "path.simplify": True, "axes.unicode_minus": False}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # only the reader's browser has to have the letters of a phase's name
        figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
        _paint(figure, panels, seen.marks, strip, height)
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    return inline(written.getvalue(), name)


def _drawable(panel: _Panel, curves: Mapping[str, Curve]) -> list[tuple[_Stroke, Curve]]:
    """The panel's curves without what its axis cannot show: a log axis has no place for 0."""
    drawn = []
    for stroke in panel.strokes:
        curve = curves.get(stroke.series, Curve([], []))
        good = [
            (t_s, value)
            for t_s, value in zip(curve.t_s, curve.values, strict=True)
            if math.isfinite(t_s) and math.isfinite(value) and (value > 0 or panel.unit != "latency")
        ]
        if good:
            drawn.append((stroke, thin(Curve([t_s for t_s, _ in good], [value for _, value in good]), points=POINTS)))
    return drawn


def _strip(faults: Sequence[FaultResult]) -> list[list[FaultResult]]:
    """The blows of each fault slot that are drawn: so many slots as have room, and of a fault that strikes a thousand times a part."""
    rows = [list(group) for _, group in groupby(sorted(faults, key=lambda one: (one.index, one.occasion)), key=lambda one: one.index)]
    return [row[:_MARKS_LIMIT] for row in rows[:_STRIP_LIMIT]]


def _room(strip: Sequence[Sequence[FaultResult]]) -> int:
    return _STRIP_FROM + len(strip) * _STRIP_UNITS - _BAR_UNITS if strip else 0


def _paint(
    figure: Any,
    panels: Sequence[tuple[_Panel, list[tuple[_Stroke, Curve]]]],
    marks: Sequence[Mark],
    strip: Sequence[Sequence[FaultResult]],
    height: float,
) -> None:
    times = [t_s for _, curves in panels for _, curve in curves for t_s in (curve.t_s[0], curve.t_s[-1])]
    first_s, last_s = min(times), max(times)
    if first_s == last_s:
        first_s, last_s = first_s - 0.5, last_s + 0.5
    shown = _spaced([mark for mark in marks if first_s <= mark.t_s <= last_s])
    for place, (panel, curves) in enumerate(panels):
        low = height - _TOP - (place + 1) * _PANEL_HEIGHT - place * _GAP - (_room(strip) if place else 0)
        axes = figure.add_axes((_LEFT / WIDTH, low / height, (WIDTH - _LEFT - _RIGHT) / WIDTH, _PANEL_HEIGHT / height), facecolor="none")
        axes.set_xlim(first_s, last_s)
        _dress(axes, panel, last=place == len(panels) - 1, lifted=place == 0 and bool(shown))
        for stroke, curve in curves:
            axes.plot(
                curve.t_s,
                curve.values,
                color=STAND_INS[stroke.colour],
                linewidth=stroke.width,
                linestyle=stroke.dashes,
                marker="o" if len(curve.t_s) == 1 else "",
                markersize=3,
                solid_joinstyle="round",
            )
        _scale(axes, panel, [value for _, curve in curves for value in curve.values])
        _band(axes, strip)
        for mark in shown:
            axes.axvline(mark.t_s, color=STAND_INS["mark"], linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
        _name_curves(axes, curves)
        if place == 0:
            units_per_s = (WIDTH - _LEFT - _RIGHT) / (last_s - first_s)
            _name_marks(axes, shown, units_per_s)
            _bars(axes, strip, units_per_s)


def _span(one: FaultResult, axes: Any) -> tuple[float, float]:
    """From when to when a fault is drawn: within the picture, and a standing one all over it."""
    first_s, last_s = axes.get_xlim()
    struck_s, lifted_s = (first_s, last_s) if one.standing else (one.struck_s, one.lifted_s)
    return min(max(struck_s, first_s), last_s), min(max(lifted_s, first_s), last_s)


def _band(axes: Any, strip: Sequence[Sequence[FaultResult]]) -> None:
    """Tint the time that faults held; one that stood all the time would tint everything, and is left to the strip."""
    for one in (one for row in strip for one in row if not one.standing):
        struck_s, lifted_s = _span(one, axes)
        if lifted_s > struck_s:
            axes.axvspan(struck_s, lifted_s, color=STAND_INS["mark"], alpha=0.09, linewidth=0, zorder=0)


def _bars(axes: Any, strip: Sequence[Sequence[FaultResult]], units_per_s: float) -> None:
    """Draw the strip: one row for each fault, its name at the right as the curves have theirs."""
    from matplotlib.patches import Rectangle

    for number, row in enumerate(strip):
        top = -(_STRIP_FROM + number * _STRIP_UNITS) / _PANEL_HEIGHT
        for one in row:
            struck_s, lifted_s = _span(one, axes)
            width = max(lifted_s - struck_s, _BLOW_UNITS / units_per_s)
            bar = Rectangle(
                (struck_s, top - _BAR_UNITS / _PANEL_HEIGHT),
                width,
                _BAR_UNITS / _PANEL_HEIGHT,
                transform=axes.get_xaxis_transform(),
                color=STAND_INS["mark"],
                linewidth=0,
                clip_on=False,
            )
            axes.add_patch(bar)
        axes.text(
            1.012,
            top - _BAR_UNITS / 2 / _PANEL_HEIGHT,
            _short(row[0].kind),
            transform=axes.transAxes,
            color=STAND_INS["mark"],
            va="center",
            fontsize=10,
            parse_math=False,
        )


def _spaced(marks: list[Mark]) -> list[Mark]:
    """At most about _MARKS_LIMIT of them, the first and the last among them: a fault may be repeated a thousand times."""
    step = -(-len(marks) // _MARKS_LIMIT) or 1
    return marks if step == 1 else [*marks[:-1:step], marks[-1]]


def _dress(axes: Any, panel: _Panel, *, last: bool, lifted: bool) -> None:
    """Take away what is not needed to read the curves: ticks, box, vertical grid."""
    from matplotlib.ticker import MaxNLocator

    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set(color=STAND_INS["muted"], linewidth=0.7)
    axes.grid(axis="y", color=STAND_INS["line"], linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, labelsize=10.5, labelcolor=STAND_INS["muted"], labelbottom=last)
    title = 1 + (11 + (_MARK_ROWS * _MARK_UNITS if lifted else 0)) / _PANEL_HEIGHT
    axes.text(-_LEFT / (WIDTH - _LEFT - _RIGHT), title, panel.title, transform=axes.transAxes, color=STAND_INS["ink"], weight="bold")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=9, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} s")


def _scale(axes: Any, panel: _Panel, values: Sequence[float]) -> None:
    """Give the value axis round limits and labels in the unit of the panel."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    if panel.unit == "latency":
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        axes.set_yscale("log")
        axes.set_ylim(10.0**low, 10.0 ** max(high, low + 1))
        axes.yaxis.set_major_locator(LogLocator(numticks=5))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(lambda value, _: tick(value, "latency"))
        return
    top = max(max(values), 1e-9) * 1.08
    step = (
        next(factor for factor in (1024.0**3, 1024.0**2, 1024.0, 1.0) if top >= factor or factor == 1.0) if panel.unit == "memory" else 1.0
    )
    axes.set_ylim(0, top)
    ticks = MaxNLocator(nbins=4, steps=[1, 2, 5, 10]).tick_values(0, top / step)
    axes.set_yticks([value * step for value in ticks if value * step <= top])
    axes.yaxis.set_major_formatter(lambda value, _: tick(value, panel.unit))


def _name_curves(axes: Any, curves: Sequence[tuple[_Stroke, Curve]]) -> None:
    """Write each curve's name at its end, pushed apart where ends meet: no legend to look up."""
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = sorted((float(to_axes.transform((curve.t_s[-1], curve.values[-1]))[1]), stroke) for stroke, curve in curves)
    gap = _LABEL_UNITS / _PANEL_HEIGHT
    places = [height for height, _ in ends]
    for index in range(1, len(places)):
        places[index] = max(places[index], places[index - 1] + gap)
    excess = max(0.0, places[-1] - 1.0)
    for index, (_, stroke) in enumerate(ends):
        axes.text(
            1.012,
            places[index] - excess,
            stroke.label,
            transform=axes.transAxes,
            color=STAND_INS[stroke.colour],
            va="center",
            fontsize=10.5,
        )


def _name_marks(axes: Any, marks: Sequence[Mark], units_per_s: float) -> None:
    """Write what happened above its line, in the first row that has room; where none has, the line alone has to do."""
    taken = [-math.inf] * _MARK_ROWS
    first_s = axes.get_xlim()[0]
    for mark in marks:
        left = (mark.t_s - first_s) * units_per_s
        text = _short(mark.text)
        for row in range(_MARK_ROWS):
            if left >= taken[row]:
                taken[row] = left + _CHARACTER_UNITS * len(text) + 10
                axes.text(
                    mark.t_s,
                    1.0 + (5 + row * _MARK_UNITS) / _PANEL_HEIGHT,
                    text,
                    transform=axes.get_xaxis_transform(),
                    color=STAND_INS["mark"],
                    fontsize=10,
                    parse_math=False,
                )
                break


def _short(text: str) -> str:
    plain = " ".join(figures.clean(text).split())
    return plain if len(plain) <= 28 else f"{plain[:27]}…"
