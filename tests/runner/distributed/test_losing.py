"""Whether there is anybody who could take a lost slice over: whoever has room, or has begun it already without our knowing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import pytest

from floodmark.runner.distributed.agents import RemoteAgents
from floodmark.runner.distributed.line import Away
from floodmark.runner.distributed.roll import Known
from floodmark.runner.distributed.words import SILENT_ROLLS, Claim, Here
from floodmark.runner.wire import Do


def agent(name: str, *, playing: int, leaving: bool = False) -> Known:
    """An agent for one slice."""
    return Known(
        Here(
            name=name,
            token=name,
            host="m1",
            version="1",
            worker="w",
            capacity=1,
            playing=playing,
            run="r",
            number=0,
            now_ns=0,
            rss_bytes=0,
            cpu_s=0,
            leaving=leaving,
        )
    )


def taken_over(other: Known, *, claimed: bool = False) -> bool:
    """Whether a slice in its phase is kept for another agent, where `other` is the only one beside the lost one."""

    class Patient(RemoteAgents):
        def _begin(self, job: Coroutine[object, object, None]) -> asyncio.Task[None]:
            job.close()
            return asyncio.get_running_loop().create_task(asyncio.sleep(0))

    async def main() -> bool:
        agents = Patient("nats://127.0.0.1:1", lambda index, progress: None, take_over=True)
        line = Away(0)
        line.claim = Claim(name="lost", token="lost", index=0, link="x", pid=1)
        line.steps.asked(Do(step="phase", number=1))
        agents._agents = [line]
        agents._roll.known = {"lost": agent("lost", playing=1), other.here.name: other}
        agents._lose(line, "it was killed", room=claimed)
        await asyncio.sleep(0)
        return line.between and line.error is None

    return asyncio.run(main())


@pytest.mark.parametrize("playing", [0, 1])
def test_slice_waits_for_one_with_room_or_one_that_has_begun_what_we_do_not_know(playing: int) -> None:
    assert taken_over(agent("other", playing=playing))


def test_slice_does_not_wait_for_one_that_leaves_or_is_silent() -> None:
    silent = agent("silent", playing=0)
    silent.unanswered = SILENT_ROLLS

    assert not taken_over(silent)
    assert not taken_over(agent("leaving", playing=0, leaving=True))


def test_slice_is_kept_for_whoever_claims_it() -> None:
    assert taken_over(agent("leaving", playing=0, leaving=True), claimed=True)


def test_agent_that_is_full_with_what_we_know_takes_no_more() -> None:
    async def main() -> list[bool]:
        agents = RemoteAgents("nats://127.0.0.1:1", lambda index, progress: None)
        line = Away(0)
        agents._agents = [line]
        full = agent("full", playing=1)
        unknown = agents._may_take(full)
        line.claim = Claim(name="full", token="full", index=0, link="x", pid=1)
        return [unknown, agents._may_take(full)]

    assert asyncio.run(main()) == [True, False]
