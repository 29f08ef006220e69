"""The record of a run: every criterion and finding once, totals of all of them, in the memory of one row."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from floodmark.core.errors import UsageError
from floodmark.model.finding import Anomaly, Finding
from floodmark.report import RunFolder
from floodmark.report.record import COUNTS, FINDINGS_SHOWN, report_of, rows_of
from tests.report import made

Write = Callable[..., RunFolder]
LOST = made.failed().findings[0]


def rows_in(folder: RunFolder) -> list[dict[str, object]]:
    return list(rows_of(folder, folder.result()))


def write_lines(folder: RunFolder, *lines: tuple[str, Finding]) -> None:
    encode = msgspec.json.encode
    (folder.path / "findings.jsonl").write_bytes(b"".join(encode({"scenario": name, "finding": one}) + b"\n" for name, one in lines))


def test_rows_of_every_criterion_and_finding_is_one_row_under_its_scenario(written: Write) -> None:
    failed, unknown = made.failed(2), made.unknown(3)
    folder = written(failed, unknown)

    rows = rows_in(folder)

    assert [row["id"] for row in rows] == [failed.id] * (len(failed.criteria) + len(failed.findings)) + [unknown.id]
    assert [row["what"] for row in rows[3:-1]] == [finding.detail for finding in failed.findings]
    assert {name: sum(int(str(row[name])) for row in rows) for name in COUNTS} == {
        "met": 2,
        "broken": 1,
        "unjudged": 1,
        "findings": 6,
        "messages": failed.delivery.lost,
    }


def test_rows_of_findings_beyond_the_limit_are_counted_by_their_anomaly(written: Write) -> None:
    failed = made.failed(2)
    folder = written(failed)
    duplicated = msgspec.structs.replace(LOST, anomaly=Anomaly.DUPLICATED, count=5)
    write_lines(folder, *[(failed.id, LOST)] * (FINDINGS_SHOWN + 2), *[(failed.id, duplicated)] * 3)

    rows = rows_in(folder)[len(failed.criteria) :]

    assert len(rows) == FINDINGS_SHOWN + 2
    assert [(row["mark"], row["what"], row["findings"], row["messages"]) for row in rows[-2:]] == [
        ("lost", "2 more findings; all are in findings.jsonl", 2, 2 * LOST.count),
        ("duplicated", "3 more findings; all are in findings.jsonl", 3, 15),
    ]


def test_rows_of_lines_of_several_scenarios_in_turn_find_their_places(written: Write) -> None:
    one, other = made.failed(2), made.failed(4)
    folder = written(one, other)
    numbered = [msgspec.structs.replace(LOST, detail=str(number)) for number in range(8)]
    write_lines(folder, *((one.id if number % 2 else other.id, finding) for number, finding in enumerate(numbered)))

    found = [(row["id"], row["what"]) for row in rows_in(folder) if row["findings"]]

    assert found == [*((one.id, str(n)) for n in (1, 3, 5, 7)), *((other.id, str(n)) for n in (0, 2, 4, 6))]


def test_rows_of_findings_whose_scenario_did_not_end_come_last(written: Write) -> None:
    folder = written(made.passed(1))
    write_lines(folder, ("subscriptions.cut-off", LOST), (made.passed(1).id, LOST))

    rows = rows_in(folder)

    assert [row["id"] for row in rows][-2:] == [made.passed(1).id, "subscriptions.cut-off"]
    assert rows[-1]["title"] == "UNKNOWN  subscriptions.cut-off, which did not end"


def test_rows_of_folder_without_the_file_takes_what_the_result_holds(written: Write) -> None:
    folder = written(made.failed(2))
    (folder.path / "findings.jsonl").unlink()

    assert Counter(str(row["mark"]) for row in rows_in(folder))["lost"] == 6


def test_rows_of_a_line_that_is_no_finding_is_told_with_its_number(written: Write) -> None:
    folder = written(made.failed(2))
    write_lines(folder, (made.failed(2).id, LOST))
    with (folder.path / "findings.jsonl").open("ab") as file:
        file.write(b'{"scenario": "x", "fin')

    with pytest.raises(UsageError, match=r"findings\.jsonl, line 2 is no finding"):
        rows_in(folder)


def test_rows_of_scenario_without_criteria_says_so(written: Write) -> None:
    (row,) = rows_in(written(made.unknown(criteria=())))

    assert (row["mark"], row["what"]) == ("–", "No criterion was judged.")
    assert [row[name] for name in COUNTS] == [0] * len(COUNTS)


def test_rows_of_a_finding_that_the_promise_allows_says_so(written: Write) -> None:
    folder = written(made.passed(1))
    write_lines(folder, (made.passed(1).id, msgspec.structs.replace(LOST, violation=False, first_seq=-1)))

    row = rows_in(folder)[-1]

    assert (row["mark"], row["where"]) == ("lost, allowed", f"subscription {LOST.subscription}, publisher {LOST.publisher}")


def test_rows_of_a_hundred_thousand_findings_hold_no_more_than_one_row(written: Write, tmp_path: Path) -> None:
    folder = written(made.failed(2))
    line = msgspec.json.encode({"scenario": made.failed(2).id, "finding": LOST}) + b"\n"
    with (folder.path / "findings.jsonl").open("wb") as file:
        for _ in range(100):
            file.write(line * 1000)
    document = folder.result()

    tracemalloc.start()
    try:
        total = sum(int(str(row["findings"])) for row in rows_of(folder, document))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert total == 100_000
    assert peak_bytes < 1_000_000  # the file has 25 MB


def test_report_of_a_run_groups_by_scenario_in_the_order_of_the_run() -> None:
    report = report_of(made.document_of(made.failed(2), made.passed(1)))

    assert [group.name for group in report.groups] == ["id"]
    assert report.presorted
    assert report.title == "FAIL: floodmark, 2026-01-31 14:25:01 UTC"
