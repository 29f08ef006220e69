"""Numbered text: written as the systems write it, read back whole, damaged, cut anywhere; against a slow and obvious reader."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import HarnessBugError, UsageError
from floodmark.ledger.numbered import BASE, WRAP, Text, base_of, read, tokens
from floodmark.systems.conductor.backend.numbered import text_of

SIZES = st.sampled_from([5, 6, 7, 10, 33, 100])
FIRSTS = st.one_of(st.integers(0, 5000), st.integers(WRAP - 300, WRAP + 300), st.integers(10**12, 10**12 + 10))


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut text at these places."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


def taken(text: Text, pieces: list[bytes]) -> list[tuple[int, bool]]:
    """Read pieces in the way of an agent: compare first, look closer where that fails."""
    found: list[tuple[int, bool]] = []
    for piece in pieces:
        count = text.follow(piece)
        if count >= 0:
            found += [(seq, True) for seq in range(text.due_seq - count, text.due_seq)]
        else:
            seqs, intact, _ = text.examine(piece)
            found += zip(seqs.tolist(), intact.tolist(), strict=True)
    seqs, intact = text.finish()
    return found + list(zip(seqs.tolist(), intact.tolist(), strict=True))


@given(stream=st.integers(0, 10_000), first=FIRSTS, count=st.integers(0, 200), size=SIZES)
def test_tokens_are_what_the_systems_write(stream: int, first: int, count: int, size: int) -> None:
    assert tokens(stream, first, count, size) == text_of(stream, first, count, size).encode()


@given(stream=st.integers(0, 99), first=FIRSTS, count=st.integers(1, 200), size=SIZES, lag=st.integers(-1000, 1000))
def test_read_intact_text_gives_every_number_near_what_is_expected(stream: int, first: int, count: int, size: int, lag: int) -> None:
    seqs, intact = read(tokens(stream, first, count, size), stream=stream, size=size, expected=max(first + lag, 0))

    assert intact.all()
    assert seqs.tolist() == list(range(first, first + count))


@given(place=st.integers(0, 10 * 8 * 20 - 1), stream=st.integers(0, 99))
def test_read_any_flipped_bit_damages_just_its_token(place: int, stream: int) -> None:
    text = bytearray(tokens(stream, 100, 20, 10))
    text[place // 8] ^= 1 << place % 8

    seqs, intact = read(bytes(text), stream=stream, size=10, expected=100)

    assert np.flatnonzero(~intact).tolist() == [place // 80]
    assert seqs.tolist() == list(range(100, 120))


@pytest.mark.parametrize("other", [1, 7, 35])
def test_read_tokens_of_another_stream_are_not_intact(other: int) -> None:
    _, intact = read(tokens(other, 0, 50, 10), stream=0, size=10, expected=0)

    assert not intact.any()


def test_read_half_a_token_is_a_bug_of_whoever_asked() -> None:
    with pytest.raises(HarnessBugError, match="15 bytes are not a whole number of tokens of 10"):
        read(b"x" * 15, stream=0, size=10, expected=0)


@pytest.mark.parametrize("size", [4, 65_537])
def test_tokens_of_a_size_that_no_token_has_are_refused(size: int) -> None:
    with pytest.raises(UsageError, match="a numbered token has 5"):
        tokens(0, 0, 1, size)


@given(first=FIRSTS, count=st.integers(0, 300), size=SIZES, cuts=st.lists(st.integers(0, 10**6), max_size=30))
def test_text_cut_anywhere_is_read_whole(first: int, count: int, size: int, cuts: list[int]) -> None:
    text = Text(stream=3, first=first, size=size)

    assert taken(text, pieces_of(tokens(3, first, count, size), cuts)) == [(seq, True) for seq in range(first, first + count)]


@given(order=st.lists(st.integers(0, 60), max_size=60), size=SIZES, cuts=st.lists(st.integers(0, 10**6), max_size=10))
def test_text_of_whole_tokens_in_any_order_is_read_as_it_came(order: list[int], size: int, cuts: list[int]) -> None:
    """Dropped, repeated and swapped chunks: the reader tells what came, the ledger what that means."""
    data = b"".join(tokens(3, seq, 1, size) for seq in order)

    assert taken(Text(stream=3, first=0, size=size), pieces_of(data, cuts)) == [(seq, True) for seq in order]


@given(
    hit=st.sets(st.integers(0, 99), max_size=20),
    size=st.sampled_from([7, 10, 33]),
    cuts=st.lists(st.integers(0, 10**6), max_size=10),
)
def test_text_damaged_tokens_keep_their_places(hit: set[int], size: int, cuts: list[int]) -> None:
    data = bytearray(tokens(3, 0, 100, size))
    for seq in hit:
        data[seq * size + 2] = ord("!")

    found = taken(Text(stream=3, first=0, size=size), pieces_of(bytes(data), cuts))

    assert found == [(seq, seq not in hit) for seq in range(100)]


@given(
    at=st.integers(0, 80),
    gone=st.integers(1, 9),
    offset=st.integers(0, 9),
    cuts=st.lists(st.integers(0, 10**6), max_size=10),
)
def test_text_with_bytes_missing_goes_on_at_the_next_place_that_makes_sense(at: int, gone: int, offset: int, cuts: list[int]) -> None:
    data = tokens(3, 0, 100, 10)
    start = at * 10 + offset
    found = taken(Text(stream=3, first=0, size=10), pieces_of(data[:start] + data[start + gone :], cuts))

    intact = [seq for seq, good in found if good]
    assert intact == sorted(set(intact))
    assert set(range(100)) - set(intact) <= {at, at + 1}  # a head that lost a zero may be made whole by the zero before it
    assert len(found) - len(intact) == 1


def test_base_of_no_two_streams_count_from_one_number() -> None:
    bases = np.array([base_of(stream) for stream in range(10_000)])

    assert len(np.unique(bases)) == len(bases)


def test_base_of_streams_with_the_same_check_digits_are_far_apart() -> None:
    """The circle of numbers is 1,679,616 long; as many points as there are equal streams among 1,000 could be 59,986 apart at best."""
    for residue in range(BASE):
        bases = np.sort([base_of(stream) for stream in range(residue, 1000, BASE)])
        apart = np.diff(bases, append=bases[0] + WRAP)

        assert apart.min() > 20_000


@pytest.mark.parametrize("other", [stream for stream in range(72) if stream != 5])
def test_text_of_another_stream_in_its_midst_is_seen_and_what_follows_is_read(other: int) -> None:
    right = tokens(5, base_of(5), 20, 10)
    wrong = tokens(other, base_of(other) + 10, 1, 10)

    found = taken(Text(stream=5, first=0, size=10, base=base_of(5)), [right[:100] + wrong, right[110:150], right[150:]])

    seqs = [seq for seq, good in found if good]
    assert [seq for seq in seqs if seq < 20] == [*range(10), *range(11, 20)]
    assert (10, True) not in found
    assert [seq for seq in seqs if seq >= 20] == ([seqs[10]] if other == 41 else [])  # the one with the same check digits


@given(stream=st.integers(0, 10_000), first=st.integers(0, 10**7), cuts=st.lists(st.integers(0, 10**6), max_size=9))
def test_text_counted_from_a_base_is_read_whole(stream: int, first: int, cuts: list[int]) -> None:
    base = base_of(stream)
    text = Text(stream=stream, first=first, size=10, base=base)

    assert taken(text, pieces_of(tokens(stream, base + first, 50, 10), cuts)) == [(seq, True) for seq in range(first, first + 50)]


def test_text_that_ends_within_a_token_ends_damaged() -> None:
    assert taken(Text(stream=0, first=0, size=10), [tokens(0, 0, 3, 10)[:-1]]) == [(0, True), (1, True), (2, False)]


@pytest.mark.parametrize("junk", [b"\xff" * 100_000, b"Sorry, as a language model I cannot count. " * 2000, b"0000" * 20_000])
def test_text_of_junk_is_damaged_and_bounded(junk: bytes) -> None:
    text = Text(stream=0, first=0, size=10)

    found = taken(text, [junk[at : at + 999] for at in range(0, len(junk), 999)])

    assert not any(good for _, good in found)
    assert len(junk) // 21 <= len(found) <= len(junk) // 10 + 1


def test_text_says_in_which_piece_a_token_was_complete() -> None:
    data = tokens(0, 1, 6, 10)  # the first one is missing
    text = Text(stream=0, first=0, size=10)
    text.follow(data[:0])

    seqs, _, ends = text.examine(data[:25])
    more, _, then = text.examine(data[25:])

    assert (seqs.tolist(), ends.tolist()) == ([1, 2], [10, 20])
    assert (more.tolist(), then.tolist()) == ([3, 4, 5, 6], [5, 15, 25, 35])
