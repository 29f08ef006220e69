"""report.html: the run as one file that can be mailed: no script, no font, no image, no request to anywhere.

Input: a run document and what was sampled. Output: HTML 5. The verdict comes first, in words; colour only repeats it. A content security
policy in the page forbids every load, so that even a mistake here could not send a reader's browser somewhere. All foreign text (titles,
details, log lines) goes through `_text`. Plots are made in plots.py, the look in report.css.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from importlib import resources
from types import MappingProxyType

from floodmark.model.finding import Finding
from floodmark.model.mark import Mark
from floodmark.model.result import ScenarioResult
from floodmark.model.verdict import Verdict
from floodmark.report import away, faulted, figures, headroom, mark, mark_plot, plots
from floodmark.report.document import RunDocument
from floodmark.report.figures import Row
from floodmark.report.profiled import Profile, short
from floodmark.report.series import Timeline

FINDINGS_SHOWN = 50
_FEW = 3  # scenarios, beyond which each gets a way back to the top
_SPOTS = 10
READING = (
    "Deliveries are counted at the subscriber's handler: one message to a hundred subscriptions is a hundred deliveries. "
    "Response latency counts from the intended send, service latency from the actual one; their difference is the generator's own lag. "
    "UNKNOWN means that the evidence does not suffice, and never counts as a pass. A dash stands for what was not measured."
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_WRONG = ("lost", "duplicated", "reordered", "corrupted", "unexpected")


def render(document: RunDocument, timelines: Mapping[str, Timeline], profiles: Mapping[str, Profile] = MappingProxyType({})) -> str:
    """Render a whole report.

    Args:
        timelines: by scenario id; a scenario without one gets no plot.
        profiles: by scenario id as well.
    """
    css = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">'
        f"<title>{document.verdict.value}: floodmark, {_text(figures.started(document.started))}</title><style>\n{css}</style>"
    )
    many = len(document.scenarios) > _FEW
    articles = "\n".join(
        "".join(_scenario(scenario, timelines.get(scenario.id), profiles.get(scenario.id), place, many=many))
        for place, scenario in enumerate(document.scenarios, start=1)
    )
    body = f"{''.join(_opening(document))}\n<main>{articles}</main>\n{_closing(document)}"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _opening(document: RunDocument) -> Iterator[str]:
    yield f'<div class="brand">floodmark<span>{_text(document.run)}</span></div>'
    yield f'<header id="top"><h1>{_verdict(document.verdict)}{_headline(document)}</h1>'
    facts = [
        Row("started", figures.started(document.started)),
        Row("took", figures.time_s(document.duration_s)),
        Row("seed", str(document.seed)),
        Row("scale", f"{document.scale:g}"),
        Row("floodmark", document.version),
    ]
    yield f'<div class="facts">{"".join(f"<span>{fact.name} <b>{_text(fact.figure)}</b></span>" for fact in facts)}</div>'
    if document.mark is not None:
        yield _mark(document, document.mark)
        yield "</header>"
        return
    found = figures.first_anomaly(document)
    if found is not None:
        scenario, finding = found
        what = f"First anomaly: {figures.count(finding.count)} {finding.anomaly.value} in {scenario.id}."
        yield f'<p class="say"><b>{_text(what)}</b> {_text(finding.detail)}</p>'
    if document.scenarios:
        yield _overview(document)
    yield "</header>"


def _headline(document: RunDocument) -> str:
    """The sentence of the run; a search names what broke as code."""
    text = _text(figures.headline(document))
    return re.sub("`(.+?)`", r"<code>\1</code>", text) if document.mark is not None else text


def _mark(document: RunDocument, found: Mark) -> str:
    """The mark of a search: its facts, the picture, and a row for each trial that leads to its part of the report."""
    facts = "".join(f"<span>{fact.name} <b>{_text(fact.figure)}</b></span>" for fact in mark.facts(found))
    places = {scenario.id: place for place, scenario in enumerate(document.scenarios, start=1)}
    rows = []
    for trial in mark.ordered(found):
        row = mark.cells(found, trial)
        place = places.get(trial.scenario)
        name = _text(row.trial) if place is None else f'<a href="#s{place}">{_text(row.trial)}</a>'
        sign = f'<span class="verdict {mark.LOOKS[trial.outcome].value}">{row.what}</span>'
        rows.append((sign, name, f"<small>{_text(row.why)}</small>", *map(_text, (row.delivered, row.p99, row.took))))
    table = _table(mark.HEADS, rows, left=mark.LEFT, name="trials") if rows else ""
    return f'<div class="facts mark">{facts}</div>{mark_plot.draw(found)}{table}'


def _overview(document: RunDocument) -> str:
    heads = ("verdict", "scenario", "criteria met", "delivered", "lost", "throughput", "p99", "memory, peak")
    rows = []
    for place, scenario in enumerate(document.scenarios, start=1):
        held = sum(one.verdict is Verdict.PASS for one in scenario.criteria)
        plan = f" · {_text(scenario.plan)}" if scenario.plan else ""
        rows.append(
            (
                _verdict(scenario.verdict),
                f'<a href="#s{place}">{_text(figures.title(scenario))}</a><small><code>{_text(scenario.id)}</code>{plan}</small>',
                f"{held} of {len(scenario.criteria)}" if scenario.criteria else figures.NONE,
                figures.delivered(scenario, "delivered"),
                figures.delivered(scenario, "lost"),
                figures.rate(scenario.throughput_hz),
                figures.latency(scenario.latency_ns.response.p99),
                figures.size(scenario.target.rss_bytes_peak),
            )
        )
    return _table(heads, rows, left=2, name="overview")


def _scenario(scenario: ScenarioResult, seen: Timeline | None, profile: Profile | None, place: int, *, many: bool) -> Iterator[str]:
    yield f'<article id="s{place}"><header><h2>{_verdict(scenario.verdict)} {_text(figures.title(scenario))}</h2>'
    facts = [f"<code>{_text(scenario.id)}</code>", f"took {figures.time_s(scenario.duration_s)}", f"scale {scenario.scale:g}"]
    if scenario.plan:
        facts.insert(1, f"plan {_text(scenario.plan)}")
    if many:
        facts.append('<a href="#top">all scenarios</a>')
    yield f"<p>{' · '.join(facts)}</p></header>"
    for sentence in (scenario.note, figures.remark(scenario)):
        if sentence:
            yield f'<p class="say">{_text(sentence)}</p>'
    yield _criteria(scenario)
    yield f'<div class="figures">{_account(scenario)}{_latencies(scenario)}{_cost(scenario)}</div>'
    if seen is not None:
        yield plots.draw(seen, name=f"{place} {scenario.id}", faults=scenario.faults)
    if scenario.agents:
        cells = [tuple(map(_text, row)) for row in away.rows(scenario)]
        yield f"<h3>Agents on other machines</h3>{_table(away.HEADS, cells, left=away.LEFT)}"
    yield _faults(scenario)
    if profile is not None:
        yield _profile(profile)
    yield _findings(scenario)
    if scenario.log_tail and scenario.verdict is not Verdict.PASS:
        lines = "\n".join(_text(line.rstrip("\n")) for line in scenario.log_tail)
        yield f"<details open><summary>The target's last {len(scenario.log_tail)} lines</summary><pre>{lines}</pre></details>"
    if scenario.metrics:
        rows = [(f"<code>{_text(row.name)}</code>", _text(row.figure)) for row in figures.metrics(scenario)]
        yield f"<details><summary>All {len(rows)} metrics</summary>{_table(('metric', 'observed'), rows, left=1)}</details>"
    yield "</article>"


def _criteria(scenario: ScenarioResult) -> str:
    if not scenario.criteria:
        return '<p class="say">No criterion was judged.</p>'
    rows = [
        (
            _verdict(one.verdict),
            f"<code>{_text(one.text)}</code>{f'<small>{_text(one.note)}</small>' if one.note else ''}",
            figures.NONE if (used := headroom.used_ratio(one)) is None else headroom.share(used),
            _text(figures.observed(one)),
        )
        for one in scenario.criteria
    ]
    return _table(("verdict", "criterion", "limit used", "observed"), rows, left=2, name="criteria")


def _account(scenario: ScenarioResult) -> str:
    wrong = "n" if scenario.verdict is Verdict.PASS else "n bad"  # a stream may be allowed to lose some; a liar has to
    rows = [
        f'<tr><td>{_text(row.name)}</td><td class="{wrong if row.name in _WRONG and row.figure != "0" else "n"}">{row.figure}</td></tr>'
        for row in figures.account(scenario)
    ]
    return f"<section><h3>Deliveries, seen at the subscriber</h3><table>{''.join(rows)}</table></section>"


def _latencies(scenario: ScenarioResult) -> str:
    both = zip(figures.latencies(scenario.latency_ns.response), figures.latencies(scenario.latency_ns.service), strict=True)
    rows = [(response.name, response.figure, service.figure) for response, service in both]
    return f"<section><h3>Latency</h3>{_table(('', 'response', 'service'), rows, left=1)}</section>"


def _cost(scenario: ScenarioResult) -> str:
    target, generator = figures.target_cost(scenario), figures.generator_cost(scenario)
    if not target:
        target = [Row("its processes could not be seen", "")]
    tables = [
        f"<h3>{name}</h3><table>{''.join(_row(row) for row in rows)}</table>"
        for name, rows in (("Target", target), ("Generator, floodmark itself", generator))
    ]
    return f"<section>{''.join(tables)}</section>"


def _row(row: Row) -> str:
    return f'<tr><td>{_text(row.name)}</td><td class="n">{_text(row.figure)}</td></tr>'


def _faults(scenario: ScenarioResult) -> str:
    if not scenario.faults:
        return ""
    names = [_text(faulted.name(one)) for one in scenario.faults]
    tables = [
        _table(("fault", *heads), [(name, *cells(one)) for name, one in zip(names, scenario.faults, strict=True)], left=1, name="faults")
        for heads, cells in ((faulted.ACCOUNT, faulted.account), (faulted.COURSE, faulted.course), (faulted.CLOCKS, faulted.clocks))
    ]
    told = faulted.worst(scenario.faults)
    words = f"{faulted.degradation(told)} {faulted.recovery(told)} {faulted.lasting(told)}"
    which = f"<b>{_text(faulted.name(told))}</b>, the worst of {len(scenario.faults)}: " if len(scenario.faults) > 1 else ""
    return f'<h3>Faults</h3>{"".join(tables)}<p class="say">{which}{_text(words)}</p>'


def _profile(profile: Profile) -> str:
    """The functions that took most, as the profiler saw them."""
    told = ". ".join(_text(each) for each in (profile.cost, profile.trouble) if each)
    words = f'<p class="muted">{told}.</p>' if told else ""
    amount = figures.size if profile.kind == "memory" else figures.count
    rows = [
        (
            f"<code>{_text(spot.function)}</code>",
            f"<code>{_text(f'{short(spot.file)}:{spot.line}' if spot.file else '')}</code>",
            amount(spot.own),
            headroom.share(spot.own / profile.total),
            headroom.share(spot.below / profile.total),
        )
        for spot in profile.spots[:_SPOTS]
        if profile.total
    ]
    heads = ("function", "where", "held at the peak" if profile.kind == "memory" else "samples", "of all", "with what it calls")
    table = _table(heads, rows, left=2) if rows else ""
    return f"<details open><summary>Profile: {_text(profile.kind)}, by {_text(profile.tool)}</summary>{words}{table}</details>"


def _findings(scenario: ScenarioResult) -> str:
    if not scenario.findings:
        return ""
    shown = scenario.findings[:FINDINGS_SHOWN]
    table = _table(
        ("finding", "promise", "both ends' records", "messages", "subscription", "publisher", "sequence"),
        [_finding(one) for one in shown],
        left=3,
    )
    total = len(scenario.findings)
    more = f"<p class='muted'>The first {len(shown)} of {total}; all are in findings.jsonl.</p>" if total > len(shown) else ""
    still = " open" if scenario.verdict is not Verdict.PASS else ""
    return f"<details{still}><summary>{total} {'finding' if total == 1 else 'findings'}</summary>{table}{more}</details>"


def _finding(one: Finding) -> tuple[str, ...]:
    return (
        one.anomaly.value,
        "broken" if one.violation else "allows it",
        _text(one.detail),
        figures.count(one.count),
        str(one.subscription),
        str(one.publisher),
        figures.sequence(one),
    )


def _closing(document: RunDocument) -> str:
    rows = "".join(_row(row) for row in figures.machine(document.machine))
    return (
        f'<footer><h2>Run it again</h2><pre class="wrap">{_text(document.command)}</pre>'
        f'<div class="machine"><h3>The machine of this run</h3><table>{rows}</table></div>'
        f'<p class="reading">{_text(READING)}</p></footer>'
    )


def _verdict(verdict: Verdict) -> str:
    return f'<span class="verdict {verdict.value}">{figures.MARKS[verdict]} {verdict.value}</span>'


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]], *, left: int, name: str = "") -> str:
    """A table of cells that are HTML already; the first `left` columns are text, the others figures on the right."""
    top = "".join(f"<th{_side(column, left)}>{head}</th>" for column, head in enumerate(heads))
    body = "".join(f"<tr>{''.join(f'<td{_side(column, left)}>{cell}</td>' for column, cell in enumerate(row))}</tr>" for row in rows)
    return f'<div class="wide"><table class="{name}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _side(column: int, left: int) -> str:
    return ' class="n"' if column >= left else ""


def _text(text: str) -> str:
    """Foreign text as text: nothing in it becomes markup, and no address in it becomes a link."""
    return escape(re.sub(r"[ \t]+$", "", figures.clean(text)))
