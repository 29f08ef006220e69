"""Each word, on real processes: what it says that it did, has happened."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from floodmark.systems.fleet.host.crew import Crew
from floodmark.systems.fleet.host.wire import ProcessEndedError
from floodmark.systems.fleet.host.words import Words
from floodmark.systems.fleet.store.nats import NatsStore

from .played import ANSWER_LIMIT_S, LIMIT_S, Host, alive, gone, hosted, until

PARTITIONS = 12


def started(answer: dict[str, Any]) -> list[int]:
    return [one["pid"] for one in answer["workers"]]


def test_start_has_each_partition_with_one_worker_and_one_leader() -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS)) as host:
            assert await host.workers() == []

            before_ns = time.time_ns()
            answer = await host.do("start", count=3)
            workers = await host.settled(3, PARTITIONS)

            assert before_ns < answer["begun_ns"] < answer["at_ns"] < time.time_ns()
            assert sorted(one["worker"] for one in workers) == ["worker-0", "worker-1", "worker-2"]
            assert [one["pid"] for one in workers] == started(answer)
            assert len(set(started(answer))) == 3
            assert all(one["tasks"] > 0 and one["rss_bytes"] > 1_000_000 for one in workers)

    asyncio.run(main())


def test_stop_of_a_worker_ends_its_process_and_hands_its_partitions_on() -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS)) as host:
            await host.do("start", count=3)
            await host.settled(3, PARTITIONS)

            [stopped] = (await host.do("stop", worker="leader"))["workers"]
            workers = await host.settled(2, PARTITIONS)

            assert not alive(stopped["pid"])
            assert stopped["worker"] not in [one["worker"] for one in workers]
            assert (await host.worker(stopped["number"]))["state"] == "Shutdown"

    asyncio.run(main())


def test_stop_of_a_count_stops_the_last_started() -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS)) as host:
            await host.do("start", count=2)
            await host.do("start", count=2)
            await host.settled(4, PARTITIONS)

            stopped = (await host.do("stop", count=2))["workers"]
            workers = await host.settled(2, PARTITIONS)

            assert sorted(one["number"] for one in stopped) == [3, 4]
            assert [one["number"] for one in workers] == [1, 2]

    asyncio.run(main())


def test_stop_while_it_starts_leaves_nothing() -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS)) as host:
            pids = started(await host.do("start", count=2))

            await host.do("stop", count=2)

            assert await gone(pids)
            async with await NatsStore.connect(host.url) as store:
                for name in ("parti-stableid", "parti-election", "parti-heartbeat"):
                    assert await (await store.bucket(name)).entries() == []

    asyncio.run(main())


def test_kill_of_the_leader_ends_it_at_once_and_another_leads() -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS)) as host:
            await host.make_record()
            await host.do("start", count=3)
            leader = next(one for one in await host.settled(3, PARTITIONS) if one["leader"])

            answer = await host.do("kill", worker="leader")
            dead = not alive(leader["pid"])
            after = await host.worker(leader["number"])
            workers = await host.settled(2, PARTITIONS)
            marks = await host.marks("kill")

            assert dead
            assert (after["state"], after["partitions"], after["leader"]) == ("Killed", 0, False)
            assert leader["worker"] not in [one["worker"] for one in workers]
            assert max(one["epoch"] for one in workers) > leader["epoch"]
            assert [(one["worker"], one["pid"], one["number"]) for one in marks] == [(leader["worker"], leader["pid"], leader["number"])]
            assert (marks[0]["begun_ns"], marks[0]["at_ns"]) == (answer["begun_ns"], answer["at_ns"])

    asyncio.run(main())


def test_pause_stops_a_process_and_resume_lets_it_go_on() -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS)) as host:
            await host.do("start", count=3)
            await host.settled(3, PARTITIONS)

            [paused] = (await host.do("pause", worker="follower"))["workers"]
            process = psutil.Process(paused["pid"])

            async def stands_still() -> bool:  # the signal is sent; the kernel says so once the process would have had its turn
                return process.status() == psutil.STATUS_STOPPED

            stood_still = await until(stands_still)
            told = await host.worker(paused["number"])
            await host.settled(2, PARTITIONS)
            await host.do("resume", worker=paused["number"])
            workers = await host.settled(3, PARTITIONS)

            assert stood_still
            assert told["paused"]
            assert not await stands_still()
            assert paused["pid"] in [one["pid"] for one in workers]

    asyncio.run(main())


def test_isolate_cuts_a_worker_off_and_heal_brings_it_back() -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS), "--network") as host:
            await host.do("start", count=3)
            await host.settled(3, PARTITIONS)

            [cut] = (await host.do("isolate", worker="follower"))["workers"]
            silent_and_idle = await until(lambda: _has(host, cut["number"], partitions=0))
            others = [one for one in await until(lambda: _full(host, cut["number"])) if one["number"] != cut["number"]]
            await host.do("heal", worker=cut["number"])
            workers = await host.settled(3, PARTITIONS)

            assert silent_and_idle  # it has stopped by itself: nobody could tell it
            assert sum(one["partitions"] for one in others) == PARTITIONS
            assert any(one["pid"] == cut["pid"] and one["partitions"] for one in workers)

    asyncio.run(main())


async def _has(host: Host, number: int, **wanted: object) -> bool:
    worker = await host.worker(number)
    return all(worker[name] == value for name, value in wanted.items())


async def _full(host: Host, without: int) -> list[dict[str, Any]] | None:
    workers = await host.workers()
    held = sum(one["partitions"] for one in workers if one["number"] != without)
    return workers if held == PARTITIONS else None


def test_slow_makes_the_heartbeats_of_one_worker_rarer() -> None:
    async def gap_s(host: Host, worker: str) -> float:
        """The median of five gaps between heartbeats, by the server's clock: what holds the machine up spoils one or two."""
        written_s: list[float] = []
        async with asyncio.timeout(LIMIT_S), await NatsStore.connect(host.url) as store:
            bucket = await store.bucket("parti-heartbeat")
            watch = await bucket.watch(f"heartbeat.{worker}")
            while len(written_s) < 6:
                entry = await anext(aiter(watch))
                written_s += [entry.written_s] if entry is not None else []
            await watch.aclose()
        return statistics.median(later_s - earlier_s for earlier_s, later_s in itertools.pairwise(written_s))

    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS)) as host:
            await host.do("start", count=2)
            await host.settled(2, PARTITIONS)

            usual_s = await gap_s(host, "worker-1")
            number = next(one["number"] for one in await host.workers() if one["worker"] == "worker-1")
            await host.do("slow", worker=number, factor=2.5)
            slowed_s = await gap_s(host, "worker-1")

            assert 0.2 < usual_s < 0.5  # 0.3 s between two, with jitter
            assert slowed_s > 1.5 * usual_s
            assert all(one["version"] > 0 for one in await host.settled(2, PARTITIONS))

    asyncio.run(main())


def test_mute_lets_the_heartbeat_expire_while_the_process_runs_and_unmute_ends_that() -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS)) as host:
            await host.do("start", count=3)
            await host.settled(3, PARTITIONS)
            async with await NatsStore.connect(host.url) as store:
                bucket = await store.bucket("parti-heartbeat")

                [muted] = (await host.do("mute", worker="follower"))["workers"]
                key = f"heartbeat.{muted['worker']}"

                async def expired() -> bool:
                    return await bucket.get(key) is None

                await until(expired)
                running = alive(muted["pid"])
                await host.do("unmute", worker=muted["worker"])
                await host.settled(3, PARTITIONS)

                assert running
                assert await bucket.get(key) is not None

    asyncio.run(main())


def test_refresh_adds_removes_and_doubles_on_every_worker() -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS)) as host:
            await host.do("start", count=2)
            await host.settled(2, PARTITIONS)

            added = await host.do("refresh", add=5)
            await host.settled(2, PARTITIONS + 5)
            removed = await host.do("refresh", remove=7, double=3)
            workers = await host.settled(2, PARTITIONS - 2)
            await host.do("stop", worker="leader")
            [last] = await host.settled(1, PARTITIONS - 2)  # the other one knows the list as well
            async with await NatsStore.connect(host.url) as store:
                entry = await (await store.bucket("parti-assignment")).get(f"assignment.{last['worker']}")

            assert (added["partitions"], removed["partitions"]) == (PARTITIONS + 5, PARTITIONS - 2)
            assert sorted(name for one in workers for name in one["names"]) == sorted(f"p{n}" for n in range(PARTITIONS - 2))
            assert entry is not None
            assert entry.value.count(b'"weight":200') == 3

    asyncio.run(main())


@pytest.mark.parametrize("server", ["inside", "apart"])
def test_server_killed_comes_back_with_what_it_held_and_the_record_tells(server: str) -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS), "--server", server) as host:
            await host.make_record()
            await host.do("start", count=2)
            await host.settled(2, PARTITIONS)

            await host.do("server_kill", for_s=0.3)
            back = await until(lambda: _marked(host, "server_restart"))
            workers = await host.settled(2, PARTITIONS)
            kills = await host.marks("server_kill")

            assert len(kills) == len(back) == 1
            assert back[0]["at_ns"] - kills[0]["at_ns"] > 300_000_000
            assert sorted(one["worker"] for one in workers) == ["worker-0", "worker-1"]

    asyncio.run(main())


def test_server_restarted_comes_back() -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS)) as host:
            await host.make_record()
            await host.do("start", count=2)
            await host.settled(2, PARTITIONS)
            before = [child.pid for child in psutil.Process(host.process.pid).children() if "nats-server" in child.name()]

            await host.do("server_restart")
            await until(lambda: _marked(host, "server_restart"))
            await host.settled(2, PARTITIONS)
            after = [child.pid for child in psutil.Process(host.process.pid).children() if "nats-server" in child.name()]

            assert len(before) == len(after) == 1
            assert before != after

    asyncio.run(main())


async def _marked(host: Host, word: str) -> list[dict[str, Any]]:
    if not host.client.is_connected:
        return []
    try:
        return await host.marks(word)
    except Exception:  # the server is on its way down or up
        return []


def test_workers_of_one_process_share_its_fate() -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS), "--per-process", "3") as host:
            pids = started(await host.do("start", count=4))
            await host.settled(4, PARTITIONS)

            killed = (await host.do("kill", worker=2))["workers"]
            workers = await host.settled(1, PARTITIONS)

            assert pids[0] == pids[1] == pids[2] != pids[3]
            assert sorted(one["number"] for one in killed) == [1, 2, 3]
            assert workers[0]["number"] == 4

    asyncio.run(main())


def test_start_takes_a_free_place_in_a_process_that_runs_before_a_new_one() -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS), "--per-process", "3") as host:
            first = started(await host.do("start", count=3))
            await host.settled(3, PARTITIONS)

            await host.do("stop", worker=2)
            await host.do("stop", worker=3)
            back = (await host.do("start", count=3))["workers"]
            workers = await host.settled(4, PARTITIONS)
            gone = [one["state"] for one in await host.workers() if one["number"] in (1, 2, 3)]
            await host.do("pause", worker=4)
            while_paused = started(await host.do("start", count=1))
            await host.do("stop", worker=7)

            assert len(set(first)) == 1
            assert [one["number"] for one in back] == [4, 5, 6]
            assert [one["pid"] for one in back[:2]] == first[:2]
            assert back[2]["pid"] not in first
            assert sum(one["pid"] == first[0] for one in workers) == 3
            assert gone == ["Stable", "Shutdown", "Shutdown"]
            assert while_paused == [back[2]["pid"]]

    asyncio.run(main())


class _Crew:
    """A crew whose one process answers with an error."""

    partitions = ()

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def order(self, squad: object, do: str, *, limit_s: float) -> object:
        raise self.error


def test_status_of_a_process_that_does_not_answer_counts_no_tasks_and_a_bug_is_raised() -> None:
    squad = cast("Any", SimpleNamespace(paused=False, ended=asyncio.Event()))
    nobody = cast("Any", None)

    async def look(error: Exception) -> int:
        return await Words(cast("Crew", _Crew(error)), nobody, nobody, nobody)._look(squad)

    assert asyncio.run(look(ProcessEndedError("it has ended"))) == 0
    with pytest.raises(TypeError, match="a bug"):
        asyncio.run(look(TypeError("a bug")))


def test_words_that_cannot_be_done_get_one_clear_sentence() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"do": "dance"}, "no word 'dance'; there are: start, stop, kill"),
        ({"do": "start", "count": 0}, "count must be between 1 and 1000, got 0"),
        ({"do": "start", "number": 1}, "unknown field `number`"),
        ({"do": "stop"}, "give either worker, or count"),
        ({"do": "stop", "count": 2}, "between 1 and the 1 that run, got 2"),
        ({"do": "kill"}, 'say which worker: an id, "leader"'),
        ({"do": "kill", "worker": "worker-77"}, "no worker 'worker-77' runs; those that run: worker-0"),
        ({"do": "kill", "worker": 9}, "no worker number 9 was started"),
        ({"do": "kill", "worker": "follower"}, "no worker follows a leader now"),
        ({"do": "resume", "worker": 1}, "worker-0 is not paused"),
        ({"do": "isolate", "worker": 1}, "start the host with --network"),
        ({"do": "slow", "worker": 1}, "factor must be more than 0"),
        ({"do": "slow", "worker": 1, "factor": -1}, "factor must be more than 0"),
        ({"do": "refresh", "remove": 13}, "the last two of at most 12 partitions"),
        ({"do": "server_kill", "for_s": -1}, "for_s must be between 0 and 3600"),
    ]

    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS)) as host:
            no_leader = await host.ask("kill", worker="leader")
            await host.do("start", count=1)
            await host.settled(1, PARTITIONS)

            for word, sentence in cases:
                answer = await host.ask(**word)
                assert not answer["ok"]
                assert sentence in answer["error"]
                assert "\n" not in answer["error"]
            garbage = [
                (await host.client.request("fleet.control", data, timeout=ANSWER_LIMIT_S)).data for data in (b"{", b'{"do": "\xff"}')
            ]
            await host.do("kill", worker=1)

            assert no_leader["error"] == "no worker leads now"
            assert all(b"send for example" in answer for answer in garbage)
            assert "worker number 1 (worker-0) has ended" in (await host.ask("kill", worker=1))["error"]
            assert "the leader worker-0 does not run any more" in (await host.ask("kill", worker="leader"))["error"]

    asyncio.run(main())
