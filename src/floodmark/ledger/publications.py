"""Account for what was published: sequences, acknowledgements, failures, and when, so that a window in time maps to sequences.

Contract, per publisher: `sent` is called in the order of the sequences with times that do not go back. Every sequence is then resolved
once: `acknowledged` (in any order), `failed` (the send failed or timed out: it may have arrived) or `never_sent` (the harness itself
dropped it). One that is never resolved is indeterminate; a later word about a resolved one is ignored. Times are one CLOCK_MONOTONIC.
Memory per publisher: a few numbers while everything is acknowledged in order; ranges for what is not; checkpoints of (time, sequence),
thinned to a bound, from which a window is mapped conservatively: what cannot be proven to lie inside is never required.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from floodmark.core.errors import HarnessBugError
from floodmark.ledger.inbox import NEVER_NS, Ints
from floodmark.ledger.ranges import RangeIndex, Ranges

CHECKPOINTS_TOTAL = 4_000_000  # 16 bytes each, both kinds and all publishers together
RANGES_PER_PUBLISHER = 65_536


class Checkpoints:
    """(time, sequence) pairs of one publisher, every `stride` sequences; the first one is always kept.

    When there are `bound` of them every other one is dropped and the stride doubled.
    """

    __slots__ = ("due_seq", "seqs", "stride", "times_ns")

    def __init__(self, times_ns: array[int] | None = None, seqs: array[int] | None = None, stride: int = 1) -> None:
        self.times_ns = array("q") if times_ns is None else times_ns
        self.seqs = array("q") if seqs is None else seqs
        self.stride = stride
        self.due_seq = self.seqs[-1] + stride if self.seqs else 0

    def add(self, time_ns: int, seq: int, bound: int) -> None:
        """Keep this pair if it is due."""
        if seq < self.due_seq:
            return
        self.times_ns.append(time_ns)
        self.seqs.append(seq)
        self.due_seq = seq + self.stride
        if len(self.seqs) >= bound:
            self.times_ns, self.seqs = self.times_ns[::2], self.seqs[::2]
            self.stride *= 2
            self.due_seq = self.seqs[-1] + self.stride


class Window:
    """Which sequences a subscription's window in time covers, one row per account asked for.

    Required are the acknowledged ones in [required_low, required_high); others in [possible_low, possible_high) may have been delivered.
    """

    __slots__ = ("possible_high", "possible_low", "required_high", "required_low")

    def __init__(self, rows: int) -> None:
        self.required_low: Ints = np.zeros(rows, np.int64)
        self.required_high: Ints = np.zeros(rows, np.int64)
        self.possible_low: Ints = np.zeros(rows, np.int64)
        self.possible_high: Ints = np.zeros(rows, np.int64)


class Publications:
    """What all publishers of one process sent."""

    def __init__(self, *, publishers: int) -> None:
        self.publishers = publishers
        self.checkpoint_bound = max(64, min(2048, CHECKPOINTS_TOTAL // (2 * max(publishers, 1))))
        self.attempted_end = [0] * publishers  # sequences handed out
        self.resolved_end = [0] * publishers  # every sequence below is acknowledged, failed or never sent
        self.first_sent_ns = [NEVER_NS] * publishers
        self.last_sent_ns = [-1] * publishers
        self.last_ack_ns = [-1] * publishers
        self.sent_points: dict[int, Checkpoints] = {}
        self.ack_points: dict[int, Checkpoints] = {}
        self.early: dict[int, Ranges] = {}  # resolved, but above resolved_end
        self.failures: dict[int, Ranges] = {}
        self.unsent: dict[int, Ranges] = {}
        self.attempted_count = self.acknowledged_count = self.failed_count = self.dropped_by_us_count = 0
        self.ignored_count = 0  # words about a sequence that was already resolved

    def next_seq(self, publisher: int) -> int:
        """Hand out the publisher's next sequence; it counts as attempted from here on, unless `never_sent` takes it back."""
        # HOT: once per message sent.
        seq = self.attempted_end[publisher]
        self.attempted_end[publisher] = seq + 1
        self.attempted_count += 1
        return seq

    def next_seqs(self, publisher: int, count: int) -> int:
        """Hand out `count` consecutive sequences; gives the first."""
        seq = self.attempted_end[publisher]
        self.attempted_end[publisher] = seq + count
        self.attempted_count += count
        return seq

    def sent(self, publisher: int, seq: int, sent_ns: int) -> None:
        """Note when a sequence went out; for a batch sent at one time, its first sequence is enough."""
        # HOT: once per message sent.
        self.last_sent_ns[publisher] = sent_ns
        points = self.sent_points.get(publisher)
        if points is None:
            points = self.sent_points[publisher] = Checkpoints()
            self.first_sent_ns[publisher] = sent_ns
        if seq >= points.due_seq:
            points.add(sent_ns, seq, self.checkpoint_bound)

    def acknowledged(self, publisher: int, seq: int, ack_ns: int) -> None:
        """Note that the system took responsibility for a sequence."""
        # HOT: once per message acknowledged.
        if seq == self.resolved_end[publisher] and publisher not in self.early:
            self.resolved_end[publisher] = end = seq + 1
            self.acknowledged_count += 1
            if ack_ns > self.last_ack_ns[publisher]:
                self.last_ack_ns[publisher] = ack_ns
            points = self.ack_points.get(publisher)
            if points is None or end >= points.due_seq:
                self._point(publisher)
        else:
            self.acknowledged_range(publisher, seq, seq + 1, ack_ns)

    def acknowledged_range(self, publisher: int, first_seq: int, end_seq: int, ack_ns: int) -> None:
        """Note that all of [first_seq, end_seq) were acknowledged at one time."""
        fresh = self._resolve(publisher, first_seq, end_seq)
        if not fresh:
            return
        self.acknowledged_count += sum(end - start for start, end in fresh)
        self.last_ack_ns[publisher] = max(self.last_ack_ns[publisher], ack_ns)
        self._point(publisher)

    def failed(self, publisher: int, seq: int) -> None:
        """Note that a send failed or timed out; whether it arrived is indeterminate, and an acknowledgement from now on is ignored."""
        self.failed_range(publisher, seq, seq + 1)

    def failed_range(self, publisher: int, first_seq: int, end_seq: int) -> None:
        """Note that of all of [first_seq, end_seq) nobody knows whether they arrived."""
        for start, end in self._resolve(publisher, first_seq, end_seq):
            self.failed_count += end - start
            self._note(self.failures, publisher, start, end)

    def never_sent(self, publisher: int, seq: int) -> None:
        """Journal that the harness itself dropped a sequence before it reached the system: nobody's loss, and not attempted."""
        fresh = self._resolve(publisher, seq, seq + 1)
        if fresh:
            self.dropped_by_us_count += 1
            self.attempted_count -= 1
            self._note(self.unsent, publisher, seq, seq + 1)

    def _resolve(self, publisher: int, first_seq: int, end_seq: int) -> list[tuple[int, int]]:
        """Mark [first_seq, end_seq) as resolved; give the parts that were not."""
        low = max(first_seq, self.resolved_end[publisher])
        early = self.early.get(publisher)
        fresh: list[tuple[int, int]] = []
        if early is None:
            if low < end_seq:
                fresh.append((low, end_seq))
        else:
            at = low
            for start, end in early.within(low, end_seq):
                if at < start:
                    fresh.append((at, start))
                at = end
            if at < end_seq:
                fresh.append((at, end_seq))
        self.ignored_count += end_seq - first_seq - sum(end - start for start, end in fresh)
        if not fresh:
            return fresh
        if early is None:
            if low == self.resolved_end[publisher]:
                self.resolved_end[publisher] = end_seq
                return fresh
            early = self.early[publisher] = Ranges()
        early.add(low, end_seq)
        if early.starts[0] == self.resolved_end[publisher]:
            self.resolved_end[publisher] = early.pop_first()[1]
        elif len(early) > RANGES_PER_PUBLISHER:
            # The lowest stretch that nobody spoke of for so long is given up as indeterminate, so that memory stays bounded.
            start = self.resolved_end[publisher]
            self.resolved_end[publisher] = early.starts[0]
            self._note(self.failures, publisher, start, early.starts[0])
            self.resolved_end[publisher] = early.pop_first()[1]
        if not len(early):
            del self.early[publisher]
        return fresh

    def _point(self, publisher: int) -> None:
        points = self.ack_points.get(publisher)
        if points is None:
            points = self.ack_points[publisher] = Checkpoints()
        points.add(self.last_ack_ns[publisher], self.resolved_end[publisher], self.checkpoint_bound)

    def _note(self, kind: dict[int, Ranges], publisher: int, start: int, end: int) -> None:
        ranges = kind.get(publisher)
        if ranges is None:
            ranges = kind[publisher] = Ranges()
        ranges.add(start, end)
        if len(ranges) > RANGES_PER_PUBLISHER:
            first, second = ranges.pop_first(), ranges.pop_first()
            if kind is self.failures:  # what lies between is called indeterminate too: less is required, nobody is accused
                ranges.add(first[0], second[1])
            else:
                ranges.starts.insert(0, second[0])
                ranges.ends.insert(0, second[1])
                self._note(self.failures, publisher, *first)

    def to_wire(self) -> bytes:
        """Encode for another process; see `wire`."""
        from floodmark.ledger import wire  # it stands above this module

        return wire.publications_to_wire(self)

    @classmethod
    def from_wire(cls, data: bytes) -> Publications:
        """Decode what `to_wire` gave."""
        from floodmark.ledger import wire

        return wire.publications_from_wire(data)

    @classmethod
    def merge(cls, parts: Sequence[Publications]) -> Publications:
        """Make one of the publications of several agents with disjoint publishers; the parts must not be used any more."""
        from floodmark.ledger import wire

        return wire.merge_publications(parts)

    def index(self) -> Index:
        """Freeze for reconciling."""
        return Index(self)


class Index:
    """Publications as arrays: counts of acknowledged and attempted sequences below any one, and windows, for many accounts at once."""

    def __init__(self, publications: Publications) -> None:
        n = publications.publishers
        self._publications = publications
        self.attempted_end = np.array(publications.attempted_end, np.int64)
        limit = int(self.attempted_end.max(initial=0)) + 1
        self._resolved_end = np.array(publications.resolved_end, np.int64)
        for publisher in np.flatnonzero(self._resolved_end > self.attempted_end).tolist():
            raise HarnessBugError(
                f"publisher {publisher} has sequences up to {publications.resolved_end[publisher] - 1} resolved, "
                f"but only {publications.attempted_end[publisher]} were handed out by next_seq"
            )
        self._early = RangeIndex(publications.early, publishers=n, limit=limit)
        unacknowledged = dict(publications.failures)
        for publisher, ranges in publications.unsent.items():
            union = Ranges(*(list(column) for column in _columns(unacknowledged.get(publisher))))
            for start, end in ranges:
                union.add(start, end)
            unacknowledged[publisher] = union
        self._unacknowledged = RangeIndex(unacknowledged, publishers=n, limit=limit)
        self._unsent = RangeIndex(publications.unsent, publishers=n, limit=limit)

    def acknowledged_below(self, publishers: Ints, numbers: Ints) -> Ints:
        """Count the publisher's acknowledged sequences below each number."""
        resolved = np.minimum(numbers, self._resolved_end[publishers]) + self._early.below(publishers, numbers)
        return resolved - self._unacknowledged.below(publishers, numbers)

    def attempted_below(self, publishers: Ints, numbers: Ints) -> Ints:
        """Count the publisher's attempted sequences below each number."""
        return np.minimum(numbers, self.attempted_end[publishers]) - self._unsent.below(publishers, numbers)

    def unsent_below(self, publishers: Ints, numbers: Ints) -> Ints:
        """Count the sequences below each number that the harness dropped."""
        return self._unsent.below(publishers, numbers)

    def window(self, publishers: Ints, opened_ns: Ints, closed_ns: Ints, missed_ns: Ints | None = None) -> Window:
        """Map windows in time to sequences.

        Args: one row per account, any shape of windows; what was sent after the closing and before `missed_ns` is possible, not required.
        Returns: exact where the window opened before the first send and closed after the last one and its acknowledgement.
        """
        book = self._publications
        window = Window(len(publishers))
        total = self.attempted_end[publishers]
        last_ns = np.maximum(np.array(book.last_ack_ns, np.int64), np.array(book.last_sent_ns, np.int64))
        whole = (opened_ns < np.array(book.first_sent_ns, np.int64)[publishers]) & (closed_ns > last_ns[publishers])
        window.required_high[whole] = window.possible_high[whole] = total[whole]
        until_ns = closed_ns if missed_ns is None else np.maximum(closed_ns, missed_ns)
        rows = np.flatnonzero(~whole & (until_ns > opened_ns))
        rows = rows[np.argsort(publishers[rows], kind="stable")]
        if not len(rows):
            return window
        owners, firsts = np.unique(publishers[rows], return_index=True)
        for publisher, group in zip(owners.tolist(), np.split(rows, firsts[1:]), strict=True):
            self._window_of(publisher, group, (opened_ns[group], closed_ns[group], until_ns[group]), window)
        return window

    def edge(self, at_ns: int) -> tuple[Ints, int]:
        """Cut every publisher's sequences in two at a moment: by `sent`, those below the edge came before it.

        A sequence handed out and never sent goes with the one sent before it; with none before, no moment but NEVER_NS is late enough.
        Returns: the edge of each publisher, and by how many messages the worst of them may lie too high: 0 unless checkpoints were thinned.
        """
        if at_ns == NEVER_NS:
            return self.attempted_end, 0
        book, edges, worst = self._publications, np.zeros(len(self.attempted_end), np.int64), 0
        for publisher, points in book.sent_points.items():
            i, total = bisect_left(points.times_ns, at_ns), book.attempted_end[publisher]
            if i == 0:
                continue
            edges[publisher] = high = points.seqs[i] if i < len(points.seqs) else total
            if points.stride > 1 and at_ns <= book.last_sent_ns[publisher]:
                span = self.attempted_below(np.array([publisher, publisher]), np.array([points.seqs[i - 1] + 1, high]))
                worst = max(worst, int(span[1] - span[0]))
        return edges, worst

    def _window_of(self, publisher: int, rows: Ints, edges_ns: tuple[Ints, Ints, Ints], window: Window) -> None:
        opened_ns, closed_ns, until_ns = edges_ns
        book, total = self._publications, int(self.attempted_end[publisher])
        sent_ns, sent_seqs = _point_arrays(book.sent_points.get(publisher))
        ack_ns, ack_ends = _point_arrays(book.ack_points.get(publisher))
        # A point (t, s) of sends says that s and all above were sent at t or later; one of acknowledgements (t, e) that all below e
        # were resolved by t. Between two points the less demanding one is taken.
        sent_seqs, ack_ends = np.append(sent_seqs, total), np.insert(ack_ends, 0, 0)
        low = sent_seqs[np.searchsorted(sent_ns, opened_ns, side="right")]
        high = ack_ends[np.searchsorted(ack_ns, closed_ns, side="left")]
        high[closed_ns > book.last_ack_ns[publisher]] = total
        window.required_low[rows], window.required_high[rows] = low, np.maximum(low, high)
        possible_low = np.minimum(ack_ends[np.searchsorted(ack_ns, opened_ns, side="left")], low)
        possible_high = sent_seqs[np.searchsorted(sent_ns, until_ns, side="left")]
        window.possible_low[rows] = possible_low
        window.possible_high[rows] = np.maximum(possible_high, window.required_high[rows])


def _point_arrays(points: Checkpoints | None) -> tuple[Ints, Ints]:
    if points is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.array(points.times_ns, np.int64), np.array(points.seqs, np.int64)


def _columns(ranges: Ranges | None) -> tuple[list[int], list[int]]:
    return ([], []) if ranges is None else (ranges.starts, ranges.ends)
