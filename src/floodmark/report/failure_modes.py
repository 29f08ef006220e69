"""failure_modes.md: what each fault was, what it did to the system, how the system came back, and whether it did.

Input: a run document. Output: GitHub-flavoured Markdown. Sentences are made of figures (faulted.py); where one was not seen, that is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from floodmark.model.result import FaultResult, ScenarioResult
from floodmark.model.scenario import Scenario
from floodmark.report import faulted, figures
from floodmark.report.asked import asked, fault
from floodmark.report.document import RunDocument
from floodmark.report.markdown import fault_table
from floodmark.report.markup import code, table, text
from floodmark.report.parts import closing, head, link, opening, standing


def render(document: RunDocument) -> str:
    """Render the whole document."""
    scenarios = asked(document)
    blocks = list(opening(document, "Failure modes"))
    blocks += _summary(document, scenarios)
    for place, one in enumerate(document.scenarios, start=1):
        wanted = scenarios.get(one.id)
        if one.faults or (wanted is not None and wanted.faults):
            blocks += _scenario(one, place, wanted)
    return "\n\n".join([*blocks, *closing(document)]) + "\n"


def _summary(document: RunDocument, scenarios: dict[str, Scenario]) -> Iterator[str]:
    rows = [
        _row(scenario, place, slot) for place, scenario in enumerate(document.scenarios, start=1) for slot in faulted.slots(scenario.faults)
    ]
    calm = [
        scenario.id
        for scenario in document.scenarios
        if not scenario.faults and not (scenario.id in scenarios and scenarios[scenario.id].faults)
    ]
    if rows:
        heads = ("verdict", "scenario", "fault", "blows", "hits", "back", "lost", "first delivery", "full rate", "all back", "degraded")
        yield table(heads, rows, left=3)
        yield (
            "One row for each fault of a scenario; clocks are the worst of its blows and count from when it was lifted, *all back* from "
            "the blow. *degraded* says that the old rate never came back although the load went on. A dash is what was not seen."
        )
    else:
        yield "No fault was measured in this run, so nothing about failures is known from it."
    if calm:
        names = ", ".join(code(name) for name in calm[:20])
        yield f"Without a fault: {names}{f' and {len(calm) - 20} more' if len(calm) > 20 else ''}."


def _row(scenario: ScenarioResult, place: int, slot: Sequence[FaultResult]) -> tuple[str, ...]:
    clocks = [[one.first_delivery_s for one in slot], [one.full_rate_s for one in slot], [one.recovery_s for one in slot]]
    losses = [one.lost for one in slot if one.lost is not None]
    degraded = [one.degraded for one in slot if one.degraded is not None]
    return (
        f"{figures.MARKS[scenario.verdict]} {scenario.verdict.value}",
        link(scenario, place),
        code(slot[0].kind),
        figures.count(sum(one.occasions for one in slot)),
        figures.count(sum(one.hits for one in slot)),
        figures.count(sum(one.back for one in slot)),
        figures.count(sum(losses)) if losses else figures.NONE,
        *(_worst(values) for values in clocks),
        figures.NONE if not degraded else ("yes" if any(degraded) else "no"),
    )


def _worst(values: Sequence[float | None]) -> str:
    """The longest; where one of several was never seen, there is no longest."""
    return figures.NONE if any(value is None for value in values) else figures.time_s(max(value for value in values if value is not None))


def _scenario(scenario: ScenarioResult, place: int, wanted: Scenario | None) -> Iterator[str]:
    yield from head(scenario, place)
    yield f"{standing(scenario)} · {text(figures.criteria_summary(scenario))}"
    if not scenario.faults:
        why = f": {text(scenario.note)}" if scenario.note else ""
        yield f"Its faults were not measured{why}."
        yield from (f"- asked for: {text(fault(missed))}" for missed in (wanted.faults if wanted is not None else ()))
    for slot in faulted.slots(scenario.faults):
        yield from _slot(slot, wanted)


def _slot(slot: Sequence[FaultResult], wanted: Scenario | None) -> Iterator[str]:
    one = faulted.worst(slot)
    yield f"### {code(slot[0].kind)}"
    known = wanted.faults[slot[0].index] if wanted is not None and slot[0].index < len(wanted.faults) else None
    yield f"**What was done.** {text(fault(known))}." if known is not None else "**What was done** is not recorded under this name."
    struck = [faulted.account(each)[0] for each in slot]
    yield "**What was seen.**"
    yield fault_table(struck, faulted.ACCOUNT[1:], [faulted.account(each)[1:] for each in slot], "struck")
    yield fault_table(struck, faulted.COURSE, [faulted.course(each) for each in slot], "struck")
    which = f"The worst of {len(slot)}, struck at {faulted.time_s(one.struck_s)}: " if len(slot) > 1 else ""
    yield f"**How it degraded.** {which}{faulted.degradation(one)}"
    yield "**How it recovered.**"
    yield fault_table(struck, faulted.CLOCKS, [faulted.clocks(each) for each in slot], "struck")
    yield f"{which}{faulted.recovery(one)} {faulted.lasting(one)}"
