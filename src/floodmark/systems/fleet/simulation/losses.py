"""LOSS: a lost worker's partitions must have new owners within heartbeat TTL + grace + BOUND_S, where nothing else hinders.

The time runs from the crash, or from the moment the heartbeat was deleted; the loss of a leader adds the election. A round that gives out
every partition without the lost worker ends it. What was hindered, by weather or by another fault, is counted and not judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import msgspec

from floodmark.systems.fleet.settings import Handover, Settings
from floodmark.systems.fleet.simulation.judge import SIGHT_S, Judge
from floodmark.systems.fleet.simulation.loop import VirtualLoop

BOUND_S: Final = 1.0


class Loss(msgspec.Struct, kw_only=True):
    """One worker that is gone, and whose partitions nobody has yet."""

    worker: str
    at_s: float
    absent_s: float  # when its heartbeat is gone
    before_s: float  # how late it may be
    elects: bool  # a leader was lost, too: no figure


class Losses:
    """The losses that are on their way to be handled."""

    def __init__(
        self, settings: Settings, loop: VirtualLoop, report: Callable[[str, str], None], calm_since_s: Callable[[], float]
    ) -> None:
        self.judge: Judge | None = None
        self.judged_count = 0
        self.hindered_count = 0
        self.late_s_most = 0.0  # after TTL and grace, of those without an election or a handover in two steps
        self._settings = settings
        self._loop = loop
        self._report = report
        self._calm_since_s = calm_since_s
        self._waiting: list[Loss] = []
        self._election_s = 0.0  # by when the loss of a leader must have been handled
        self._handover_s = 2 * settings.handover_limit_s if settings.handover is Handover.CONFIRMED else 0.0

    def lost(self, worker: str, *, left: bool, led: bool) -> None:
        """A worker is gone."""
        settings, now_s = self._settings, self._loop.now_s
        absent_s = now_s + (0.0 if left else settings.heartbeat_ttl_s)
        before_s = absent_s + settings.emergency_grace_s + BOUND_S + self._handover_s
        if led:
            election_s = now_s + settings.election_timeout_s + settings.heartbeat_ttl_s + settings.emergency_grace_s + 2 * BOUND_S
            for waiting in self._waiting:
                waiting.before_s = max(waiting.before_s, election_s + self._handover_s)
                waiting.elects = True
            self._election_s = election_s + self._handover_s
        assert self.judge is not None
        if worker in self.judge.records:  # another one has nothing that could be taken over
            elects = self._election_s > now_s
            before_s = max(before_s, self._election_s)
            loss = Loss(worker=worker, at_s=now_s, absent_s=absent_s, before_s=before_s, elects=elects)
            self._waiting.append(loss)
            self._loop.call_when(self._loop.world, before_s, self._due, loss)

    def covered(self, now_s: float) -> None:
        """Every partition has an owner in a new round."""
        assert self.judge is not None
        records, kept = self.judge.records, []
        for loss in self._waiting:
            heard_s = self.judge.heard_s(loss.worker)
            if loss.worker not in records:
                if self._calm(loss):
                    self.judged_count += 1
                    if not loss.elects and not self._handover_s:
                        self.late_s_most = max(self.late_s_most, now_s - loss.absent_s - self._settings.emergency_grace_s)
            elif heard_s is None or heard_s <= loss.at_s + SIGHT_S:
                kept.append(loss)
        self._waiting = kept

    def _due(self, loss: Loss) -> None:
        if loss not in self._waiting:
            return
        assert self.judge is not None
        if loss.before_s > self._loop.now_s:
            self._loop.call_when(self._loop.world, loss.before_s, self._due, loss)
            return
        self._waiting.remove(loss)
        heard_s = self.judge.heard_s(loss.worker)
        if heard_s is None or heard_s > loss.at_s + SIGHT_S:  # it never took part, or its id has another holder
            return
        if not self._calm(loss):
            self.hindered_count += 1
            return
        self.judged_count += 1
        had = self.judge.records.get(loss.worker)
        self._report(
            "LOSS",
            f"{loss.worker} was lost {self._loop.now_s - loss.at_s:.3f} s ago, and "
            + (f"its {len(had.partitions)} partitions are still its own" if had is not None else "not every partition has an owner")
            + f"; heartbeat TTL + grace is {self._settings.heartbeat_ttl_s + self._settings.emergency_grace_s:g} s",
        )

    def _calm(self, loss: Loss) -> bool:
        since_s = self._calm_since_s()
        return since_s != math.inf and since_s < loss.at_s - SIGHT_S
