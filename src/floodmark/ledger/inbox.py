"""Hold one batch of received messages as columns: what `decode` makes and what `Accounts.receive` and the histograms read.

All columns have one row per message, in arrival order. A message without a stamp is not `readable`; one whose checksum fails is not
`intact`. Latencies come from here: response = received - intended, service = received - sent, of intact messages only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
NEVER_NS = 2**63 - 1  # a time that did not come: a window not opened, or not closed


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Deliveries:
    """One batch, columns of equal length: int64, and bool for `intact` and `readable`. Numbers of an undecodable head are -1."""

    slot: Ints
    run: Ints
    publisher: Ints
    seq: Ints
    intended_ns: Ints
    sent_ns: Ints
    received_ns: Ints
    intact: Bools
    readable: Bools

    def __len__(self) -> int:
        return len(self.slot)

    def where(self, mask: Bools) -> Deliveries:
        """Keep the rows of a mask, in order."""
        return Deliveries(**{field.name: getattr(self, field.name)[mask] for field in dataclasses.fields(self)})

    def latencies_ns(self, run: int) -> tuple[Ints, Ints]:
        """Give (response, service) latencies of the intact messages of one run; warm-up and damaged ones would lie."""
        mask = self.intact & (self.run == run)
        if mask.all():
            return self.received_ns - self.intended_ns, self.received_ns - self.sent_ns
        received_ns = self.received_ns[mask]
        return received_ns - self.intended_ns[mask], received_ns - self.sent_ns[mask]


def joined(parts: Sequence[Deliveries]) -> Deliveries:
    """Make one batch of several, in their order."""
    return Deliveries(
        **{field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(Deliveries)}
    )
