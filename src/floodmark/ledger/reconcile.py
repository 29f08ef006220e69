"""Compare what was published with what arrived: the delivery counts of a scenario and one finding per anomaly of an account.

All counts are deliveries, (message, subscription) pairs, of sequences in the subscription's window (see `publications.Window`):
attempted could have been delivered, or was; acknowledged had to be; of these, lost did not come; indeterminate is what neither had to come
nor came. INVARIANT: attempted == delivered + lost + corrupted_placed + indeterminate, where corrupted_placed are the corrupted messages
that stand for a sequence; and acknowledged == delivered of acknowledged + lost + corrupted of acknowledged.
Not here: criteria and verdicts (judge). Vectorised over all accounts and all holes; Python only walks what becomes a finding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from floodmark.core.errors import HarnessBugError, UsageError
from floodmark.ledger.accounts import UNEXPECTED_DETAILS, Accounts
from floodmark.ledger.holes import DAMAGED, MISSING, Holes, Tally
from floodmark.ledger.inbox import Ints
from floodmark.ledger.publications import Publications, Window
from floodmark.model.finding import Anomaly, Finding, Guarantee, Order
from floodmark.model.result import Delivery


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reckoning:
    """What reconciling gives; `truncated` when there were more findings than the limit (the counts are always complete)."""

    delivery: Delivery
    findings: tuple[Finding, ...]
    truncated: bool


def reconcile(
    publications: Publications, accounts: Accounts, *, guarantee: Guarantee, order: Order, findings_limit: int = 1000
) -> Reckoning:
    """Judge every account by the promise.

    Args:
        publications, accounts: of the whole scenario, merged.
        guarantee, order: decide which findings are violations; corrupted and unexpected always are.
        findings_limit: at most so many findings, shared among the classes so that a flood of one does not hide another.
    Raises: HarnessBugError when the counts contradict each other, UsageError when the two do not speak of the same publishers.
    """
    if publications.publishers != accounts.publishers:
        raise UsageError(f"publications know {publications.publishers} publishers, accounts {accounts.publishers}; they must be equal")
    sheet = _Sheet(publications, accounts)
    delivery = sheet.delivery()
    violates = {
        Anomaly.LOST: guarantee is not Guarantee.AT_MOST_ONCE,
        Anomaly.DUPLICATED: guarantee is not Guarantee.AT_LEAST_ONCE,
        Anomaly.REORDERED: order is Order.PER_PUBLISHER,
        Anomaly.CORRUPTED: True,
        Anomaly.UNEXPECTED: True,
    }
    findings, truncated = _share(
        [sheet.lost_findings(violates), *sheet.tally_findings(violates), sheet.unexpected_findings(violates)], findings_limit
    )
    return Reckoning(delivery=delivery, findings=findings, truncated=truncated)


class _Sheet:
    """All accounts side by side, one row each; columns count sequences of the account."""

    def __init__(self, publications: Publications, accounts: Accounts) -> None:
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
        self.window: Window = self.index.window(self.publisher, accounts.active_ns[self.slot], accounts.closed_ns[self.slot])
        self._count()

    def _count(self) -> None:
        index, window, publisher, next_seq = self.index, self.window, self.publisher, self.next_seq
        low, high = window.required_low, window.required_high
        acknowledged, attempted = index.acknowledged_below, index.attempted_below
        self.acknowledged = acknowledged(publisher, high) - acknowledged(publisher, low)
        missing = self.acknowledged - (
            acknowledged(publisher, np.clip(next_seq, low, high)) - acknowledged(publisher, low)
        )  # the tail: nothing from next_seq on has come
        possible_low, possible_high = window.possible_low, window.possible_high
        inside = attempted(publisher, possible_high) - attempted(publisher, possible_low)
        came_inside = attempted(publisher, np.clip(next_seq, possible_low, possible_high)) - attempted(publisher, possible_low)
        came = attempted(publisher, next_seq)  # attempted sequences below next_seq, holes still to be taken off
        self.never_attempted = next_seq - came
        damaged, damaged_required = np.zeros_like(came), np.zeros_like(came)
        row, start, end, kind = self._holes()
        if len(row):
            p = publisher[row]

            def summed(values: Ints, mask: np.ndarray | None = None) -> Ints:
                chosen = slice(None) if mask is None else mask
                return np.bincount(row[chosen], values[chosen], len(came)).astype(np.int64)

            def of(count: Callable[[Ints, Ints], Ints], floor: Ints | None, roof: Ints | None) -> Ints:
                a = start if floor is None or roof is None else np.clip(start, floor[row], roof[row])
                b = end if floor is None or roof is None else np.clip(end, floor[row], roof[row])
                return count(p, b) - count(p, a)

            required, possible, anywhere = (
                of(acknowledged, low, high),
                of(attempted, possible_low, possible_high),
                of(attempted, None, None),
            )
            is_damaged = kind == DAMAGED
            damaged_required += summed(required, is_damaged)
            damaged += summed(anywhere, is_damaged)
            missing += summed(required, ~is_damaged)
            came_inside -= summed(possible, ~is_damaged)
            came -= summed(anywhere, ~is_damaged)
            self.never_attempted -= summed(end - start - anywhere)
        for account, holes in self.accounts.holes.items():
            if holes.floor_seq:
                self._add_written_off(int(self.row_of[account]), holes, missing, damaged, damaged_required, came, came_inside)
        self.missing_required, self.damaged = missing, damaged
        # What came from outside the window counts as attempted too, or it could not have come.
        self.attempted = inside + (came - came_inside)
        self.delivered = came - damaged
        absorbed = self._absorb(missing)
        self.lost = missing - absorbed
        self.placed = damaged + absorbed
        self.indeterminate = self.attempted - self.delivered - self.lost - self.placed
        delivered_required = self.acknowledged - missing - damaged_required
        self._prove(delivered_required, damaged_required + absorbed)

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

    def _add_written_off(
        self, row: int, holes: Holes, missing: Ints, damaged: Ints, damaged_required: Ints, came: Ints, came_inside: Ints
    ) -> None:
        """Place what was written off below the floor: first where nothing was required: nobody is accused of what is not certain."""
        one = slice(row, row + 1)
        floor, p, window, index = np.array([holes.floor_seq]), self.publisher[one], self.window, self.index

        def below(count: Callable[[Ints, Ints], Ints], low: Ints, high: Ints) -> int:
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
        missing[row] += max(0, gone - free)
        damaged_required[row] += max(0, hurt - max(0, free - gone))
        damaged[row] += hurt
        came[row] -= gone
        came_inside[row] -= max(0, gone - (attempted - possible))

    def _absorb(self, missing: Ints) -> Ints:
        """Let the anonymous corrupted messages of each slot stand for as many of its missing ones, lowest publisher first."""
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

    def lost_findings(self, violates: dict[Anomaly, bool]) -> Iterator[Finding]:
        """One finding per account that lost something, and one per account that is inexact though nothing is certainly lost."""
        for row in np.flatnonzero(self.lost).tolist():
            account = int(self.account[row])
            spans = self._missing_spans(row)
            first, last = (spans[0][0], spans[-1][1] - 1) if spans else (-1, -1)
            shown = ", ".join(str(a) if b == a + 1 else f"{a}-{b - 1}" for a, b in spans[:8]) + (", ..." if len(spans) > 8 else "")
            detail = f"acknowledged {int(self.acknowledged[row])} in the window, next expected {int(self.next_seq[row])}; missing {shown}"
            if self.missing_required[row] > self.lost[row]:
                detail += f"; {int(self.missing_required[row] - self.lost[row])} of these came corrupted, which ones cannot be told"
            detail += self._inexact(account)
            yield self._finding(Anomaly.LOST, row, int(self.lost[row]), first, last, violates[Anomaly.LOST], detail)
        for account, holes in self.accounts.holes.items():
            row = int(self.row_of[account])
            if holes.floor_seq and not self.lost[row] and holes.missing_written_off:
                detail = "nothing is certainly lost" + self._inexact(account)
                yield self._finding(Anomaly.LOST, row, holes.missing_written_off, 0, holes.floor_seq - 1, False, detail)

    def _inexact(self, account: int) -> str:
        holes = self.accounts.holes.get(account)
        if holes is None or not holes.floor_seq:
            return ""
        return (
            f"; inexact: more gaps than the ledger keeps, {holes.missing_written_off} sequences below {holes.floor_seq} were written off "
            "as missing without their places"
        )

    def _missing_spans(self, row: int) -> list[tuple[int, int]]:
        """Give the ranges in which required sequences are missing, bounded; a range may hold some that were not acknowledged."""
        low, high = int(self.window.required_low[row]), int(self.window.required_high[row])
        holes = self.accounts.holes.get(int(self.account[row]))
        spans = [] if holes is None else [(a, b) for a, b, k in zip(holes.starts, holes.ends, holes.kinds, strict=True) if k == MISSING]
        if holes is not None and holes.missing_written_off:
            spans.insert(0, (0, holes.floor_seq))
        spans.append((int(self.next_seq[row]), high))
        clipped = [(max(a, low), min(b, high)) for a, b in spans]
        p, count = self.publisher[row], self.index.acknowledged_below
        return [(a, b) for a, b in clipped if a < b and int(np.diff(count(np.array([p, p]), np.array([a, b])))[0])]

    def tally_findings(self, violates: dict[Anomaly, bool]) -> list[Iterator[Finding]]:
        """One finding per account for each of duplicated, reordered and corrupted; one per slot for anonymous corruption."""
        return [
            self._tallies(Anomaly.DUPLICATED, lambda h: h.duplicated, violates, "delivered again"),
            self._tallies(Anomaly.REORDERED, lambda h: h.reordered, violates, "delivered after a later one of the same publisher"),
            self._corrupted(violates),
        ]

    def _tallies(self, anomaly: Anomaly, tally_of: Callable[[Holes], Tally], violates: dict[Anomaly, bool], said: str) -> Iterator[Finding]:
        for account, holes in sorted(self.accounts.holes.items()):
            tally = tally_of(holes)
            if tally.count:
                detail = f"{said}: sequences {_listed(tally)}; next expected {int(self.accounts.next_seq[account])}"
                yield self._finding(anomaly, int(self.row_of[account]), tally.count, tally.low, tally.high, violates[anomaly], detail)

    def _corrupted(self, violates: dict[Anomaly, bool]) -> Iterator[Finding]:
        for account, holes in sorted(self.accounts.holes.items()):
            tally = holes.corrupted
            if tally.count:
                detail = f"checksum failed; the damaged heads say sequences {_listed(tally)}"
                violation = violates[Anomaly.CORRUPTED]
                yield self._finding(Anomaly.CORRUPTED, int(self.row_of[account]), tally.count, tally.low, tally.high, violation, detail)
        for slot, count in sorted(self.accounts.corrupted_strays.items()):
            yield Finding(
                anomaly=Anomaly.CORRUPTED,
                subscription=slot,
                channel=int(self.accounts.channel[slot]),
                publisher=-1,
                count=count,
                first_seq=-1,
                last_seq=-1,
                violation=violates[Anomaly.CORRUPTED],
                detail="checksum failed; the damaged heads name no publisher of this subscription",
            )

    def unexpected_findings(self, violates: dict[Anomaly, bool]) -> Iterator[Finding]:
        """One finding per slot and reason, and one per account that got sequences nobody sent."""
        accounts = self.accounts
        for (slot, why), tally in sorted(accounts.unexpected.items()):
            publisher = accounts.unexpected_publisher[slot, why]
            yield Finding(
                anomaly=Anomaly.UNEXPECTED,
                subscription=slot,
                channel=int(accounts.channel[slot]),
                publisher=publisher,
                count=tally.count,
                first_seq=tally.low,
                last_seq=tally.high,
                violation=violates[Anomaly.UNEXPECTED],
                detail=f"{tally.count} {UNEXPECTED_DETAILS[why]}, the first of publisher {publisher}; sequences {_listed(tally)}",
            )
        for row in np.flatnonzero(self.never_attempted).tolist():
            end = int(self.index.attempted_end[self.publisher[row]])
            detail = f"delivered though never sent; the publisher handed out {end} sequences, next expected {int(self.next_seq[row])}"
            last = int(self.next_seq[row]) - 1
            count = int(self.never_attempted[row])
            yield self._finding(Anomaly.UNEXPECTED, row, count, min(end, last), last, violates[Anomaly.UNEXPECTED], detail)

    def _finding(self, anomaly: Anomaly, row: int, count: int, first: int, last: int, violation: bool, detail: str) -> Finding:
        slot = int(self.slot[row])
        return Finding(
            anomaly=anomaly,
            subscription=slot,
            channel=int(self.accounts.channel[slot]),
            publisher=int(self.publisher[row]),
            count=count,
            first_seq=first,
            last_seq=last,
            violation=violation,
            detail=detail,
        )


def _listed(tally: Tally) -> str:
    shown = ", ".join(str(seq) if seq >= 0 else "unreadable" for seq in tally.sample)
    return shown + (", ..." if tally.count > len(tally.sample) else "")


def _share(sources: list[Iterator[Finding]], limit: int) -> tuple[tuple[Finding, ...], bool]:
    """Take findings from every source in turn until the limit, then sort them by subscription and publisher."""
    taken: list[Finding] = []
    while sources:
        for source in list(sources):
            finding = next(source, None)
            if finding is None:
                sources.remove(source)
            elif len(taken) == limit:
                return _sorted(taken), True
            else:
                taken.append(finding)
    return _sorted(taken), False


def _sorted(findings: list[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda f: (f.subscription, f.publisher, f.first_seq, f.anomaly.value)))
