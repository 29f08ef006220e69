"""The numbered text against a slow model of it, and the line that asks for it."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.ledger import numbered as harness
from floodmark.systems.conductor.backend.numbered import WRAP, Numbered, Source, asked, line, text_of
from floodmark.systems.conductor.backend.pace import TICK_S, Pace

DIGITS = string.digits + string.ascii_lowercase


def slow_token(stream: int, seq: int, size: int) -> str:
    """The definition, digit by digit."""
    rest = seq % 36**4
    digits: list[int] = []
    for _ in range(4):
        rest, digit = divmod(rest, 36)
        digits.insert(0, digit)
    check = (7 * digits[0] + 5 * digits[1] + 3 * digits[2] + digits[3] + stream) % 36
    filler = (" " + string.ascii_lowercase * size)[: size - 5]
    return "".join(DIGITS[digit] for digit in [*digits, check]) + filler


@given(st.integers(0, 2000), st.integers(0, 4 * WRAP), st.integers(1, 60), st.integers(5, 90))
def test_text_of_any_order_equals_the_definition(stream: int, first: int, count: int, size: int) -> None:
    text = text_of(stream, first, count, size)

    assert text == "".join(slow_token(stream, first + index, size) for index in range(count))


@given(st.integers(0, 2000), st.integers(0, 4 * WRAP), st.integers(1, 60), st.integers(5, 90))
def test_text_of_the_system_and_of_the_harness_agree(stream: int, first: int, count: int, size: int) -> None:
    assert harness.tokens(stream, first, count, size) == text_of(stream, first, count, size).encode()


def test_text_of_longest_token_has_its_size() -> None:
    assert text_of(35, WRAP - 1, 1, 65_536) == slow_token(35, WRAP - 1, 65_536)


def test_text_of_wrapping_number_begins_again() -> None:
    assert text_of(0, WRAP - 1, 2, 5) == "zzzz" + DIGITS[16 * 35 % 36] + "00000"


@given(
    st.integers(5, 40),
    st.integers(0, 300),
    st.sampled_from([0.0, 40.0, 1000.0]),
    st.lists(st.tuples(st.integers(1, 70), st.integers(1, 9)), min_size=1),
)
def test_source_taken_in_any_pieces_gives_the_same_text(size: int, count: int, rate: float, takes: list[tuple[int, int]]) -> None:
    source = Source(Numbered(stream=4, first=11, count=count, size=size, rate=rate))
    pieces: list[str] = []
    tokens = 0

    for wanted, group in takes * (count + 1):
        before = source.left_count
        given_now = source.texts(wanted, group)
        tokens += sum(map(source.count_of, given_now))
        assert source.left_count == max(0, before - wanted)
        assert all(len(piece) == size * group for piece in given_now[:-1])
        pieces += given_now

    assert "".join(pieces) == text_of(4, 11, count, size)
    assert tokens == source.taken_count == count


def test_source_of_a_long_text_stops_at_what_breaks_it() -> None:
    source = Source(Numbered(count=100, fail_after=30, hang_after=20, cut_after=25))

    assert len(source.texts(1000)) == 20
    assert source.texts(1000) == []


@pytest.mark.parametrize(
    "order",
    [
        Numbered(),
        Numbered(stream=3, first=17, count=0, size=5, rate=0.5, seed=9),
        Numbered(count=10, rate=100000.0, fail_after=0, hang_after=4, cut_after=10),
    ],
)
def test_line_read_again_is_the_same_order(order: Numbered) -> None:
    assert asked(f"Dear model,\n  {line(order)}\nthank you") == order


@pytest.mark.parametrize("prompt", ["", "hello", "it is numbered: count=5", "numbered count=5"])
def test_asked_without_the_line_is_nothing(prompt: str) -> None:
    assert asked(prompt) is None


@pytest.mark.parametrize(
    "pair",
    [
        "size=4",
        "size=65537",
        "count=-1",
        "stream=-1",
        "first=-1",
        "rate=-1",
        "rate=nan",
        "rate=inf",
        "rate=x",
        "count=1.5",
        "speed=3",
        "count",
    ],
)
def test_asked_for_what_cannot_be_is_refused_naming_it(pair: str) -> None:
    with pytest.raises(UsageError, match=pair.partition("=")[0]):
        asked(f"numbered: {pair}")


@pytest.mark.parametrize("rate_hz", [0.7, 30.0, 1000.0, 100_000.0])
def test_pace_never_drifts(rate_hz: float) -> None:
    pace = Pace(rate_hz, 1000.0)

    for token in (0, 1, 7, 1000, 999_999):
        due_s = 1000.0 + token / rate_hz
        assert pace.due_count(due_s, 10**9) == token + 1
        assert pace.due_count(due_s - 0.5 / rate_hz, 10**9) == token
        assert pace.wait_s(token + 1, due_s - 5) == pytest.approx(5)
    assert pace.due_count(999.0, 10) == 0
    assert pace.due_count(1e9, 10) == 10
    assert pace.wait_s(1, 2000.0) == TICK_S


def test_pace_with_nothing_left_that_was_due_rests_a_tick_and_otherwise_not_at_all() -> None:
    pace, quick = Pace(100_000.0, 10.0), Pace(0.0, 10.0)

    assert pace.pause_s(501, 1_000, 10.005) == TICK_S  # the next one is due 10 us later; to look for it at once would be to spin
    assert pace.pause_s(500, 1_000, 10.005) == 0
    assert pace.pause_s(1_000, 1_000, 10.005) == 0  # it has ended
    assert quick.pause_s(500, 1_000, 10.005) == 0


def test_pace_without_a_rate_makes_all_due() -> None:
    assert Pace(0, 5.0).due_count(5.0, 77) == 77
