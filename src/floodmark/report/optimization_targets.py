"""optimization_targets.md: where time and memory went, which limit is nearest, and what to try.

Input: a run document, what was sampled, and profiles if there are any. Output: GitHub-flavoured Markdown. Advice comes from one table
(advice.py), each with the figure that called it; without such a figure there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from floodmark.model.result import ScenarioResult
from floodmark.report import figures, headroom
from floodmark.report.advice import RULES, advice, shown, threshold
from floodmark.report.asked import asked
from floodmark.report.costs import Costs, Stretch, costs, phases_of
from floodmark.report.document import RunDocument
from floodmark.report.headroom import share
from floodmark.report.markup import code, table, text
from floodmark.report.parts import closing, link, opening
from floodmark.report.profiled import Profile, short
from floodmark.report.series import Timeline

_READING = {
    "cpu": "Samples of a process that ran, a hundred a second; time in native code counts for the Python function that called it.",
    "memory": "What was held when the target held most. Python takes memory for small objects in arenas of 1 MiB (256 KiB before 3.10); "
    "an arena counts for the function that happened to need it.",
}
_NEAREST = 10
_SPOTS = 10
_Rows = list[tuple[ScenarioResult, int, Costs]]


def render(document: RunDocument, timelines: Mapping[str, Timeline], profiles: Mapping[str, Profile]) -> str:
    """Render the whole document.

    Args:
        timelines, profiles: by scenario id.
    """
    wanted = asked(document)
    phases = {name: [phase.name for phase in scenario.phases] for name, scenario in wanted.items()}
    spent: _Rows = [
        (one, place, costs(one, timelines.get(one.id), phases.get(one.id, ())))
        for place, one in enumerate(document.scenarios, start=1)
        if not one.id.startswith(figures.LIARS)  # their target is broken on purpose: nobody wants to make it faster
    ]
    grown = {
        one.id: phases_of(seen, phases[one.id]) for one, _, _ in spent if one.id in phases and (seen := timelines.get(one.id)) is not None
    }
    blocks = [
        *opening(document, "Optimization targets"),
        *_nearest(document),
        *_processor(spent),
        *_memory(spent),
        *_waiting(spent),
        *_growth(spent, grown),
        *_advice(spent),
        *_profiles(profiles),
        *closing(document),
    ]
    return "\n\n".join(blocks) + "\n"


def _nearest(document: RunDocument) -> Iterator[str]:
    yield "## Which limit breaks first"
    found = headroom.uses(document.scenarios)
    if not found:
        yield "Not measured: no criterion of this run has a limit that can be come near to, and a figure."
        return
    broken = [use for use in found if use.used_ratio > 1]
    holding = [use for use in found if use.used_ratio <= 1]
    if broken:
        yield f"{len(broken)} of {len(found)} limits {'is' if len(broken) == 1 else 'are'} broken already, {_use(broken[0])} most."
    if holding:
        room = f", {figures.three(1 / holding[0].used_ratio)}x head-room" if holding[0].used_ratio else ""
        which = f"{len(holding)} others hold" if broken else f"All {len(found)} limits hold" if len(found) > 1 else "The only limit holds"
        yield f"{which}; nearest to breaking came {_use(holding[0])}{room}."
    places = {one.id: place for place, one in enumerate(document.scenarios, start=1)}
    rows = [
        (
            link(use.scenario, places[use.scenario.id]).replace("(#", "(stress_results.md#"),
            code(use.criterion.text),
            figures.observed(use.criterion),
            share(use.used_ratio),
        )
        for use in found[:_NEAREST]
    ]
    yield table(("scenario", "criterion", "observed", "limit used"), rows, left=2)
    if len(found) > _NEAREST:
        yield f"The nearest {_NEAREST} of {len(found)}."


def _use(use: headroom.Use) -> str:
    return f"{code(use.criterion.text)} in {code(use.scenario.id)} ({share(use.used_ratio)} of the limit)"


def _processor(spent: _Rows) -> Iterator[str]:
    yield "## Processor time"
    rows = [
        (
            code(one.id),
            _time(cost.target_cpu_s),
            _time(cost.target_cpu_s_per_million),
            figures.NONE if cost.target_cores is None else figures.three(cost.target_cores),
            _time(cost.harness_cpu_s),
            _share(cost.harness_cpu_share),
        )
        for one, _, cost in spent
        if cost.target_cpu_s is not None
    ]
    if not rows:
        yield "Not measured: no process of a target could be seen."
        return
    heads = ("scenario", "target", "target, per million deliveries", "cores busy under load", "floodmark", "floodmark's share of both")
    yield table(heads, rows, left=1)
    yield "The first column is all of the target's life; *per million deliveries* counts from the start of the load."


def _memory(spent: _Rows) -> Iterator[str]:
    yield "## Memory of the target"
    rows = [
        (
            code(one.id),
            _size(cost.rss_bytes_start),
            _size(cost.rss_bytes_peak),
            _factor(cost.rss_peak_factor),
            _size(cost.rss_bytes_end),
            _size(cost.rss_bytes_per_connection),
            _size(cost.rss_bytes_per_delivery),
            _size(cost.leak_bytes_per_message),
            _size(cost.harness_rss_bytes_per_connection),
        )
        for one, _, cost in spent
        if cost.rss_bytes_peak is not None
    ]
    if not rows:
        yield "Not measured: no process of a target could be seen."
        return
    heads = (
        "scenario",
        "start",
        "peak",
        "peak of start",
        "after the drain",
        "per connection",
        "kept per delivery",
        "leaked for sure, per delivery",
        "floodmark, per connection",
    )
    yield table(heads, rows, left=1)
    yield "*Kept per delivery* is what stayed after the drain, over all deliveries; *leaked for sure* is what the slope over time proves."


def _waiting(spent: _Rows) -> Iterator[str]:
    yield "## Waiting"
    rows = [
        (
            code(one.id),
            figures.latency(one.latency_ns.response.p99),
            figures.latency(one.latency_ns.service.p99),
            _latency(cost.waited_ns_p99),
            _share(cost.lag_share),
            _factor(cost.tail_factor),
            _share(cost.backlog_ratio),
        )
        for one, _, cost in spent
        if one.latency_ns.response.count
    ]
    if not rows:
        yield "Not measured: nothing was delivered."
        return
    heads = (
        "scenario",
        "response p99",
        "service p99",
        "before the send",
        "generator's lag, of the p99",
        "max, of the median",
        "delivered after the load",
    )
    yield table(heads, rows, left=1)
    yield (
        "*Before the send* is what messages waited until the target took them (back-pressure, or the generator's lag); *delivered after "
        "the load* is the queue at the end of it, as a share of all deliveries."
    )


def _growth(spent: _Rows, grown: Mapping[str, list[Stretch]]) -> Iterator[str]:
    yield "## From phase to phase"
    rows = [
        (
            code(one.id),
            text(stretch.name),
            figures.time_s(stretch.to_s - stretch.from_s),
            figures.NONE if stretch.delivered_hz is None else f"{figures.three(stretch.delivered_hz)} /s",
            _latency(stretch.response_ns_p99),
            _size(stretch.rss_bytes),
        )
        for one, _, _ in spent
        if len(grown.get(one.id, ())) > 1
        for stretch in grown[one.id]
    ]
    if not rows:
        yield "Not measured: no scenario of this run has more than one phase that was sampled."
        return
    yield table(("scenario", "phase", "length", "deliveries", "p99 of its intervals, median", "memory at its end"), rows, left=2)


def _advice(spent: _Rows) -> Iterator[str]:
    yield "## What to try"
    found = [(one, said) for one, _, cost in spent for said in advice(cost)]
    if found:
        order = {rule.figure: place for place, rule in enumerate(RULES)}
        for rule in sorted({said.rule for _, said in found}, key=lambda rule: order[rule.figure]):
            seen = [(one, said) for one, said in found if said.rule == rule]
            where = ", ".join(f"{code(one.id)} {shown(rule, said.value)}" for one, said in seen[:_NEAREST])
            more = f" and {len(seen) - _NEAREST} more" if len(seen) > _NEAREST else ""
            yield f"- **{code(rule.figure)} {threshold(rule)}**: {rule.advice}. Seen in {where}{more}."
    else:
        yield "No figure of this run is beyond the threshold of a rule."
    yield "The rules, all of them; a figure beyond its threshold calls the advice."
    yield table(("figure", "what it is", "threshold"), [(code(rule.figure), rule.means, threshold(rule)) for rule in RULES], left=2)


def _profiles(profiles: Mapping[str, Profile]) -> Iterator[str]:
    yield "## Profiles"
    if not profiles:
        yield "Not profiled. `floodmark run ... --profile cpu` or `--profile memory` names the functions behind these figures."
    for name in sorted(profiles):
        yield from _profile(profiles[name])


def _profile(profile: Profile) -> Iterator[str]:
    yield f"### {code(profile.scenario)}: {text(profile.kind)}, by {text(profile.tool)}"
    if profile.trouble:
        yield f"Not measured: {text(profile.trouble)}."
    if profile.cost:
        yield f"{text(profile.cost)}."
    if profile.files:
        yield f"Flame graph: {', '.join(f'[{code(file)}]({file})' for file in profile.files)}."
    if not profile.spots or not profile.total:
        return
    amount = figures.size if profile.kind == "memory" else figures.count
    rows = [
        (
            code(spot.function),
            code(f"{short(spot.file)}:{spot.line}" if spot.file else ""),
            amount(spot.own),
            share(spot.own / profile.total),
            share(spot.below / profile.total),
        )
        for spot in profile.spots[:_SPOTS]
    ]
    if profile.kind in _READING:
        yield _READING[profile.kind]
    what = "held at the peak" if profile.kind == "memory" else "samples"
    yield table(("function", "where", what, "of all", "with what it calls"), rows, left=2)


def _time(seconds: float | None) -> str:
    return figures.NONE if seconds is None else figures.time_s(seconds)


def _size(count_bytes: float | None) -> str:
    return figures.NONE if count_bytes is None else (figures.size(count_bytes) if count_bytes else "0 B")


def _factor(factor: float | None) -> str:
    return figures.NONE if factor is None else f"{figures.three(factor)}x"


def _share(ratio: float | None) -> str:
    return figures.NONE if ratio is None else share(ratio)


def _latency(ns: float | None) -> str:
    return figures.NONE if ns is None else figures.time_s(ns / 1e9)
