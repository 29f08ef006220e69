"""Agents on other machines stand in the reports where there were any, and nothing of them where there were none."""

from __future__ import annotations

from floodmark.model.result import AgentResult
from floodmark.report import away, figures, html, markdown
from tests.report import made

AGENTS = (
    AgentResult(
        name="agent-0", host="m1", offset_ns=-1_500_000, uncertainty_ns=371_416, slices=(0, 2), rss_bytes_peak=178 << 20, cpu_s=1.5
    ),
    AgentResult(name="a|<b>", host="m2", offset_ns=10**12, uncertainty_ns=2_000_000, slices=(1,), lost=(1,)),
)


def rendered(*agents: AgentResult) -> tuple[str, str]:
    """The reports of a run of one scenario with these agents, as Markdown and as HTML."""
    document = made.document_of(made.passed(agents=agents))
    return markdown.render(document), html.render(document, {})


def test_rows_say_of_each_agent_what_it_played_lost_and_cost() -> None:
    rows = away.rows(made.passed(agents=AGENTS))

    assert rows == [
        ("agent-0", "m1", "0, 2", figures.NONE, "-1.50 ms", "371 µs", "178 MiB", "1.50 s"),
        ("a|<b>", "m2", "1", "1", "1,000 s", "2.00 ms", figures.NONE, "0 s"),
    ]
    assert all(len(row) == len(away.HEADS) for row in rows)


def test_reports_have_the_table_and_foreign_names_stay_text() -> None:
    as_markdown, as_html = rendered(*AGENTS)

    [line] = [line for line in as_markdown.splitlines() if "| m2 |" in line]
    [head] = [line for line in as_markdown.splitlines() if "its clock is ahead by" in line]
    assert line.replace("\\|", "").count("|") == head.count("|") == len(away.HEADS) + 1
    assert "<h3>Agents on other machines</h3>" in as_html
    assert "a|&lt;b&gt;" in as_html
    assert "a|<b>" not in as_html


def test_reports_of_a_run_beside_the_runner_say_nothing_of_agents() -> None:
    as_markdown, as_html = rendered()

    assert "its clock" not in as_markdown
    assert "Agents on other machines" not in as_html
