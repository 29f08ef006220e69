"""Servers that answer and hope to pass: FAIL, by what goes without saying or by criteria that anybody would write, and an honest twin.

Four clients ask twice for 50 tokens each: 400 tokens. What an expert would say stands beside each trick. Where time is the trick, each asks
once, at a pace at which an answer takes 2.45 s.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse
from floodmark.model.result import ScenarioResult
from floodmark.model.scenario import Phase, Population, Scenario, Target
from floodmark.model.verdict import Verdict
from tests.runner.asked import ALL, TOKENS, account, broken, expected, play

SERVER = Path(__file__).with_name("hostile_answers.py")
CLIENTS = 4
HALF = ALL // 2
REASONABLE = ("streams_failed == 0", "usage_wrong == 0", "tokens_per_chunk_max <= 1", "goodput_ratio == 100%", "stalls == 0")
IN_TIME = ("ttft_max < 2s", "token_gap_max < 2s", "latency_max < 2s", "pace_error < 50%")
NOT_GOOD = "goodput_ratio == 100%"

TRICKS: dict[str, tuple[set[str], dict[str, int]]] = {
    # The wrong text. Of a stream's own past it is a duplicate; of another stream it is damaged, or of nobody.
    "PreviousRequest": ({"lost == 0", "duplicated == 0", NOT_GOOD}, {"delivered": HALF, "lost": HALF, "duplicated": HALF}),
    "SameAnswer": ({"corrupted == 0", "lost == 0", "duplicated == 0", NOT_GOOD}, {}),
    "SwapStreams": ({"corrupted == 0", NOT_GOOD}, {"delivered": 0, "corrupted": ALL}),
    # Less text, or none.
    "EndFirst": ({"lost == 0", "odd_events == 0", "usage_wrong == 0", NOT_GOOD}, {"delivered": 0, "lost": ALL}),
    "ToldNotSent": ({"lost == 0", "usage_wrong == 0", NOT_GOOD}, {"delivered": HALF, "lost": HALF}),
    "HalfPolitely": ({"lost == 0", NOT_GOOD}, {"delivered": HALF, "lost": HALF}),
    "HalfAndNoEnd": ({"lost == 0", "streams_failed == 0", NOT_GOOD}, {"delivered": HALF, "lost": HALF}),
    "Empty": ({"lost == 0", NOT_GOOD}, {"delivered": 0, "lost": ALL}),
    "EmptyChunks": ({"lost == 0", "usage_wrong == 0", NOT_GOOD}, {"delivered": 0, "lost": ALL}),
    # The second request of each client was never sent: the first one still waits.
    "NeverAnswers": (
        {"lost == 0", "streams_failed == 0", "unanswered == 0", "stalls == 0", NOT_GOOD},
        {"attempted": HALF, "acknowledged": HALF, "delivered": 0, "lost": HALF},
    ),
    "OnlyPings": (
        {"lost == 0", "streams_failed == 0", "unanswered == 0", "stalls == 0", NOT_GOOD},
        {"attempted": HALF, "acknowledged": HALF, "delivered": 0, "lost": HALF},
    ),
    # Chunks that hold more than they say.
    "ManyAsOne": ({"usage_wrong == 0", "tokens_per_chunk_max <= 1"}, {}),
}
LATE: dict[str, set[str]] = {
    "BurstAtTheEnd": {"token_gap_max < 2s", "latency_max < 2s"},
    "AllAtTheEnd": {"ttft_max < 2s", "latency_max < 2s"},
    "EmptyFirstChunk": {"ttft_max < 2s", "latency_max < 2s", "pace_error < 50%"},
    "OneByteFirst": {"ttft_max < 2s", "token_gap_max < 2s", "latency_max < 2s"},
}
DELIVERS_NOTHING = {"SwapStreams", "EndFirst", "Empty", "EmptyChunks", "NeverAnswers", "OnlyPings"}


def scenario(trick: str, *criteria: str, each: int = 2, **options: str | float) -> Scenario:
    return Scenario(
        id=f"dishonest.{trick}",
        target=Target(command=shlex.join([sys.executable, str(SERVER), trick]), ready_pattern=r"\bready (\S+)"),
        driver="sse",
        driver_options={"tokens": str(TOKENS), **options},
        population=Population(connections=CLIENTS, channels=CLIENTS),
        phases=(Phase(arrival=Constant(rate_hz=100.0), messages=each * CLIENTS),),
        criteria=tuple(parse(text) for text in criteria),
        connect_limit_s=10.0,
        drain_limit_s=20.0 if trick == "Honest" else 1.5,  # an honest run ends as soon as all is there
        lag_limit_s=10.0,  # the machine may be busy; no test here speaks of the generator
    )


def failed(result: ScenarioResult) -> set[str]:
    return {text for text, verdict in broken(result).items() if verdict == "FAIL"}


@pytest.mark.parametrize("trick", TRICKS)
def test_dishonest_answers_fail_by_what_is_wrong_with_them(trick: str, tmp_path: Path) -> None:
    criteria, planted = TRICKS[trick]

    result = play(tmp_path, scenario(trick, *REASONABLE))

    assert result.verdict is Verdict.FAIL
    assert failed(result) >= criteria
    if planted or trick == "ManyAsOne":
        assert account(result) == expected(**planted)
    assert (result.delivery.delivered == 0) == (trick in DELIVERS_NOTHING)


@pytest.mark.parametrize("trick", ["NeverAnswers", "Empty"])
def test_dishonest_silence_is_no_evidence_of_speed(trick: str, tmp_path: Path) -> None:
    result = play(tmp_path, scenario(trick, "ttft_p99 < 1s", "token_gap_max < 1s", "latency_p99 < 1s"))

    verdicts = broken(result)
    assert {verdicts[text] for text in ("ttft_p99 < 1s", "token_gap_max < 1s", "latency_p99 < 1s")} == {"UNKNOWN"}
    assert verdicts["lost == 0"] == "FAIL"


@pytest.mark.parametrize("trick", LATE)
def test_dishonest_pace_fails_where_somebody_waits(trick: str, tmp_path: Path) -> None:
    result = play(tmp_path, scenario(trick, *IN_TIME, each=1, rate_hz=20.0, stall_s=5.0))

    assert account(result) == expected(attempted=HALF, acknowledged=HALF, delivered=HALF)
    assert failed(result) == LATE[trick]


@pytest.mark.parametrize("trick", ["Empty", "EmptyChunks", "HalfAndNoEnd", "EndFirst"])
def test_dishonest_answers_of_unknown_text_are_no_answers_without_text_or_end(trick: str, tmp_path: Path) -> None:
    result = play(tmp_path, scenario(trick, NOT_GOOD, text="unknown"))

    each = dict.fromkeys(("attempted", "acknowledged", "lost"), 2 * CLIENTS)
    assert account(result) == expected(**each, delivered=0)
    assert {"lost == 0", NOT_GOOD} <= failed(result)


def test_dishonest_servers_have_a_twin_that_passes_all_of_it(tmp_path: Path) -> None:
    plain = play(tmp_path / "plain", scenario("Honest", *REASONABLE))
    paced = play(tmp_path / "paced", scenario("Honest", *IN_TIME, each=1, rate_hz=20.0, stall_s=5.0))
    unknown = play(tmp_path / "unknown", scenario("Honest", NOT_GOOD, text="unknown"))

    assert (plain.verdict, account(plain)) == (Verdict.PASS, expected())
    assert paced.verdict is Verdict.PASS
    assert unknown.verdict is Verdict.PASS
