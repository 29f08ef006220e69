"""Every metric of answers: a criterion about it fails where the fault is planted, passes without it, is UNKNOWN without evidence."""

from __future__ import annotations

from pathlib import Path

import pytest

from floodmark.judge.observe import ANSWERS, Answers, Record, observe
from floodmark.judge.verdict import judge
from floodmark.model.criterion import parse
from floodmark.model.result import Delivery, LatencySummary
from floodmark.model.verdict import Verdict
from tests.runner.asked import broken, play, scenario

S = 1_000_000_000


def summary(step_ns: int) -> LatencySummary:
    return LatencySummary(p50=step_ns, p90=step_ns, p99=step_ns, p999=step_ns, max=step_ns, count=100)


def record(answers: Answers | None) -> Record:
    return Record(delivery=Delivery(acknowledged=1000, delivered=1000), first_intended_ns=S, last_received_ns=11 * S, answers=answers)


GOOD = Answers(
    ttft=summary(S // 100),
    token_gap=summary(S // 100),
    stream_time=summary(S),
    streams=100,
    streams_completed=100,
    usages=100,
    chunks=1000,
    tokens=1000,
    tokens_per_chunk_max=1.0,
    good_streams=100,
    good_tokens=1000,
    paced=100,
    pace_error=0.001,
    close_worst_s=0.01,
)
BAD = Answers(
    ttft=summary(S),
    token_gap=summary(S),
    stream_time=summary(60 * S),
    streams=101,
    streams_completed=90,
    streams_failed=10,
    stalls=3,
    gaps_unread=7,
    odd_events=2,
    usages=90,
    usage_wrong=1,
    chunks=100,
    tokens=1000,
    tokens_per_chunk_max=50.0,
    good_streams=50,
    good_tokens=500,
    paced=90,
    pace_error=0.5,
    close_worst_s=4.0,
)
CRITERIA = {
    **{f"{prefix}_{p}": "< 100ms" for prefix in ("ttft", "token_gap") for p in ("p50", "p90", "p99", "p999", "max")},
    **{f"stream_time_{p}": "< 10s" for p in ("p50", "p90", "p99", "p999", "max")},
    "streams": "== 100",
    "streams_completed": "== 100",
    "streams_failed": "== 0",
    "stalls": "== 0",
    "gaps_unread": "== 0",
    "odd_events": "== 0",
    "usage_wrong": "== 0",
    "tokens_per_chunk": "<= 1",
    "tokens_per_chunk_max": "<= 1",
    "goodput": "> 99/s",
    "goodput_ratio": ">= 99%",
    "pace_error": "< 2%",
    "close_time_max": "< 100ms",
}


def test_answers_every_metric_is_tried() -> None:
    assert set(CRITERIA) == set(ANSWERS)


@pytest.mark.parametrize("name", CRITERIA)
def test_answers_a_criterion_tells_good_from_bad_and_both_from_nothing(name: str) -> None:
    criterion = parse(f"{name} {CRITERIA[name]}")

    verdicts = [judge([criterion], observe(record(answers)))[0].verdict for answers in (GOOD, BAD, None, Answers())]

    expected = [Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN, Verdict.FAIL if name == "streams" else Verdict.UNKNOWN]
    assert verdicts == expected  # that nothing was asked is known of `streams`


@pytest.mark.parametrize(
    ("words", "criterion", "options"),
    [
        ("gap_s=0.06 per_chunk=25", "ttft_max < 1ms", {}),
        ("gap_s=0.06 per_chunk=25", "token_gap_p90 < 10ms", {}),
        ("gap_s=0.06 per_chunk=25", "stream_time_p50 < 50ms", {}),
        ("per_chunk=5", "tokens_per_chunk_max <= 1", {}),
        ("per_chunk=5", "tokens_per_chunk <= 1", {}),
        ("usage=2", "usage_wrong == 0", {}),
        ("short=2", "goodput_ratio >= 99%", {}),
        ("refuse=2", "streams_completed == 8", {}),
        ("eager=1", "pace_error < 20%", {"rate_hz": 200.0}),
    ],
)
def test_answers_a_fault_planted_in_a_whole_run_fails_its_criterion(
    tmp_path: Path, words: str, criterion: str, options: dict[str, str | int | float | bool]
) -> None:
    result = play(tmp_path, scenario(words, criterion, options=options))

    assert broken(result)[criterion] == "FAIL"


def test_answers_a_run_whose_requests_are_all_refused_proves_nothing(tmp_path: Path) -> None:
    criteria = ("ttft_p99 < 1s", "token_gap_p99 < 1s", "usage_wrong == 0", "tokens_per_chunk <= 1", "pace_error < 2%")

    result = play(tmp_path, scenario("refuse=1", *criteria))

    verdicts = broken(result)
    assert {text: verdicts[text] for text in criteria} == dict.fromkeys(criteria, "UNKNOWN")
    assert verdicts["refused == 0"] == "FAIL"
