"""CPU starvation: busy processes on the cores that the target may use, so that it has to share them.

`burners_per_core` on each core leave a target that wants a whole core about 1 / (1 + burners_per_core) of it. `ratio` is the share of
the cores, drawn by the seed. Everything else on these cores is slowed as well, the load generators too, unless the target was given
cores of its own.
Each burner has a session of its own, since Linux shares cores between sessions first (autogroup), and dies with this process.
Limits: the kernel ends a burner when the thread that started it ends, so apply this from a thread that lives on.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import ClassVar

import msgspec

from floodmark.core.errors import SystemUnderTestError, UsageError
from floodmark.faults.process import procfs
from floodmark.faults.process.journal import Entry
from floodmark.faults.process.spec import Scene, drawn
from floodmark.faults.process.tree import Process

SCRIPT = Path(__file__).with_name("burner.py")
BURNERS_MAX = 256
START_LIMIT_S = 10.0
POLL_S = 0.005


class BurnerError(SystemUnderTestError):
    """A burner did not come up, so the target was not starved."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"the processes that were to take the target's cores {self.why}; lower burners_per_core or the ratio"


class Starve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`nice` 0 competes on equal terms, 19 takes little but what is left over."""

    LASTS: ClassVar[bool] = True
    KIND: ClassVar[str] = "starve"

    burners_per_core: int = 1
    nice: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.burners_per_core <= BURNERS_MAX:
            raise UsageError(f"fault 'starve': burners_per_core must be between 1 and {BURNERS_MAX}, got {self.burners_per_core!r}")
        if not 0 <= self.nice <= 19:
            raise UsageError(f"fault 'starve': nice must be between 0 and 19 (less needs root), got {self.nice!r}")

    @asynccontextmanager
    async def applied(self, scene: Scene) -> AsyncIterator[Entry]:
        """Burn for the block; the entry's hits are the target's processes, its values the PIDs of the burners."""
        act = scene.journal.act(self.KIND, scene.occasion)
        if scene.ratio == 0:
            yield act.nothing("ratio is 0")
            return
        targets = scene.tree.processes()
        taken = cores(targets, scene.ratio, seed=scene.seed, occasion=scene.occasion)
        if not taken:
            yield act.nothing("no core was chosen" if targets else "no process of the target is left")
            return
        if len(taken) * self.burners_per_core > BURNERS_MAX:
            raise UsageError(
                f"fault 'starve' would start {len(taken) * self.burners_per_core} processes; at most {BURNERS_MAX} are allowed"
            )
        burners: list[subprocess.Popen[bytes]] = []
        try:
            for core in taken * self.burners_per_core:
                burners.append(start(core, self.nice))  # noqa: PERF401  one that fails must leave the others known
            await _ready(burners)
            starved = [process for process in targets if not cores_of(process).isdisjoint(taken)]
            where = ", ".join(map(str, taken))
            entry = act.applied(starved, values=[burner.pid for burner in burners], note=f"cores {where}")
            try:
                yield entry
            finally:
                act.healed(starved, note=f"burnt {burnt_s(burners):.2f} s of cores {where}")
        finally:
            end(burners)


def cores_of(process: Process) -> set[int]:
    """The cores it may run on; none when it is gone."""
    with suppress(ProcessLookupError):
        found = os.sched_getaffinity(process.pid)
        return found if process.alive else set()
    return set()


def cores(processes: list[Process], ratio: float, *, seed: int, occasion: int) -> list[int]:
    """Draw round(ratio * n) of the n cores that any of these may run on."""
    all_cores = sorted(set().union(*map(cores_of, processes)))
    chosen = drawn(len(all_cores), ratio, seed=seed, occasion=occasion)
    return [core for place, core in enumerate(all_cores) if place in chosen]


def start(core: int, nice: int) -> subprocess.Popen[bytes]:
    """Start one burner; it says when it is set up."""
    words = [sys.executable, "-I", "-S", str(SCRIPT), str(os.getpid()), str(core), str(nice)]
    burner = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    assert burner.stdout is not None
    os.set_blocking(burner.stdout.fileno(), False)
    return burner


def burnt_s(burners: list[subprocess.Popen[bytes]]) -> float:
    """The CPU time that the burners had so far."""
    looks = (procfs.stat(burner.pid) for burner in burners)
    return sum(look.cpu_ticks for look in looks if look is not None) / procfs.TICKS_PER_S


def end(burners: list[subprocess.Popen[bytes]]) -> None:
    """Kill and wait for all of them. Never awaits; a killed process that holds nothing is gone in a moment."""
    for burner in burners:
        burner.kill()
    for burner in burners:
        burner.wait()
        if burner.stdout is not None:
            burner.stdout.close()


async def _ready(burners: list[subprocess.Popen[bytes]]) -> None:
    until_s = time.monotonic() + START_LIMIT_S
    for burner in burners:
        assert burner.stdout is not None
        while (said := burner.stdout.read(1)) is None:
            if time.monotonic() > until_s:
                raise BurnerError(f"were not ready within {START_LIMIT_S:g} s")
            await asyncio.sleep(POLL_S)
        if not said:
            raise BurnerError(f"ended with exit code {burner.wait()} at once")
