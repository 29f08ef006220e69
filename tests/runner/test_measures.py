"""What answers come to, moment by moment, with times that are given: no run, no socket, no clock."""

from __future__ import annotations

from typing import cast

import pytest

from floodmark.drivers.asking import ASKING_DEFAULTS
from floodmark.drivers.base import Driver as AnyDriver
from floodmark.drivers.base import Options
from floodmark.runner.agent.answer import Answer, Ending
from floodmark.runner.agent.measures import REASONS_COUNT, Measures
from floodmark.runner.agent.reading import Reading
from floodmark.runner.agent.terms import Terms, terms_of

MS = 1_000_000
S = 1000 * MS
SENT_NS = 50 * S


class Driver:
    """As far as terms know one."""

    def __init__(self, options: Options) -> None:
        self.options = options


def terms(**options: str | float) -> Terms:
    return terms_of(cast("AnyDriver", Driver({**ASKING_DEFAULTS, **options})))


def asked(reading: Reading | None = None, *, count: int = 10) -> Answer:
    """An answer of so many tokens, sent at `SENT_NS` and meant to be."""
    answer = Answer(token=1, slot=0, channel=0, connection=None, reading=reading or Reading(), first=0, end=count, count=count)
    answer.intended_ns = answer.sent_ns = SENT_NS
    return answer


def came(measures: Measures, answer: Answer, *at_ms: int) -> None:
    """One chunk of one token at each of these times after the request."""
    for at in at_ms:
        measures.came(answer, 10, 1, 10, 0, SENT_NS + at * MS)
        answer.token_count += 1


def ended(measures: Measures, answer: Answer, at_ms: int, ending: Ending = Ending.COMPLETED, reason: str = "") -> None:
    answer.ending, answer.reason = ending, reason
    measures.ended(answer, SENT_NS + at_ms * MS)
    measures.settled(answer)
    measures.settle_times()


def figures(measures: Measures, *names: str) -> list[float]:
    told = measures.close_up().figures
    return [told[name] for name in names]


def test_measures_of_nothing_are_nothing() -> None:
    told = Measures(terms()).close_up()

    assert set(told.figures.values()) == {0}
    assert set(told.worst.values()) == {0.0}


def test_measures_time_what_came_when() -> None:
    measures, answer = Measures(terms()), asked()

    measures.accepted(answer, SENT_NS + 5 * MS)
    came(measures, answer, 10, 20, 60)
    ended(measures, answer, 70)

    assert [histogram.count for histogram in (measures.ack, measures.ttft, measures.gap, measures.stream_time)] == [1, 1, 2, 1]
    summaries = [histogram.summary().max / MS for histogram in (measures.ack, measures.ttft, measures.gap, measures.stream_time)]
    assert summaries == pytest.approx([5, 10, 40, 70], rel=0.01)


def test_measures_text_says_that_it_was_accepted() -> None:
    measures, answer = Measures(terms()), asked()

    came(measures, answer, 10)

    assert answer.accepted_ns == SENT_NS + 10 * MS


def test_measures_first_token_is_there_when_it_is_whole() -> None:
    measures, answer = Measures(terms()), asked()

    for at_ms, came_bytes in ((10, 1), (500, 8), (900, 1), (950, 10)):
        measures.came(answer, came_bytes, 1, came_bytes, 0, SENT_NS + at_ms * MS)
    ended(measures, answer, 1000)

    assert (measures.ttft.count, measures.gap.count) == (1, 3)
    assert measures.ttft.summary().max / MS == pytest.approx(900, rel=0.01)


def test_measures_gap_beyond_the_limit_is_a_stall() -> None:
    measures, answer = Measures(terms(stall_s=0.1)), asked()

    came(measures, answer, 0, 100, 201)
    ended(measures, answer, 210)

    assert figures(measures, "stalls", "gaps_unread") == [1, 0]


@pytest.mark.parametrize(("ending", "stalls"), [(Ending.COMPLETED, 1), (Ending.FAILED, 1), (Ending.LEFT, 0)])
def test_measures_end_long_after_the_last_text_is_a_stall_unless_it_was_ours(ending: Ending, stalls: int) -> None:
    measures, answer = Measures(terms(stall_s=0.1)), asked()

    came(measures, answer, 10)
    ended(measures, answer, 200, ending)

    assert figures(measures, "stalls") == [stalls]


def test_measures_hung_answer_is_a_stall_and_has_failed() -> None:
    measures, answer = Measures(terms(stall_s=0.1)), asked()

    came(measures, answer, 10)
    measures.hung(answer, SENT_NS + 200 * MS)
    ended(measures, answer, 200, Ending.HUNG, "never ended")

    assert figures(measures, "stalls", "streams_failed", "streams_completed") == [1, 1, 0]
    assert measures.failed_for == {"never ended": 1}


# Pauses of the client, chunks, (stalls, gaps left out or shortened, gaps that are timed, the longest of them in ms); a stall is 100 ms.
UNREAD: dict[str, tuple[list[tuple[int, int]], list[int], tuple[int, int, int, int]]] = {
    "never": ([], [0, 150], (1, 0, 1, 150)),
    "all of the gap": ([(5, 500)], [0, 501], (0, 1, 0, 0)),
    "what waited came at once": ([(5, 500)], [0, 505, 506], (0, 1, 1, 1)),
    "some of it, the rest is no stall": ([(5, 500)], [0, 550], (0, 1, 1, 55)),
    "some of it, the rest is a stall": ([(5, 500)], [0, 650], (1, 1, 1, 155)),
    "twice, and a stall between": ([(5, 50), (250, 500)], [0, 501], (1, 1, 1, 206)),
    "before the first text": ([(-900, -10), (2, 60)], [70, 90], (0, 0, 1, 20)),
    "earlier": ([(5, 50)], [0, 51, 251], (1, 1, 1, 200)),
}


@pytest.mark.parametrize("case", UNREAD)
def test_measures_count_of_a_gap_only_the_time_in_which_the_client_read(case: str) -> None:
    pauses, chunks_ms, wanted = UNREAD[case]
    reading = Reading()
    measures, answer = Measures(terms(stall_s=0.1)), asked(reading)
    moments = [(at, "pause") for at, _ in pauses] + [(at, "resume") for _, at in pauses] + [(at, "came") for at in chunks_ms]

    for at, what in sorted(moments):
        if what == "came":
            came(measures, answer, at)
        else:
            getattr(reading, what)(SENT_NS + at * MS)
        if at < 0:
            answer.unread_ns = reading.unread_ns(SENT_NS)  # as the asker notes it when it sends
    ended(measures, answer, chunks_ms[-1])

    stalls, unread = figures(measures, "stalls", "gaps_unread")
    assert (stalls, unread, measures.gap.count) == wanted[:3]
    assert measures.gap.summary().max / MS == pytest.approx(wanted[3], rel=0.01)
    assert answer.gap_max_ns == wanted[3] * MS


def test_measures_end_that_came_while_the_client_did_not_read_is_no_stall() -> None:
    reading = Reading()
    measures, answer = Measures(terms(stall_s=0.1)), asked(reading)

    came(measures, answer, 10)
    reading.pause(SENT_NS + 20 * MS)
    ended(measures, answer, 500)

    assert figures(measures, "stalls") == [0]


@pytest.mark.parametrize(("paused", "paced"), [(False, 1), (True, 0)])
def test_measures_pace_is_not_held_against_a_target_whose_client_did_not_read(paused: bool, paced: int) -> None:
    reading = Reading()
    measures, answer = Measures(terms(rate_hz=100.0)), asked(reading, count=3)

    came(measures, answer, 0)
    if paused:
        reading.pause(SENT_NS + 5 * MS)
        reading.resume(SENT_NS + 900 * MS)
    came(measures, answer, 901, 902)
    ended(measures, answer, 903)

    told = measures.close_up()
    assert (told.figures["paced"], told.worst["pace_error"] > 1) == (paced, not paused)


@pytest.mark.parametrize(
    ("told", "declared", "came_count", "wanted"),
    [(3, 0, 3, (1, 0)), (4, 0, 3, (1, 1)), (-1, 0, 3, (0, 0)), (-1, 3, 3, (1, 0)), (3, 4, 3, (1, 1)), (0, 0, 3, (1, 1))],
)
def test_measures_usage_is_wrong_where_anything_told_is_not_what_came(
    told: int, declared: int, came_count: int, wanted: tuple[int, int]
) -> None:
    measures, answer = Measures(terms()), asked(count=came_count)

    measures.came(answer, 30, 1, 30, declared, SENT_NS)
    answer.token_count, answer.told_count = came_count, told
    ended(measures, answer, 1)

    assert figures(measures, "usages", "usage_wrong") == list(wanted)


@pytest.mark.parametrize(
    ("options", "chunks_ms", "right", "good"),
    [
        ({}, [0, 900], True, 1),
        ({}, [0, 900], False, 0),
        ({"service_ttft_s": 0.1}, [100, 900], True, 1),
        ({"service_ttft_s": 0.1}, [101, 900], True, 0),
        ({"service_gap_s": 0.1}, [0, 100], True, 1),
        ({"service_gap_s": 0.1}, [0, 101], True, 0),
        ({"service_ttft_s": 0.1}, [], True, 0),
    ],
)
def test_measures_goodput_is_of_right_answers_within_the_level(
    options: dict[str, float], chunks_ms: list[int], right: bool, good: int
) -> None:
    measures, answer = Measures(terms(**options)), asked(count=len(chunks_ms))

    came(measures, answer, *chunks_ms)
    answer.untouched = right
    ended(measures, answer, 1000)

    assert figures(measures, "good_streams", "good_tokens") == [good, good * len(chunks_ms)]


def test_measures_reasons_are_bounded() -> None:
    measures = Measures(terms())

    for number in range(3 * REASONS_COUNT):
        measures.odd(f"thing {number}")

    assert len(measures.odd_for) == REASONS_COUNT + 1
    assert measures.odd_for["other reasons"] == 2 * REASONS_COUNT
    assert figures(measures, "odd_events") == [3 * REASONS_COUNT]
