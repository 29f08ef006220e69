"""An agent: answers the calls of runners, and plays the slices that the fleet gives it, each in a process of its own.

Which slices those are is not decided here: `runs` says what there is to share out, `hold` what of it is ours. A run whose runner has
fallen silent is over, and its slices with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import psutil
from nats.aio.client import Client
from nats.aio.msg import Msg

from floodmark import __version__
from floodmark.core import tasks
from floodmark.runner.distributed.slice import Slice
from floodmark.runner.distributed.words import HERE, ROLL, RUN_SILENT_S, Here, Roll, pack, unpack

LOOK_S = 0.5
_log = logging.getLogger("floodmark.agent")
Number = tuple[str, int]
"""A slice: its run and its index."""


class Run:
    """A run that is called out."""

    def __init__(self, slices: int, heard_s: float) -> None:
        self.slices = slices
        self.heard_s = heard_s


class Host:
    """One agent. `on_runs` is called when what there is to play has changed, `tell` with a line for people."""

    def __init__(self, client: Client, *, name: str, capacity: int, folder: Path, tell: Callable[[str], None]) -> None:
        self.name = name
        self._token = secrets.token_hex(8)
        self.capacity = capacity
        self.worker = ""
        """Its place in the fleet, once it has one."""
        self.capacities: dict[str, int] = {}
        """How many slices each worker of the fleet may hold, as the agents say themselves."""
        self.leaving = False
        self.on_runs: Callable[[], None] = lambda: None
        self._client = client
        self._folder = folder
        self._tell = tell
        self._runs: dict[str, Run] = {}
        self._wanted: set[Number] = set()
        self._playing: dict[Number, tuple[Slice, asyncio.Task[None]]] = {}
        self._over: set[Number] = set()
        self._group: asyncio.TaskGroup | None = None
        self._cost = _Cost()

    def runs(self) -> list[Number]:
        """All slices that there are to play, in order."""
        return sorted((run, index) for run, its in self._runs.items() for index in range(its.slices))

    @property
    def playing(self) -> int:
        """How many slices it plays now."""
        return len(self._playing)

    async def run(self) -> None:
        """Be there until cancelled; then every process is ended and every runner told."""
        roll = await self._client.subscribe(ROLL, cb=self._answer)
        here = await self._client.subscribe(HERE, cb=self._hear)
        try:
            async with tasks.group() as group:
                self._group = group
                try:
                    while True:
                        self._forget_silent()
                        self._cost.look([its.pid for its, _ in self._playing.values()])
                        await asyncio.sleep(LOOK_S)
                finally:
                    self.leaving = True
        finally:
            with suppress(Exception):
                await roll.unsubscribe()
                await here.unsubscribe()

    async def _answer(self, message: Msg) -> None:
        now_ns = time.monotonic_ns()
        roll = unpack(message.data, Roll)
        if roll is None:
            return
        self._note(roll)
        here = Here(
            name=self.name,
            token=self._token,
            host=socket.gethostname(),
            version=__version__,
            worker=self.worker,
            capacity=self.capacity,
            playing=self.playing,
            run=roll.run,
            number=roll.number,
            now_ns=now_ns,
            rss_bytes=self._cost.rss_bytes,
            cpu_s=self._cost.cpu_s,
            leaving=self.leaving,
        )
        await self._client.publish(HERE, pack(here))

    def _note(self, roll: Roll) -> None:
        """Take note of a run, or of its end."""
        known = self._runs.get(roll.run)
        slices = roll.slices if roll.version == __version__ else 0
        if not slices:
            if known is not None:
                del self._runs[roll.run]
                self._changed()
            return
        now_s = asyncio.get_running_loop().time()
        if known is None:
            self._runs[roll.run] = Run(slices, now_s)
            self._changed()
            return
        known.heard_s = now_s
        if known.slices != slices:
            known.slices = slices
            self._changed()

    async def _hear(self, message: Msg) -> None:
        here = unpack(message.data, Here)
        if here is not None and here.worker:
            self.capacities[here.worker] = here.capacity

    def _forget_silent(self) -> None:
        now_s = asyncio.get_running_loop().time()
        silent = [run for run, its in self._runs.items() if now_s - its.heard_s > RUN_SILENT_S]
        for run in silent:
            self._tell(f"the runner of run {run} has fallen silent")
            del self._runs[run]
        if silent:
            self._changed()

    def _changed(self) -> None:
        self._over = {number for number in self._over if number[0] in self._runs}
        for number in list(self._playing):
            if number[0] not in self._runs:
                self._playing[number][1].cancel()
        self.on_runs()

    def hold(self, numbers: Iterable[Number]) -> None:
        """These slices are ours from now on, and no others."""
        self._wanted = set(numbers)
        for number, (_, task) in list(self._playing.items()):
            if number not in self._wanted:
                task.cancel()
        self._over &= self._wanted
        self._fill()

    async def let_go(self) -> None:
        """Wait until no slice is played that is not ours any more."""
        tasks_ = [task for number, (_, task) in self._playing.items() if number not in self._wanted]
        if tasks_:
            await asyncio.wait(tasks_)

    def _fill(self) -> None:
        """Begin what is ours, as far as there is room."""
        if self.leaving or self._group is None:
            return
        for number in sorted(self._wanted):
            if number not in self._playing and number not in self._over and number[0] in self._runs and self.playing < self.capacity:
                self._begin(number)

    def _begin(self, number: Number) -> None:
        run, index = number
        its = Slice(self._client, name=self.name, token=self._token, run=run, index=index, folder=self._folder)
        assert self._group is not None
        task = self._group.create_task(self._play(number, its))
        self._playing[number] = its, task
        self._tell(f"run {run}: playing slice {index}")

    async def _play(self, number: Number, its: Slice) -> None:
        refused = ""
        try:
            refused = await its.play()
        finally:
            self._playing.pop(number, None)
            self._over.add(number)
            self._tell(f"run {number[0]}: slice {number[1]} is over{f': {refused}' if refused else ''}")
        self._fill()


class _Cost:
    """What this process and those of its slices cost; processor time of those that have ended is kept."""

    def __init__(self) -> None:
        self._own = psutil.Process(os.getpid())
        self._spent_s: dict[int, float] = {}
        self.rss_bytes = 0
        self.cpu_s = 0.0

    def look(self, pids: Iterable[int | None]) -> None:
        """Look at them now."""
        rss_bytes = 0
        for process in [self._own, *(psutil.Process(pid) for pid in pids if pid is not None and psutil.pid_exists(pid))]:
            with suppress(psutil.Error):
                with process.oneshot():
                    times = process.cpu_times()
                    rss_bytes += process.memory_info().rss
                self._spent_s[process.pid] = times.user + times.system
        self.rss_bytes = rss_bytes
        self.cpu_s = sum(self._spent_s.values())
