"""The second load: the same phases again after a drain, under the same ledger, once the target's memory has come to rest.

A leak grows by as much again; a cache that filled, a pool that grew and a warm-up do not. `monitor/leak` takes it as the tie-break.
Timed faults strike in the first load only. Between the loads, and after the last one, `rest` holds until resident memory is level.
"""

from __future__ import annotations

import asyncio
from collections import deque

import msgspec

from floodmark.model.scenario import Scenario
from floodmark.monitor.watch import Watch

LEVEL_S = 1.0  # ten samples at the usual beat: twice what the leak verdict takes a level from
LEVEL_BYTES = 256 * 1024
REST_LIMIT_S = 5.0
POLL_S = 0.05


def unfolded(scenario: Scenario) -> Scenario:
    """The scenario with the phases of both loads written out, as agents and results know them."""
    return msgspec.structs.replace(scenario, phases=scenario.played, second_load=False) if scenario.second_load else scenario


async def rest(watch: Watch) -> None:
    """Wait until the target's resident memory has stayed within 256 KiB for a second, for five seconds at most.

    A target that cannot be seen is given the second all the same.
    """
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    seen: deque[tuple[float, int]] = deque()
    while (now_s := loop.time()) < begun_s + REST_LIMIT_S:
        sample = watch.latest("target")
        seen.append((now_s, sample.resident_bytes if sample is not None else 0))
        while seen[0][0] < now_s - LEVEL_S:
            seen.popleft()
        levels = [resident for _, resident in seen]
        if now_s - begun_s >= LEVEL_S and max(levels) - min(levels) <= LEVEL_BYTES:
            return
        await asyncio.sleep(POLL_S)
