"""What the ledger found wrong, and the promise a stream is judged by.

A finding names one anomaly or a run of like anomalies of one (subscription, publisher): its class in Jepsen's words, how many messages,
the first sequences concerned, and what both ends recorded. Counts are exact; `sequences` is a bounded sample, oldest first.
"""

from __future__ import annotations

import enum

import msgspec


class Anomaly(enum.Enum):
    """How a message went wrong, seen at the subscriber's handler."""

    LOST = "lost"
    DUPLICATED = "duplicated"
    REORDERED = "reordered"
    CORRUPTED = "corrupted"
    UNEXPECTED = "unexpected"


class Guarantee(enum.Enum):
    """What a stream promises about each acknowledged message."""

    AT_MOST_ONCE = "at-most-once"
    AT_LEAST_ONCE = "at-least-once"
    EXACTLY_ONCE = "exactly-once"


class Order(enum.Enum):
    """What a stream promises about order."""

    PER_PUBLISHER = "per-publisher"
    NONE = "none"


class Finding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One anomaly, or a run of like ones, of one subscription.

    `count` messages; `first_seq`/`last_seq` bound them (-1 when the stamp could not be read); `violation` says whether the declared
    guarantee forbids it; `detail` is one sentence with what both ends recorded.
    """

    anomaly: Anomaly
    subscription: int
    channel: int
    publisher: int
    count: int
    first_seq: int
    last_seq: int
    violation: bool
    detail: str
