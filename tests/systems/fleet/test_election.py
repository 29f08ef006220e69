"""The lease of a leader: one at a time, held by its own clock, epochs that only rise, lost and won again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from floodmark.systems.fleet.contact import Contact
from floodmark.systems.fleet.election import MARGIN_RATIO, Election, Lease
from floodmark.systems.fleet.errors import DeleteError, ElectionError
from floodmark.systems.fleet.metrics import Counters, Metric
from floodmark.systems.fleet.profiles import profile
from floodmark.systems.fleet.records import LEADER_KEY, LeaderRecord, decode, encode
from floodmark.systems.fleet.simulation.loop import virtual
from floodmark.systems.fleet.store.memory import MemoryBackend
from tests.systems.fleet.crew import CuttableStore, until

SETTINGS = profile("fast", election_timeout_s=3.0)
TIMEOUT_S = SETTINGS.election_timeout_s


class Candidate:
    """One worker's election and what came of it."""

    def __init__(self, backend: MemoryBackend, number: int) -> None:
        self.backend = backend
        self.store = CuttableStore(backend)
        self.number = number
        self.metrics = Counters()
        self.errors: list[Exception] = []
        self.leases: list[Lease] = []
        self.highest = 0
        self.fail = False
        self.task: asyncio.Task[None] | None = None

    async def open(self) -> Election:
        async def highest() -> int:
            return self.highest

        self.election = Election(
            await self.store.bucket(SETTINGS.election_bucket, ttl_s=TIMEOUT_S),
            Contact(SETTINGS, self.metrics, self.errors.append),
            SETTINGS,
            worker_id=f"worker-{self.number}",
            token=f"token-{self.number}",
            highest_epoch=highest,
            metrics=self.metrics,
            rng=random.Random(self.number),
        )
        return self.election

    async def lead(self, lease: Lease) -> None:
        self.leases.append(lease)
        if self.fail:
            raise KeyError("planted")
        await asyncio.get_running_loop().create_future()


@asynccontextmanager
async def campaign(count: int) -> AsyncIterator[list[Candidate]]:
    """So many candidates, running; cancelled at the end."""
    backend = MemoryBackend()
    candidates = [Candidate(backend, number) for number in range(count)]
    jobs = []
    for candidate in candidates:
        await candidate.open()
        candidate.task = asyncio.ensure_future(candidate.election.run(candidate.lead))
        jobs.append(candidate.task)
    try:
        yield candidates
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)


def leading(candidates: list[Candidate]) -> list[Candidate]:
    return [candidate for candidate in candidates if candidate.election.leading]


@virtual
async def test_lease_is_held_until_its_margin_by_its_own_clock() -> None:
    lease = Lease(epoch=1, limit_s=10.0, renewed_s=asyncio.get_running_loop().time())

    await asyncio.sleep(10.0 * (1 - MARGIN_RATIO) - 0.1)
    assert lease.held()
    await asyncio.sleep(0.2)
    assert not lease.held()


@virtual
async def test_lease_that_was_declared_lost_is_not_held_however_young() -> None:
    lease = Lease(epoch=1, limit_s=10.0, renewed_s=asyncio.get_running_loop().time())

    lease.lost.set()

    assert not lease.held()


@virtual
async def test_election_of_many_has_one_winner_whom_all_know() -> None:
    async with campaign(10) as candidates:
        await until(lambda: len(leading(candidates)) == 1, 1.0)
        await asyncio.sleep(0.1)

        (winner,) = leading(candidates)
        known = [candidate.election.leader for candidate in candidates]
        assert all(leader is not None and leader.worker == f"worker-{winner.number}" for leader in known)


@virtual
async def test_epoch_is_written_into_the_key_before_it_is_used() -> None:
    async with campaign(1) as (candidate,):
        await until(lambda: candidate.leases != [], 1.0)

        entry = await candidate.backend.bucket(SETTINGS.election_bucket).get(LEADER_KEY)
        assert entry is not None
        assert decode(LeaderRecord, LEADER_KEY, entry.value).epoch == candidate.leases[0].epoch == 1


@virtual
async def test_epochs_rise_over_a_hundred_changes_of_leader_also_when_the_buckets_revisions_were_lost() -> None:
    rng = random.Random(7)
    epochs: list[int] = []
    for life in range(10):
        candidate = Candidate(MemoryBackend(), 0)  # revisions begin anew
        election = await candidate.open()
        for _ in range(10):
            candidate.highest = max(epochs, default=0) if rng.random() < 0.7 or life != (len(epochs) // 10) else candidate.highest
            candidate.highest = max(candidate.highest, max(epochs[: life * 10], default=0))
            lease = await election.try_once()
            assert lease is not None
            epochs.append(lease.epoch)
            await election.release()

    assert epochs == sorted(set(epochs))


@virtual
async def test_lease_is_renewed_for_as_long_as_the_store_answers() -> None:
    async with campaign(2) as candidates:
        await asyncio.sleep(20 * TIMEOUT_S)

        assert len(leading(candidates)) == 1
        assert sum(len(candidate.leases) for candidate in candidates) == 1


@virtual
async def test_leader_that_is_cut_off_knows_before_another_can_lead() -> None:
    async with campaign(2) as candidates:
        await until(lambda: len(leading(candidates)) == 1, 1.0)
        old = leading(candidates)[0]
        loop = asyncio.get_running_loop()
        cut_s = loop.time()

        old.store.cut()
        await until(lambda: not old.election.leading, TIMEOUT_S)
        assert leading(candidates) == []
        await until(lambda: len(leading(candidates)) == 1, TIMEOUT_S)

        assert loop.time() - cut_s < TIMEOUT_S + 0.5
        assert leading(candidates)[0] is not old
        assert leading(candidates)[0].leases[-1].epoch > old.leases[-1].epoch
        assert old.leases[-1].lost.is_set()


@virtual
async def test_leader_whose_line_heals_in_time_keeps_its_lease() -> None:
    async with campaign(2) as candidates:
        await until(lambda: len(leading(candidates)) == 1, 1.0)
        (leader,) = leading(candidates)

        leader.store.cut()
        await asyncio.sleep(TIMEOUT_S / 2)
        leader.store.heal()
        await asyncio.sleep(2 * TIMEOUT_S)

        assert leading(candidates) == [leader]
        assert len(leader.leases) == 1


@virtual
async def test_leader_whose_renewals_are_done_unanswered_keeps_its_lease_once_it_hears_again() -> None:
    async with campaign(2) as candidates:
        await until(lambda: len(leading(candidates)) == 1, 1.0)
        (leader,) = leading(candidates)

        leader.store.losing = frozenset({"update"})
        await asyncio.sleep(TIMEOUT_S / 2)
        leader.store.heal()
        await asyncio.sleep(2 * TIMEOUT_S)

        assert leading(candidates) == [leader]
        assert len(leader.leases) == 1


@virtual
async def test_leader_whose_key_is_anothers_knows_at_its_next_renewal() -> None:
    async with campaign(1) as (candidate,):
        await until(lambda: candidate.election.leading, 1.0)
        other = LeaderRecord(worker="worker-9", token="another", epoch=77)

        await candidate.backend.bucket(SETTINGS.election_bucket).put(LEADER_KEY, encode(other))
        lost_s = await until(lambda: not candidate.election.leading, TIMEOUT_S)
        await asyncio.sleep(0.1)

        assert lost_s < TIMEOUT_S / 2
        assert candidate.election.leader == other


@virtual
async def test_leader_of_an_earlier_time_in_office_does_not_renew_its_own_later_key() -> None:
    async with campaign(1) as (candidate,):
        await until(lambda: candidate.election.leading, 1.0)
        lease = candidate.leases[0]
        bucket = candidate.backend.bucket(SETTINGS.election_bucket)

        await bucket.put(LEADER_KEY, encode(LeaderRecord(worker="worker-0", token="token-0", epoch=lease.epoch + 1)))
        await until(lambda: lease.lost.is_set(), TIMEOUT_S)
        await until(lambda: candidate.election.leading, TIMEOUT_S)

        assert candidate.leases[1].epoch > lease.epoch + 1


@virtual
async def test_release_that_the_store_does_not_do_is_told() -> None:
    candidate = Candidate(MemoryBackend(), 0)
    election = await candidate.open()
    await election.try_once()
    candidate.store.cut()

    with pytest.raises(DeleteError, match="leader could not be deleted"):
        await election.release()

    assert not election.leading


@virtual
async def test_leader_that_lost_its_lease_leads_again_with_a_higher_epoch() -> None:
    async with campaign(1) as (candidate,):
        await until(lambda: candidate.election.leading, 1.0)

        candidate.store.cut()
        await until(lambda: not candidate.election.leading, TIMEOUT_S)
        candidate.store.heal()
        await until(lambda: candidate.election.leading, TIMEOUT_S + 1.0)

        first, second = candidate.leases
        assert second.epoch > first.epoch
        assert candidate.metrics.counted(Metric.LEADERSHIP_CHANGES, "won") == 2
        assert candidate.metrics.counted(Metric.LEADERSHIP_CHANGES, "lost") == 1


@virtual
async def test_claim_whose_answer_was_lost_is_taken_up_when_it_is_found() -> None:
    backend = MemoryBackend()
    candidate = Candidate(backend, 0)
    election = await candidate.open()
    candidate.store.losing = frozenset({"create"})
    job = asyncio.ensure_future(election.run(candidate.lead))
    await until(lambda: candidate.store.counts["create"] == 1, 1.0)

    candidate.store.heal()
    await until(lambda: election.leading, TIMEOUT_S / 2)

    job.cancel()
    await asyncio.gather(job, return_exceptions=True)


@virtual
async def test_release_is_followed_at_once_by_another_leader() -> None:
    async with campaign(3) as candidates:
        await until(lambda: len(leading(candidates)) == 1, 1.0)
        (leader,) = leading(candidates)
        assert leader.task is not None

        leader.task.cancel()
        await asyncio.gather(leader.task, return_exceptions=True)
        await leader.election.release()

        assert await until(lambda: len(leading(candidates)) == 1, 1.0) < 0.1


@virtual
async def test_release_does_not_touch_the_key_of_another_leader() -> None:
    backend = MemoryBackend()
    candidate = Candidate(backend, 0)
    election = await candidate.open()
    await election.try_once()
    bucket = backend.bucket(SETTINGS.election_bucket)
    other = encode(LeaderRecord(worker="worker-9", token="another", epoch=77))
    await bucket.put(LEADER_KEY, other)

    await election.release()

    entry = await bucket.get(LEADER_KEY)
    assert entry is not None
    assert entry.value == other


@virtual
async def test_worker_that_cannot_lead_gives_the_lead_up_and_another_takes_it() -> None:
    async with campaign(2) as candidates:
        candidates[0].fail = candidates[1].fail = True
        await until(lambda: any(candidate.errors for candidate in candidates), 1.0)
        for candidate in candidates:
            candidate.fail = False
        await until(lambda: len(leading(candidates)) == 1, 1.0)

        failed = next(candidate for candidate in candidates if candidate.errors)
        assert isinstance(failed.errors[0], ElectionError)
        assert "gave up leading: KeyError('planted')" in str(failed.errors[0])


@virtual
async def test_key_that_is_no_record_is_told_of_and_waited_out() -> None:
    backend = MemoryBackend()
    await backend.bucket(SETTINGS.election_bucket, ttl_s=TIMEOUT_S).put(LEADER_KEY, b"rubbish")
    candidate = Candidate(backend, 0)
    election = await candidate.open()

    job = asyncio.ensure_future(election.run(candidate.lead))
    took_s = await until(lambda: election.leading, TIMEOUT_S + 1.0)

    assert took_s > TIMEOUT_S - 0.1
    assert any("no record of a fleet" in str(error) for error in candidate.errors)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job


@virtual
async def test_renewal_that_breaks_is_told_and_loses_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    async with campaign(1) as [candidate]:
        await until(lambda: candidate.election.lease is not None, 30)
        update = candidate.election._bucket.update

        async def broken(*_: object, **__: object) -> int:
            monkeypatch.setattr(candidate.election._bucket, "update", update)
            raise KeyError("planted")

        monkeypatch.setattr(candidate.election._bucket, "update", broken)
        await until(lambda: len(candidate.leases) == 2, 30)

    (told,) = candidate.errors
    assert isinstance(told, ElectionError)
    assert "the lease could not be renewed: KeyError('planted')" in str(told)
