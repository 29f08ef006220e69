"""Everything at once: faults come and go by a seed while clients transfer, half-close, vanish and reset.

Nothing may raise in any callback, nothing may hang, and once all is healed the connections that are left must carry exact bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from floodmark.faults.wire.endpoint import linger_zero
from floodmark.faults.wire.parse import parse_fault
from floodmark.faults.wire.proxy import Proxy

from .relay import HOST, ask, client, play, relay, stream, until

FAULTS = [
    "latency=1ms..20ms",
    "latency=5ms,hold=100KB",
    "bandwidth=20MB/s",
    "bandwidth=50MB/s,shared=true",
    "slice=5KB,gap=1ms",
    "slow_close=20ms",
    "timeout",
    "timeout=30ms,share=20%",
    "reset,share=10%",
    "reset=20ms,share=20%",
    "limit=50KB,share=30%",
    "corrupt=10KB",
    "partition,direction=upstream",
    "partition,direction=downstream",
    "cut=10ms,share=20%",
    "refuse,share=20%",
    "refuse=refused",
]


async def visit(proxy: Proxy, rng: random.Random) -> None:
    """Connect, transfer something, and leave in one of four ways."""
    payload = stream(rng.randrange(1, 300_000), seed=rng.randrange(100))
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(rng.uniform(0.05, 0.5)):
            reader, writer = await asyncio.open_connection(HOST, proxy.port)
            try:
                writer.write(payload)
                way = rng.randrange(4)
                if way == 0:
                    writer.write_eof()
                    await reader.read(-1)
                elif way == 1:
                    linger_zero(writer.get_extra_info("socket").fileno())
                elif way == 2:
                    await reader.read(1000)
            finally:
                writer.transport.abort()


@pytest.mark.parametrize("seed", range(4))
def test_storm_of_faults_raises_nothing_hangs_nothing_and_heals(seed: int) -> None:
    rng = random.Random(seed)

    async def job() -> tuple[bool, int]:
        async with relay(seed=seed) as (proxy, _):

            async def guests() -> None:
                for _ in range(12):
                    await visit(proxy, rng)

            async def weather() -> None:
                for _ in range(60):
                    at_work = proxy.faults()
                    if at_work and (len(at_work) > 4 or rng.random() < 0.4):
                        proxy.remove(rng.choice(at_work))
                    else:
                        proxy.add(parse_fault(f"{rng.choice(FAULTS)}"))
                    await asyncio.sleep(rng.uniform(0, 0.03))

            async with asyncio.TaskGroup() as group:
                for _ in range(10):
                    group.create_task(guests())
                group.create_task(weather())
            for active in proxy.faults():
                proxy.remove(active)
            await until(lambda: not proxy.connections())
            async with client(proxy) as (reader, writer):
                answer, _ = await ask(reader, writer, stream(100_000))
                return answer == stream(100_000), len(proxy.journal().entries())

    exact, entries = play(job())

    assert exact
    assert entries > 60
