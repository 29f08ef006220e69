"""Lay all accounts side by side and count, per account, what its window asked for and what came of it.

All counts are of sequences in the subscription's window (see `publications.Window`): attempted could have been delivered, or was;
acknowledged had to be; of these, lost did not come; indeterminate is what neither had to come nor came.
INVARIANT: attempted == delivered + lost + corrupted_placed + indeterminate, where corrupted_placed are the corrupted messages that stand
for a sequence; acknowledged == delivered of acknowledged + lost + corrupted of acknowledged; and delivered, computed here from the holes,
equals what the accounts counted message by message. Vectorised over all accounts and all holes.
Not here: words about it (reconcile).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from floodmark.core.errors import HarnessBugError
from floodmark.ledger.accounts import Accounts
from floodmark.ledger.holes import DAMAGED, Holes
from floodmark.ledger.inbox import Bools, Ints
from floodmark.ledger.publications import Publications, Window
from floodmark.model.result import Delivery

Below = Callable[[Ints, Ints], Ints]  # (publishers, numbers) -> how many sequences below each number


class Sheet:
    """All accounts side by side, one row each; columns count sequences of the account.

    `ordered`: each publisher's messages were promised in their order, so a later one proves that the earlier ones are not on their way.
    """

    def __init__(self, publications: Publications, accounts: Accounts, *, ordered: bool = False) -> None:
        self.accounts, self.index = accounts, publications.index()
        ranks, slots = accounts.ranks, accounts.slots
        slot = np.repeat(np.arange(slots, dtype=np.int64), ranks)
        publisher = np.tile(np.arange(ranks, dtype=np.int64), slots) * accounts.channels + accounts.channel[:slots][slot]
        # Channels with fewer publishers than ranks have accounts that expect nothing.
        self.account: Ints = np.flatnonzero(publisher < accounts.publishers)
        self.slot, self.publisher = slot[self.account], publisher[self.account]
        self.next_seq = accounts.next_seq[self.account]
        self.row_of = np.full(slots * ranks, -1, np.int64)
        self.row_of[self.account] = np.arange(len(self.account))
        self.window: Window = self.index.window(
            self.publisher, accounts.active_ns[self.slot], accounts.closed_ns[self.slot], accounts.missed_ns[self.slot]
        )
        if ordered:
            self._require_what_was_passed()
        self._count()

    def _require_what_was_passed(self) -> None:
        """Of a socket that was dropped, require also what a later message seen shows to have been passed over."""
        accounts, window = self.accounts, self.window
        rows = np.flatnonzero(accounts.dropped_ns[self.slot] > accounts.active_ns[self.slot])
        if not len(rows):
            return
        slot, publisher = self.slot[rows], self.publisher[rows]
        until = self.index.window(publisher, accounts.active_ns[slot], accounts.dropped_ns[slot])
        # A sequence that nobody sent is the target's invention and proves nothing.
        seen = np.where(self.next_seq[rows] <= self.index.attempted_end[publisher], self.next_seq[rows], 0)
        passed = np.minimum(until.required_high, seen)
        more = passed > np.maximum(window.required_high[rows], until.required_low)
        rows, low, high = rows[more], until.required_low[more], passed[more]
        empty = window.required_low[rows] == window.required_high[rows]
        window.required_low[rows] = np.where(empty, low, window.required_low[rows])
        window.required_high[rows] = high
        untouched = window.possible_low[rows] == window.possible_high[rows]
        window.possible_low[rows] = np.where(untouched, low, np.minimum(low, window.possible_low[rows]))
        window.possible_high[rows] = np.maximum(high, window.possible_high[rows])

    def _count(self) -> None:
        acknowledged, attempted = self.index.acknowledged_below, self.index.attempted_below
        low, high = self.window.required_low, self.window.required_high
        possible_low, possible_high = self.window.possible_low, self.window.possible_high
        self.acknowledged = self._between(acknowledged, low, high)
        # As if nothing were missing below next_seq, and everything from there on; the holes correct that.
        self.missing = self.acknowledged - self._between(acknowledged, low, np.clip(self.next_seq, low, high))
        self.came = attempted(self.publisher, self.next_seq)
        self.came_inside = self._between(attempted, possible_low, np.clip(self.next_seq, possible_low, possible_high))
        self.never_attempted = self.next_seq - self.came
        self.damaged, self.damaged_required = np.zeros_like(self.came), np.zeros_like(self.came)
        self._add_holes()
        for account, holes in self.accounts.holes.items():
            if holes.floor_seq:
                self._add_written_off(int(self.row_of[account]), holes)
        # What came from outside the window counts as attempted too, or it could not have come.
        self.attempted = self._between(attempted, possible_low, possible_high) + (self.came - self.came_inside)
        self.delivered = self.came - self.damaged
        absorbed = self._absorb()
        self.lost = self.missing - absorbed
        self.indeterminate = self.attempted - self.delivered - self.lost - (self.damaged + absorbed)
        self._prove(self.acknowledged - self.missing - self.damaged_required, self.damaged_required + absorbed)

    def _between(self, below: Below, low: Ints, high: Ints) -> Ints:
        return below(self.publisher, high) - below(self.publisher, low)

    def _add_holes(self) -> None:
        """Correct the columns by every hole, all of them at once."""
        row, start, end, kind = self._holes()
        if not len(row):
            return
        publisher, window = self.publisher[row], self.window

        def inside(below: Below, low: Ints, high: Ints) -> Ints:
            return below(publisher, np.clip(end, low[row], high[row])) - below(publisher, np.clip(start, low[row], high[row]))

        def add(column: Ints, values: Ints, chosen: Bools) -> None:
            np.add.at(column, row[chosen], values[chosen])

        attempted = self.index.attempted_below
        required = inside(self.index.acknowledged_below, window.required_low, window.required_high)
        possible = inside(attempted, window.possible_low, window.possible_high)
        anywhere = attempted(publisher, end) - attempted(publisher, start)
        damaged = kind == DAMAGED
        add(self.damaged_required, required, damaged)
        add(self.damaged, anywhere, damaged)
        add(self.missing, required, ~damaged)
        add(self.came_inside, -possible, ~damaged)
        add(self.came, -anywhere, ~damaged)
        np.add.at(self.never_attempted, row, anywhere - (end - start))

    def _holes(self) -> tuple[Ints, Ints, Ints, Ints]:
        """All holes of all accounts as columns: row of the account, start, end, kind."""
        held = [(account, holes) for account, holes in self.accounts.holes.items() if holes.starts]
        owners = np.array([account for account, _ in held], np.int64)
        row = np.repeat(self.row_of[owners], [len(holes.starts) for _, holes in held]) if held else owners
        return (
            row,
            np.array([start for _, holes in held for start in holes.starts], np.int64),
            np.array([end for _, holes in held for end in holes.ends], np.int64),
            np.array([kind for _, holes in held for kind in holes.kinds], np.int64),
        )

    def _add_written_off(self, row: int, holes: Holes) -> None:
        """Place what was written off below the floor: first where nothing was required: nobody is accused of what is not certain."""
        one = slice(row, row + 1)
        floor, p, window, index = np.array([holes.floor_seq]), self.publisher[one], self.window, self.index

        def below(count: Below, low: Ints, high: Ints) -> int:
            return int((count(p, np.clip(floor, low[one], high[one])) - count(p, low[one]))[0])

        attempted = int(index.attempted_below(p, floor)[0])
        required = below(index.acknowledged_below, window.required_low, window.required_high)
        possible = below(index.attempted_below, window.possible_low, window.possible_high)
        unsent = holes.floor_seq - attempted
        gone_unsent = min(holes.missing_written_off, unsent)
        hurt_unsent = min(holes.damaged_written_off, unsent - gone_unsent)
        self.never_attempted[row] -= gone_unsent + hurt_unsent
        gone, hurt = holes.missing_written_off - gone_unsent, holes.damaged_written_off - hurt_unsent
        free = attempted - required
        self.missing[row] += max(0, gone - free)
        self.damaged_required[row] += max(0, hurt - max(0, free - gone))
        self.damaged[row] += hurt
        self.came[row] -= gone
        self.came_inside[row] -= max(0, gone - (attempted - possible))

    def _absorb(self) -> Ints:
        """Let the anonymous corrupted messages of each slot stand for as many of its missing ones, lowest publisher first."""
        missing = self.missing
        absorbed = np.zeros_like(missing)
        for slot in np.flatnonzero(self.accounts.anonymous[: self.accounts.slots]).tolist():
            left = int(self.accounts.anonymous[slot])
            rows = self.row_of[slot * self.accounts.ranks : (slot + 1) * self.accounts.ranks]
            rows = rows[rows >= 0]
            before = np.cumsum(missing[rows]) - missing[rows]
            absorbed[rows] = np.clip(left - before, 0, missing[rows])
        return absorbed

    def _prove(self, delivered_required: Ints, placed_required: Ints) -> None:
        """Check the invariant row by row, also against the count that was kept message by message."""
        wrong = (
            (self.acknowledged != delivered_required + self.lost + placed_required)
            | (self.attempted < self.acknowledged)
            | (self.acknowledged < self.lost)
            | (self.lost < 0)
            | (self.indeterminate < 0)
            | (delivered_required < 0)
            | (delivered_required > self.delivered)
            | (self.accounts.delivered[self.account] != self.delivered + self.never_attempted)  # counted one by one as they came
        )
        for row in np.flatnonzero(wrong).tolist():
            raise HarnessBugError(
                f"the account of subscription {int(self.slot[row])} and publisher {int(self.publisher[row])} does not add up: "
                f"attempted {int(self.attempted[row])}, acknowledged {int(self.acknowledged[row])}, delivered {int(self.delivered[row])}, "
                f"of which {int(delivered_required[row])} acknowledged, lost {int(self.lost[row])}, corrupted {int(placed_required[row])}, "
                f"indeterminate {int(self.indeterminate[row])}, "
                f"never attempted {int(self.never_attempted[row])}; counted on arrival {int(self.accounts.delivered[self.account[row]])}"
            )

    def delivery(self) -> Delivery:
        """Sum up all accounts."""
        accounts, window = self.accounts, self.window
        unsent = self.index.unsent_below
        return Delivery(
            attempted=int(self.attempted.sum()),
            acknowledged=int(self.acknowledged.sum()),
            delivered=int(self.delivered.sum()),
            lost=int(self.lost.sum()),
            duplicated=accounts.duplicated_count,
            reordered=accounts.reordered_count,
            corrupted=accounts.corrupted_count,
            unexpected=accounts.unexpected_count + int(self.never_attempted.sum()),
            indeterminate=int(self.indeterminate.sum()),
            dropped_by_us=int((unsent(self.publisher, window.possible_high) - unsent(self.publisher, window.possible_low)).sum()),
        )
