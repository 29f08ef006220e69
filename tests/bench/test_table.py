"""The table: a contender without a figure shows no number, and the document changes between its marks only."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bench.__main__ import DOCUMENT
from bench.measure import Figure, Outcome, Reading
from bench.table import BEGIN, END, markdown, number, replaced, rows, terminal
from floodmark.report.machine import Machine

OURS = Figure(contender="ours", readings=tuple(Reading(value=value, check="9 of 9 delivered") for value in (3e6, 1e6, 2e6)))
THEIRS = Figure(contender="theirs", readings=tuple(Reading(value=value, check="7 of 7 delivered") for value in (1e6, 1e6, 1e6)))
GONE = Figure(contender="gone", failure="account | does not add up")
OUTCOME = Outcome(title="Rate", unit="messages / CPU-second", better="higher", figures=(OURS, THEIRS, GONE))


def test_rows_figures_show_median_spread_ratio_and_check() -> None:
    made = rows([OUTCOME])

    assert made[0] == (
        "Rate (messages / CPU-second, higher is better)",
        "ours",
        "2,000,000",
        "1,000,000 .. 3,000,000",
        "",
        "9 of 9 delivered",
    )
    assert made[1] == ("", "theirs", "1,000,000", "1,000,000 .. 1,000,000", "2.00x", "7 of 7 delivered")


def test_rows_failed_contender_shows_the_reason_and_no_number() -> None:
    assert rows([OUTCOME])[2] == ("", "gone", "no figure", "", "", "account | does not add up")


@pytest.mark.parametrize(("value", "said"), [(1_234_567.0, "1,230,000"), (15.349, "15.3"), (0.4567, "0.46"), (999.6, "1,000"), (7.0, "7")])
def test_number_is_rounded_to_what_is_known(value: float, said: str) -> None:
    assert number(value) == said


def test_markdown_names_machine_and_every_contender() -> None:
    machine = Machine(cpu="a cpu", cores=2, memory_bytes=8 * 2**30, kernel="Linux 6", python="CPython 3.11.7", versions={"picows": "2.3"})

    text = markdown([OUTCOME], machine, rounds=3, day="2026-01-02")

    assert "2026-01-02, 3 rounds, on a cpu, 2 cores, 8 GiB; Linux 6, CPython 3.11.7, picows 2.3." in text
    assert "| ours | 2,000,000 |" in text
    assert "account / does not add up" in text  # a bar would end the cell


def test_terminal_table_holds_every_row() -> None:
    drawn = io.StringIO()

    Console(file=drawn, width=200).print(terminal([OUTCOME]))

    missing = [name for name in ("ours", "theirs", "gone", "2.00x", "9 of 9 delivered") if name not in drawn.getvalue()]
    assert missing == []


def test_replaced_document_changes_between_the_marks_only() -> None:
    document = f"head\n{BEGIN}\nold\n{END}\ntail\n"

    assert replaced(document, "new") == f"head\n{BEGIN}\nnew\n{END}\ntail\n"


def test_replaced_document_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the marks"):
        replaced("no marks", "new")


def test_document_of_the_repository_has_the_marks() -> None:
    assert replaced(DOCUMENT.read_text(), "x").count("\nx\n") == 1
