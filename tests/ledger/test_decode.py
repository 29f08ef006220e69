"""The fast batch reader says exactly what the slow reader says, whatever arrives."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from floodmark.ledger.decode import decode
from floodmark.ledger.stamp import LEAST_BYTES, MAGIC, Encoding, Stamper, read

NUMBERS = ("run", "publisher", "seq", "intended_ns", "sent_ns")


@st.composite
def frames(draw: st.DrawFn, encoding: Encoding) -> bytes:
    """One frame: mostly alike, sometimes another size or place, cut, hit by a bit flip, or not ours at all."""
    extra = draw(st.sampled_from([16, 16, 16, 0, 40, 3000]))
    payload = Stamper(7, encoding, LEAST_BYTES[encoding] + extra).payload(draw(st.integers(0, 3)), draw(st.integers(0, 9)), 5, 6)
    frame = draw(st.sampled_from([b"{", b"{", b"{", b"", b'{"id":1,'])) + payload + draw(st.sampled_from([b"}", b"}", b""]))
    match draw(st.integers(0, 9)):
        case 0:
            at = draw(st.integers(0, len(frame) - 1))
            return frame[:at] + bytes([frame[at] ^ (1 << draw(st.integers(0, 7)))]) + frame[at + 1 :]
        case 1:
            return frame[: draw(st.integers(0, len(frame)))]
        case 2:
            return draw(st.binary(max_size=120))
        case _:
            return frame


def agrees_with_read(batch: list[bytes], encoding: Encoding) -> None:
    deliveries = decode([(i % 3, frame, i) for i, frame in enumerate(batch)], encoding)

    assert deliveries.slot.tolist() == [i % 3 for i in range(len(batch))]
    assert deliveries.received_ns.tolist() == list(range(len(batch)))
    at = next((frame.find(MAGIC) for frame in batch if MAGIC in frame), 0) if encoding == "binary" else 0
    for i, frame in enumerate(batch):
        stamp = read(frame, encoding, likely_offset=at)
        assert bool(deliveries.readable[i]) == (stamp is not None)
        assert bool(deliveries.intact[i]) == (stamp is not None and stamp.intact)
        for name in NUMBERS if stamp is not None and stamp.run >= 0 else ():
            assert int(getattr(deliveries, name)[i]) % 2**64 == getattr(stamp, name)


@given(st.lists(frames("binary"), max_size=40))
def test_decode_binary_any_mix_agrees_with_read(batch: list[bytes]) -> None:
    agrees_with_read(batch, "binary")


@given(st.lists(frames("text"), max_size=40))
@example([b"{" + Stamper(7, "text", 100).payload(0, i, 5, 6).replace(b"a", b"A") for i in range(20)])
def test_decode_text_any_mix_agrees_with_read(batch: list[bytes]) -> None:
    agrees_with_read(batch, "text")


def test_decode_empty_batch_gives_empty_columns() -> None:
    assert len(decode([], "binary")) == len(decode([], "text")) == 0


def test_latencies_of_damaged_and_foreign_messages_are_left_out() -> None:
    good, other = Stamper(7, "binary", 60), Stamper(8, "binary", 60)
    batch = [
        (0, good.payload(0, 0, 100, 150), 250),
        (0, other.payload(0, 0, 0, 0), 250),
        (0, good.payload(0, 1, 1, 1)[:-1] + b"\x00!", 250),
    ]

    response_ns, service_ns = decode(batch, "binary").latencies_ns(run=7)

    assert response_ns.tolist() == [150]
    assert service_ns.tolist() == [100]
