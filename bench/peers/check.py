"""The stamp check as a user of another Python tool would write it: one message at a time, plain standard library.

Checks what floodmark's agent checks: marker, CRC-32, run, publisher, the next sequence; and takes the latency. `report` writes the account
to the file named by BENCH_REPORT, at once complete (it is renamed into place), for the harness to read.
"""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from pathlib import Path

HEAD = struct.Struct("<4sIIIQQQI")  # marker, checksum, run, publisher, seq, intended_ns, sent_ns, length
MARKER = b"\xf1\x00dM"
COVERED_OFFSET = 8


class Check:
    """One receiver's account."""

    def __init__(self, run: int, expected: int) -> None:
        self._run = run
        self._expected = expected
        self._next_seq = 0
        self.received = 0
        self.bad = 0
        self.latency_ns = 0
        self.latency_ns_max = 0

    def message(self, data: bytes) -> bool:
        """Account for one message; True once all have come."""
        marker, checksum, run, publisher, seq, intended_ns, _, length = HEAD.unpack_from(data)
        self.received += 1
        self.latency_ns = time.monotonic_ns() - intended_ns
        if self.latency_ns > self.latency_ns_max:
            self.latency_ns_max = self.latency_ns
        if (
            marker != MARKER
            or run != self._run
            or publisher != 0
            or seq != self._next_seq
            or zlib.crc32(data[COVERED_OFFSET : HEAD.size + length]) != checksum
        ):
            self.bad += 1
        self._next_seq = seq + 1
        return self.received == self._expected

    def report(self) -> None:
        """Hand the account to the harness."""
        report(received=self.received, bad=self.bad)


def report(**account: int) -> None:
    """Write an account where the harness looks for it."""
    place = Path(os.environ["BENCH_REPORT"])
    draft = place.with_suffix(".draft")
    draft.write_text(json.dumps(account))
    draft.rename(place)
