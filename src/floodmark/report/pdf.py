"""report.pdf: the run on paper, made by the pipeline from the run folder.

Input: a run folder. Output: a PDF of A4 pages; the same folder gives the same bytes. The record of the run (`record.py`: criteria and
findings, by scenario, counted) is a report of the pipeline, which streams its rows and sets them; before it stand pages of its own, the
cover and what was measured of each scenario, in the figures, words and plots of report.html in its light colours (report.typ). All foreign
text goes there as data, so none of it becomes markup, and the typesetter, a process of its own, sees no file but those it is handed.

Contract: made when the verdict is known and told, and nothing on the way to it imports this module; whatever goes wrong in here changes
neither the result of a run nor its exit code. Memory: that of some hundred rows, however many findings there are.
Limits: FINDINGS_SHOWN findings of a scenario, the rest as totals; plots up to PLOTS_LIMIT_BYTES in all, the rest is in report.html.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec

from floodmark.core.errors import FloodmarkError, UsageError
from floodmark.core.tasks import until_asked_to_end
from floodmark.model.finding import Finding
from floodmark.model.result import FaultResult, ScenarioResult
from floodmark.model.verdict import Verdict
from floodmark.report import FILES, away, faulted, figures, html, plots
from floodmark.report.document import RunDocument
from floodmark.report.figures import Row
from floodmark.report.folder import RunFolder
from floodmark.report.record import TITLE, report_of, rows_of
from floodmark.report.series import Timeline
from floodmark.systems.pipeline import Pipeline
from floodmark.systems.pipeline.report.loader import stream_for_typst
from floodmark.systems.pipeline.report.render import Front, Rendered, Style, TemplateTooLargeError
from floodmark.systems.pipeline.report.render import render as render_stream
from floodmark.systems.pipeline.report.render.printable import breakable, printable
from floodmark.systems.pipeline.source.iterable import IterableSource

NAME = "report.pdf"
PLOTS_LIMIT_BYTES = 6_000_000
TIMEOUT_S = 120.0
_LONGEST_WORD = 34  # letters; a longer word may be broken anywhere behind as many
_WRONG = frozenset({"lost", "duplicated", "reordered", "corrupted", "unexpected"})
SIZE_PT = 8.5
_FONT = "Libertinus Serif"
_DRAWN = re.compile(r'<svg class="plot"[^>]* aria-label="(\d+) [^"]* over time">.*?</svg>', re.DOTALL)
_COLOURS = {  # of report.css, light
    "ink": "#1c1f22",
    "muted": "#676d73",
    "line": "#e4e3dd",
    "plot-a": "#1f5fa8",
    "plot-b": "#c2681a",
    "plot-c": "#2f8a83",
    "mark": "#8a5a83",
}

Cell: TypeAlias = str | dict[str, Any]


def write_pdf(folder: RunFolder) -> Path:
    """Write report.pdf into a run folder and return where it is. Not from within an event loop.

    Raises: UsageError when the folder has no result or cannot be written, or for a run of more text than is set at once.
    """
    out = folder.path / NAME
    try:
        asyncio.run(until_asked_to_end(written(folder, out)))
    except OSError as exc:
        raise UsageError(f"cannot write {out}: {exc.strerror or exc}") from exc
    return out


def render(folder: RunFolder) -> bytes:
    """Return the PDF of a run. Not from within an event loop."""
    with tempfile.TemporaryDirectory(prefix="floodmark-report-") as place:
        out = Path(place) / NAME
        asyncio.run(written(folder, out))
        return out.read_bytes()


class NoPdf(NamedTuple):
    """Why a run has no report.pdf, in one sentence, and whether that is because somebody asked to end."""

    said: str
    interrupted: bool


def add_pdf(folder: RunFolder) -> NoPdf | None:
    """Write report.pdf at the end of a run, whose result is known by now.

    Returns: None, or why there is none; nothing is raised, and nothing left behind, whatever happens.
    """
    interrupted = False
    try:
        write_pdf(folder)
    except (KeyboardInterrupt, asyncio.CancelledError):
        reason, interrupted = "interrupted", True
    except FloodmarkError as exc:
        reason = str(exc)
    except Exception as exc:
        reason = f"{type(exc).__name__}: {exc}"
    else:
        return None
    return NoPdf(f"no {NAME}: {' '.join(reason.split())}; floodmark report {folder.id} --format pdf makes it", interrupted)


async def written(folder: RunFolder, out: Path) -> Rendered:
    """Stream the record of a run through the pipeline into a PDF behind its front.

    Raises: UsageError, a PipelineError. Cancelled or failed half-way: no file and no process is left.
    """
    document = folder.result()
    report = report_of(document)
    source = IterableSource(lambda: rows_of(folder, document), name=f"{folder.path.name}/record")
    style = Style(size_pt=SIZE_PT, fonts=(_FONT,), timeout_s=TIMEOUT_S, front=front_of(document, folder.timelines(), drawn_in(folder)))
    try:
        async with Pipeline() as pipeline:
            stream = await stream_for_typst(report, source=source, pipeline=pipeline, enable_cache=False, timeout_s=None)
            async with stream:
                return await render_stream(report, stream.batches(), out, format="pdf", style=style)
    except TemplateTooLargeError as exc:
        raise UsageError(f"this run is too long for one PDF ({exc}); take --format html") from exc
    finally:
        await source.close()


def front_of(document: RunDocument, timelines: Mapping[str, Timeline], drawn: Mapping[int, str] | None = None) -> Front:
    """Return what comes before the record.

    Args:
        timelines: by scenario id; a scenario without one gets no plot.
        drawn: plots that are there already, as `drawn_in` gives them.
    """
    template = resources.files(__package__).joinpath("report.typ").read_text(encoding="utf-8")
    pictures = _pictures(document, timelines, drawn or {})
    names = {scenario_id: name for scenario_id, (name, _) in pictures.items()}
    return Front(
        template=template, files={"run.json": msgspec.json.encode(content(document, names)), **dict(pictures.values())}, entry=TITLE
    )


def content(document: RunDocument, plot_names: Mapping[str, str]) -> dict[str, Any]:
    """Return all words and figures of the front, as report.typ takes them."""
    found = figures.first_anomaly(document)
    return {
        "run": _text(document.run),
        "verdict": document.verdict.value,
        "headline": _text(figures.headline(document)),
        "facts": [
            ("started", _text(figures.started(document.started))),
            ("took", figures.time_s(document.duration_s)),
            ("seed", str(document.seed)),
            ("scale", f"{document.scale:g}"),
            ("floodmark", _text(document.version)),
        ],
        "anomaly": None if found is None else _anomaly(*found),
        "overview": _overview(document) if document.scenarios else None,
        "scenarios": [_scenario(scenario, plot_names.get(scenario.id)) for scenario in document.scenarios],
        "command": _text(document.command),
        "machine": _sheet((), [(row.name, _text(row.figure)) for row in figures.machine(document.machine)], left=2, widths=(1, 5)),
        "reading": html.READING,
    }


def _anomaly(scenario: ScenarioResult, finding: Finding) -> tuple[str, str]:
    what = f"First anomaly: {figures.count(finding.count)} {finding.anomaly.value} in {_text(scenario.id)}."
    return what, _text(finding.detail)


def _overview(document: RunDocument) -> dict[str, Any]:
    rows: list[tuple[Cell, ...]] = []
    for scenario in document.scenarios:
        held = sum(one.verdict is Verdict.PASS for one in scenario.criteria)
        rows.append(
            (
                {"verdict": scenario.verdict.value},
                {"main": _text(figures.title(scenario)), "sub": _text(scenario.id)},
                f"{held} of {len(scenario.criteria)}" if scenario.criteria else figures.NONE,
                figures.delivered(scenario, "delivered"),
                figures.delivered(scenario, "lost"),
                figures.rate(scenario.throughput_hz),
                figures.latency(scenario.latency_ns.response.p99),
                figures.size(scenario.target.rss_bytes_peak),
            )
        )
    heads = ("verdict", "scenario", "criteria met", "delivered", "lost", "throughput", "p99", "memory, peak")
    return _sheet(heads, rows, left=2, widths=(0, 1, 0, 0, 0, 0, 0, 0))


def _scenario(scenario: ScenarioResult, plot: str | None) -> dict[str, Any]:
    return {
        "id": _text(scenario.id),
        "title": _text(figures.title(scenario)),
        "verdict": scenario.verdict.value,
        "facts": [
            *([f"plan {_text(scenario.plan)}"] if scenario.plan else []),
            f"took {figures.time_s(scenario.duration_s)}",
            f"scale {scenario.scale:g}",
        ],
        "sentences": [_text(sentence) for sentence in (scenario.note, figures.remark(scenario)) if sentence],
        "criteria": _text(figures.criteria_summary(scenario)),
        "account": _account(scenario),
        "latencies": _latencies(scenario),
        "target": _rows(figures.target_cost(scenario) or [Row("its processes could not be seen", "")]),
        "generator": _rows(figures.generator_cost(scenario)),
        "agents": _agents(scenario),
        "plot": plot,
        "faults": _faults(scenario.faults),
        "fault_words": _fault_words(scenario.faults),
        "log": [_text(line.rstrip("\n")) for line in scenario.log_tail] if scenario.verdict is not Verdict.PASS else [],
    }


def _account(scenario: ScenarioResult) -> dict[str, Any]:
    passed = scenario.verdict is Verdict.PASS  # a stream may be allowed to lose some; a liar has to
    rows: list[tuple[Cell, ...]] = [
        (row.name, {"bad": row.figure} if row.name in _WRONG and row.figure != "0" and not passed else row.figure)
        for row in figures.account(scenario)
    ]
    return _sheet((), rows, left=1, widths=(1, 0))


def _latencies(scenario: ScenarioResult) -> dict[str, Any]:
    both = zip(figures.latencies(scenario.latency_ns.response), figures.latencies(scenario.latency_ns.service), strict=True)
    return _sheet(("", "response", "service"), [(one.name, one.figure, other.figure) for one, other in both], left=1, widths=(1, 0, 0))


def _agents(scenario: ScenarioResult) -> dict[str, Any] | None:
    """The agents on other machines, the two columns with foreign names as wide as the page lets them; None where there were none."""
    rows = [tuple(map(_text, row)) for row in away.rows(scenario)]
    widths = (1, 1, *(0 for _ in away.HEADS[2:]))
    return _sheet(away.HEADS, rows, left=away.LEFT, widths=widths, size_pt=7.5) if rows else None


def _faults(faults: Sequence[FaultResult]) -> list[dict[str, Any]]:
    if not faults:
        return []
    names = [_text(faulted.name(one)) for one in faults]
    return [
        _sheet(
            ("fault", *heads),
            [(name, *cells(one)) for name, one in zip(names, faults, strict=True)],
            left=1,
            widths=(1, *(0 for _ in heads)),
            size_pt=7.0,
        )
        for heads, cells in ((faulted.ACCOUNT, faulted.account), (faulted.COURSE, faulted.course), (faulted.CLOCKS, faulted.clocks))
    ]


def _fault_words(faults: Sequence[FaultResult]) -> str:
    if not faults:
        return ""
    told = faulted.worst(faults)
    which = f"{faulted.name(told)}, the worst of {len(faults)}: " if len(faults) > 1 else ""
    return _text(f"{which}{faulted.degradation(told)} {faulted.recovery(told)} {faulted.lasting(told)}")


def _rows(rows: Iterable[Row]) -> dict[str, Any]:
    return _sheet((), [(row.name, _text(row.figure)) for row in rows], left=1, widths=(1, 0))


def _sheet(
    heads: Sequence[str], rows: Sequence[Sequence[Cell]], *, left: int, widths: Sequence[float], size_pt: float = 8.5
) -> dict[str, Any]:
    """A table: its first `left` columns are text, the others figures on the right; a width is a share of what is left, or 0: as needed."""
    return {"heads": heads, "rows": rows, "left": left, "widths": widths, "size_pt": size_pt}


def drawn_in(folder: RunFolder) -> dict[int, str]:
    """Return the plots of a run's report.html, by the scenario's place: drawing one takes 150 ms, and a run has done it."""
    try:
        page = (folder.path / FILES["html"]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    return {int(found[1]): found[0] for found in _DRAWN.finditer(page)}


def _pictures(document: RunDocument, timelines: Mapping[str, Timeline], ready: Mapping[int, str]) -> dict[str, tuple[str, bytes]]:
    """The plots as files, by scenario id, as many as fit."""
    found: dict[str, tuple[str, bytes]] = {}
    room_bytes = PLOTS_LIMIT_BYTES
    for place, scenario in enumerate(document.scenarios, start=1):
        name, seen = f"{place} {scenario.id}", timelines.get(scenario.id)
        drawn = ready.get(place) or (plots.draw(seen, name=name, faults=scenario.faults) if seen is not None else "")
        picture = standing_alone(drawn).encode() if drawn else b""
        if picture and len(picture) <= room_bytes:
            room_bytes -= len(picture)
            found[scenario.id] = (f"plot-{place}.svg", picture)
    return found


def standing_alone(svg: str) -> str:
    """Make a plot that is part of a page a file of its own: name spaces, a size, the page's colours and letters.

    >>> standing_alone('<svg class="plot" viewBox="0 0 920 204"><path style="stroke: var(--ink)"/></svg>').count("#1c1f22")
    1
    """
    for variable, colour in _COLOURS.items():
        svg = svg.replace(f"var(--{variable})", colour)
    svg = svg.replace("var(--sans)", f"'{_FONT}'")
    svg = re.sub(r"font-family: [^;\"]+", f"font-family: '{_FONT}'", svg)
    spaces = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return svg.replace("<svg", spaces, 1)


def _text(text: str) -> str:
    """Foreign text, without what cannot be printed; a word too long for a column may be broken."""
    return breakable(printable(text), _LONGEST_WORD)
