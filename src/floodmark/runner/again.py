"""The figures of a target over all its starts: processor time is summed, memory is that of the start that runs."""

from __future__ import annotations

import msgspec

from floodmark.monitor.process import ProcessTree
from floodmark.monitor.sample import ProcessSample


class LaterStart(ProcessTree):
    """A process tree that takes over from one that has ended, after `spent_s` of processor time."""

    def __init__(self, pid: int, *, spent_s: float) -> None:
        super().__init__(pid)
        self._spent_s = spent_s

    def sample(self, now_ns: int, *, unique: bool = False, apart: frozenset[int] = frozenset()) -> ProcessSample | None:
        """Look at every process of the tree once; `cpu_s` includes what the earlier starts have spent."""
        sample = super().sample(now_ns, unique=unique, apart=apart)
        return None if sample is None else msgspec.structs.replace(sample, cpu_s=sample.cpu_s + self._spent_s)
