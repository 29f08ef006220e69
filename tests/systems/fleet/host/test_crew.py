"""A crew ends whatever was cut short in it: nobody waits for good for a process whose start nobody waits for any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from floodmark.core.nats_server import EmbeddedNats
from floodmark.systems.fleet.host.crew import Crew
from floodmark.systems.fleet.host.options import read_options

LIMIT_S = 40.0


async def until(happened: Callable[[], object]) -> None:
    while not happened():  # noqa: ASYNC110  # a crew has no event for it; the test has a limit
        await asyncio.sleep(0.002)


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
