"""The figures of all hub processes of one bus, as one: each tells the others whenever its own have changed, and answers when asked.

A plain GET of `/metrics` must be answered at once, so it adds what the others said last, at most 50 ms ago; the `stats` query asks them
and waits. Both are exact when nothing moves.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from floodmark.systems.hub.bus.base import end
from floodmark.systems.hub.metrics import Snapshot

_TOLD = "floodmark.hub.snapshots"
_ASK = "floodmark.hub.ask"
_INTERVAL_S = 0.05
_STALE_S = 5.0  # somebody who has said nothing for this long is gone: everyone repeats itself before that
_REPEAT_S = 1.0
_ANSWER_LIMIT_S = 0.5

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, Snapshot]).decode


class Peers:
    """The other hub processes, as far as their figures go."""

    def __init__(self, client: Client, mine: Callable[[], Snapshot]) -> None:
        self._client = client
        self._mine = mine
        self._name = uuid.uuid4().hex
        self._others: dict[str, tuple[float, Snapshot]] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen, make ourselves known, ask who else is there, and begin to tell."""
        await self._client.subscribe(_TOLD, cb=self._heard)
        await self._client.subscribe(_ASK, cb=self._asked)
        await self._client.publish(_TOLD, self._body())
        await self._client.publish(_ASK, b"", reply=_TOLD)
        await self._client.flush()
        self._task = asyncio.create_task(self._tell())  # parent: this object; stop() cancels and awaits it

    async def stop(self) -> None:
        """Tell no more."""
        if self._task is not None:
            await end([self._task])

    async def _heard(self, message: Msg) -> None:
        name, snapshot = _decode(message.data)
        if name != self._name:
            self._others[name] = (time.monotonic(), snapshot)

    async def _asked(self, message: Msg) -> None:
        await message.respond(self._body())

    def _body(self) -> bytes:
        return _encode((self._name, self._mine()))

    async def _tell(self) -> None:
        said, said_s = b"", 0.0
        while True:
            body = self._body()
            if body != said or time.monotonic() - said_s >= _REPEAT_S:
                if self._client.is_connected:
                    await self._client.publish(_TOLD, body)
                said, said_s = body, time.monotonic()
            await asyncio.sleep(_INTERVAL_S)

    def total(self) -> Snapshot:
        """Add up our own figures, as of now, and what the others said last."""
        now_s = time.monotonic()
        self._others = {name: told for name, told in self._others.items() if now_s - told[0] < _STALE_S}
        total = self._mine()
        for _, snapshot in self._others.values():
            total.add(snapshot)
        return total

    async def ask(self) -> Snapshot:
        """Add up everyone's figures as of now; whoever does not answer in time counts with what it said last."""
        if not self._client.is_connected:  # the client would keep the question for later
            return self.total()
        inbox = self._client.new_inbox()
        with contextlib.suppress(nats.errors.Error, TimeoutError):  # who came before this has been heard after it
            await self._client.flush(1)
            await asyncio.sleep(0)  # the client hands messages to callbacks in a task of its own
        missing = set(self._others)
        answered = asyncio.Event()

        async def took(message: Msg) -> None:
            await self._heard(message)
            missing.discard(_decode(message.data)[0])
            if not missing:
                answered.set()

        subscription = await self._client.subscribe(inbox, cb=took)
        try:
            await self._client.publish(_ASK, b"", reply=inbox)
            if missing:
                async with asyncio.timeout(_ANSWER_LIMIT_S):
                    await answered.wait()
        except TimeoutError:
            pass
        finally:
            await subscription.unsubscribe()
        return self.total()
