"""What a worker does with a message: hand its payload on, from `in.{partition}` to `out.{partition}`, and say by whom.

A message that could not be handed on raises, so that it is not acknowledged and comes again. Headers: Fm-Worker is the worker's id, Fm-Seq
the message's number in the stream, by which a second delivery is known as one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping

import msgspec
from nats.aio.client import Client

from floodmark.core.errors import FloodmarkError
from floodmark.core.nats_client import ask
from floodmark.systems.fleet.consumer.message import Message

IN, OUT = "in.", "out."
PUBLISH_LIMIT_S = 5.0
LINGER_S = 1.0


class NotHandedOnError(FloodmarkError):
    """The stream of results refused a message."""


class _Acknowledged(msgspec.Struct, frozen=True):
    error: dict[str, object] | None = None


_acknowledged = msgspec.json.Decoder(_Acknowledged)


class Relay:
    """The handler of one worker."""

    def __init__(self, client: Client, worker_id: Callable[[], str], *, stream: bool, lies: Mapping[str, int]) -> None:
        self._client = client
        self._worker_id = worker_id
        self._stream = stream
        self._drop = lies.get("drop", 0)
        self._twice = lies.get("twice", 0)
        self._linger = lies.get("linger", 0)
        self._latest: dict[str, Message] = {}  # of each partition, for those who linger
        self._due: deque[tuple[float, Message]] = deque()
        self._count = 0

    async def handle(self, message: Message) -> None:
        """Hand one message on. Raises: whatever hindered it."""
        self._count += 1
        if self._linger:
            await self._go_on(message)
        if self._drop and self._count % self._drop == 0:
            return
        await self._hand_on(message)
        if self._twice and self._count % self._twice == 0:
            await self._hand_on(message)

    def lose(self, subject_keys: Iterable[str]) -> None:
        """Partitions were taken from the worker: one that lingers will act for them once more."""
        due_s = asyncio.get_running_loop().time() + LINGER_S
        for key in sorted(subject_keys):
            if (message := self._latest.pop(IN + key, None)) is not None:
                self._due.append((due_s, message))

    async def _go_on(self, message: Message) -> None:
        self._latest[message.subject] = message
        while self._due and self._due[0][0] <= asyncio.get_running_loop().time():
            _, old = self._due.popleft()
            for _ in range(self._linger):
                await self._hand_on(old)

    async def _hand_on(self, message: Message) -> None:
        subject = OUT + message.subject[len(IN) :]
        headers = {"Fm-Worker": self._worker_id(), "Fm-Seq": str(message.sequence)}
        if not self._stream:
            await self._client.publish(subject, message.data, headers=headers)
            return
        answer = await ask(self._client, subject, message.data, limit_s=PUBLISH_LIMIT_S, headers=headers)
        error = _acknowledged.decode(answer.data).error
        if error is not None:
            raise NotHandedOnError(f"{subject}: {error.get('description', error)}")
