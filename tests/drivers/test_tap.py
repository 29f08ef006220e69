"""The tap must be invisible: whatever the frames and wherever the reads cut them, each comes out once, in order."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floodmark.drivers import tap as tap_module
from floodmark.drivers.tap import LEAST_COUNT, Tap


class Parser:
    """Stands in for the library: parses frames from whatever pieces it gets, with a buffer as small as picows' first one."""

    def __init__(self, out: list[bytes]) -> None:
        self._out = out
        self._room = bytearray(2048)
        self._rest = b""
        self.lost: list[BaseException | None] = []
        self.writing: list[str] = []

    def get_buffer(self, size_hint: int) -> memoryview:
        return memoryview(self._room)

    def buffer_updated(self, nbytes: int) -> None:
        self._rest += bytes(self._room[:nbytes])
        while len(self._rest) >= 2:
            length, header = self._rest[1], 2
            if length == 126:
                if len(self._rest) < 4:
                    return
                length, header = struct.unpack_from(">H", self._rest, 2)[0], 4
            elif length == 127:
                if len(self._rest) < 10:
                    return
                length, header = struct.unpack_from(">Q", self._rest, 2)[0], 10
            if len(self._rest) < header + length:
                return
            self._out.append(self._rest[: header + length])
            self._rest = self._rest[header + length :]

    def eof_received(self) -> bool | None:
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.append(exc)

    def pause_writing(self) -> None:
        self.writing.append("pause")

    def resume_writing(self) -> None:
        self.writing.append("resume")


def _frame(payload: bytes, first: int = 0x81) -> bytes:
    if len(payload) < 126:
        return bytes([first, len(payload)]) + payload
    if len(payload) < 65536:
        return bytes([first, 126]) + struct.pack(">H", len(payload)) + payload
    return bytes([first, 127]) + struct.pack(">Q", len(payload)) + payload


def _pass_through(stream: bytes, cuts: list[int], *, takes: bool = True) -> tuple[list[bytes], int]:
    """Send a stream through a tap in reads that end at the cuts; gives the frames in the order they came out, and the runs taken."""
    out: list[bytes] = []
    runs = 0

    def take(rows: np.ndarray, header_bytes: int, received_ns: int) -> bool:
        nonlocal runs
        assert received_ns > 0
        if takes:
            runs += 1
            out.extend(row.tobytes() for row in rows)
        return takes

    tap = Tap(Parser(out), take)
    at = 0
    for cut in [*sorted(cuts), len(stream)]:
        while at < cut:
            room = tap.get_buffer(-1)
            count = min(len(room), cut - at)
            room[:count] = stream[at : at + count]
            tap.buffer_updated(count)
            at += count
    return out, runs


_SIZES = st.sampled_from([0, 1, 30, 100, 125, 126, 127, 300, 2000])
_STRETCHES = st.lists(st.tuples(_SIZES, st.integers(1, 80), st.sampled_from([0x81, 0x82, 0x01, 0x80, 0x89, 0x88])), min_size=1, max_size=6)


@settings(max_examples=200)
@given(stretches=_STRETCHES, seed=st.integers(0, 10**6), cut_count=st.integers(0, 12), takes=st.booleans())
def test_tap_any_frames_cut_anywhere_come_out_once_and_in_order(
    stretches: list[tuple[int, int, int]], seed: int, cut_count: int, takes: bool
) -> None:
    rng = random.Random(seed)
    frames = [_frame(rng.randbytes(size), first) for size, count, first in stretches for _ in range(count)]
    stream = b"".join(frames)
    cuts = [rng.randrange(len(stream) + 1) for _ in range(cut_count)]

    out, _ = _pass_through(stream, cuts, takes=takes)

    assert out == frames


def test_tap_flood_of_like_frames_is_taken_in_runs() -> None:
    frames = [_frame(b"%060d" % number) for number in range(5000)]

    out, runs = _pass_through(b"".join(frames), [])

    assert out == frames
    assert 1 <= runs <= 3


def test_tap_fewer_frames_than_a_run_go_to_the_library() -> None:
    frames = [_frame(b"x" * 50)] * (LEAST_COUNT - 1)

    out, runs = _pass_through(b"".join(frames), [])

    assert out == frames
    assert runs == 0


def test_tap_frame_larger_than_its_buffer_reaches_the_library_whole() -> None:
    frames = [_frame(b"a" * 10), _frame(random.Random(1).randbytes(tap_module.READ_BYTES * 3)), _frame(b"b" * 10)]

    out, _ = _pass_through(b"".join(frames), [])

    assert out == frames


@pytest.mark.parametrize("size", [1, 200, 70_000])
def test_tap_every_byte_in_a_read_of_its_own_changes_nothing(size: int) -> None:
    frames = [_frame(b"y" * min(size, 300))] * 30 if size < 1000 else [_frame(b"y" * size)]
    stream = b"".join(frames)

    out, _ = _pass_through(stream, list(range(min(len(stream), 3000))))

    assert out == frames


def test_tap_end_of_the_connection_and_back_pressure_reach_the_library() -> None:
    library = Parser([])
    tap = Tap(library, lambda rows, header_bytes, received_ns: False)
    error = ConnectionResetError()

    tap.pause_writing()
    tap.resume_writing()
    assert tap.eof_received() is True
    tap.connection_lost(error)

    assert library.writing == ["pause", "resume"]
    assert library.lost == [error]


def test_tap_frames_of_alternating_lengths_are_not_measured_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = 0
    measure = tap_module._run

    def counted(at: int, size: int, header: int, most: int) -> int:
        nonlocal measured
        measured += 1
        return measure(at, size, header, most)

    monkeypatch.setattr(tap_module, "_run", counted)
    frames = [_frame(b"n" * (200 + number % 2)) for number in range(600)]
    stream = b"".join(frames)
    out, runs = _pass_through(stream, [len(stream)])

    assert out == frames
    assert runs == 0
    assert measured < 60  # each would look at all frames behind it
