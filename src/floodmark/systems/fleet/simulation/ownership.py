"""Who works on which partition, seen from outside at every moment, and how long two did.

Fed by the simulated consumers. A node that is frozen or dead works on nothing, whatever it believes; when it thaws it goes on with what
it had until it learns better, and that counts. Overlaps that end within the limit are a figure; longer ones are reported.
Pure bookkeeping: time comes in with each call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable


class Ownership:
    """The owners of each partition, by node."""

    def __init__(self, limit_s: float, report: Callable[[str], None]) -> None:
        self.limit_s = limit_s
        self.overlap_s_total = 0.0
        self.overlap_s_longest = 0.0
        self.overlaps_count = 0
        self._report = report
        self._taken: dict[str, frozenset[str]] = {}  # what each node's consumer holds, running or not
        self._away: set[str] = set()
        self._owners: dict[str, list[str]] = {}
        self._since_s: dict[str, float] = {}

    def take(self, now_s: float, node: str, partitions: Iterable[str]) -> None:
        """A consumer works on exactly these from now on."""
        before = self._taken.get(node, frozenset())
        after = self._taken[node] = frozenset(partitions)
        if node not in self._away:
            self._change(now_s, node, before, after)

    def pause(self, now_s: float, node: str) -> None:
        """A node is frozen, or has died."""
        if node not in self._away:
            self._change(now_s, node, self._taken.get(node, frozenset()), frozenset())
            self._away.add(node)

    def resume(self, now_s: float, node: str) -> None:
        """A node goes on with what it had."""
        if node in self._away:
            self._away.discard(node)
            self._change(now_s, node, frozenset(), self._taken.get(node, frozenset()))

    def of(self, node: str) -> frozenset[str]:
        """What a node's consumer holds."""
        return self._taken.get(node, frozenset())

    def owners(self, partition: str) -> tuple[str, ...]:
        """Who works on a partition now."""
        return tuple(self._owners.get(partition, ()))

    def lasting(self, now_s: float) -> list[str]:
        """Partitions that two work on now, for longer than the limit."""
        return sorted(partition for partition, since_s in self._since_s.items() if now_s - since_s > self.limit_s)

    def _change(self, now_s: float, node: str, before: frozenset[str], after: frozenset[str]) -> None:
        for partition in sorted(before - after):
            owners = self._owners[partition]
            owners.remove(node)
            if len(owners) == 1:
                self._ended(now_s, partition, (*owners, node))
        for partition in sorted(after - before):
            owners = self._owners.setdefault(partition, [])
            owners.append(node)
            if len(owners) == 2:
                self._since_s[partition] = now_s
                self.overlaps_count += 1

    def _ended(self, now_s: float, partition: str, owners: tuple[str, ...]) -> None:
        lasted_s = now_s - self._since_s.pop(partition)
        self.overlap_s_total += lasted_s
        self.overlap_s_longest = max(self.overlap_s_longest, lasted_s)
        if lasted_s > self.limit_s:
            self._report(f"{' and '.join(owners)} both worked on {partition} for {lasted_s:.3f} s, the limit is {self.limit_s:.3f} s")
