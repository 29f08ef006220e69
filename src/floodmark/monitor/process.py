"""A process and all its descendants as one thing with a size.

Found anew at every sample by walking down from the root. A descendant whose parent ended is kept: it was seen in the tree once, and a PID
together with its start time names it for good. A PID that was given to a stranger has another start time and is never counted.
Limits: a process that lives shorter than a sampling interval shows only in the CPU time of the parent that waited for it; a grandchild
orphaned before it was ever sampled is not seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from floodmark.monitor import procfs
from floodmark.monitor.sample import ProcessSample


class CpuAccount:
    """CPU ticks of a tree, from what can be read of it; never falls, never counts anything twice.

    Two lower bounds, the larger one holds. Own: every process ever seen with its own last figure, which misses what it did between its last
    sample and its end. Waited: the living with what they inherited from children they waited for, which misses children nobody waits for.
    """

    def __init__(self) -> None:
        self._living: dict[tuple[int, int], int] = {}  # (pid, started) -> own ticks
        self._ended_ticks = 0
        self._ticks = 0

    def update(self, looks: Iterable[procfs.Stat], *, inherit: bool) -> int:
        """Take in one sample and return the total; without `inherit`, time inherited from children is left out."""
        looks = list(looks)
        living = {(look.pid, look.started_ticks): look.own_ticks for look in looks}
        self._ended_ticks += sum(ticks for name, ticks in self._living.items() if name not in living)
        self._living = living
        own = self._ended_ticks + sum(living.values())
        waited = sum(look.own_ticks + look.waited_ticks for look in looks) if inherit else 0
        self._ticks = max(self._ticks, own, waited)
        return self._ticks


class ProcessTree:
    """The tree below `pid`, which is identified at construction.

    A process that is already gone by then makes every sample None.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        root = procfs.stat(pid)
        self._known: dict[int, int] = {} if root is None else {pid: root.started_ticks}  # pid -> started_ticks, parents first
        self._parents = procfs.Parents()
        self._cpu = CpuAccount()
        self._inherit = True

    def sample(self, now_ns: int, *, unique: bool = False, apart: frozenset[int] = frozenset()) -> ProcessSample | None:
        """Look at every process of the tree once.

        Args:
            now_ns: put into the sample as it is.
            unique: also walk the page tables for `unique_bytes`; see `procfs.unique_bytes` for the cost.
            apart: roots of trees that are counted elsewhere. Those within this one, such as a target that the harness has started, are
                left out, and so is, from then on, CPU time inherited from ended children, as theirs would be in it.
        Returns: None when nothing of the tree is left but zombies.
        """
        seen = self._walk(apart - {self.pid})
        self._known = {look.pid: look.started_ticks for look in seen}
        alive = [look for look in seen if not look.ended]
        cpu_ticks = self._cpu.update(seen, inherit=self._inherit)
        if not alive:
            return None
        pids = [look.pid for look in alive]
        return ProcessSample(
            t_ns=now_ns,
            resident_bytes=sum(look.resident_bytes for look in alive),
            unique_bytes=_total(procfs.unique_bytes, pids) if unique else None,
            high_water_bytes=max((size for pid in pids if (size := procfs.high_water_bytes(pid)) is not None), default=None),
            cpu_s=cpu_ticks / procfs.TICKS_PER_S,
            descriptors=_total(procfs.descriptors, pids),
            threads=sum(look.threads for look in alive),
            processes=len(alive),
        )

    def _walk(self, apart: frozenset[int]) -> list[procfs.Stat]:
        """Return every living or zombie process of the tree, each once."""
        children = self._parents.children()
        within = (_below(root, children) for root in apart)
        skipped = {pid for tree in within if self.pid not in tree for pid in tree}  # a tree that holds this one has no say in it
        # INVARIANT: a parent is read before its children. A child that is waited for in between is then missed in this sample; the other
        # way round its CPU time would be counted twice.
        known = (procfs.stat(pid) for pid in self._known if pid not in skipped)
        waiting = deque(look for look in known if look is not None and look.started_ticks == self._known[look.pid])
        seen: dict[int, procfs.Stat] = {}
        while waiting:
            look = waiting.popleft()
            if look.pid in seen:
                continue
            seen[look.pid] = look
            below = children.get(look.pid, ())
            self._inherit = self._inherit and skipped.isdisjoint(below)
            new = (procfs.stat(pid) for pid in below if pid not in skipped and pid not in self._known)
            # A child listed a moment ago may be gone, and its PID a stranger's, by now: its parent decides.
            waiting.extend(child for child in new if child is not None and child.parent == look.pid)
        return list(seen.values())


def _below(root: int, children: dict[int, list[int]]) -> set[int]:
    """Return the root and all its descendants."""
    found: set[int] = set()
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting.extend(children.get(pid, ()))
    return found


def _total(read: Callable[[int], int | None], pids: list[int]) -> int | None:
    """Add up a figure; None as soon as one living process cannot be read, as a part would look like the whole."""
    total = 0
    for pid in pids:
        figure = read(pid)
        if figure is not None:
            total += figure
        elif (look := procfs.stat(pid)) is not None and not look.ended:
            return None
    return total
