"""Account for what each subscription received: one account per (subscription slot, publisher of its channel).

Contract: channel of publisher p is p % channels, its rank there p // channels; a slot on channel c expects the publishers with that channel
and has `ranks` accounts, at index slot * ranks + rank. Sequences are dense from 0 per publisher, order is judged per publisher only.
Classes: the next sequence is delivered; a higher one is delivered and opens a gap; one inside a gap is delivered and reordered (late,
RFC 4737); a lower one outside gaps is duplicated. Not intact is corrupted; it fills its sequence when its head is plausible, else it is
anonymous. Wrong channel, unknown publisher, foreign run and frames without a stamp are unexpected.
Not here: what was sent (publications), what is lost (reconcile), I/O, clocks. Memory: 16 bytes an account, plus holes only where something
went wrong: at most HOLES_PER_ACCOUNT ranges each, and few once HOLES_TOTAL are open in all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from floodmark.core.errors import HarnessBugError, UsageError
from floodmark.ledger.holes import CORRUPTED, DAMAGED, DUPLICATED, MISSING, REORDERED, Holes, Tally
from floodmark.ledger.inbox import NEVER_NS, Bools, Deliveries, Ints

HOLES_PER_ACCOUNT = 4096
HOLES_TOTAL = 1_000_000  # ranges in all accounts together, about 120 MB; beyond it an account keeps HOLES_WHEN_FULL
HOLES_WHEN_FULL = 16
FEW_COUNT = 24  # batches up to this are walked: numpy's fixed cost (about 25 us a batch) would be more

SEQ_END = 1 << 62  # no publisher counts this far; beyond it a sequence does not fit the columns

WRONG_CHANNEL, UNKNOWN_PUBLISHER, FOREIGN_RUN, UNREADABLE, IMPOSSIBLE_SEQ = range(5)
UNEXPECTED_DETAILS = (
    "of a publisher of another channel",
    "of a publisher that does not exist",
    "of a run that is not this one",
    "frames without a readable stamp",
    "with a sequence that no publisher counts to",
)


class Accounts:
    """What every subscription of one process received.

    Args:
        run: of the messages that count.
        warmup_run: of the messages that only show that a subscription works.
        channels, publishers: counts, publishers >= channels >= 1.
        holes_per_account: ranges of missing sequences kept exactly, per account.
    """

    def __init__(self, *, run: int, warmup_run: int, channels: int, publishers: int, holes_per_account: int = HOLES_PER_ACCOUNT) -> None:
        if not 1 <= channels <= publishers:
            raise UsageError(f"channels must be 1 .. publishers, got {channels} channels and {publishers} publishers")
        if run == warmup_run:
            raise UsageError(f"run and warmup_run must differ, both are {run}")
        self.run, self.warmup_run, self.channels, self.publishers = run, warmup_run, channels, publishers
        self.ranks = -(-publishers // channels)
        self.slots = 0
        self.holes_per_account = holes_per_account
        # Columns with room to grow; only the first `slots` (times `ranks`) rows mean anything.
        self.channel: Ints = np.zeros(0, np.int64)
        self.active_ns: Ints = np.zeros(0, np.int64)
        self.closed_ns: Ints = np.zeros(0, np.int64)
        self.dropped_ns: Ints = np.zeros(0, np.int64)  # when its socket was dropped, where that was later than the closing; else 0
        self.missed_ns: Ints = np.zeros(0, np.int64)  # what was sent from the closing up to then is indeterminate; 0: nothing
        self.anonymous: Ints = np.zeros(0, np.int64)  # corrupted messages of a slot that no sequence could be blamed on
        self.seen: Bools = np.zeros(0, np.bool_)
        self.next_seq: Ints = np.zeros(0, np.int64)
        self.delivered: Ints = np.zeros(0, np.int64)
        self.holes: dict[int, Holes] = {}
        self.corrupted_strays: dict[int, int] = {}  # by slot: those whose head names no account of the slot
        self.unexpected: dict[tuple[int, int], Tally] = {}  # by (slot, which of UNEXPECTED_DETAILS)
        self.unexpected_publisher: dict[tuple[int, int], int] = {}  # the first one seen
        self.received_count = self.delivered_count = self.seen_count = self.holes_count = 0
        self.duplicated_count = self.reordered_count = self.corrupted_count = self.unexpected_count = 0

    def open(self, channel: int, active_ns: int = NEVER_NS) -> int:
        """Open a subscription's window; without `active_ns` nothing is required of it until `activate`. Gives its slot."""
        return self.open_many([channel], active_ns)

    def open_many(self, channels: Sequence[int] | Ints, active_ns: int = NEVER_NS) -> int:
        """Open one subscription per channel given; their slots are consecutive, the first one is given."""
        wanted = np.asarray(channels, np.int64)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= self.channels):
            raise UsageError(f"channel must be 0 .. {self.channels - 1}, got {int(wanted.min())} .. {int(wanted.max())}")
        first, self.slots = self.slots, self.slots + len(wanted)
        if self.slots > len(self.channel):
            self._grow(max(self.slots, 2 * len(self.channel), 64))
        self.channel[first : self.slots] = wanted
        self.active_ns[first : self.slots] = active_ns
        return first

    def activate(self, slot: int, active_ns: int) -> None:
        """Set when the subscription was known to be active, if that came after `open`."""
        self._check(slot)
        self.active_ns[slot] = active_ns

    def close(self, slot: int, closed_ns: int, *, dropped_ns: int = 0) -> None:
        """Close the window: nothing acknowledged from then on is required. A slot is never used again.

        Whoever drops a socket closes the window some time earlier, for what may have been in it, and says with `dropped_ns` when that was.
        Where order is promised, what was acknowledged until then is required still, as far as a later one of its publisher was seen.
        """
        self._check(slot)
        self.closed_ns[slot] = closed_ns
        self.dropped_ns[slot] = dropped_ns

    def missed(self, slot: int, until_ns: int) -> None:
        """Say that whoever held a closed subscription was away until then: what was sent meanwhile may have been meant for it."""
        self._check(slot)
        self.missed_ns[slot] = until_ns

    def receive(self, deliveries: Deliveries) -> None:
        """Account for one batch; batches of one slot must come in the order of arrival."""
        # HOT: once per batch. Proves with a few array operations that nothing is wrong; only accounts where that fails are walked.
        n = len(deliveries)
        if n == 0:
            return
        if n <= FEW_COUNT:
            settled = self._receive_few(deliveries)
            if settled == n:
                return
            if settled:
                deliveries, n = deliveries.where(np.arange(n) >= settled), n - settled
        slot, publisher = deliveries.slot, deliveries.publisher
        if int(slot.max()) >= self.slots or int(slot.min()) < 0:
            raise HarnessBugError(f"deliveries for slots {int(slot.min())} .. {int(slot.max())}, but only {self.slots} were opened")
        rank, channel = np.divmod(publisher, self.channels) if self.channels > 1 else (publisher, 0)
        routed = (deliveries.run == self.run) & (publisher < self.publishers) & (publisher >= 0) & (channel == self.channel[slot])
        if int(deliveries.seq.max()) >= SEQ_END or int(deliveries.seq.min()) < 0:
            routed &= ~deliveries.intact | ((deliveries.seq >= 0) & (deliveries.seq < SEQ_END))
        self.received_count += n
        if routed.all():
            self._account(slot * self.ranks + rank, deliveries.seq, deliveries.intact)
            return
        self._receive_strays(deliveries, np.flatnonzero(~routed))
        if routed.any():
            self._account((slot * self.ranks + rank)[routed], deliveries.seq[routed], deliveries.intact[routed])

    def _receive_few(self, deliveries: Deliveries) -> int:
        """Settle the first messages as long as each is the next one of its account; gives how many that were."""
        run, channels, ranks, channel_of, next_seqs = self.run, self.channels, self.ranks, self.channel, self.next_seq
        settled = 0
        if not deliveries.intact.all():
            return settled
        for slot, its_run, publisher, seq in zip(
            deliveries.slot.tolist(), deliveries.run.tolist(), deliveries.publisher.tolist(), deliveries.seq.tolist(), strict=True
        ):
            if its_run != run or not 0 <= slot < self.slots or publisher >= self.publishers:
                break
            rank, channel = divmod(publisher, channels)
            account = slot * ranks + rank
            if channel != channel_of.item(slot) or seq != next_seqs.item(account):
                break
            next_seqs[account] = seq + 1
            self.delivered[account] += 1
            settled += 1
        self.received_count += settled
        self.delivered_count += settled
        return settled

    def _account(self, account: Ints, seq: Ints, intact: Bools) -> None:
        n = len(account)
        bits = n.bit_length()
        keys = np.sort((account << bits) | np.arange(n))  # stable grouping by account, several times faster than a stable argsort
        order = keys & ((1 << bits) - 1)
        account, seq = keys >> bits, seq[order]
        is_first = np.empty(n, np.bool_)
        is_first[0] = True
        np.not_equal(account[1:], account[:-1], out=is_first[1:])
        firsts = np.flatnonzero(is_first)
        owners = account[firsts]
        wanted = np.empty(n, np.int64)
        wanted[1:] = seq[:-1] + 1
        wanted[firsts] = self.next_seq[owners]
        good = seq == wanted
        counts = np.diff(firsts, append=n)
        if good.all() and intact.all():
            self.next_seq[owners] += counts
            self.delivered[owners] += counts
            self.delivered_count += n
            return
        good &= intact[order]
        clean = np.logical_and.reduceat(good, firsts)
        self.next_seq[owners[clean]] += counts[clean]
        self.delivered[owners[clean]] += counts[clean]
        self.delivered_count += int(counts[clean].sum())
        intact = intact[order]
        for i in np.flatnonzero(~clean).tolist():
            rows = slice(int(firsts[i]), int(firsts[i]) + int(counts[i]))
            self._walk(int(owners[i]), seq[rows].tolist(), intact[rows].tolist())

    def _walk(self, account: int, seqs: list[int], intact: list[bool]) -> None:
        """Account for one account's messages one by one, in arrival order: the place where classes are decided."""
        holes = self.holes.get(account)
        if holes is None:
            holes = self.holes[account] = Holes()
        limit = self.holes_per_account if self.holes_count < HOLES_TOTAL else HOLES_WHEN_FULL
        self.holes_count -= len(holes.starts)
        next_seq, delivered_count = int(self.next_seq[account]), 0
        for seq, is_intact in zip(seqs, intact, strict=True):
            if not is_intact:
                self.corrupted_count += 1
                if seq == next_seq:
                    holes.open(seq, seq + 1, DAMAGED, limit)
                    next_seq += 1
                elif not (0 <= seq < next_seq and holes.damage(seq, limit)):
                    self.anonymous[account // self.ranks] += 1
                holes.add(CORRUPTED, seq)
            elif seq >= next_seq:
                if seq > next_seq:
                    holes.open(next_seq, seq, MISSING, limit)
                next_seq = seq + 1
                delivered_count += 1
            else:
                kind = holes.fill(seq, limit)
                if kind is None:
                    holes.add(DUPLICATED, seq)
                    self.duplicated_count += 1
                    continue
                delivered_count += 1
                if kind == DAMAGED:  # the damaged one was another message, or another copy
                    self.anonymous[account // self.ranks] += 1
                if kind == MISSING or not holes.only_damaged(seq + 1, next_seq):  # whatever came after it and was intact makes it late
                    holes.add(REORDERED, seq)
                    self.reordered_count += 1
        self.next_seq[account] = next_seq
        self.delivered[account] += delivered_count
        self.delivered_count += delivered_count
        self.holes_count += len(holes.starts)

    def _receive_strays(self, deliveries: Deliveries, rows: Ints) -> None:
        """Account for what belongs to no account of its slot: warm-up, unexpected, and damaged heads."""
        strays = deliveries.where(_mask(rows, len(deliveries)))
        warmup = strays.intact & (strays.run == self.warmup_run) & (strays.publisher % self.channels == self.channel[strays.slot])
        if warmup.any():
            slots = np.unique(strays.slot[warmup])
            self.seen_count += int((~self.seen[slots]).sum())
            self.seen[slots] = True
            self.received_count -= int(warmup.sum())
            strays = strays.where(~warmup)
        damaged = strays.readable & ~strays.intact
        for slot in strays.slot[damaged].tolist():
            self.anonymous[slot] += 1
            self.corrupted_strays[slot] = self.corrupted_strays.get(slot, 0) + 1
            self.corrupted_count += 1
        strays = strays.where(~damaged)
        self.unexpected_count += len(strays)
        for slot, run, publisher, seq, readable in zip(
            strays.slot.tolist(), strays.run.tolist(), strays.publisher.tolist(), strays.seq.tolist(), strays.readable.tolist(), strict=True
        ):
            if not readable:
                why = UNREADABLE
            elif run not in (self.run, self.warmup_run):
                why = FOREIGN_RUN
            elif publisher >= self.publishers:
                why = UNKNOWN_PUBLISHER
            else:
                why = WRONG_CHANNEL if publisher % self.channels != self.channel.item(slot) else IMPOSSIBLE_SEQ
            tally = self.unexpected.setdefault((slot, why), Tally())
            tally.add(seq)
            self.unexpected_publisher.setdefault((slot, why), publisher)

    def to_wire(self) -> bytes:
        """Encode for another process; see `wire`."""
        from floodmark.ledger import wire  # it stands above this module

        return wire.accounts_to_wire(self)

    @classmethod
    def from_wire(cls, data: bytes) -> Accounts:
        """Decode what `to_wire` gave."""
        from floodmark.ledger import wire

        return wire.accounts_from_wire(data)

    @classmethod
    def merge(cls, parts: Sequence[Accounts]) -> Accounts:
        """Make one of the accounts of several agents, slots renumbered in the order of the parts, which must not be used any more."""
        from floodmark.ledger import wire

        return wire.merge_accounts(parts)

    def _check(self, slot: int) -> None:
        if not 0 <= slot < self.slots:
            raise HarnessBugError(f"slot {slot} was never opened, {self.slots} were")

    def _grow(self, capacity: int) -> None:
        def grown(column: np.ndarray, rows: int, fill: int = 0) -> np.ndarray:
            new = np.full(rows, fill, column.dtype) if fill else np.zeros(rows, column.dtype)
            new[: len(column)] = column
            return new

        self.channel, self.anonymous = grown(self.channel, capacity), grown(self.anonymous, capacity)
        self.active_ns, self.closed_ns = grown(self.active_ns, capacity, NEVER_NS), grown(self.closed_ns, capacity, NEVER_NS)
        self.missed_ns, self.dropped_ns = grown(self.missed_ns, capacity), grown(self.dropped_ns, capacity)
        self.seen = grown(self.seen, capacity)
        self.next_seq, self.delivered = grown(self.next_seq, capacity * self.ranks), grown(self.delivered, capacity * self.ranks)


def _mask(rows: Ints, n: int) -> Bools:
    mask = np.zeros(n, np.bool_)
    mask[rows] = True
    return mask
