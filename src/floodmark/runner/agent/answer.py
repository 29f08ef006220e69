"""One request and what came for it: plain state that `answers.py` fills and `measures.py` counts. No policy, no I/O, no clock."""

from __future__ import annotations

import enum

from floodmark.ledger.numbered import Text
from floodmark.runner.agent.reading import Reading


class Ending(enum.Enum):
    """How an answer ended: by itself, by the target's doing, before it was accepted, by ours, or not at all."""

    COMPLETED, FAILED, REFUSED, LEFT, HUNG = range(5)


class Answer:
    """One request and what came for it. Numbers of tokens are [`first`, `end`); without numbered text that is one message."""

    __slots__ = (
        "accepted_ns",
        "acked",
        "channel",
        "chunk_bytes_max",
        "chunk_count",
        "connection",
        "count",
        "declared_count",
        "end",
        "ending",
        "first",
        "first_bytes",
        "first_ns",
        "gap_max_ns",
        "intended_ns",
        "last_ns",
        "pieces",
        "queued",
        "reading",
        "reason",
        "sent_ns",
        "slot",
        "text",
        "token",
        "token_count",
        "told_count",
        "unread_ns",
        "untouched",
        "was_unread",
    )

    def __init__(
        self, *, token: int, slot: int, channel: int, connection: object, reading: Reading, first: int, end: int, count: int
    ) -> None:
        self.token, self.slot, self.channel, self.connection, self.reading = token, slot, channel, connection, reading
        self.first, self.end, self.count = first, end, count
        self.acked = first
        self.intended_ns = self.sent_ns = self.accepted_ns = self.first_ns = self.last_ns = self.gap_max_ns = 0
        self.text: Text | None = None
        self.pieces: list[tuple[bytes, int]] = []
        self.queued = False
        self.first_bytes = 0
        """How much has come of the first token, while that is not whole."""
        self.chunk_count = self.chunk_bytes_max = self.declared_count = self.token_count = 0
        self.told_count = -1
        self.untouched = True
        """Whether all that came so far is what was asked for, in order."""
        self.unread_ns = 0
        """For how long its client had not read, in all, when anything of it last came."""
        self.was_unread = False
        """Whether its client did not read for a while of it."""
        self.ending: Ending | None = None
        self.reason = ""
