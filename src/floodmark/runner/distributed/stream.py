"""Carry bytes in order and whole over a path that may lose, repeat and reorder packets: both ends of it, without any I/O.

Contract: what one end `write`s comes out of the other end's `heard` in the same order, once, or not at all when the path stays dead; then
`in_flight` stays above 0, which is how its owner sees it. `end` says the last word; nothing may be written after it.
How: pieces are numbered from 0, at most WINDOW of them wait for their acknowledgement, and `again` sends all of those once more (go back
N). A piece that is not the next one is dropped: after a gap everything comes again.
Memory: WINDOW pieces in flight, and what was written beyond them; a writer that can wait looks at `waiting_bytes` first.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import NamedTuple

PIECE_BYTES = 128 * 1024
WINDOW = 32
ACK_EVERY = 8
DATA, ACK, END = range(3)
_HEAD = struct.Struct("<BQQ")  # what it is, its number, the number that its sender expects next


class PacketError(ValueError):
    """What came in is no packet."""


class Heard(NamedTuple):
    """A piece in its place: `DATA`, or `END` with the last word."""

    kind: int
    data: bytes


class Stream:
    """One end of a two-way stream."""

    def __init__(self, *, piece_bytes: int = PIECE_BYTES, window: int = WINDOW) -> None:
        self._piece_bytes = piece_bytes
        self._window = window
        self._waiting: deque[Heard] = deque()
        self._waiting_bytes = 0
        self._sent: deque[tuple[int, Heard]] = deque()
        self._next_seq = 0
        self._expected = 0
        self._told = 0
        self._due = False
        self.ended = False
        """Whether the other end has said its last word."""

    @property
    def waiting_bytes(self) -> int:
        """Written, and not yet sent for the first time."""
        return self._waiting_bytes

    @property
    def in_flight(self) -> int:
        """Pieces sent and not acknowledged."""
        return len(self._sent)

    @property
    def arrived_count(self) -> int:
        """Pieces that the other end has acknowledged."""
        return self._next_seq - len(self._sent)

    @property
    def idle(self) -> bool:
        """Whether everything written has arrived."""
        return not self._sent and not self._waiting

    def write(self, data: bytes) -> None:
        """Send these bytes after all that was written before."""
        for start in range(0, len(data), self._piece_bytes):
            self._waiting.append(Heard(DATA, data[start : start + self._piece_bytes]))
        self._waiting_bytes += len(data)

    def end(self, word: bytes = b"") -> None:
        """Say the last word."""
        self._waiting.append(Heard(END, word))

    def take(self) -> list[bytes]:
        """Give the packets to send now: new pieces as far as the window goes, or an acknowledgement if one is due."""
        packets: list[bytes] = []
        while self._waiting and len(self._sent) < self._window:
            piece = self._waiting.popleft()
            if piece.kind == DATA:
                self._waiting_bytes -= len(piece.data)
            self._sent.append((self._next_seq, piece))
            packets.append(self._packet(self._next_seq, piece))
            self._next_seq += 1
        if not packets and (self._due or self._expected - self._told >= ACK_EVERY):
            packets.append(_HEAD.pack(ACK, 0, self._expected))
        if packets:
            self._told, self._due = self._expected, False
        return packets

    def again(self) -> list[bytes]:
        """Give every packet in flight once more: nothing was heard of them for too long."""
        return [self._packet(seq, piece) for seq, piece in self._sent]

    def acknowledge(self) -> None:
        """Let the next `take` say what has arrived, though it is little."""
        self._due = self._due or self._told != self._expected

    def heard(self, packet: bytes) -> list[Heard]:
        """Take a packet; gives what has come in its place. Raises: PacketError for what is none."""
        if len(packet) < _HEAD.size:
            raise PacketError(f"a packet has at least {_HEAD.size} bytes, got {len(packet)}")
        kind, seq, ack = _HEAD.unpack_from(packet)
        while self._sent and self._sent[0][0] < ack:
            self._sent.popleft()
        if kind == ACK:
            return []
        if seq != self._expected:
            self._due = True  # of a piece that came again, or too early: its sender does not know where we are
            return []
        self._expected += 1
        self.ended = self.ended or kind == END
        self._due = self._due or kind == END
        return [Heard(kind, packet[_HEAD.size :])]

    def _packet(self, seq: int, piece: Heard) -> bytes:
        return _HEAD.pack(piece.kind, seq, self._expected) + piece.data
