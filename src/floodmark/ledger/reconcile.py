"""Compare what was published with what arrived: the delivery counts of a scenario and one finding per anomaly of an account.

The counts come from `sheet`, where the identity they keep is stated and proven. Here every anomaly becomes a Finding, a violation or not
by the declared promise. Python walks only what becomes a finding, at most `findings_limit` of them.
Not here: criteria and verdicts (judge).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import msgspec
import numpy as np

from floodmark.core.errors import UsageError
from floodmark.ledger.accounts import UNEXPECTED_DETAILS, UNREADABLE, Accounts
from floodmark.ledger.holes import CORRUPTED, DUPLICATED, MISSING, REORDERED, Tally
from floodmark.ledger.publications import Publications
from floodmark.ledger.sheet import Sheet
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
    sheet = Sheet(publications, accounts)
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
    return Reckoning(delivery=sheet.delivery(), findings=findings, truncated=truncated)


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
