"""The ledger again, slow and obvious: sets and dicts, one message at a time. Tests compare the fast one with it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class SlowAccount:
    """One (slot, publisher) account."""

    next_seq: int = 0
    delivered: set[int] = dataclasses.field(default_factory=set)
    damaged: set[int] = dataclasses.field(default_factory=set)
    duplicated: int = 0
    reordered: int = 0
    corrupted: int = 0


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
        else:
            was_damaged = seq in account.damaged
            if was_damaged:
                account.damaged.remove(seq)
                self.anonymous[slot] += 1
            if seq < account.next_seq and not (was_damaged and seq + 1 == account.next_seq):
                account.reordered += 1
            account.delivered.add(seq)
            account.next_seq = max(account.next_seq, seq + 1)

    def of(self, slot: int, publisher: int) -> SlowAccount:
        """Give an account, an empty one when nothing came."""
        return self.accounts.get((slot, publisher), SlowAccount())
