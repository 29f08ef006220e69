"""The stream against a path that loses, repeats and reorders: what comes out is what went in, or nothing is claimed to have arrived."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.runner.distributed.stream import DATA, END, Stream


def carried(ours: Stream, theirs: Stream, rng: random.Random, *, loss: float, rounds: int = 10_000) -> tuple[bytes, list[bytes]]:
    """Let two ends speak until all has arrived or never will; gives what `theirs` got, and the last words."""
    out, last = bytearray(), []
    path: list[tuple[Stream, bytes]] = []
    for number in range(rounds):
        for end, other in ((ours, theirs), (theirs, ours)):
            end.acknowledge()
            for packet in (end.again() if number % 5 == 4 else []) + end.take():
                path += [(other, packet)] * ((rng.random() >= loss) + (loss < 1 and rng.random() < 0.1))
        rng.shuffle(path)
        for _ in range(rng.randrange(len(path) + 1)):
            to, packet = path.pop()
            for piece in to.heard(packet):
                if to is theirs and piece.kind == DATA:
                    out += piece.data
                elif to is theirs:
                    last.append(piece.data)
        if ours.idle:
            break
    return bytes(out), last


@given(st.lists(st.binary(max_size=60), max_size=30), st.integers(0, 2**32), st.floats(0, 0.5))
def test_stream_over_a_bad_path_gives_the_same_bytes_once_and_the_last_word_last(written: list[bytes], seed: int, loss: float) -> None:
    ours, theirs = Stream(piece_bytes=7, window=5), Stream(piece_bytes=7, window=5)
    for data in written:
        ours.write(data)
    ours.end(b"the end")

    out, last = carried(ours, theirs, random.Random(seed), loss=loss)

    assert ours.idle
    assert out == b"".join(written)
    assert last == [b"the end"]
    assert theirs.ended


def test_stream_over_a_dead_path_says_that_nothing_has_arrived() -> None:
    ours, theirs = Stream(), Stream()
    ours.write(b"hello")

    out, _ = carried(ours, theirs, random.Random(1), loss=1.0, rounds=20)

    assert out == b""
    assert not ours.idle
    assert ours.arrived_count == 0


def test_stream_sends_no_more_than_its_window_until_it_is_acknowledged() -> None:
    ours, theirs = Stream(piece_bytes=1, window=4), Stream()
    ours.write(b"abcdefgh")

    first = ours.take()
    for packet in first:
        theirs.heard(packet)
    theirs.acknowledge()
    beyond = ours.take()
    [acknowledgement] = theirs.take()
    ours.heard(acknowledgement)

    assert len(first) == 4
    assert beyond == []
    assert len(ours.take()) == 4
    assert ours.waiting_bytes == 0


def test_stream_refuses_what_is_no_packet() -> None:
    with pytest.raises(ValueError, match="a packet has at least 17 bytes, got 3"):
        Stream().heard(b"abc")


def test_stream_hands_out_an_end_as_what_it_is() -> None:
    ours, theirs = Stream(), Stream()
    ours.end(b"x")

    [piece] = theirs.heard(ours.take()[0])

    assert piece.kind == END
