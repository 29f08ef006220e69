"""Stamps: what is written is read back, and any flipped bit is noticed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.ledger.stamp import HEAD_BYTES, LEAST_BYTES, MAGIC, Encoding, Stamper, read

ENCODINGS: tuple[Encoding, ...] = ("binary", "text")
U32, U63 = st.integers(0, 2**32 - 1), st.integers(0, 2**63 - 1)


def flipped(frame: bytes, bit: int) -> bytes:
    """Flip one bit."""
    out = bytearray(frame)
    out[bit // 8] ^= 1 << (bit % 8)
    return bytes(out)


@given(run=U32, publisher=U32, seq=U63, intended_ns=U63, sent_ns=U63, extra=st.integers(0, 300), encoding=st.sampled_from(ENCODINGS))
def test_payload_any_numbers_reads_back_the_same(
    run: int, publisher: int, seq: int, intended_ns: int, sent_ns: int, extra: int, encoding: Encoding
) -> None:
    size_bytes = LEAST_BYTES[encoding] + extra

    payload = Stamper(run, encoding, size_bytes, seed=extra).payload(publisher, seq, intended_ns, sent_ns)
    stamp = read(payload, encoding)

    assert len(payload) == size_bytes
    assert stamp is not None
    assert stamp.intact
    assert (stamp.run, stamp.publisher, stamp.seq, stamp.intended_ns, stamp.sent_ns) == (run, publisher, seq, intended_ns, sent_ns)
    assert stamp.length_bytes == extra


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_read_any_single_bit_flipped_is_never_intact(encoding: Encoding) -> None:
    payload = Stamper(7, encoding, LEAST_BYTES[encoding] + 20, seed=3).payload(5, 1234567, 10**15, 10**15 + 99)

    stamps = [read(flipped(payload, bit), encoding) for bit in range(8 * len(payload))]

    assert [bit for bit, stamp in enumerate(stamps) if stamp is None or stamp.intact] == []


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_read_marker_damaged_still_says_which_message_it_was(encoding: Encoding) -> None:
    prefix = b"" if encoding == "binary" else b'{"data":"'
    frame = prefix + Stamper(7, encoding, 120).payload(5, 42, 1, 2)

    stamp = read(flipped(frame, 8 * len(prefix) + 1), encoding)

    assert stamp is not None
    assert (stamp.seq, stamp.publisher, stamp.intact) == (42, 5, False)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_read_frame_cut_short_is_not_intact(encoding: Encoding) -> None:
    payload = Stamper(7, encoding, 120).payload(5, 42, 1, 2)

    stamps = [read(payload[:length], encoding) for length in range(4, 120)]

    assert all(stamp is not None and not stamp.intact for stamp in stamps)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_read_foreign_frame_finds_nothing(encoding: Encoding) -> None:
    assert read(b"", encoding) is None
    assert read(b'{"type":"ping"}' * 20, encoding) is None


def test_read_text_inside_json_is_untouched_by_it() -> None:
    payload = Stamper(7, "text", 200, seed=1).payload(5, 42, 1, 2)

    frame = json.dumps({"id": "1", "payload": {"data": payload.decode()}}).encode()
    stamp = read(frame, "text")

    assert stamp is not None
    assert stamp.intact
    assert stamp.seq == 42


def test_read_binary_with_leading_and_trailing_bytes_is_intact() -> None:
    stamp = read(b"\x82\x01head" + Stamper(7, "binary", 90).payload(5, 42, 1, 2) + b"tail", "binary")

    assert stamp is not None
    assert stamp.intact


@pytest.mark.parametrize(("encoding", "least_bytes"), [("binary", 44), ("text", 84)])
def test_stamper_payload_smaller_than_head_names_the_least_size(encoding: Encoding, least_bytes: int) -> None:
    with pytest.raises(UsageError, match=f"at least {least_bytes}"):
        Stamper(1, encoding, least_bytes - 1)


def test_stamper_bodies_depend_on_the_seed_and_hold_no_marker() -> None:
    bodies = [Stamper(1, "binary", 100_000, seed=seed).payload(0, 0, 0, 0)[HEAD_BYTES:] for seed in (1, 1, 2)]

    assert bodies[0] == bodies[1] != bodies[2]
    assert MAGIC[:1] not in bodies[0]
