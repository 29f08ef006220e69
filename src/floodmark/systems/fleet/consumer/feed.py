"""What a consumer is fed from now: its durable on the server, the pull from it, and which of its subjects are handled.

Contract: a message that was passed over is never lost sight of. Whatever is passed over (its subject was about to be given up, its pull was
closed, an update failed half-way) is either of a subject that is gone, or the durable is made anew before anything more is handled.
INVARIANT: who changes the durable holds `lock`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from floodmark.systems.fleet.consumer.binding import Binding
from floodmark.systems.fleet.consumer.claims import UNVERSIONED, Version
from floodmark.systems.fleet.consumer.errors import Failure, ServerError
from floodmark.systems.fleet.consumer.naming import Subjects
from floodmark.systems.fleet.consumer.pull import Pull
from floodmark.systems.fleet.consumer.reader import Reader, Told
from floodmark.systems.fleet.consumer.settings import ConsumerSettings

if TYPE_CHECKING:
    from nats.aio.client import Client


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What an update asked for."""

    worker_id: str
    name: str  # of the durable
    subjects: tuple[str, ...]
    version: Version


NOTHING = Wish(worker_id="", name="", subjects=(), version=UNVERSIONED)


class Feed:
    """The durable, its pull, and its reader.

    Attributes:
        applied: what was asked for and done last.
        pull: that which is handled from; None: there is none.
        fenced: everything that was asked for belongs to newer assignments.
        stopped: why it works no more; empty: it works.
        changed: set when there may be something to do.
    """

    def __init__(self, nc: Client, settings: ConsumerSettings, binding: Binding, reader: Reader, on_error: Told) -> None:
        self.applied = NOTHING
        self.pull: Pull | None = None
        self.fenced = False
        self.stopped = ""
        self.changed = asyncio.Event()
        self.lock = asyncio.Lock()
        self.binding = binding
        self.reader = reader
        self._nc = nc
        self._settings = settings
        self._on_error = on_error

    async def apply(self, wish: Wish) -> None:
        """Do what was asked for.

        Raises: ServerError; the old subjects stay then, and so they do when it is cancelled.
        """
        former = self.applied
        if not wish.subjects:
            self.applied = wish
            await self.silence()
            return
        # INVARIANT: what is given up ends here first, whatever becomes of the rest.
        before = self.reader.owned
        self.reader.owned = Subjects(name for name in before.names if name in wish.subjects)
        try:
            await self.reader.settle(self._settings.removal_s)
            if not await self._narrowed(wish):
                await self.remade(wish, take=True)
        except BaseException:
            # Something of the old subjects may have come and gone unhandled meanwhile: a new durable delivers it again, in order; nothing
            # is handled until then.
            self.reader.owned = before if self.binding.name else Subjects()
            if self.pull is not None:
                self.pull.gap = True
            self.changed.set()
            raise
        self.applied = wish
        if former.name not in ("", wish.name):
            await self._forget(former.name)

    async def remade(self, wish: Wish, *, take: bool) -> None:
        """Make the durable anew and pull from it; `take` as in `Binding.make`. Raises: ServerError."""
        if self.pull is not None:
            self.pull.quiet = True
        try:
            await self.binding.make(wish.name, wish.subjects, wish.version, take=take)
        except BaseException:
            if self.pull is not None and self.binding.name:
                self.pull.quiet = False  # the old durable was not touched
            else:
                await self._close_pull()
            raise
        await self._close_pull()
        self.reader.renew(self.binding.floors)
        self.reader.owned = Subjects(self.binding.subjects)
        self.fenced = not self.binding.subjects
        if not self.fenced:
            await self._open_pull()

    async def silence(self) -> None:
        """Consume nothing. That the server may not answer does not matter: what others want of our durable they take."""
        self.reader.owned = Subjects()
        await self._close_pull()
        await self.reader.settle(self._settings.removal_s)
        try:
            async with asyncio.timeout(self._settings.old_durable_s):
                await self.binding.release()
        except (ServerError, TimeoutError) as exc:
            self._on_error(exc)

    async def _narrowed(self, wish: Wish) -> bool:
        """Change the durable where it is; tell if that is enough: it must have had all the subjects since it was made."""
        if self.pull is None or wish.name != self.binding.name or not self.binding.has_had(wish.subjects):
            return False
        try:
            await self.binding.narrow(wish.subjects, wish.version)
        except ServerError as exc:
            if exc.failure is Failure.MISSING:
                return False
            raise
        self.reader.owned = Subjects(wish.subjects)
        return True

    async def _forget(self, name: str) -> None:
        try:
            async with asyncio.timeout(self._settings.old_durable_s):
                await self.binding.forget(name)
        except (ServerError, TimeoutError) as exc:
            self._on_error(exc)

    async def _close_pull(self) -> None:
        pull, self.pull = self.pull, None
        if pull is not None:
            await pull.close()

    async def _open_pull(self) -> None:
        settings = self._settings
        pull = Pull(
            self._nc,
            settings.stream,
            self.binding.name,
            batch_count=settings.batch_count,
            fetch_s=settings.fetch_s,
            capacity_count=settings.max_ack_pending_count,
        )
        await pull.open()
        self.pull = pull
        self.changed.set()
