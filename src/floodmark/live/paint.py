"""Turn the board into lines of a given width: the title, the scenarios, the figures and the curves of one, what was found.

Pure, but for the running clock that the board reads. Text of a target is shown as text. A figure that is not known is a dash.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from floodmark.live.board import RUNNING, WAITING, Board, Task
from floodmark.live.plot import NOBODY, Cell, draw, round_up
from floodmark.live.trace import Trace
from floodmark.report import figures
from floodmark.report.figures import NONE

DIM, FAINT = "$foreground 65%", "$foreground 40%"
STATES: Final[dict[str, tuple[str, str]]] = {
    "PASS": ("✓", "bold $text-success"),
    "FAIL": ("✗", "bold $text-error"),
    "UNKNOWN": ("?", "bold $text-warning"),
    RUNNING: ("▸", "bold $text-accent"),
    WAITING: ("·", FAINT),
}
GUTTER = 9  # columns at the left of a plot for the figures of its axis
THREE_COLUMNS, TWO_COLUMNS = 120, 56  # from how wide on that many plots stand side by side
STATE_COLUMNS = 15
TALL_ROWS = 15  # from here on two rows of plots
FAN_OUT = 4.0  # with more deliveries than that for a message, the rates have no common axis


class Curve(NamedTuple):
    """A curve of a plot: where it is found, what it is called, its colour."""

    name: str
    label: str
    style: str


class Plot(NamedTuple):
    """What stands together on one axis; the curve that matters most comes first."""

    title: str
    curves: tuple[Curve, ...]
    units: tuple[tuple[float, str], ...]  # in which the axis may be told, the largest first


RATE = Plot(
    "rate",
    (
        Curve("delivered_hz", "delivered", "$text-success"),
        Curve("published_hz", "sent", "$text-primary"),
        Curve("offered_hz", "offered", "$foreground 50%"),
    ),
    ((1.0, "/s"),),
)
LATENCY = Plot(
    "latency",
    (Curve("p99_ns", "p99", "$text-warning"), Curve("p50_ns", "p50", "$text-primary")),
    ((1e9, " s"), (1e6, " ms"), (1e3, " µs")),
)
MEMORY = Plot(
    "memory",
    (Curve("target_rss_bytes", "target", "$text-error"), Curve("harness_rss_bytes", "floodmark", "$foreground 50%")),
    ((2.0**30, " GiB"), (2.0**20, " MiB")),
)


def _short(value: float) -> str:
    """A figure for an axis.

    >>> _short(1500.0), _short(50.0), _short(0.5), _short(2e6)
    ('1.5k', '50', '0.5', '2M')
    """
    for factor, letter in ((1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:g}{letter}"
    return f"{value:.3g}"


def cut(text: str, columns: int) -> str:
    """Bring a text to a width, with an ellipsis where something is left out.

    >>> cut("first.rooms", 8), cut("a", 3)
    ('first.r…', 'a  ')
    """
    text = figures.clean(text)
    if cell_len(text) > columns:
        text = set_cell_size(text, max(columns - 1, 0)) + "…"
    return set_cell_size(text, max(columns, 0))


def title(board: Board, columns: int) -> Content:
    """The first line: what is being watched, and how it stands."""
    run = board.run
    mark, style = STATES[run.state]
    word = run.state if run.over else ("running" if run.state == RUNNING else "waiting for the run")
    left = [("floodmark", "bold"), ("  ", ""), (f"{mark} {word}", style), (f"  {_seconds(board.elapsed_s)}", DIM)]
    if run.reason:
        room = columns - 3 - sum(cell_len(text) for text, _ in left)
        left.append((f"  {cut(run.reason, room).rstrip()}", "$text-success" if run.state == "PASS" else "$text-warning"))
    width = sum(cell_len(text) for text, _ in left)
    right = run.title if width + cell_len(run.title) + 4 <= columns else ""
    return Content.assemble(" ", *left, " " * max(columns - width - cell_len(right) - 2, 0), (right, DIM))


def scenarios(board: Board, columns: int, rows: int) -> Content:
    """A head, and one line for each scenario, those around the one that is shown if there is no room for all."""
    tasks, shown = list(board.tasks.values()), board.shown
    if not tasks:
        return Content.styled(" nothing has been told yet", FAINT)
    at = tasks.index(shown) if shown is not None else 0
    listed = max(rows - 1, 1)
    first = min(max(at - listed // 2, 0), max(len(tasks) - listed, 0))
    lines = [_row(None, _cells(board, None, columns), columns, shown=False)]
    lines += [_row(task, _cells(board, task, columns), columns, shown=task is shown) for task in tasks[first : first + listed]]
    return Content("\n").join(lines[:rows])


class _Column(NamedTuple):
    """A cell of the table."""

    text: str
    width: int
    style: str = ""


def _cells(board: Board, task: Task | None, columns: int) -> list[_Column]:
    """The figures of a scenario, or the head of the table without one; fewer where there is less room."""
    known = task.figures if task is not None else {}

    def cell(head: str, name: str, show: Callable[[float], str], width: int, style: str = DIM) -> _Column:
        text = head if task is None else _known(known, name, show) if task.state != WAITING else ""
        return _Column(text, width, style)

    took = "time" if task is None else _took(board, task)
    lost_style = "bold $text-error" if known.get("lost") else DIM
    return [
        *([_Column(took, 9, DIM)] if columns >= 90 else []),
        cell("delivered", "delivered", _count, 12, "$foreground"),
        *([cell("rate", "delivered_hz", _rate, 12)] if columns >= 110 else []),
        cell("lost", "lost", _count, 7, lost_style),
        cell("p99", "p99_ns", _latency, 10),
        *([cell("memory", "target_rss_bytes", figures.size, 10)] if columns >= 80 else []),
    ]


def _row(task: Task | None, cells: list[_Column], columns: int, *, shown: bool) -> Content:
    """A line of the table; the head without a task."""
    mark, style = (" ", FAINT) if task is None else STATES[task.state]
    word = "" if task is None else (_step(task) if task.state == RUNNING else task.state)
    ground = " on $accent 20%" if shown else ""
    waiting = task is None or task.state == WAITING
    room = columns - 5 - STATE_COLUMNS - sum(cell.width for cell in cells)
    name = "scenario" if task is None else task.id
    parts: list[tuple[str, str]] = [
        (f" {mark} ", style + ground),
        (cut(name, room), f"{'bold ' if shown else ''}{DIM if waiting else '$foreground'}{ground}"),
        (cut(f" {word}", STATE_COLUMNS), style + ground),
        *((cell.text.rjust(cell.width), (FAINT if task is None else cell.style) + ground) for cell in cells),
        ("  ", f"{FAINT}{ground}"),
    ]
    return Content.assemble(*parts)


def _count(value: float) -> str:
    return figures.count(int(value))


def _rate(value: float) -> str:
    return f"{figures.three(value)} /s" if value else "0 /s"  # none at all is a figure here: it was seen


def _latency(value: float) -> str:
    return figures.latency(int(value))


def _step(task: Task) -> str:
    return f"{task.step} {task.progress_ratio:.0%}" if 0 < task.progress_ratio < 1 else task.step


def _took(board: Board, task: Task) -> str:
    if "duration_s" in task.figures:
        return _seconds(task.figures["duration_s"])
    if task.began_s is None or task.over:
        return ""
    return _seconds(board.elapsed_s - task.began_s)


def _seconds(seconds: float) -> str:
    """A duration that does not flicker: whole seconds, and hours and minutes for long ones.

    >>> _seconds(12.7), _seconds(3725)
    ('12 s', '1:02:05')
    """
    whole = int(seconds)
    if whole < 600:
        return f"{whole} s"
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _known(known: dict[str, float], name: str, show: Callable[[float], str]) -> str:
    value = known.get(name)
    return NONE if value is None else show(value)


def heading(board: Board, columns: int) -> Content:
    """Which scenario the figures below belong to, and why it ended as it did."""
    task = board.shown
    if task is None:
        return Content("")
    said = f"{task.id}: {task.title}" if task.title else task.id
    why = task.reason or (task.notes[-1][1] if task.notes and not task.over else "")
    text = f"── {figures.clean(said)} "
    tail = f"{figures.clean(why)} " if why else ""
    if cell_len(text) + cell_len(tail) + 3 > columns:
        text = cut(text, max(columns - cell_len(tail) - 3, 24)).rstrip() + " "
    tail = cut(tail, max(columns - cell_len(text) - 3, 0)).rstrip()
    tail = f" {tail} " if tail else ""
    rule = "─" * max(columns - cell_len(text) - cell_len(tail), 0)
    return Content.assemble((text, "bold $foreground"), (rule, FAINT), (tail, "$text-warning"))


def facts(board: Board, columns: int) -> Content:
    """Two lines of figures of the scenario that is shown."""
    task = board.shown
    known = task.figures if task is not None else {}
    cells = [
        ("offered", _offered(task)),
        ("sent", _known(known, "published_hz", _rate)),
        ("delivered", _known(known, "delivered_hz", _rate)),
        ("connections", _known(known, "connections", _count)),
        ("p50", _known(known, "p50_ns", _latency)),
        ("p99", _known(known, "p99_ns", _latency)),
        ("target", _known(known, "target_rss_bytes", figures.size)),
        ("floodmark", _known(known, "harness_rss_bytes", figures.size)),
    ]
    width = max((columns - 2) // 4, 12)
    lines = []
    for row in (cells[:4], cells[4:]):
        parts: list[tuple[str, str]] = [(" ", "")]
        for label, value in row:
            shown = cut(f"{label} ", min(cell_len(label) + 1, width))
            parts += [(shown, DIM), (cut(value, width - cell_len(shown)), "bold $foreground")]
        lines.append(Content.assemble(*parts))
    return Content("\n").join(lines)


def _offered(task: Task | None) -> str:
    """What the load asks for now; what it asked for at most once it is over."""
    if task is None or not task.over:
        return NONE if task is None else _known(task.figures, "offered_hz", _rate)
    trace = task.traces.get("offered_hz")
    return f"≤ {_rate(trace.highest)}" if trace is not None and trace.highest else NONE


def plots(board: Board, columns: int, rows: int) -> Content:
    """The curves of the scenario that is shown, as many plots as have room."""
    task = board.shown
    if task is None or rows < 4:
        return Content("")
    if columns >= THREE_COLUMNS:
        return _beside(task, (RATE, LATENCY, MEMORY), columns, rows)
    if columns < TWO_COLUMNS:
        return _beside(task, (RATE,), columns, rows)
    if rows < TALL_ROWS:
        return _beside(task, (RATE, MEMORY), columns, rows)
    upper = (rows + 1) // 2
    return Content("\n").join([_beside(task, (RATE, MEMORY), columns, upper), _beside(task, (LATENCY,), columns, rows - upper)])


def _beside(task: Task, shown: Sequence[Plot], columns: int, rows: int) -> Content:
    widths = [(columns * (at + 1)) // len(shown) - (columns * at) // len(shown) for at in range(len(shown))]
    blocks = [_plot(task, plot, width, rows) for plot, width in zip(shown, widths, strict=True)]
    return Content("\n").join([Content("").join(list(line)) for line in zip(*blocks, strict=True)])


def _plot(task: Task, plot: Plot, columns: int, rows: int) -> list[Content]:
    """Exactly `rows` lines of exactly `columns` cells: a legend, the curves, the axis of time."""
    curves = _on_one_axis(task, plot)
    traces = [task.traces.get(curve.name, Trace()) for curve in curves]
    width, height = max(columns - GUTTER - 2, 4), rows - 2
    lines = [_padded(_legend(plot.title, curves, columns), columns)]
    if not any(len(trace) for trace in traces):
        said = _padded(Content.styled(f"{'':{GUTTER}}not known{'' if task.over else ' yet'}", FAINT), columns)
        blank = Content(" " * columns)
        return [*lines, *([said if row == height // 2 else blank for row in range(rows - 1)])]
    most = max(trace.highest for trace in traces)
    unit, unit_name = next((each for each in plot.units if most >= each[0]), plot.units[-1])
    highest = round_up(most / unit)
    until_s = max(task.until_s, 1.0)
    marked = {round(t_s / until_s * (width - 1)) for t_s, _ in task.notes}
    for number, row in enumerate(draw(traces, columns=width, rows=height, until_s=until_s, top=highest * unit)):
        label = f"{_short(highest)}{unit_name}" if number == 0 else ("0" if number == height - 1 else "")
        lines.append(_padded(Content.assemble((f"{label:>{GUTTER - 1}} ", DIM), ("│", FAINT), *_runs(row, curves, marked)), columns))
    right = _seconds(until_s)
    axis = f"{' ' * (GUTTER + 1)}0 s{right:>{max(width - 3, 0)}}"
    lines.append(_padded(Content.styled(axis, FAINT), columns))
    return lines


def _legend(title: str, curves: Sequence[Curve], columns: int) -> Content:
    """What a plot shows, and as many of its curves as can be named."""
    parts = [(f" {title}", "bold $foreground")]
    for curve in curves:
        if sum(cell_len(text) for text, _ in parts) + cell_len(curve.label) + 4 <= columns:
            parts += [("  ━ ", curve.style), (curve.label, DIM)]
    return Content.assemble(*parts)


def _on_one_axis(task: Task, plot: Plot) -> tuple[Curve, ...]:
    """The curves of a plot; of the rates only the deliveries where each message has many of them."""
    if plot is not RATE:
        return plot.curves
    sent = max(task.traces[name].highest if name in task.traces else 0.0 for name in ("published_hz", "offered_hz"))
    delivered = task.traces["delivered_hz"].highest if "delivered_hz" in task.traces else 0.0
    return plot.curves[:1] if sent and delivered > FAN_OUT * sent else plot.curves


def _runs(row: list[Cell], curves: Sequence[Curve], marked: set[int]) -> list[tuple[str, str]]:
    """Neighbours of one colour as one piece; where something happened and there is no curve, a faint line stands."""
    runs: list[tuple[str, str]] = []
    for column, cell in enumerate(row):
        if cell.curve == NOBODY:
            character, style = ("┊" if column in marked else " "), FAINT
        else:
            character, style = cell.character, curves[cell.curve].style
        if runs and runs[-1][1] == style:
            runs[-1] = runs[-1][0] + character, style
        else:
            runs.append((character, style))
    return runs


def _padded(line: Content, columns: int) -> Content:
    missing = columns - line.cell_length
    return line + Content(" " * missing) if missing >= 0 else line.truncate(columns)


def notices(board: Board, columns: int, rows: int) -> Content:
    """What was found: the first of all in front, the newest of the others below it, and how many there is no room for."""
    if not board.notices_count:
        return Content.styled(" no anomaly so far" if not board.run.over else " no anomaly", DIM)
    rest = board.notices_count - 1
    newest = list(board.notices)[-min(rows - 1, rest) :] if rows > 1 and rest else []
    left_out = rest - len(newest)
    labels = ["first anomaly", *[""] * len(newest)]
    labels[-1] = f"{left_out:,} more ↑" if left_out and newest else labels[-1]
    texts = [board.first_notice, *newest]
    lines = [
        Content.assemble((f" {label:>13} ", "$text-error"), cut(text, columns - 16)) for label, text in zip(labels, texts, strict=True)
    ]
    return Content("\n").join(lines)
