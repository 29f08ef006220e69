"""Compare what was published with what arrived: the delivery counts of a scenario and one finding per anomaly of an account.

The counts come from `sheet`, where the identity they keep is stated and proven. Here every anomaly becomes a Finding, a violation or not
by the declared promise. Python walks only what becomes a finding, at most `findings_limit` of them.
Windows in time are counted by when a message was sent: an edge is one sequence of each publisher, the same for both its neighbours, and a
part is what the sheet's columns hold between two edges. What no sequence can be blamed for is never guessed: see `Reckoning.unplaced`.
INVARIANT: the columns below the last sequence are the sheet's own, and no part is negative; so windows that cover everything add up.
Not here: criteria and verdicts (judge).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from floodmark.core.errors import HarnessBugError, UsageError
from floodmark.ledger.accounts import UNEXPECTED_DETAILS, UNREADABLE, Accounts
from floodmark.ledger.holes import CORRUPTED, DAMAGED, DUPLICATED, MISSING, REORDERED, Tally
from floodmark.ledger.inbox import NEVER_NS, Bools, Ints
from floodmark.ledger.publications import Publications
from floodmark.ledger.sheet import Below, Sheet
from floodmark.model.finding import Anomaly, Finding, Guarantee, Order
from floodmark.model.result import Delivery


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reckoning:
    """What reconciling gives; `truncated` when there were more findings than the limit (the counts are always complete).

    `windows`: what is certain of each window. `unplaced`: how many more of each may belong to it, or to another: of duplicated and
    reordered the ledger keeps the span and a sample, of corrupted without a plausible head nothing, and `unexpected` has no time at all.
    `published`: how many messages were sent in each window. `edge_error_count`: by how many messages of one publisher an edge may lie
    beside its moment; 0 unless checkpoints were thinned.
    """

    delivery: Delivery
    findings: tuple[Finding, ...]
    truncated: bool
    windows: dict[str, Delivery] = dataclasses.field(default_factory=dict)
    unplaced: dict[str, Delivery] = dataclasses.field(default_factory=dict)
    published: dict[str, int] = dataclasses.field(default_factory=dict)
    edge_error_count: int = 0


def reconcile(
    publications: Publications,
    accounts: Accounts,
    *,
    guarantee: Guarantee,
    order: Order,
    findings_limit: int = 1000,
    windows: Sequence[tuple[str, int, int]] = (),
) -> Reckoning:
    """Judge every account by the promise.

    Args:
        publications, accounts: of the whole scenario, merged.
        guarantee, order: decide which findings are violations; corrupted and unexpected always are.
        findings_limit: at most so many findings, shared among the classes so that a flood of one does not hide another.
        windows: (name, from_ns, to_ns) of the sends to count apart, `to_ns` itself not included; they may overlap or leave gaps.
    Raises: HarnessBugError when the counts contradict each other, UsageError when the two do not speak of the same publishers or two
        windows have one name.
    """
    if publications.publishers != accounts.publishers:
        raise UsageError(f"publications know {publications.publishers} publishers, accounts {accounts.publishers}; they must be equal")
    _check(windows)
    sheet = Sheet(publications, accounts, ordered=order is Order.PER_PUBLISHER)
    found = _Findings(
        sheet,
        {
            Anomaly.LOST: guarantee is not Guarantee.AT_MOST_ONCE,
            Anomaly.DUPLICATED: guarantee is not Guarantee.AT_LEAST_ONCE,
            Anomaly.REORDERED: order is Order.PER_PUBLISHER,
            Anomaly.CORRUPTED: True,
            Anomaly.UNEXPECTED: True,
        },
    )
    findings, truncated = _share(
        [found.lost(), found.duplicated(), found.reordered(), found.corrupted(), found.unexpected()], findings_limit
    )
    if not windows:
        return Reckoning(delivery=sheet.delivery(), findings=findings, truncated=truncated)
    parts = _Parts(sheet)
    counted = {name: parts.between(parts.edge(from_ns), parts.edge(to_ns)) for name, from_ns, to_ns in windows}
    return Reckoning(
        delivery=sheet.delivery(),
        findings=findings,
        truncated=truncated,
        windows={name: sure for name, (sure, _) in counted.items()},
        unplaced={name: more for name, (_, more) in counted.items()},
        published={name: parts.sent_below(to_ns) - parts.sent_below(from_ns) for name, from_ns, to_ns in windows},
        edge_error_count=parts.edge_error_count,
    )


def _check(windows: Sequence[tuple[str, int, int]]) -> None:
    names = [name for name, _, _ in windows]
    if len(set(names)) != len(names):
        raise UsageError(f"the names of windows must differ, got {names}")
    for name, from_ns, to_ns in windows:
        if from_ns > to_ns:
            raise UsageError(f"window {name!r} ends {from_ns - to_ns} ns before it begins; give its earlier edge first")


class _Parts:
    """The sheet's columns cut at sequences. A row is an account, a column one of COLUMNS; `missing` is lost before anonymous damage."""

    COLUMNS = ("attempted", "acknowledged", "delivered", "missing", "corrupted", "indeterminate", "dropped_by_us")
    MISSING_COLUMN = COLUMNS.index("missing")

    def __init__(self, sheet: Sheet) -> None:
        self.sheet, window, unsent = sheet, sheet.window, sheet.index.unsent_below
        self.hole_row, self.hole_start, self.hole_end, self.hole_kind = sheet._holes()
        dropped = unsent(sheet.publisher, window.possible_high) - unsent(sheet.publisher, window.possible_low)
        columns = (sheet.attempted, sheet.acknowledged, sheet.delivered, sheet.missing, sheet.damaged, sheet.indeterminate, dropped)
        self.whole = np.stack(columns)
        self.floor = np.zeros(len(sheet.account), np.int64)
        for account, holes in sheet.accounts.holes.items():
            self.floor[sheet.row_of[account]] = holes.floor_seq
        # What was written off has no place but below the floor: the difference it makes, per account.
        self.adrift = self.whole - self._below(np.full(len(sheet.account), NEVER_NS))
        self._prove((self.adrift != 0) & (self.floor == 0), "the parts do not add up to the whole")
        self.tallies = [_Spread(sheet, kind) for kind in (DUPLICATED, REORDERED)]
        self.edges: dict[int, tuple[Ints, Ints]] = {}
        self.edge_error_count = 0

    def edge(self, at_ns: int) -> tuple[Ints, Ints]:
        """Give a moment as one sequence per account, and the columns below it; neighbours share both."""
        if at_ns not in self.edges:
            numbers, error_count = self.sheet.index.edge(at_ns)
            self.edge_error_count = max(self.edge_error_count, error_count)
            numbers = numbers[self.sheet.publisher]
            self.edges[at_ns] = numbers, self._below(numbers) if numbers.any() else np.zeros_like(self.whole)
        return self.edges[at_ns]

    def sent_below(self, at_ns: int) -> int:
        """Count the messages of all publishers that were sent before a moment."""
        numbers, _ = self.sheet.index.edge(at_ns)
        return int(self.sheet.index.attempted_below(np.arange(len(numbers)), numbers).sum())

    def between(self, begin: tuple[Ints, Ints], end: tuple[Ints, Ints]) -> tuple[Delivery, Delivery]:
        """Count what lies between two edges: what is certain, and how many more there may be."""
        sheet, low, high = self.sheet, begin[0], end[0]
        part = end[1] - begin[1]
        self._prove(part < 0, "a window has less than nothing")
        sure, more = self._settle(part, low, high)
        absorbed = sheet.missing - sheet.lost  # anonymous damage stands for some of the missing; of which window cannot be told
        lost = np.maximum(sure[self.MISSING_COLUMN] - absorbed, 0)
        more[self.MISSING_COLUMN] = np.minimum(sure[self.MISSING_COLUMN] + more[self.MISSING_COLUMN], sheet.lost) - lost
        sure[self.MISSING_COLUMN] = lost
        self._prove((sure < 0) | (more < 0), "a window has less than nothing")
        spread = [tally.between(low, high) for tally in self.tallies]
        return self._summed(sure, [count for count, _ in spread]), self._summed(more, [count for _, count in spread], self._homeless())

    def _homeless(self) -> tuple[int, int]:
        """Corrupted messages that stand for no sequence, and unexpected ones: of any window."""
        corrupted = self.sheet.accounts.corrupted_count - int(self.sheet.damaged.sum())
        return max(0, corrupted), self.sheet.accounts.unexpected_count + int(self.sheet.never_attempted.sum())

    def _summed(self, columns: Ints, spread: list[int], homeless: tuple[int, int] = (0, 0)) -> Delivery:
        counts = dict(zip(self.COLUMNS, columns.sum(axis=1).tolist(), strict=True))
        counts["lost"] = counts.pop("missing")
        counts["corrupted"] += homeless[0]
        return Delivery(**counts, duplicated=spread[0], reordered=spread[1], unexpected=homeless[1])

    def _settle(self, part: Ints, low: Ints, high: Ints) -> tuple[Ints, Ints]:
        """Add what was written off where all of it must lie inside; elsewhere give only what holds wherever it lies."""
        inside = (low == 0) & (high >= self.floor)
        beside = (low >= self.floor) | (low == high)
        sure = np.where(inside & ~beside, part + self.adrift, part)
        astride = ~(inside | beside)
        sure = np.where(astride & (self.adrift < 0), np.maximum(part + self.adrift, 0), sure)
        return sure, np.where(astride, np.maximum(self.adrift, part - sure), 0)

    def _below(self, numbers: Ints) -> Ints:
        """Count every column below one sequence per account, without what was written off."""
        sheet, index, window = self.sheet, self.sheet.index, self.sheet.window
        acknowledged, attempted, unsent = index.acknowledged_below, index.attempted_below, index.unsent_below
        required, possible = (window.required_low, window.required_high), (window.possible_low, window.possible_high)
        came_to = np.minimum(numbers, sheet.next_seq)

        def inside(below: Below, span: tuple[Ints, Ints], to: Ints) -> Ints:
            return below(sheet.publisher, np.clip(to, *span)) - below(sheet.publisher, span[0])

        owed, could = inside(acknowledged, required, numbers), inside(attempted, possible, numbers)
        missing, came = owed - inside(acknowledged, required, came_to), attempted(sheet.publisher, came_to)
        came_inside, damaged = inside(attempted, possible, came_to), np.zeros_like(came)
        row = self.hole_row
        if len(row):
            publisher, gone = sheet.publisher[row], self.hole_kind == MISSING
            starts, ends = np.minimum(self.hole_start, numbers[row]), np.minimum(self.hole_end, numbers[row])

            def held(below: Below, span: tuple[Ints, Ints]) -> Ints:
                span = span[0][row], span[1][row]
                return below(publisher, np.clip(ends, *span)) - below(publisher, np.clip(starts, *span))

            anywhere = attempted(publisher, ends) - attempted(publisher, starts)
            np.add.at(missing, row[gone], held(acknowledged, required)[gone])
            np.add.at(came, row[gone], -anywhere[gone])
            np.add.at(came_inside, row[gone], -held(attempted, possible)[gone])
            hurt = self.hole_kind == DAMAGED
            np.add.at(damaged, row[hurt], anywhere[hurt])
        tried, delivered = could + came - came_inside, came - damaged
        dropped = inside(unsent, possible, numbers)
        return np.stack([tried, owed, delivered, missing, damaged, tried - delivered - missing - damaged, dropped])

    def _prove(self, wrong: Bools, said: str) -> None:
        for row in np.flatnonzero(np.any(wrong, axis=0)).tolist():
            slot, publisher = int(self.sheet.slot[row]), int(self.sheet.publisher[row])
            whole = ", ".join(f"{name} {count}" for name, count in zip(self.COLUMNS, self.whole[:, row].tolist(), strict=True))
            raise HarnessBugError(f"windows of the account of subscription {slot} and publisher {publisher}: {said}; the whole is {whole}")


class _Spread:
    """Where the messages of one kind of tally lie: all in [low, high] of their account, a few of them at known sequences."""

    def __init__(self, sheet: Sheet, kind: int) -> None:
        held = [(int(sheet.row_of[a]), holes.tally(kind)) for a, holes in sheet.accounts.holes.items() if holes.tally(kind).count]
        known = [tally.sample + [end for end in _ends(tally) if end not in tally.sample] for _, tally in held]
        self.row = np.array([row for row, _ in held], np.int64)
        self.count = np.array([tally.count for _, tally in held], np.int64)
        self.low = np.array([tally.low for _, tally in held], np.int64)
        self.high = np.array([tally.high for _, tally in held], np.int64)
        self.unknown = self.count - np.array([len(seqs) for seqs in known], np.int64)
        self.owner = np.repeat(np.arange(len(held)), np.array([len(seqs) for seqs in known], np.int64))
        self.seq = np.array([seq for seqs in known for seq in seqs], np.int64)

    def between(self, low: Ints, high: Ints) -> tuple[int, int]:
        """Count those certainly in [low, high) of their account, and those that may be."""
        low, high = low[self.row], high[self.row]
        inside = (low <= self.low) & (self.high < high)
        seen = (low[self.owner] <= self.seq) & (self.seq < high[self.owner])
        proven = np.bincount(self.owner[seen], minlength=len(self.row))
        touched = ~inside & (low < high) & (self.low < high) & (self.high >= low)
        return int(np.where(inside, self.count, proven).sum()), int(self.unknown[touched].sum())


def _ends(tally: Tally) -> set[int]:
    """The lowest and highest sequence, each seen once at least; with all of them sampled there is nothing more to know."""
    return {tally.low, tally.high} if tally.count > len(tally.sample) else set()


class _Findings:
    """Findings of a sheet, one generator per anomaly, so that only those wanted are put into words."""

    def __init__(self, sheet: Sheet, violates: dict[Anomaly, bool]) -> None:
        self.sheet, self.accounts, self.violates = sheet, sheet.accounts, violates

    def lost(self) -> Iterator[Finding]:
        """One per account that lost something, and one per account that is inexact though nothing is certainly lost."""
        sheet = self.sheet
        for row in np.flatnonzero(sheet.lost).tolist():
            count, missing, spans = int(sheet.lost[row]), int(sheet.missing[row]), self._missing_spans(row)
            first, last = (spans[0][0], spans[-1][1] - 1) if spans else (-1, -1)
            shown = ", ".join(str(a) if b == a + 1 else f"{a}-{b - 1}" for a, b in spans[:8]) + (", ..." if len(spans) > 8 else "")
            detail = f"acknowledged {int(sheet.acknowledged[row])} in the window, next expected {int(sheet.next_seq[row])}; missing {shown}"
            if missing > count:
                detail += f"; {missing - count} of these came corrupted, which ones cannot be told"
            yield self._finding(Anomaly.LOST, row, count, first, last, detail + self._inexact(int(sheet.account[row])))
        for account, holes in sorted(self.accounts.holes.items()):
            row = int(sheet.row_of[account])
            if holes.missing_written_off and not sheet.lost[row]:
                detail = "nothing is certainly lost" + self._inexact(account)
                finding = self._finding(Anomaly.LOST, row, holes.missing_written_off, 0, holes.floor_seq - 1, detail)
                yield msgspec.structs.replace(finding, violation=False)

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
        low, high = int(self.sheet.window.required_low[row]), int(self.sheet.window.required_high[row])
        holes = self.accounts.holes.get(int(self.sheet.account[row]))
        spans = [] if holes is None else [(a, b) for a, b, k in zip(holes.starts, holes.ends, holes.kinds, strict=True) if k == MISSING]
        if holes is not None and holes.missing_written_off:
            spans.insert(0, (0, holes.floor_seq))
        spans.append((int(self.sheet.next_seq[row]), high))
        clipped = [(max(a, low), min(b, high)) for a, b in spans]
        p, count = self.sheet.publisher[row], self.sheet.index.acknowledged_below
        return [(a, b) for a, b in clipped if a < b and int(np.diff(count(np.array([p, p]), np.array([a, b])))[0])]

    def duplicated(self) -> Iterator[Finding]:
        """One per account."""
        return self._tallied(Anomaly.DUPLICATED, DUPLICATED, "delivered again")

    def reordered(self) -> Iterator[Finding]:
        """One per account."""
        return self._tallied(Anomaly.REORDERED, REORDERED, "delivered after a later one of the same publisher")

    def corrupted(self) -> Iterator[Finding]:
        """One per account that a damaged head names, and one per slot for those whose head names none of its publishers."""
        yield from self._tallied(Anomaly.CORRUPTED, CORRUPTED, "checksum failed, the sequences are what the damaged heads say")
        for slot, count in sorted(self.accounts.corrupted_strays.items()):
            tally = Tally(count)
            yield self._stray(
                Anomaly.CORRUPTED, slot, -1, tally, "checksum failed; the damaged heads name no publisher of this subscription"
            )

    def _tallied(self, anomaly: Anomaly, kind: int, said: str) -> Iterator[Finding]:
        for account, holes in sorted(self.accounts.holes.items()):
            tally = holes.tally(kind)
            if tally.count:
                detail = f"{said}: {_listed(tally)}; next expected {int(self.accounts.next_seq[account])}"
                yield self._finding(anomaly, int(self.sheet.row_of[account]), tally.count, tally.low, tally.high, detail)

    def unexpected(self) -> Iterator[Finding]:
        """One per slot and reason, and one per account that got sequences nobody sent."""
        sheet = self.sheet
        for (slot, why), tally in sorted(self.accounts.unexpected.items()):
            publisher = self.accounts.unexpected_publisher[slot, why]
            detail = f"{tally.count} {UNEXPECTED_DETAILS[why]}"
            if why != UNREADABLE:
                detail += f", the first of publisher {publisher}; sequences {_listed(tally)}"
            yield self._stray(Anomaly.UNEXPECTED, slot, publisher, tally, detail)
        for row in np.flatnonzero(sheet.never_attempted).tolist():
            end, next_seq = int(sheet.index.attempted_end[sheet.publisher[row]]), int(sheet.next_seq[row])
            detail = f"delivered though never sent; the publisher handed out {end} sequences, next expected {next_seq}"
            yield self._finding(Anomaly.UNEXPECTED, row, int(sheet.never_attempted[row]), min(end, next_seq - 1), next_seq - 1, detail)

    def _stray(self, anomaly: Anomaly, slot: int, publisher: int, tally: Tally, detail: str) -> Finding:
        return Finding(
            anomaly=anomaly,
            subscription=slot,
            channel=int(self.accounts.channel[slot]),
            publisher=publisher,
            count=tally.count,
            first_seq=tally.low,
            last_seq=tally.high,
            violation=self.violates[anomaly],
            detail=detail,
        )

    def _finding(self, anomaly: Anomaly, row: int, count: int, first: int, last: int, detail: str) -> Finding:
        slot = int(self.sheet.slot[row])
        return Finding(
            anomaly=anomaly,
            subscription=slot,
            channel=int(self.accounts.channel[slot]),
            publisher=int(self.sheet.publisher[row]),
            count=count,
            first_seq=first,
            last_seq=last,
            violation=self.violates[anomaly],
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
