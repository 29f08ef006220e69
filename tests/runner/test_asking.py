"""Systems whose streams are answers, whole runs against a small server: honest ones pass, every planted fault is counted exactly.

The load is 8 requests of 50 tokens (asked.py); a fault strikes the 4th and the 8th request, both of the last channel.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest

from floodmark.core.errors import UsageError
from floodmark.model.arrival import Constant, Flood, Poisson, Ramp
from floodmark.model.scenario import Fault, Phase, Population, Reconnect, Slow, Stuck, Target
from floodmark.model.verdict import Verdict
from tests.runner.asked import ALL, REQUESTS, TOKENS, account, broken, expected, play, scenario
from tests.soonest import soonest

# What is planted, the account that follows, metrics that follow, and the criteria that must fail by themselves.
PLANTED: list[tuple[str, dict[str, int], dict[str, float], set[str]]] = [
    ("refuse=4", {"acknowledged": 300, "delivered": 300, "indeterminate": 100}, {"refused": 2, "streams_failed": 0}, {"refused == 0"}),
    ("error=4", {"delivered": 350, "lost": 50}, {"streams_failed": 2, "stalls": 0}, {"lost == 0", "streams_failed == 0"}),
    ("cut=4", {"delivered": 350, "lost": 50}, {"streams_failed": 2}, {"lost == 0", "streams_failed == 0"}),
    ("short=4", {"delivered": 350, "lost": 50}, {"streams_completed": 8, "usage_wrong": 0}, {"lost == 0"}),
    ("drop=4", {"delivered": 398, "lost": 2}, {"goodput_ratio": 0.75}, {"lost == 0"}),
    ("duplicate=4", {"duplicated": 2}, {"goodput_ratio": 0.75}, {"duplicated == 0"}),
    ("swap=4", {"reordered": 2}, {"goodput_ratio": 0.75}, {"reordered == 0"}),
    ("flip=4", {"delivered": 398, "corrupted": 2}, {"goodput_ratio": 0.75}, {"corrupted == 0"}),
    ("other=4", {"delivered": 398, "corrupted": 2}, {"goodput_ratio": 0.75}, {"corrupted == 0"}),
    ("extra=4", {"unexpected": 6}, {"streams_completed": 8, "goodput_ratio": 0.75}, {"unexpected == 0"}),
    ("usage=4", {}, {"usage_wrong": 2, "streams_completed": 8}, set()),
    ("twice=4", {}, {"odd_events": 2, "streams_completed": 8}, {"odd_events == 0"}),
    ("late=4", {}, {"odd_events": 2, "streams_completed": 8}, {"odd_events == 0"}),
    ("unread=4", {}, {"odd_events": 2, "streams_completed": 8}, {"odd_events == 0"}),
]
RESUME_NOT: dict[str, Any] = {"resume": False}


def test_asking_an_honest_system_passes_and_counts_every_token(tmp_path: Path) -> None:
    result = play(tmp_path, scenario())

    assert (result.verdict, account(result)) == (Verdict.PASS, expected())
    wanted = {"streams": 8, "streams_completed": 8, "streams_failed": 0, "stalls": 0, "odd_events": 0, "usage_wrong": 0, "published": 8}
    assert {name: result.metrics[name] for name in wanted} == wanted
    assert result.metrics["goodput_ratio"] == 1
    assert result.metrics["goodput"] == pytest.approx(result.metrics["throughput"])
    assert 0 < result.metrics["ttft_p50"] <= result.metrics["stream_time_max"]
    assert result.latency_ns.response.count == ALL
    assert 0 < result.metrics["close_time_max"] < 5


@pytest.mark.parametrize(("words", "changes", "metrics", "fails"), PLANTED, ids=[words for words, *_ in PLANTED])
def test_asking_a_planted_fault_is_counted_exactly(
    tmp_path: Path, words: str, changes: dict[str, int], metrics: dict[str, float], fails: set[str]
) -> None:
    result = play(tmp_path, scenario(words))

    assert account(result) == expected(**changes)
    assert {name: result.metrics[name] for name in metrics} == metrics
    assert broken(result) == dict.fromkeys(fails, "FAIL")


def test_asking_answers_that_hang_are_lost_stalled_and_hold_up_their_channel(tmp_path: Path) -> None:
    result = play(tmp_path, scenario("hang=4"))

    # The 8th request was never sent: the 4th still holds the channel.
    assert account(result) == expected(attempted=350, acknowledged=350, delivered=325, lost=25)
    assert (result.metrics["streams"], result.metrics["streams_failed"], result.metrics["stalls"]) == (7, 1, 1)
    assert result.metrics["unanswered"] == 1
    assert set(broken(result)) == {"lost == 0", "streams_failed == 0", "unanswered == 0"}


def test_asking_requests_that_nobody_takes_are_unanswered(tmp_path: Path) -> None:
    result = play(tmp_path, scenario("mute=1"))

    assert result.metrics["unanswered"] == REQUESTS
    assert result.delivery.delivered == 0
    assert result.verdict is not Verdict.PASS
    assert "ttft_p50" not in result.metrics


def test_asking_a_connection_cut_by_the_target_loses_what_was_owed(tmp_path: Path) -> None:
    result = play(tmp_path, scenario("reset=4"))

    assert result.delivery.lost == 25
    assert result.metrics["streams_failed"] == 1
    assert {"lost == 0", "disconnects == 0", "streams_failed == 0"} <= set(broken(result))


def test_asking_clients_that_come_back_ask_the_rest(tmp_path: Path) -> None:
    result = play(tmp_path, scenario("reset=4", reconnect=Reconnect()))

    assert result.metrics["streams"] == REQUESTS
    assert result.delivery.lost == 0
    assert result.delivery.indeterminate >= 2 * 25
    # A request that was on its way when its connection was reset was not accepted, so it is unanswered and not failed.
    assert result.metrics["streams_failed"] + result.metrics["unanswered"] >= 2
    assert {"disconnects == 0"} < set(broken(result)) <= {"disconnects == 0", "streams_failed == 0", "unanswered == 0"}


@pytest.mark.parametrize(
    "arrival",
    [Constant(rate_hz=100.0), Poisson(rate_hz=100.0), Ramp(from_hz=50.0, to_hz=200.0), Flood(in_flight=3)],
    ids=["constant", "poisson", "ramp", "flood"],
)
@pytest.mark.parametrize("agents", [1, 2])
def test_asking_every_arrival_sends_each_request_once(tmp_path: Path, arrival: Any, agents: int) -> None:
    phase = Phase(arrival=arrival, messages=REQUESTS, duration_s=5.0 if isinstance(arrival, Ramp) else None)

    result = play(tmp_path, scenario(phases=(phase,)), agents=agents)

    assert (result.verdict, account(result)) == (Verdict.PASS, expected())


def test_asking_a_second_load_asks_everything_again(tmp_path: Path) -> None:
    result = play(tmp_path, scenario(second_load=True))

    twice = dict.fromkeys(("attempted", "acknowledged", "delivered"), 2 * ALL)
    assert (result.verdict, account(result)) == (Verdict.PASS, expected(**twice))


def test_asking_a_pace_that_is_kept_has_little_error_and_one_that_is_not_has_much(tmp_path: Path) -> None:
    once_each = (Phase(arrival=Constant(rate_hz=100.0), messages=4),)  # of 2.45 s: what adds 30 % to that does so in one try, not in all
    tries = itertools.count()

    def kept() -> float:
        told = play(tmp_path / f"kept-{next(tries)}", scenario(phases=once_each, options={"rate_hz": 20.0}))
        return float(told.metrics["pace_error"])

    def eager_beside() -> float:
        """How far its error is from what was planted."""
        folder = tmp_path / f"eager-{next(tries)}"
        told = play(folder, scenario("eager=4", "pace_error < 30%", phases=once_each, options={"rate_hz": 20.0}))
        error = float(told.metrics["pace_error"])
        assert broken(told) == ({"pace_error < 30%": "FAIL"} if error >= 0.3 else {})
        return abs(error - 0.45)

    assert soonest(kept, 0.3) < 0.3
    assert soonest(eager_beside, 0.15) < 0.15


def test_asking_answers_of_unknown_text_are_one_message_each(tmp_path: Path) -> None:
    honest = play(tmp_path / "honest", scenario(options={"text": "unknown"}))
    failing = play(tmp_path / "failing", scenario("error=4", options={"text": "unknown"}))

    one_each = {"attempted": REQUESTS, "acknowledged": REQUESTS}
    assert account(honest) == expected(**one_each, delivered=REQUESTS)
    assert account(failing) == expected(**one_each, delivered=6, lost=2)
    assert honest.verdict is Verdict.PASS
    assert honest.metrics["tokens_per_chunk"] == 1  # by the usage that was told
    assert set(broken(failing)) == {"lost == 0", "streams_failed == 0"}


def test_asking_chunks_are_no_tokens(tmp_path: Path) -> None:
    result = play(tmp_path, scenario("per_chunk=7"))

    assert account(result) == expected()
    assert result.metrics["tokens_per_chunk"] == TOKENS / 8
    assert result.metrics["tokens_per_chunk_max"] == 7


@pytest.mark.parametrize(("level", "good"), [({"service_gap_s": 0.005}, 0.0), ({"service_gap_s": 5.0, "service_ttft_s": 5.0}, 1.0)])
def test_asking_goodput_is_of_answers_within_the_stated_level(tmp_path: Path, level: dict[str, Any], good: float) -> None:
    result = play(tmp_path, scenario("gap_s=0.02 per_chunk=10", options=level))

    assert result.metrics["goodput_ratio"] == good


def test_asking_gaps_beyond_the_limit_are_stalls(tmp_path: Path) -> None:
    result = play(tmp_path, scenario("gap_s=0.3 per_chunk=25", "stalls == 0", options={"stall_s": 0.2}))

    assert result.metrics["stalls"] == REQUESTS
    assert result.metrics["token_gap_p50"] > 0.2
    assert broken(result) == {"stalls == 0": "FAIL"}


def test_asking_answers_of_differing_lengths_go_to_the_channels_in_turn(tmp_path: Path) -> None:
    result = play(tmp_path, scenario(options={"tokens": "2x20 1000", "token_bytes": "5 100"}))

    total = 2 * (20 + 20 + 1000 + 20)
    assert account(result) == expected(attempted=total, acknowledged=total, delivered=total)


def test_asking_answers_that_went_to_each_other_s_channel_are_unexpected_though_their_check_digits_are_equal(tmp_path: Path) -> None:
    people = Population(connections=4, subscriptions_per_connection=18, channels=72)
    phase = Phase(arrival=Constant(rate_hz=1000.0), messages=72)

    result = play(tmp_path, scenario("cross=1", population=people, phases=(phase,)))

    total = 72 * TOKENS
    assert account(result) == expected(attempted=total, acknowledged=total, delivered=0, lost=total, unexpected=total)
    assert result.metrics["goodput_ratio"] == 0
    assert result.latency_ns.response.count == 0  # what nobody asked for was due at no time


def test_asking_tokens_beyond_the_end_of_an_answer_are_not_timed(tmp_path: Path) -> None:
    result = play(tmp_path, scenario("extra=4"))

    assert result.delivery.unexpected == 6
    assert result.latency_ns.response.count == result.latency_ns.service.count == ALL


def test_asking_slow_readers_get_everything(tmp_path: Path) -> None:
    people = Population(connections=2, subscriptions_per_connection=2, channels=4, consumer=Slow(rate_bytes_per_s=3000))

    result = play(tmp_path, scenario(population=people))

    assert (result.verdict, account(result)) == (Verdict.PASS, expected())


UNREAD: dict[str, Any] = {"faults": (Fault(kind="reader", at_s=0.1, for_s=0.6, ratio=1.0),), "options": {"rate_hz": 50.0, "stall_s": 0.3}}


def test_asking_gaps_in_which_we_did_not_read_are_no_stalls(tmp_path: Path) -> None:
    long = Fault(kind="reader", at_s=0.1, for_s=2.0, ratio=1.0)  # the machine itself may stand still for a second
    options: dict[str, Any] = {"rate_hz": 50.0, "stall_s": 1.2}

    result = play(tmp_path, scenario("", "stalls == 0", "token_gap_max < 1.2s", faults=(long,), options=options))

    assert (result.verdict, account(result)) == (Verdict.PASS, expected())
    assert result.metrics["gaps_unread"] >= 4  # one for each answer under way


def test_asking_a_stall_of_the_target_counts_though_we_did_not_read_for_a_part_of_it(tmp_path: Path) -> None:
    """Answers 4 and 8 of 8 stall for a second, 0.6 s of which may fall into the time in which nobody reads."""
    result = play(tmp_path, scenario("stall=4", "stalls == 0", "token_gap_max < 300ms", **UNREAD))

    assert account(result) == expected()
    assert result.metrics["stalls"] >= 2  # what holds the machine up looks like one more
    assert broken(result) == {"stalls == 0": "FAIL", "token_gap_max < 300ms": "FAIL"}


def test_asking_clients_that_stop_reading_for_good_read_again_when_nothing_else_is_left(tmp_path: Path) -> None:
    people = Population(connections=2, subscriptions_per_connection=2, channels=4, consumer=Stuck(after_s=0.0))

    result = play(tmp_path, scenario("", "stalls == 0", "unanswered == 0", population=people, options={"rate_hz": 1000.0, "stall_s": 0.5}))

    assert (result.verdict, account(result)) == (Verdict.PASS, expected())


def test_asking_clients_that_a_fault_takes_away_for_good_are_not_waited_for(tmp_path: Path) -> None:
    fault = Fault(kind="drop", at_s=0.1, ratio=0.5, options={"how": "close", "back": False})

    result = play(tmp_path, scenario(faults=(fault,), options={"rate_hz": 50.0}))

    assert result.verdict is Verdict.PASS
    assert (result.metrics["streams"], result.delivery.lost) == (REQUESTS - 2, 0)  # nobody is subscribed to what the victim did not ask
    assert result.metrics["duration"] < 9  # nobody waited the 10 s in which a client may come back


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="disconnect", at_s=0.1, ratio=0.5, options={"abrupt": False, **RESUME_NOT}),
        Fault(kind="disconnect", at_s=0.1, ratio=0.5, options={"abrupt": True, **RESUME_NOT}),
        Fault(kind="drop", at_s=0.1, ratio=0.5, options={"how": "reset"}),
        Fault(kind="churn", at_s=0.1),
    ],
    ids=["leave", "abort", "drop", "churn"],
)
def test_asking_answers_that_we_cut_off_are_indeterminate_and_nobodys_fault(tmp_path: Path, fault: Fault) -> None:
    result = play(tmp_path, scenario(faults=(fault,), options={"rate_hz": 200.0}))

    assert result.verdict is Verdict.PASS
    assert result.delivery.lost == 0
    assert result.delivery.indeterminate > 0
    assert result.metrics["streams"] == REQUESTS
    assert 0 < result.metrics["streams_completed"] < REQUESTS
    assert result.metrics["streams_failed"] == 0


def test_asking_a_reset_on_the_wire_accuses_nobody(tmp_path: Path) -> None:
    fault = Fault(kind="wire.reset", at_s=0.1)

    result = play(tmp_path, scenario(faults=(fault,), reconnect=Reconnect(), options={"rate_hz": 200.0}))

    assert result.verdict is Verdict.PASS
    assert (result.delivery.lost, result.metrics["streams"]) == (0, REQUESTS)
    assert result.metrics["streams_failed"] > 0


def test_asking_requests_that_a_fault_fails_are_dropped_by_us(tmp_path: Path) -> None:
    fault = Fault(kind="failure", ratio=0.5, options={"on": "publish"})

    result = play(tmp_path, scenario(faults=(fault,)))

    assert result.verdict is Verdict.PASS
    assert (result.delivery.dropped_by_us, result.metrics["streams"]) == (4, 4)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"population": Population(connections=4, channels=2)}, "population.channels must be 4"),
        ({"faults": (Fault(kind="drop", options={"during": "publish"}),)}, "use receive"),
        ({"faults": (Fault(kind="latency", options={"on": "receive"}),)}, "use reader"),
        ({"driver_options": {"tokens": "few"}}, "option 'tokens' is a whole number"),
        ({"driver_options": {"token_bytes": "4"}}, "a numbered token has 5"),
        ({"driver_options": {"rate_hz": -1.0}}, "option 'rate_hz' must be finite"),
        ({"driver_options": {"stall_s": 0.0}}, "option 'stall_s' must be finite and > 0"),
        ({"driver_options": {"text": "poem"}}, "numbered or unknown"),
        ({"driver_options": {"extra_every": 0}}, "option 'extra_every' must be at least 1"),
    ],
)
def test_asking_what_cannot_be_asked_is_refused_before_anything_starts(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    wanted = msgspec.structs.replace(scenario(), target=Target(url="tcp://127.0.0.1:9"), **changes)

    with pytest.raises(UsageError, match=why):
        play(tmp_path, wanted)
