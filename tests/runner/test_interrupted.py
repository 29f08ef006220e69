"""What an interrupted scenario may still claim, and a target's log on a disk that takes no more."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from floodmark.core.errors import UsageError
from floodmark.ledger.reconcile import Reckoning
from floodmark.model.finding import Anomaly, Finding
from floodmark.model.result import CriterionResult, Delivery
from floodmark.model.verdict import Verdict
from floodmark.runner import leftovers
from floodmark.runner.interrupted import held_back, in_flight
from floodmark.runner.log import LOG_HEAD_BYTES, LOG_TAIL_BYTES, Log
from tests.runner.played import wait_for


def finding(anomaly: Anomaly) -> Finding:
    return Finding(anomaly=anomaly, subscription=0, channel=0, publisher=0, count=1, first_seq=1, last_seq=1, violation=True, detail="seen")


def test_in_flight_what_is_missing_is_indeterminate_and_what_was_seen_stays() -> None:
    delivery = Delivery(attempted=100, acknowledged=90, delivered=80, lost=10, duplicated=2, corrupted=1, indeterminate=10)
    reckoning = Reckoning(delivery=delivery, findings=(finding(Anomaly.LOST), finding(Anomaly.DUPLICATED)), truncated=False)

    held = in_flight(reckoning)

    assert (held.delivery.lost, held.delivery.indeterminate) == (0, 20)
    assert (held.delivery.attempted, held.delivery.delivered, held.delivery.duplicated) == (100, 80, 2)
    assert [one.anomaly for one in held.findings] == [Anomaly.DUPLICATED]


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("lost == 0", Verdict.FAIL, Verdict.UNKNOWN),
        ("delivered == 100", Verdict.FAIL, Verdict.UNKNOWN),
        ("latency_p99 < 1s", Verdict.PASS, Verdict.UNKNOWN),
        ("duplicated == 0", Verdict.PASS, Verdict.UNKNOWN),
        ("duplicated == 0", Verdict.FAIL, Verdict.FAIL),
        ("corrupted == 0", Verdict.FAIL, Verdict.FAIL),
        ("unexpected == 0", Verdict.FAIL, Verdict.FAIL),
        ("reordered == 0", Verdict.FAIL, Verdict.FAIL),
        ("odd_events == 0", Verdict.FAIL, Verdict.FAIL),
        ("usage_wrong == 0", Verdict.FAIL, Verdict.FAIL),
        ("streams_failed == 0", Verdict.FAIL, Verdict.UNKNOWN),
        ("stalls == 0", Verdict.FAIL, Verdict.UNKNOWN),
        ("rss_peak < 1GB", Verdict.UNKNOWN, Verdict.UNKNOWN),
    ],
)
def test_held_back_only_what_was_seen_stands(text: str, before: Verdict, after: Verdict) -> None:
    (held,) = held_back([CriterionResult(text=text, observed=3.0, verdict=before)], "interrupted in the drain")

    assert (held.text, held.observed, held.verdict) == (text, 3.0, after)


def test_log_keeps_head_and_tail_and_says_what_it_left_out(tmp_path: Path) -> None:
    log = Log(tmp_path / "target.log")
    for number in range(100):
        log.write(b"%06d" % number + b"x" * 99_993 + b"\n")
    log.close()

    text = (tmp_path / "target.log").read_bytes()
    assert text.startswith(b"000000")
    assert b"000099" in text
    assert len(text) + log.dropped_bytes == pytest.approx(10_000_000, abs=100)
    assert len(text) <= LOG_HEAD_BYTES + LOG_TAIL_BYTES + 3 * 100_000
    assert log.last_lines()[-1].startswith("000099")


def test_log_on_a_full_disk_drops_and_goes_on() -> None:
    log = Log(Path("/dev/full"))

    lines = log.write(b"first\nsecond\nthi")
    log.close()

    assert lines == ["first", "second"]
    assert log.last_lines() == ("first", "second", "thi")
    assert log.dropped_bytes >= len(b"first\nsecond\nthi")


def test_log_that_cannot_be_opened_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose another place with --out"):
        Log(tmp_path / "missing" / "target.log")


def test_end_marked_ends_those_that_carry_the_mark_and_nobody_else() -> None:
    mark, other = uuid.uuid4().hex, uuid.uuid4().hex
    started = [
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={leftovers.MARK: name}, start_new_session=True)
        for name in (mark, mark, other)
    ]
    try:
        wait_for(lambda: len(leftovers.marked(mark)) == 2 and leftovers.marked(other), "marked processes")

        leftovers.end_marked(mark)

        assert [process.wait(20) for process in started[:2]] == [-9, -9]
        assert leftovers.marked(other) == [started[2].pid]
    finally:
        for process in started:
            process.kill()
            process.communicate()
