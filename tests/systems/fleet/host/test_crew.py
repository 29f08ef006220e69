"""A crew ends whatever was cut short in it, says why a process is no more, loses no start, and keeps little of who has gone.

Where only the conversation matters, a process is a few lines of shell that say what a process of workers would say, or would not.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from floodmark.core.errors import FloodmarkError, UsageError
from floodmark.core.nats_server import EmbeddedNats
from floodmark.systems.fleet.host import crew as crew_module
from floodmark.systems.fleet.host import wire
from floodmark.systems.fleet.host.crew import Crew, Ended
from floodmark.systems.fleet.host.options import read_options
from floodmark.systems.fleet.host.wire import ProcessEndedError

LIMIT_S = 40.0
UP = """echo '{"kind": "up"}'"""
STAYS = "while read -r line; do :; done"
ITS_NUMBER = """n=$(printf %s "$line" | sed 's/.*"numbers":\\[\\([0-9]*\\).*/\\1/')"""


async def until(happened: Callable[[], object]) -> None:
    while not happened():  # noqa: ASYNC110  # a crew has no event for it; the test has a limit
        await asyncio.sleep(0.002)


def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Have each process of workers be a shell that has read its first line, and goes on with these."""
    script = tmp_path / "process"
    script.write_text("\n".join(["#!/bin/sh", "read -r line", *lines, ""]))
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


def crew_of(per_process: int = 1, felt: Callable[..., None] = lambda *_: None) -> Crew:
    return Crew(read_options(profile_name="fast", per_process=per_process), "nats://127.0.0.1:1", None, felt)


async def answer_of(asking: Coroutine[Any, Any, object]) -> object:
    """What comes of it, an error as well."""
    try:
        return await asking
    except Exception as exc:
        return exc


async def last_words(crew: Crew, count: int) -> list[Ended]:
    """Wait for so many; theirs, by number."""
    async with asyncio.timeout(LIMIT_S):
        await until(lambda: len(crew.ended) >= count and not crew.squads())
    return sorted(crew.ended, key=lambda one: one.number)


def test_start_that_is_cancelled_before_its_process_is_up_leaves_a_crew_that_ends() -> None:
    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), EmbeddedNats() as server:
            async with Crew(read_options(profile_name="fast"), server.url, None, lambda *_: None) as crew:
                starting = asyncio.create_task(crew.start(1))
                await until(crew.squads)
                squad = crew.squads()[0]
                starting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await starting
                await until(lambda: squad.members[1].worker)  # it has come up all the same, and speaks
            assert squad.ended.is_set()
            assert squad.process.returncode == 0

    asyncio.run(main())


def test_start_in_a_process_that_ends_at_that_moment_begins_in_a_new_one() -> None:
    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), EmbeddedNats() as server:
            options = read_options(profile_name="fast", per_process=2)
            async with Crew(options, server.url, None, lambda *_: None) as crew:
                [(old, _)] = await crew.start(1)
                os.kill(old.pid, signal.SIGKILL)  # and nobody has told the crew yet
                [(new, member)] = await crew.start(1)
                first = await asyncio.wait_for(old.ended.wait(), LIMIT_S)

                assert first
                assert (member.number, new.pid != old.pid) == (2, True)
                assert [number for number, _ in new.members.items()] == [2]
                assert [(one.number, one.state) for one in crew.ended] == [(1, "Killed")]

    asyncio.run(main())


def test_start_in_a_process_that_stops_by_itself_at_that_moment_begins_in_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first process takes the order and ends without an answer, as one does whose last worker has just stopped; the second stays.
    told(tmp_path, monkeypatch, UP, f'mkdir "{tmp_path}/first" && read -r order && exit', STAYS)

    async def main() -> None:
        async with crew_of(per_process=2) as crew:
            [(first, _)] = await crew.start(1)
            [(second, member)] = await crew.start(1)

            assert (member.number, list(second.members)) == (2, [2])
            assert first.ended.is_set()
            assert [(one.number, one.state) for one in crew.ended] == [(1, "Killed")]

    asyncio.run(main())


def test_start_in_a_process_whose_pipe_is_broken_before_its_end_is_known_leaves_no_last_word_of_it_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(tmp_path, monkeypatch, UP, STAYS)

    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), crew_of(per_process=2) as crew:
            [(old, _)] = await crew.start(1)
            assert old.process.stdin is not None
            old.process.stdin.close()
            [(new, member)] = await crew.start(1)
            await old.ended.wait()

            assert (member.number, list(new.members)) == (2, [2])
            assert crew.find(2)[0] is new
            assert [(one.number, one.state) for one in crew.ended] == [(1, "Killed")]  # the second works elsewhere

    asyncio.run(main())


@pytest.mark.parametrize("line", ["what is this", '{"kind": 7}', "\\377\\377"])
def test_process_that_says_what_is_no_line_is_ended_and_its_worker_says_why(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(tmp_path, monkeypatch, UP, f"printf '{line}\\n'", STAYS)

    async def main() -> None:
        async with crew_of() as crew:
            [(squad, _)] = await crew.start(1)
            [last] = await last_words(crew, 1)

            assert last.state == "Killed"
            assert last.error.startswith(f"the process {squad.pid} was ended, since it said what is no line of ours: ")
            assert squad.process.returncode == -signal.SIGKILL

    asyncio.run(main())


def test_process_that_says_a_line_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LINE_BYTES", 1_000)
    told(tmp_path, monkeypatch, UP, "while :; do printf 'for ever and ever '; done")

    async def main() -> None:
        async with crew_of() as crew:
            await crew.start(1)
            [last] = await last_words(crew, 1)

            assert "no line of ours" in last.error

    asyncio.run(main())


def test_start_of_a_process_that_speaks_nonsense_before_it_is_up_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told(tmp_path, monkeypatch, "echo nonsense", STAYS)

    async def main() -> None:
        async with crew_of() as crew:
            with pytest.raises(ProcessEndedError, match=r"no line of ours: .*'nonsense'"):
                await crew.start(1)

    asyncio.run(main())


def test_bug_of_the_host_in_what_it_does_with_a_line_ends_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told(tmp_path, monkeypatch, UP, """echo '{"kind": "felt", "felt": "x"}'""", STAYS)

    def bug(*_: object) -> None:
        raise ValueError("a bug")

    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), crew_of(felt=bug) as crew:
            await crew.start(1)
            await asyncio.Event().wait()

    with pytest.raises(ValueError, match="a bug"):
        asyncio.run(main())


def test_workers_that_have_gone_are_kept_up_to_a_count_without_their_partitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "ENDED_COUNT", 3)
    word = '{"kind": "members", "members": [{"number": \'$n\', "worker": "w-\'$n\'", "state": "Shutdown", "partitions": ["p1"]}]}'
    told(tmp_path, monkeypatch, ITS_NUMBER, UP, f"echo '{word}'")

    async def main() -> None:
        async with crew_of() as crew:
            for _ in range(5):
                await crew.start(1)
                async with asyncio.timeout(LIMIT_S):
                    await until(lambda: not crew.squads())
            words = await last_words(crew, 3)

            assert [(one.number, one.worker, one.state, one.error) for one in words] == [(n, f"w-{n}", "Shutdown", "") for n in (3, 4, 5)]
            assert "partitions" not in Ended.__struct_fields__
            for number, sentence in (
                (5, "worker number 5 (w-5) has ended"),
                (1, "worker number 1 has ended"),
                (6, "no worker number 6 was"),
            ):
                with pytest.raises(UsageError) as raised:
                    crew.find(number)
                assert str(raised.value).startswith(sentence)

    asyncio.run(main())


def test_place_is_free_only_in_a_process_that_is_up_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told(tmp_path, monkeypatch, UP, STAYS)
    changes: dict[str, Any] = {"paused": True, "leaving": True, "members": {}}

    async def main() -> None:
        async with crew_of(per_process=3) as crew:
            [(squad, _)] = await crew.start(1)

            assert (squad.free_count(3), squad.free_count(1)) == (2, 0)
            for name, value in changes.items():
                with monkeypatch.context() as changed:
                    changed.setattr(squad, name, value)
                    assert squad.free_count(3) == 0
        assert squad.free_count(3) == 0  # it has ended

    asyncio.run(main())


def test_order_to_a_process_that_was_killed_is_told_of_its_end_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told(tmp_path, monkeypatch, UP, STAYS)

    async def main() -> list[object]:
        async with asyncio.timeout(LIMIT_S), crew_of() as crew, asyncio.TaskGroup() as tasks:
            [(squad, _)] = await crew.start(1)
            os.kill(squad.pid, signal.SIGKILL)
            asked = []
            while not squad.ended.is_set():  # the pipe breaks first, then its end is read, then the process is waited for
                asked.append(tasks.create_task(answer_of(crew.order(squad, "status"))))
                await asyncio.sleep(0)
        return [one.result() for one in asked]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the host runs: its closed pipe raises what asyncio's does not
        answers = runner.run(main())

    assert answers
    assert {type(one) for one in answers} == {ProcessEndedError}


def test_process_that_does_not_take_a_worker_in_time_is_an_error_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Crew.order, "__kwdefaults__", {"number": 0, "limit_s": 0.05})
    told(tmp_path, monkeypatch, UP, STAYS)

    async def main() -> None:
        async with crew_of(per_process=2) as crew:
            [(squad, _)] = await crew.start(1)
            with pytest.raises(FloodmarkError, match=f"the process {squad.pid} did not answer within 0.05 s"):
                await crew.start(1)

            assert list(squad.members) == [1, 2]  # it may begin all the same
            assert squad.coming == set()

    asyncio.run(main())
