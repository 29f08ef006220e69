"""stress_results.md: what was put on the system, what it was to hold, and what was seen, scenario by scenario.

Input: a run document. Output: GitHub-flavoured Markdown, the summary first, with anchors. Every figure stands in run.json, or
is a share of two that do. What was not measured is said to be so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from floodmark.model.result import CriterionResult, ScenarioResult
from floodmark.model.scenario import Scenario
from floodmark.report import figures, headroom
from floodmark.report.asked import asked, load
from floodmark.report.document import RunDocument
from floodmark.report.markdown import NOT_SEEN
from floodmark.report.markup import code, rows_table, table, text
from floodmark.report.parts import closing, head, link, opening, standing


def render(document: RunDocument) -> str:
    """Render the whole document."""
    scenarios = asked(document)
    blocks = [
        *_opening(document),
        *(block for place, one in enumerate(document.scenarios, start=1) for block in _scenario(one, place, scenarios)),
        *closing(document),
    ]
    return "\n\n".join(blocks) + "\n"


def _opening(document: RunDocument) -> Iterator[str]:
    yield from opening(document, "Stress results")
    if not document.scenarios:
        return
    fullest = {use.scenario.id: use for use in reversed(headroom.uses(document.scenarios))}
    rows = [
        (
            f"{figures.MARKS[one.verdict]} {one.verdict.value}",
            text(one.plan) or figures.NONE,
            link(one, place),
            figures.delivered(one, "delivered"),
            figures.delivered(one, "lost"),
            figures.rate(one.throughput_hz),
            figures.latency(one.latency_ns.response.p50),
            figures.latency(one.latency_ns.response.p99),
            figures.size(one.target.rss_bytes_peak),
            f"{sum(each.verdict.value == 'PASS' for each in one.criteria)} of {len(one.criteria)}" if one.criteria else figures.NONE,
            headroom.share(fullest[one.id].used_ratio) if one.id in fullest else figures.NONE,
        )
        for place, one in enumerate(document.scenarios, start=1)
    ]
    heads = ("verdict", "plan", "scenario", "delivered", "lost", "throughput", "p50", "p99", "memory, peak", "criteria met", "limit used")
    yield table(heads, rows, left=3)
    yield (
        "Deliveries are counted at the subscriber: one message to a hundred subscriptions is a hundred. Latencies count from the intended "
        "send. *Limit used* is the criterion that came nearest to its limit; 100 % is at the limit. A dash is what was not measured."
    )


def _scenario(scenario: ScenarioResult, place: int, scenarios: Mapping[str, Scenario]) -> Iterator[str]:
    yield from head(scenario, place)
    yield f"{standing(scenario)} at scale {scenario.scale:g} · took {figures.time_s(scenario.duration_s)}"
    for sentence in (figures.remark(scenario), scenario.note):
        if sentence:
            yield f"> {text(sentence)}"
    wanted = scenarios.get(scenario.id)
    yield f"Load: {text(load(wanted))}." if wanted is not None else "What the load was is not recorded under this name."
    if scenario.criteria:
        yield table(("verdict", "criterion", "why", "wanted", "observed", "limit used"), map(_criterion, scenario.criteria), left=3)
    else:
        yield "No criterion was judged."
    if scenario.delivery.attempted:
        yield table([row.name for row in figures.account(scenario)], [[row.figure for row in figures.account(scenario)]], left=0)
    else:
        yield "Deliveries were not measured: none was attempted."
    yield _latencies(scenario) if scenario.latency_ns.response.count else "Latencies were not measured: nothing was delivered."
    yield _throughput(scenario)
    yield rows_table("target", figures.target_cost(scenario)) if scenario.target.rss_bytes_peak else NOT_SEEN
    if scenario.faults:
        hits = sum(one.hits for one in scenario.faults)
        yield f"Faults hit {hits:,} times; what they did stands in [failure_modes.md](failure_modes.md#s{place})."


def _criterion(judged: CriterionResult) -> tuple[str, ...]:
    used = headroom.used_ratio(judged)
    return (
        f"{figures.MARKS[judged.verdict]} {judged.verdict.value}",
        code(judged.text),
        text(judged.note),
        code(headroom.wanted(judged)) if headroom.wanted(judged) != figures.NONE else figures.NONE,
        figures.observed(judged),
        headroom.share(used) if used is not None else figures.NONE,
    )


def _latencies(scenario: ScenarioResult) -> str:
    response, service = (figures.latencies(one) for one in (scenario.latency_ns.response, scenario.latency_ns.service))
    rows = [("response", *(row.figure for row in response)), ("service", *(row.figure for row in service))]
    return table(("latency", *(row.name for row in response)), rows, left=1)


def _throughput(scenario: ScenarioResult) -> str:
    if not scenario.throughput_hz:
        return "Throughput was not measured: too little was delivered."
    published = scenario.metrics.get("publish_rate")
    sent = f", from {figures.rate(published)} messages sent" if published else ""
    return f"Throughput: {figures.rate(scenario.throughput_hz)} deliveries{sent}."
