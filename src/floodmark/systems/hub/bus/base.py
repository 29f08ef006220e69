"""What a bus is to the hub, and how its failures are retried.

A bus takes publishes and, sooner or later, hands the events to the dispatcher of every hub process in one and the same order per channel.
`publish` calls the job's `done` exactly once: with None when the event is as safe as the bus makes it, or with what went wrong.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec

from floodmark.systems.hub.errors import EventBusError
from floodmark.systems.hub.intake import PublishJob

_CANCEL_AGAIN_S = 0.1
_log = logging.getLogger("floodmark.hub.bus")


class Bus(Protocol):
    """A way for events to reach every hub process."""

    @property
    def mode(self) -> str:
        """Its name in the statistics."""

    @property
    def takes_mixed(self) -> bool:
        """True when one job may hold events of several channels."""

    @property
    def full(self) -> bool:
        """True when a publisher whose job is pending should stop sending."""

    @property
    def waiting_count(self) -> int:
        """Publishes that are not acknowledged yet."""

    async def start(self) -> None:
        """Connect.

        Raises: EventBusError when the bus cannot be used.
        """

    async def stop(self) -> None:
        """Let go of everything; pending jobs are done with an error."""

    async def healthy(self) -> bool:
        """Tell if a publish would get through now."""

    @property
    def retried_count(self) -> int:
        """How often something was sent again."""

    def give_up(self, error: EventBusError) -> None:
        """Fail what is pending, now and in order, as far as it is on its way to somewhere else."""

    def publish(self, job: PublishJob) -> bool:
        """Take a job; True if it was done before this returned."""


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: the NATS client swallows a cancellation that comes while it writes."""
    ours = set(tasks)
    left = {task for task in ours if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN_S)
    await asyncio.gather(*ours, return_exceptions=True)  # gather: cancelled by us, or told by `tell_failure` when it failed


def tell_failure(task: asyncio.Task[None]) -> None:
    """Tell the log of a job that has failed, as its done-callback: nobody awaits it until the bus is stopped, and by then it is no news."""
    if not task.cancelled() and (failure := task.exception()) is not None:
        _log.error("a job of the bus has failed, and is not done any more: %s: %s", type(failure).__name__, failure, exc_info=failure)


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often and after which pauses an attempt is repeated."""

    attempts: int = 3
    first_s: float = 0.1
    factor: float = 2.0
    longest_s: float = 10.0
    jitter: float = 0.1  # share of a pause by which it may be longer or shorter

    def pauses(self, rng: random.Random) -> Iterator[float]:
        """Give the pause before each repetition, in seconds.

        >>> list(Retry(jitter=0.0).pauses(random.Random(0)))
        [0.1, 0.2, 0.4]
        """
        pause_s = self.first_s
        for _ in range(self.attempts):
            yield min(pause_s, self.longest_s) * (1 + rng.uniform(-self.jitter, self.jitter))
            pause_s *= self.factor
