"""The words that act on a running fleet.

    {"do": "start", "count": 3}   {"do": "kill", "worker": "leader"}   {"do": "isolate", "worker": 2}   {"do": "refresh", "add": 20}

`worker` is an id, "leader", "follower" (the first that does not lead), or a number: the n-th that was started. What strikes a process
strikes all the workers in it. A wrong word, or a worker that there is not, raises a UsageError that says what there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from floodmark.core.errors import FloodmarkError, UsageError
from floodmark.core.tasks import group
from floodmark.systems.fleet.host.crew import Crew
from floodmark.systems.fleet.host.network import Network
from floodmark.systems.fleet.host.options import named
from floodmark.systems.fleet.host.server import Server
from floodmark.systems.fleet.host.squad import Squad
from floodmark.systems.fleet.host.wire import Member
from floodmark.systems.fleet.partition import Partition
from floodmark.systems.fleet.records import LEADER_KEY, LeaderRecord, decode
from floodmark.systems.fleet.store.base import Bucket, StoreUnavailableError

MOST_WORKERS = 1_000
STATUS_LIMIT_S = 2.0
Struck = list[tuple[Squad | None, Member | None]]
Act = Callable[["Word"], Awaitable[Struck]]


class Word(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request; each word uses some of the fields."""

    do: str
    count: int | None = None
    worker: str | int | None = None
    factor: float | None = None
    add: int = 0
    remove: int = 0
    double: int = 0
    for_s: float = 1.0
    names: bool = False


class Words:
    """What can be done to a crew, its network, its partitions and its server."""

    def __init__(self, crew: Crew, server: Server, network: Network | None, election: Bucket) -> None:
        self._crew = crew
        self._server = server
        self._network = network
        self._election = election
        self._next_partition = len(crew.partitions)
        self._acts: dict[str, Act] = {
            "start": self._start,
            "stop": self._stop,
            "kill": self._kill,
            "pause": self._pause,
            "resume": self._resume,
            "isolate": self._isolate,
            "heal": self._heal,
            "slow": self._slow,
            "mute": self._mute,
            "unmute": self._mute,
            "refresh": self._refresh,
            "server_kill": self._check_server,
            "server_restart": self._check_server,
        }

    @property
    def names(self) -> list[str]:
        """All words."""
        return [*self._acts, "status"]

    @property
    def partitions_count(self) -> int:
        """How many there are now."""
        return len(self._crew.partitions)

    async def act(self, word: Word) -> Struck:
        """Do it; returns whom it struck. Raises: FloodmarkError."""
        act = self._acts.get(word.do)
        if act is None:
            raise UsageError(f"no word {word.do!r}; there are: {', '.join(self.names)}")
        return await act(word)

    async def status(self, word: Word) -> list[dict[str, Any]]:
        """The workers that run, as they say themselves now, and those that ended last; by number.

        One that is paused or does not answer is as it said last.
        """
        squads = self._crew.squads()
        tasks = dict(zip(map(id, squads), await asyncio.gather(*map(self._look, squads)), strict=True))
        there = [
            {
                "number": member.number,
                "worker": member.worker,
                "pid": squad.pid,
                "state": member.state,
                "paused": squad.paused,
                "leader": member.leader,
                "epoch": member.epoch,
                "version": member.version,
                "partitions": len(member.partitions),
                "tasks": tasks.get(id(squad), 0),
                "rss_bytes": squad.rss_bytes(),
                "error": member.error,
            }
            | ({"names": member.partitions} if word.names else {})
            for squad, member in self._crew.running()
        ]
        nothing: dict[str, Any] = {"paused": False, "leader": False, "partitions": 0, "tasks": 0, "rss_bytes": 0}
        names: dict[str, Any] = {"names": ()} if word.names else {}
        gone = [msgspec.structs.asdict(last) | nothing | names for last in self._crew.ended]
        return sorted(there + gone, key=lambda one: int(one["number"]))

    async def _look(self, squad: Squad) -> int:
        """Have a process tell of its members; how many tasks it runs, 0 when it does not answer."""
        if squad.paused or squad.ended.is_set():
            return 0
        try:
            return (await self._crew.order(squad, "status", limit_s=STATUS_LIMIT_S)).tasks
        except FloodmarkError:  # it may end at any moment, or stand still: its last word stands
            return 0

    # --- workers ---

    async def _start(self, word: Word) -> Struck:
        count = 1 if word.count is None else word.count
        if not 1 <= count <= MOST_WORKERS:
            raise UsageError(f"start: count must be between 1 and {MOST_WORKERS}, got {count}")
        return [*await self._crew.start(count)]

    async def _stop(self, word: Word) -> Struck:
        running = self._crew.running()
        if (word.count is None) == (word.worker is None):
            raise UsageError("stop: give either worker, or count for the last so many that were started")
        if word.count is not None:
            if not 1 <= word.count <= len(running):
                raise UsageError(f"stop: count must be between 1 and the {len(running)} that run, got {word.count}")
            chosen = running[-word.count :]
        else:
            chosen = [await self._one(word)]
        async with group() as tasks:
            for squad, member in chosen:
                tasks.create_task(self._crew.stop(squad, member.number))
        return [*chosen]

    async def _kill(self, word: Word) -> Struck:
        squad, _ = await self._one(word)
        struck = _all_of(squad)
        await self._crew.kill(squad)
        return struck

    async def _pause(self, word: Word) -> Struck:
        squad, _ = await self._one(word)
        self._crew.pause(squad)
        return _all_of(squad)

    async def _resume(self, word: Word) -> Struck:
        squad, member = await self._one(word)
        if not squad.paused:
            raise UsageError(f"resume: {_name(member)} is not paused")
        self._crew.resume(squad)
        return _all_of(squad)

    async def _isolate(self, word: Word) -> Struck:
        squad, _ = await self._one(word)
        network, relay = self._relay(squad)
        await network.cut(relay)
        return _all_of(squad)

    async def _heal(self, word: Word) -> Struck:
        squad, member = await self._one(word)
        network, relay = self._relay(squad)
        if not network.is_cut(relay):
            raise UsageError(f"heal: {_name(member)} is not isolated")
        await network.heal(relay)
        return _all_of(squad)

    async def _slow(self, word: Word) -> Struck:
        if word.factor is None or not 0.0 < word.factor <= 1e6:
            raise UsageError(f"slow: factor must be more than 0, where 1 is the usual pace; got {word.factor}")
        squad, member = await self._one(word)
        await self._crew.order(squad, "slow", number=member.number, factor=word.factor)
        return [(squad, member)]

    async def _mute(self, word: Word) -> Struck:
        squad, member = await self._one(word)
        await self._crew.order(squad, word.do, number=member.number)
        return [(squad, member)]

    def _relay(self, squad: Squad) -> tuple[Network, int]:
        if self._network is None or squad.relay is None:
            raise UsageError("isolate and heal need a network of the workers' own; start the host with --network")
        return self._network, squad.relay

    async def _one(self, word: Word) -> tuple[Squad, Member]:
        """The worker that is meant."""
        wanted = word.worker
        if wanted is None:
            raise UsageError(f'{word.do}: say which worker: an id, "leader", "follower", or a number, the n-th that was started')
        if wanted == "leader":
            return await self._leader()
        running = self._crew.running()
        if wanted == "follower":
            leader = await self._leader_id()
            for squad, member in running:
                if member.worker and member.worker != leader and not squad.paused:
                    return squad, member
            raise UsageError(f"{word.do}: no worker follows a leader now; those that run: {_names(running)}")
        if isinstance(wanted, int) or wanted.isdecimal():
            return self._crew.find(int(wanted))
        for squad, member in running:
            if member.worker == wanted:
                return squad, member
        raise UsageError(f"{word.do}: no worker {wanted!r} runs; those that run: {_names(running)}")

    async def _leader(self) -> tuple[Squad, Member]:
        """The worker that the store says leads: who believes it, is another matter."""
        leader = await self._leader_id()
        for squad, member in self._crew.running():
            if member.worker == leader:
                return squad, member
        raise UsageError(f"the leader {leader} does not run any more" if leader else "no worker leads now")

    async def _leader_id(self) -> str:
        try:
            entry = await self._election.get(LEADER_KEY)
        except StoreUnavailableError:  # no bucket before the first worker
            return ""
        return decode(LeaderRecord, LEADER_KEY, entry.value).worker if entry is not None else ""

    # --- partitions ---

    async def _refresh(self, word: Word) -> Struck:
        """Change the list on every worker, then have the leader share it out."""
        before = self._crew.partitions
        if min(word.add, word.remove, word.double) < 0 or max(word.remove, word.double) > len(before):
            raise UsageError(f"refresh: add, remove and double are counts, the last two of at most {len(before)} partitions")
        squad, member = await self._leader()
        kept = [
            Partition(keys=partition.keys, weight=2 * partition.weight) if at < word.double else partition
            for at, partition in enumerate(before[: len(before) - word.remove])
        ]
        added = [named(number) for number in range(self._next_partition, self._next_partition + word.add)]
        self._next_partition += word.add
        self._crew.partitions = (*kept, *added)
        awake = {other.pid: other for other, _ in self._crew.running() if not other.paused}
        async with group() as tasks:
            for other in awake.values():
                tasks.create_task(self._crew.order(other, "partitions", partitions=self._crew.partitions))
        limit_s = self._crew.options.settings.operation_limit_s
        await self._crew.order(squad, "refresh", number=member.number, limit_s=limit_s)
        return [(squad, member)]

    # --- the server ---

    async def _check_server(self, word: Word) -> Struck:
        """Look whether it may be done; `kill_server` and `restart_server` do it, when this was answered."""
        if not 0.0 <= word.for_s <= 3600.0:
            raise UsageError(f"server_kill: for_s must be between 0 and 3600, got {word.for_s}")
        self._server.check()
        return []

    async def kill_server(self, for_s: float) -> None:
        """SIGKILL, and start it again after so long."""
        await self._server.kill()
        await asyncio.sleep(for_s)
        await self._server.start_again()

    async def restart_server(self) -> None:
        """End it gently, and start it again."""
        await self._server.start_again()


def _all_of(squad: Squad) -> Struck:
    return [(squad, member) for member in squad.members.values()]


def _name(member: Member) -> str:
    return member.worker or f"worker number {member.number}"


def _names(running: list[tuple[Squad, Member]]) -> str:
    return ", ".join(_name(member) for _, member in running) or "none"
