"""The agents on other machines, as tables show them. Input: a result. Output: heads and rows of text; no rows without such agents."""

from __future__ import annotations

from floodmark.model.result import AgentResult, ScenarioResult
from floodmark.report import figures

HEADS = ("agent", "machine", "slices", "lost", "its clock is ahead by", "give or take", "memory, peak", "processor time")
LEFT = 4
"""So many of the columns are text."""


def rows(scenario: ScenarioResult) -> list[tuple[str, ...]]:
    """One row for each agent, in the order of the result."""
    return [_row(agent) for agent in scenario.agents]


def _row(agent: AgentResult) -> tuple[str, ...]:
    return (
        agent.name,
        agent.host,
        _numbers(agent.slices),
        _numbers(agent.lost),
        ("-" if agent.offset_ns < 0 else "") + figures.latency(abs(agent.offset_ns)),
        figures.latency(agent.uncertainty_ns),
        figures.size(agent.rss_bytes_peak),
        figures.time_s(agent.cpu_s),
    )


def _numbers(slices: tuple[int, ...]) -> str:
    return ", ".join(str(number) for number in slices) or figures.NONE
