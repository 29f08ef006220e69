"""The liar's bookkeeping: as many lies as were asked for, spread, none twice on a stream, given back when not told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.systems.conductor.tokens.lies import OF_STREAMS, Lies


@given(st.dictionaries(st.sampled_from(OF_STREAMS), st.integers(1, 9)))
def test_streams_many_enough_tell_exactly_what_was_asked(wanted: dict[str, int]) -> None:
    lies = Lies(f"{name}={count}" for name, count in wanted.items())

    drawn = [lies.of_stream(100, tells_usage=True) for _ in range(2 * sum(wanted.values()) + 20)]

    assert {name: drawn.count(name) for name in wanted} == wanted
    assert all(not drawn[at] or not drawn[at + 1] for at in range(len(drawn) - 1))  # an honest one between any two


@given(st.integers(1, 30), st.integers(1, 30), st.lists(st.integers(1, 50)))
def test_chunks_many_enough_are_edited_exactly_so_often(repeated: int, dropped: int, batches: list[int]) -> None:
    lies = Lies([f"repeat={repeated}", f"drop={dropped}"])
    sent: list[str] = []
    numbers = iter(range(100_000))

    for length in [*batches, 7 * (repeated + dropped) + 7]:
        sent += lies.edit([str(next(numbers)) for _ in range(length)])

    count = next(numbers)
    assert count - len(set(sent)) == lies.told["drop"] == dropped
    assert len(sent) - len(set(sent)) == lies.told["repeat"] == repeated
    assert not lies.of_chunks


def test_stream_without_room_or_usage_tells_no_lie() -> None:
    lies = Lies(["truncate=1"])
    assert lies.of_stream(3, tells_usage=True) == ""
    assert lies.of_stream(4, tells_usage=True) == "truncate"

    usage = Lies(["usage=1"])
    assert usage.of_stream(100, tells_usage=False) == ""
    assert usage.of_stream(100, tells_usage=True) == "usage"


def test_lie_given_back_is_told_by_another_stream() -> None:
    lies = Lies(["error=1"])

    assert lies.of_stream(10, tells_usage=False) == "error"
    assert lies.of_stream(10, tells_usage=False) == ""
    lies.give_back("error")

    assert "error" in [lies.of_stream(10, tells_usage=False) for _ in range(2)]
    assert lies.told == {"error": 0}


def test_honest_twin_never_lies() -> None:
    lies = Lies()

    assert {lies.of_stream(100, tells_usage=True) for _ in range(50)} == {""}
    assert not lies.of_chunks
    assert lies.told == {}


@pytest.mark.parametrize("text", ["truncate", "truncate=0", "truncate=-1", "lie=1", "drop=1/7", "no_end=1", ""])
def test_lie_that_is_none_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(UsageError, match="is not a lie: a lie is NAME=K with NAME one of truncate"):
        Lies([text])
