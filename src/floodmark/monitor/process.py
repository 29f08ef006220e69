"""A process and all its descendants as one thing with a size.

Found anew at every sample by walking down from the root. A descendant whose parent ended is kept: it was seen in the tree once, and a PID
together with its start time names it for good. A PID that was given to a stranger has another start time and is never counted.
CPU time never falls: an ended child's time stays in its parent's account, and what is lost when nobody waited for it is carried over from
the last sample. Limits: a process that lives shorter than a sampling interval is seen only through its parent's CPU time; a grandchild that
was orphaned before it was ever sampled is not seen.
"""

from __future__ import annotations

from collections.abc import Callable

from floodmark.monitor import procfs
from floodmark.monitor.sample import ProcessSample


class ProcessTree:
    """The tree below `pid`, which is identified at construction.

    A process that is already gone by then makes every sample None.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        root = procfs.stat(pid)
        self._known: dict[int, int] = {} if root is None else {pid: root.started_ticks}  # pid -> started_ticks
        self._parents = procfs.Parents()
        self._last_ticks = 0
        self._lost_ticks = 0

    def sample(self, now_ns: int, *, unique: bool = False) -> ProcessSample | None:
        """Look at every process of the tree once.

        Args:
            now_ns: put into the sample as it is.
            unique: also walk the page tables for `unique_bytes`; see `procfs.unique_bytes` for the cost.
        Returns: None when nothing of the tree is left but zombies.
        """
        seen = self._walk()
        self._known = {look.pid: look.started_ticks for look in seen}
        alive = [look for look in seen if not look.ended]
        if not alive:
            return None
        pids = [look.pid for look in alive]
        return ProcessSample(
            t_ns=now_ns,
            resident_bytes=sum(look.resident_bytes for look in alive),
            unique_bytes=_total(procfs.unique_bytes, pids) if unique else None,
            high_water_bytes=max((size for pid in pids if (size := procfs.high_water_bytes(pid)) is not None), default=None),
            cpu_s=self._cpu_ticks(seen) / procfs.TICKS_PER_S,
            descriptors=_total(procfs.descriptors, pids),
            threads=sum(look.threads for look in alive),
            processes=len(alive),
        )

    def _walk(self) -> list[procfs.Stat]:
        """Return every living or zombie process of the tree, each once."""
        seen: dict[int, procfs.Stat] = {}
        waiting = [look for pid, started in self._known.items() if (look := procfs.stat(pid)) is not None and look.started_ticks == started]
        children = self._parents.children()
        while waiting:
            look = waiting.pop()
            if look.pid in seen:
                continue
            seen[look.pid] = look
            # A child listed a moment ago may be gone, and its PID a stranger's, by now: its parent decides.
            waiting.extend(
                child for pid in children.get(look.pid, ()) if (child := procfs.stat(pid)) is not None and child.parent == look.pid
            )
        return list(seen.values())

    def _cpu_ticks(self, seen: list[procfs.Stat]) -> int:
        ticks = sum(look.cpu_ticks for look in seen)
        self._lost_ticks += max(0, self._last_ticks - ticks)
        self._last_ticks = ticks
        return ticks + self._lost_ticks


def _total(read: Callable[[int], int | None], pids: list[int]) -> int | None:
    """Add up a figure; None as soon as one process cannot be read, as a part would look like the whole."""
    total = 0
    for pid in pids:
        figure = read(pid)
        if figure is None:
            return None
        total += figure
    return total
