"""Losses by the clock: one that is handled in time is silent, one that is not is told, one that was hindered is counted."""

from __future__ import annotations

import asyncio
import math

import pytest

from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.profiles import profile
from floodmark.systems.fleet.records import AssignmentRecord, Heartbeat, encode
from floodmark.systems.fleet.simulation.judge import Judge
from floodmark.systems.fleet.simulation.loop import VirtualLoop, virtual
from floodmark.systems.fleet.simulation.losses import BOUND_S, Losses
from floodmark.systems.fleet.store.base import Entry

SETTINGS = profile("baseline")
HANDLED_S = SETTINGS.heartbeat_ttl_s + SETTINGS.emergency_grace_s


class Trial:
    """Two workers with one partition each; worker-1 will be lost."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.calm_s = 0.0
        self.reports: list[str] = []
        self.losses = Losses(SETTINGS, loop, self._report, lambda: self.calm_s)
        self.judge = self.losses.judge = Judge(
            SETTINGS,
            self._report,
            partitions_count=lambda: 2,
            calm_since_s=lambda: self.calm_s,
            sight_since_s=lambda _node: self.calm_s,
            on_complete=self.losses.covered,
            bounded_moves=False,
        )
        self.beat("worker-0")
        self.beat("worker-1")
        self.assign("worker-0", 1, "a")
        self.assign("worker-1", 1, "b")

    def _report(self, invariant: str, sentence: str) -> None:
        self.reports.append(f"{invariant}: {sentence}")

    def beat(self, worker: str) -> None:
        """One heartbeat."""
        value = encode(Heartbeat(worker=worker, token="t"))
        self.judge.wrote(self.loop.now_s, worker, SETTINGS.heartbeat_bucket, Entry(key=f"heartbeat.{worker}", value=value, revision=1))

    def assign(self, worker: str, version: int, *names: str) -> None:
        """One record."""
        partitions = [Partition(keys=(name,)) for name in names]
        value = encode(AssignmentRecord(epoch=1, version=version, lifecycle="emergency", partitions=partitions))
        self.judge.wrote(self.loop.now_s, "n0", SETTINGS.assignment_bucket, Entry(key=f"assignment.{worker}", value=value, revision=1))

    def take_over(self) -> None:
        """Give everything to worker-0."""
        gone = Entry(key="assignment.worker-1", value=b"", revision=1, deleted=True)
        self.judge.wrote(self.loop.now_s, "n0", SETTINGS.assignment_bucket, gone)
        self.assign("worker-0", 2, "a", "b")


@virtual
async def test_loss_that_is_handled_in_time_is_silent_and_a_figure() -> None:
    trial = Trial()

    trial.losses.lost("worker-1", left=False, led=False)
    await asyncio.sleep(HANDLED_S + 0.5)
    trial.take_over()
    await asyncio.sleep(10)

    assert trial.reports == []
    assert trial.losses.judged_count == 1
    assert trial.losses.late_s_most == pytest.approx(0.5, abs=0.01)


@virtual
async def test_loss_that_nobody_handles_is_told_at_its_bound() -> None:
    trial = Trial()

    trial.losses.lost("worker-1", left=False, led=False)
    await asyncio.sleep(HANDLED_S + BOUND_S - 0.1)
    assert trial.reports == []
    await asyncio.sleep(0.2)

    assert len(trial.reports) == 1
    assert "its 1 partitions are still its own" in trial.reports[0]


@virtual
async def test_loss_of_a_leader_has_the_time_of_an_election_more() -> None:
    trial = Trial()

    trial.losses.lost("worker-1", left=False, led=True)
    await asyncio.sleep(HANDLED_S + BOUND_S + SETTINGS.election_timeout_s)
    assert trial.reports == []
    await asyncio.sleep(BOUND_S + 0.1)

    assert len(trial.reports) == 1


@virtual
async def test_loss_that_was_hindered_is_counted_and_not_judged() -> None:
    trial = Trial()

    trial.losses.lost("worker-1", left=False, led=False)
    trial.calm_s = math.inf
    await asyncio.sleep(20)

    assert trial.reports == []
    assert (trial.losses.judged_count, trial.losses.hindered_count) == (0, 1)


@virtual
async def test_loss_of_a_worker_without_a_record_is_none() -> None:
    trial = Trial()

    trial.losses.lost("worker-7", left=False, led=False)
    await asyncio.sleep(20)

    assert (trial.reports, trial.losses.judged_count, trial.losses.hindered_count) == ([], 0, 0)
