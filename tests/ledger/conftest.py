"""Deliveries made by hand, so that a test of the accounts needs no frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from floodmark.ledger.inbox import Deliveries

RUN, WARMUP_RUN = 7, 8
Row = tuple[int, int, int, bool]  # slot, publisher, seq, intact
Deliver = Callable[..., Deliveries]


def make(rows: Sequence[Row], *, run: int = RUN, readable: bool = True) -> Deliveries:
    """Make one batch of (slot, publisher, seq, intact) rows."""
    columns = np.array([row[:3] for row in rows], np.int64).reshape(-1, 3)
    n = len(columns)
    return Deliveries(
        slot=columns[:, 0].copy(),
        run=np.full(n, run, np.int64),
        publisher=columns[:, 1].copy(),
        seq=columns[:, 2].copy(),
        intended_ns=np.zeros(n, np.int64),
        sent_ns=np.zeros(n, np.int64),
        received_ns=np.zeros(n, np.int64),
        intact=np.array([row[3] for row in rows], np.bool_),
        readable=np.full(n, readable, np.bool_),
    )


@pytest.fixture
def deliver() -> Deliver:
    """Give the maker of batches."""
    return make
