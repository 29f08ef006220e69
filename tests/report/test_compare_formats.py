"""Comparisons as they are read: on a terminal, in a comment and as JSON, each with one verdict, and nothing in a name taking effect."""

from __future__ import annotations

import io
import json

import msgspec
import pytest
from rich.console import Console, RenderableType

from floodmark.judge.compare import compare
from floodmark.judge.comparison import Change, Compared, Comparison
from floodmark.model.verdict import Verdict
from floodmark.report import compare_figures, compare_json, compare_markdown, compare_terminal
from tests.judge.repeated import CALM, ONE, held, measured, scaled, subject

BEFORE = {"throughput": scaled(1000.0), "latency_p50": scaled(0.02), "rss_peak": scaled(5e7), "rss_per_connection": (0.0,) * 8}
AFTER = {"throughput": scaled(500.0), "latency_p50": scaled(0.01), "rss_peak": scaled(5e7, CALM[:1]), "rss_per_connection": (9000.0,) * 8}


@pytest.fixture
def compared() -> Compared:
    """One figure worse, one better, one unknown, one without a ratio, and the verdict the same."""
    return compare(held({ONE: subject(BEFORE)}), measured({ONE: subject(AFTER, runs="n")}))


def drawn(shown: RenderableType, columns: int = 120) -> str:
    """What stands on a terminal."""
    out = io.StringIO()
    Console(file=out, width=columns, color_system=None, highlight=False, markup=False).print(shown)
    return out.getvalue()


def line(text: str, name: str) -> str:
    """The first line that has a name in it."""
    return next(one for one in text.splitlines() if name in one)


def test_terminal_shows_each_figure_with_its_interval_and_the_reasons_below(compared: Compared) -> None:
    text = drawn(compare_terminal.comparison(compared))

    assert text.startswith("✗ FAIL  A regression: 2 worse, 1 unknown, 1 same, 1 better.")
    assert "1,002 /s     501 /s" in line(text, "throughput")
    assert "0.50 [0.49 … 0.51]" in line(text, "throughput")
    assert "▲ better" in line(text, "latency_p50")
    assert "+8.79 KiB [+8.79 KiB … +8.79 KiB]" in line(text, "rss_per_connection")
    assert "rss_peak: too few repetitions to tell (8 and 1)" in text


def test_terminal_of_eighty_columns_shows_every_figure_on_a_line_of_its_own(compared: Compared) -> None:
    text = drawn(compare_terminal.comparison(compared, columns=80), columns=80)

    assert all(len(one) <= 80 for one in text.splitlines())
    assert all(name in text for name in BEFORE)
    assert "lets pass" not in text


def test_terminal_takes_nothing_in_a_name_for_markup() -> None:
    name = "[red]x[/red]\x1b[31m"
    found = compare(held({name: subject({"rss_peak": CALM})}), measured({name: subject({"rss_peak": CALM}, runs="n")}))

    text = drawn(compare_terminal.comparison(found))

    assert "[red]x[/red]�[31m" in text
    assert "\x1b" not in text


def test_markdown_shows_what_changed_and_folds_the_rest(compared: Compared) -> None:
    text = compare_markdown.render(compared)

    assert text.startswith("### ✗ FAIL: A regression:")
    open_part, _, folded = text.partition("<details>")
    assert "`throughput`" in open_part
    assert "`latency_p50`" in open_part
    assert "`rss_peak`" in folded
    assert text.count("<details>") == text.count("</details>") == 2


def test_markdown_takes_nothing_in_a_name_for_a_cell_or_for_html() -> None:
    name = "a|b <img src=x>"
    found = compare(held({name: subject({"rss_peak": CALM})}), measured({name: subject({"rss_peak": scaled(2.0)}, runs="n", target="<b>")}))

    text = compare_markdown.render(found)

    assert "`a¦b <img src=x>`" in text
    assert "\\<b\\>" in text
    (head,) = {one.count(" | ") for one in text.splitlines() if one.startswith("| ✗") or one.startswith("| verdict")}
    assert head == 8


def test_json_is_one_document_of_the_promised_shape(compared: Compared) -> None:
    document = json.loads(compare_json.render(compared))

    assert (document["schema"], document["baseline"], document["verdict"]) == (1, "main", "FAIL")
    assert document["run"] == document["runs"][-1]
    by_metric = {one["metric"]: one for one in document["comparisons"]}
    assert by_metric["throughput"]["verdict"] == "worse"
    assert by_metric["throughput"]["ratio"] == pytest.approx(0.5)
    assert by_metric["rss_per_connection"]["ratio"] is None
    assert by_metric["rss_per_connection"]["difference"] == pytest.approx(9000.0)
    assert by_metric["rss_peak"]["settled_by"] == 5


def test_json_writes_an_end_that_is_not_finite_as_null() -> None:
    row = Comparison(scenario="s", metric="throughput", verdict=Change.UNKNOWN, ratio=1.0, ratio_interval=(0.0, float("inf")))

    document = json.loads(compare_json.render(Compared(baseline="b", runs=(), verdict=Verdict.UNKNOWN, comparisons=(row,))))

    assert document["comparisons"][0]["ratio_interval"] == [0.0, None]
    assert document["run"] is None


def test_terminal_of_eighty_columns_writes_an_end_beyond_all_measure_by_its_size() -> None:
    row = Comparison(scenario="s", metric="throughput", verdict=Change.UNKNOWN, ratio=1.0, ratio_interval=(1e-9, 8.4e57))
    found = Compared(baseline="b", runs=("n0",), verdict=Verdict.UNKNOWN, comparisons=(row,))

    text = drawn(compare_terminal.comparison(found, columns=80), columns=80)

    assert "1.000 [0.00 … 8e+57]" in line(text, "throughput")


def test_headline_of_nothing_says_that_nothing_is_known() -> None:
    nothing = Compared(baseline="b", runs=(), verdict=Verdict.UNKNOWN, comparisons=())

    assert compare_figures.headline(nothing) == "Nothing was compared, so nothing is known."
    assert compare_markdown.render(nothing).startswith("### ? UNKNOWN")


def test_baseline_shows_each_figure_with_its_ends_and_each_run_with_its_seed() -> None:
    text = drawn(compare_terminal.baseline(held({ONE: msgspec.structs.replace(subject(BEFORE), scale=0.1)})))

    assert "4 x An Honest Processor · Linux 6.1 · CPython 3.11.9" in text
    assert f"{ONE}  hub · scale 0.1 · load c0ffee" in text
    assert line(text, "throughput").split() == ["throughput", "1,002", "/s", "980", "/s", "1,020", "/s", "8"]
    assert "r3 · 2026-01-04 · seed 3 · floodmark 0.1.0" in text
