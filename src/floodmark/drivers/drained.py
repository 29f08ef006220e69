"""What those who feed and drain a pulled stream can tell of it by themselves, without the system's word for it.

Groups: `wrong_groups` compares the groups of a stream with what the number of its records makes them. Flow: a `Watch` knows of one channel
what was asked for, what has come, and what was taken on, and says how far the system was ahead. All of it errs on the side of the system:
what was taken on is heard of later than it happened and what was asked for is known earlier than the system knows it, so that a record that
is seen to be ahead was ahead, while one or the other may go unseen. Time is the opposite: what is seen from here is never less than it was.

Pure: no sockets, no clock. Memory: a few numbers a channel.
"""

from __future__ import annotations

import msgspec

UNKNOWN = -1


class Group(msgspec.Struct, frozen=True, array_like=True):
    """One group: its key, how many records it has, and the sum of their `value`."""

    key: str
    count: int
    value_sum: int


class Groups(msgspec.Struct, frozen=True):
    """The groups of a stream of `records` records, as the system tells them. `laps`: how often it had the same records."""

    records: int
    groups: int
    laps: int
    found: list[Group]


def wrong_groups(told: Groups, *, without: int = -1) -> int:
    """Count the groups that are not what the number of records makes them: those that are missing or should not be are wrong too.

    `without` is a record that is left out, if it is one of them.

    >>> wrong_groups(Groups(3, 2, 1, [Group("group_0", 2, 20), Group("group_1", 2, 10)]))
    1
    """
    records, groups = told.records, told.groups
    wanted: dict[str, tuple[int, int]] = {}
    for number in range(min(groups, records)):
        count = (records - number + groups - 1) // groups
        ids_sum = number * count + groups * count * (count - 1) // 2
        if 0 <= without < records and without % groups == number:
            count, ids_sum = count - 1, ids_sum - without
        if not count:
            continue
        wanted[f"group_{number}"] = (count * told.laps, 10 * ids_sum * told.laps)
    found = {group.key: (group.count, group.value_sum) for group in told.found}
    twice = len(told.found) - len(found)
    return twice + sum(1 for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))


class Watch:
    """One channel. `records`: how many make a stream; 0 where its streams cannot be told apart by counting."""

    __slots__ = ("ahead_max", "asked_count", "in_flight_max", "received_count", "records", "taken_count", "waits_since_ns")

    def __init__(self, records: int) -> None:
        self.records = records
        self.asked_count = 0
        self.received_count = 0
        self.taken_count = 0
        self.waits_since_ns = 0
        """When the first records of the next stream were asked for; 0: nobody waits for a first record."""
        self.ahead_max = self.in_flight_max = UNKNOWN

    def asked(self, count: int, now_ns: int) -> None:
        """So many more were asked for. The very first stream is not timed: nothing was offered to it yet."""
        self.asked_count += count
        if self.received_count and self.records and self.received_count % self.records == 0:
            self.waits_since_ns = now_ns

    def received(self, count: int, received_ns: int) -> int | None:
        """HOT: some have come; how long, in ns, their stream's first took from the asking, if they are its first."""
        self.received_count += count
        since_ns = self.waits_since_ns
        if not since_ns:
            return None
        self.waits_since_ns = 0
        return received_ns - since_ns

    def taken(self, count: int) -> bool:
        """So many more were taken on, by the acknowledgement of the system; whether that was a new maximum."""
        self.taken_count += count
        ahead, in_flight = max(0, self.taken_count - self.asked_count), max(0, self.taken_count - self.received_count)
        if ahead <= self.ahead_max and in_flight <= self.in_flight_max:
            return False
        self.ahead_max, self.in_flight_max = max(ahead, self.ahead_max), max(in_flight, self.in_flight_max)
        return True
