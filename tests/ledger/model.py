"""The ledger again, slow and obvious: sets and dicts, one message at a time. Tests compare the fast one with it."""

from __future__ import annotations

import dataclasses
import random

from floodmark.ledger.publications import Publications


@dataclasses.dataclass
class SlowAccount:
    """One (slot, publisher) account."""

    next_seq: int = 0
    delivered: set[int] = dataclasses.field(default_factory=set)
    damaged: set[int] = dataclasses.field(default_factory=set)
    duplicated: int = 0
    reordered: int = 0
    corrupted: int = 0
    again: list[int] = dataclasses.field(default_factory=list)  # the sequences behind `duplicated`, one entry per arrival
    late: list[int] = dataclasses.field(default_factory=list)  # and behind `reordered`


class SlowAccounts:
    """All accounts; `rows` are (slot, publisher, seq, intact) as in the tests' batches."""

    def __init__(self, channels: int, publishers: int, channel_of: list[int]) -> None:
        self.channels, self.publishers, self.channel_of = channels, publishers, channel_of
        self.accounts: dict[tuple[int, int], SlowAccount] = {}
        self.anonymous = [0] * len(channel_of)
        self.unexpected = self.corrupted = 0

    def receive(self, slot: int, publisher: int, seq: int, intact: bool) -> None:
        """Class one message."""
        expected = publisher < self.publishers and publisher % self.channels == self.channel_of[slot]
        self.corrupted += not intact
        if not expected:
            if intact:
                self.unexpected += 1
            else:
                self.anonymous[slot] += 1
            return
        account = self.accounts.setdefault((slot, publisher), SlowAccount())
        seen = account.delivered | account.damaged
        if not intact:
            if seq == account.next_seq or (seq < account.next_seq and seq not in seen):
                account.damaged.add(seq)
                account.next_seq = max(account.next_seq, seq + 1)
            else:
                self.anonymous[slot] += 1
        elif seq in account.delivered:
            account.duplicated += 1
            account.again.append(seq)
        else:
            was_damaged = seq in account.damaged
            if was_damaged:
                account.damaged.remove(seq)
                self.anonymous[slot] += 1
            nothing_intact_since = account.damaged >= set(range(seq + 1, account.next_seq))
            if seq < account.next_seq and not (was_damaged and nothing_intact_since):
                account.reordered += 1
                account.late.append(seq)
            account.delivered.add(seq)
            account.next_seq = max(account.next_seq, seq + 1)

    def of(self, slot: int, publisher: int) -> SlowAccount:
        """Give an account, an empty one when nothing came."""
        return self.accounts.get((slot, publisher), SlowAccount())


@dataclasses.dataclass
class Sent:
    """One sequence as the slow model keeps it; `ack_ns` is None when it was never acknowledged."""

    sent_ns: int
    ack_ns: int | None = None
    unsent: bool = False


def play(publications: Publications, publisher: int, seed: int, count: int, *, trouble_ratio: float, in_flight: int) -> list[Sent]:
    """Publish `count` messages with acknowledgements out of order, failures, drops of our own and words never spoken."""
    rng = random.Random(seed)
    log: list[Sent] = []
    waiting: list[int] = []
    now_ns = 1000

    def settle() -> None:
        seq = waiting.pop(rng.randrange(len(waiting)) if rng.random() < trouble_ratio else 0)
        kind = rng.choice(["failed", "silent", "ack"]) if rng.random() < trouble_ratio else "ack"
        if kind == "failed":
            publications.failed(publisher, seq)
        elif kind == "ack":
            log[seq].ack_ns = now_ns
            publications.acknowledged(publisher, seq, now_ns)

    for _ in range(count):
        seq = publications.next_seq(publisher)
        now_ns += rng.randrange(3)
        log.append(Sent(now_ns))
        if rng.random() < trouble_ratio / 2:
            publications.never_sent(publisher, seq)
            log[seq].unsent = True
            continue
        publications.sent(publisher, seq, now_ns)
        waiting.append(seq)
        while len(waiting) > rng.randrange(in_flight + 1):
            now_ns += rng.randrange(3)
            settle()
    while waiting:
        now_ns += 1
        settle()
    return log
