"""Bring clients back whose connection was lost though nobody here left it, and remember each loss: when, why, and when it was made good.

Subscribers and publishers alike; how either connects is theirs. One task for each lost connection, never per message, each with waits of
its own by the seed. Whether a loss is held against the target is the runner's to say, which knows the faults (runner/losses.py).
Memory: one record a loss, at most LOSSES_COUNT; what is beyond is counted only.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import numpy as np

from floodmark.core.errors import SystemUnderTestError
from floodmark.model.scenario import Reconnect
from floodmark.runner.agent import clock
from floodmark.runner.agent.subscribing import FailedByFaultError
from floodmark.runner.wire import Loss

LOSSES_COUNT = 200_000
EXPONENT_MAX = 60  # beyond it a wait has long been at its ceiling, and a float would overflow


class Client:
    """One subscriber or publisher connection over all its lives: how often it has tried since it last held, and its own chance."""

    __slots__ = ("back_ns", "chance", "tries")

    def __init__(self, chance: np.random.Generator) -> None:
        self.chance = chance
        self.tries = 0
        self.back_ns = 0


class Returning:
    """Everybody who is away. `settings` None: nobody comes back, losses are remembered all the same.

    Tasks belong to the group given to `begin`; `stop` ends them.
    """

    def __init__(self, settings: Reconnect | None, *, seed: int) -> None:
        self.losses: list[Loss] = []
        self.forgotten_count = 0
        self.refusals: Counter[str] = Counter()
        self._settings = settings
        self._seed = seed
        self._group: asyncio.TaskGroup | None = None
        self._clients: dict[tuple[bool, int], Client] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._tries: dict[asyncio.Timeout, int] = {}
        self._hopeless = False

    @property
    def on(self) -> bool:
        """Whether a client that is lost now comes back."""
        return self._settings is not None and self._group is not None and not self._hopeless

    @property
    def under_way_count(self) -> int:
        """Clients that are away and still trying to come back."""
        return len(self._tasks)

    def begin(self, group: asyncio.TaskGroup) -> None:
        """From now on clients come back."""
        self._group = group

    def stop(self) -> None:
        """The run is over, or the target is gone for good: nobody comes back any more."""
        self._hopeless = True
        for task in self._tasks:
            task.cancel()

    def try_anew(self, before_ns: int) -> None:
        """A fault that threw bytes away or damaged them was lifted then: a try that is as old may wait for ever for an answer to them.

        Its target cannot know that there was one, so nobody would end it; the client tries again after its next wait.
        """
        now_s = asyncio.get_running_loop().time()
        for limit, began_ns in self._tries.items():
            if began_ns <= before_ns and not limit.expired():
                limit.reschedule(now_s)

    def note(self, number: int, *, publisher: bool, reason: str, unanswered: int = 0, ours: bool = False) -> Loss:
        """Remember a loss."""
        client = self._clients.get((publisher, number))
        loss = Loss(
            at_ns=clock.now_ns(),
            number=number,
            since_ns=client.back_ns if client is not None else 0,
            publisher=publisher,
            reason=reason,
            unanswered=unanswered,
            ours=ours,
        )
        if len(self.losses) < LOSSES_COUNT:
            self.losses.append(loss)
        else:
            self.forgotten_count += 1
        return loss

    def bring_back(self, loss: Loss, come: Callable[[], Awaitable[None]], give_up: Callable[[], None]) -> None:
        """Let a client try until `come` succeeds; `give_up` is called when it did not in time, or is not to try any more."""
        if not self.on:
            give_up()
            return
        assert self._group is not None
        key = (loss.publisher, loss.number)
        client = self._clients.get(key)
        if client is None:
            client = self._clients[key] = Client(np.random.default_rng((self._seed, loss.number, 3 + loss.publisher)))
        task = self._group.create_task(self._bring_back(client, loss, come))
        self._tasks.add(task)

        def ended(_: asyncio.Task[None]) -> None:
            # Here and not in the task: one that is cancelled before its first step runs none of its code.
            self._tasks.discard(task)
            if not loss.back_ns:
                give_up()

        task.add_done_callback(ended)

    async def _bring_back(self, client: Client, loss: Loss, come: Callable[[], Awaitable[None]]) -> None:
        settings = self._settings
        assert settings is not None
        until_s = time.monotonic() + settings.limit_s
        if clock.now_ns() - client.back_ns >= settings.backoff_max_s * 1e9:
            client.tries = 0
        reason = ""
        while (now_s := time.monotonic()) < until_s:
            await asyncio.sleep(min(self._wait_s(client), until_s - now_s))
            try:
                async with asyncio.timeout(max(until_s - time.monotonic(), 0)) as limit:
                    self._tries[limit] = clock.now_ns()
                    try:
                        await come()
                    finally:
                        del self._tries[limit]
            except FailedByFaultError:
                reason = ""
            except (SystemUnderTestError, TimeoutError) as exc:
                reason = str(exc) or reason
            else:
                client.back_ns = loss.back_ns = clock.now_ns()
                return
        if reason:
            self.refusals[reason] += 1

    def _wait_s(self, client: Client) -> float:
        settings = self._settings
        assert settings is not None
        wait_s = min(settings.backoff_s * settings.backoff_factor ** min(client.tries, EXPONENT_MAX), settings.backoff_max_s)
        client.tries += 1
        return wait_s * (1 - settings.jitter * client.chance.random())
