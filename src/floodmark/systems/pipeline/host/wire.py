"""What the host speaks: frames over TCP, each a length (u32, of what follows), a kind (u8) and a body; numbers are little-endian.

From the client:
    OPEN        handle u32, then JSON: {"channel": name, "options": {...}} (options.py). One drain a channel. Answer: OPENED or REJECTED.
    CLOSE       handle u32: stop what runs on the channel. Answer: CLOSED.
    ASK         handle u32, count u32: demand for so many records more.
    NAME        handle u32, then the channel's name: what OFFER means by a handle.
    OFFER       token u64, count u32, count handles u32, count lengths u32, the records: one after the other. Answer: TAKEN or REFUSED.
    REPORT      unasked u32, groups checked u32, groups wrong u32: what a drain found since its last report, for STATISTICS.
    STATISTICS  nothing. Answer: STATISTICS.
    SEEN        what u8, number u64: what the client has seen for itself, for STATISTICS. 1: the nanoseconds from its asking to the first
                record of a stream; 2: the most records taken on beyond those asked for; 3: the most taken on that had not come out.
From the host:
    OPENED      handle u32.
    REJECTED    handle u32, then why.
    CLOSED      handle u32.
    ENDED       handle u32, then why: a stream of the channel failed, and nothing more comes.
    ROWS        handle u32, length u32 of each record, the records.
    GROUPS      handle u32, then JSON: the groups of a stream that has come to its end (figures.py).
    TAKEN       tokens u64: the pipeline has taken on all records of these offers.
    REFUSED     token u64, then why.
    STATISTICS  JSON: names and numbers.

Handles are each connection's own. Limit: a frame is at most FRAME_BYTES_MAX long; a client that breaks a rule is cut off.
"""

from __future__ import annotations

import struct

FRAME_BYTES_MAX = 64 * 1024 * 1024
LENGTH = struct.Struct("<I")
HEAD = struct.Struct("<IB")
ONE = struct.Struct("<I")
TWO = struct.Struct("<II")
THREE = struct.Struct("<III")
OFFER_HEAD = struct.Struct("<QI")
SEEN_BODY = struct.Struct("<BQ")

OPEN, CLOSE, ASK, NAME, OFFER, REPORT, STATISTICS, SEEN = range(1, 9)
SEEN_FIRST, SEEN_AHEAD, SEEN_IN_FLIGHT = 1, 2, 3
OPENED, REJECTED, CLOSED, ENDED, ROWS, GROUPS, TAKEN, REFUSED = range(65, 73)


def frame(kind: int, *parts: bytes) -> bytes:
    """Put a frame together."""
    return b"".join((HEAD.pack(1 + sum(map(len, parts)), kind), *parts))
