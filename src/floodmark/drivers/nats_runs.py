"""Find runs of like messages in a read from a NATS server, so that a flooded subscription is taken in as blocks.

Messages of one subscription and one size stand in a read one after another, equally long: `MSG subject sid [reply] size`, the payload, and
a line's end. What may differ from row to row is the reply subject, where JetStream writes the position. A run is proven column by column:
that every row begins and ends like the first one, and that its reply holds nothing at which a line would be cut. Pure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.uint8]

LEAST_COUNT = 16  # a shorter run costs less one by one
_BLANK = 0x20


def run_at(octets: Rows, at: int, *, reply_at: int, reply_end: int, head_end: int, stop: int) -> Rows | None:
    """The messages from `at` that are like the first one, as a (n, size) array; None when it is not worth it.

    Args:
        octets: the whole read.
        at, stop: where the first message begins and ends, its last line's end included.
        head_end: up to where the rows must be the same, the reply apart: its first line, and what says that it is no status.
        reply_at, reply_end: where its reply subject is; the same when it has none.
    """
    # HOT: once per run of messages.
    size = stop - at
    most = (len(octets) - at) // size
    if most < LEAST_COUNT:
        return None
    rows = octets[at : at + most * size].reshape(most, size)
    last = rows[LEAST_COUNT - 1]
    first = rows[0]
    begin, end, head = reply_at - at, reply_end - at, head_end - at
    if not (last[:begin] == first[:begin]).all() or not (last[end:head] == first[end:head]).all():
        return None  # the usual end of a run that never was, found cheaply
    like = (rows[:, :begin] == first[:begin]).all(axis=1)
    like &= (rows[:, end:head] == first[end:head]).all(axis=1)
    like &= (rows[:, -2:] == first[-2:]).all(axis=1)
    if end > begin:
        like &= (rows[:, begin:end] > _BLANK).all(axis=1)
    count = most if like.all() else int(like.argmin())
    return rows[:count] if count >= LEAST_COUNT else None
