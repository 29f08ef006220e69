"""Takes words on the NATS subject `fleet.control`, has them done, answers in one sentence, and tells the record.

Each word that was done is published on `done.{word}`, once for each worker that it struck, with the wall clock before and after: the
stream FM_RECORD keeps it where somebody has made one. Words are done beside each other, WORDS_AT_ONCE at most. Those that end the server
are answered first, since who asked may not be back when the server is; `server_kill` is told to the record before it, and `server_restart`,
of either, when the server answers again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import msgspec
import nats.errors
from nats.aio.msg import Msg

from floodmark.core.errors import FloodmarkError
from floodmark.core.tasks import group
from floodmark.systems.fleet.host.squad import Squad
from floodmark.systems.fleet.host.streams import FM_IN
from floodmark.systems.fleet.host.words import Struck, Word, Words
from floodmark.systems.fleet.store.base import StoreError
from floodmark.systems.fleet.store.link import Link

SUBJECT = "fleet.control"
WORDS_AT_ONCE = 64
BACK_LIMIT_S = 15.0  # for a server that was started again to take what we have to tell
SERVER_WORDS = ("server_kill", "server_restart")
_PAUSE_S = 0.05
_WRITTEN_S = 0.1  # for the server to write to others what it has taken from us: it answers our own ping before that
_log = logging.getLogger("floodmark.fleet")


class Done(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer; `at_ns` is the wall clock when it was done, `begun_ns` when we set about it."""

    ok: bool
    at_ns: int = 0
    begun_ns: int = 0
    error: str = ""
    workers: list[dict[str, Any]] = []
    partitions: int = 0


class Control:
    """Between NATS and `Words`."""

    def __init__(self, words: Words, link: Link) -> None:
        self._words = words
        self._link = link
        self._running: set[asyncio.Task[None]] = set()

    async def serve(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Take words until `stop` is set; those still at work are cancelled then. `ready` is called when words are heard."""
        async with group() as tasks:

            async def take(message: Msg) -> None:
                if len(self._running) >= WORDS_AT_ONCE:
                    await message.respond(msgspec.json.encode(Done(ok=False, error=f"{WORDS_AT_ONCE} words are at work already; wait")))
                    return
                task = tasks.create_task(self._respond(message))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

            subscription = await self._link.client.subscribe(SUBJECT, cb=take, pending_msgs_limit=WORDS_AT_ONCE * 4)
            await self._link.client.flush()
            ready()
            await stop.wait()
            if self._link.connected:
                await subscription.unsubscribe()
            for task in tuple(self._running):
                task.cancel()

    async def felt(self, squad: Squad, what: str) -> None:
        """A planted fault has struck in a process: tell the record."""
        now_ns = time.time_ns()
        await self._mark(what, [(squad, None)], begun_ns=now_ns, at_ns=now_ns)

    async def _respond(self, message: Msg) -> None:
        begun_ns = time.time_ns()
        word, done = await self._done(message.data, begun_ns)
        if self._link.connected:
            try:
                await message.respond(msgspec.json.encode(done))
                await self._link.client.flush()
                if done.ok and word.do in SERVER_WORDS:
                    await asyncio.sleep(_WRITTEN_S)  # INVARIANT: who asked has the answer before the server goes, which would take it along
                    await self._link.client.flush()
            except nats.errors.Error as exc:  # the server went meanwhile: who asked has no answer, but the host goes on
                _log.warning("the answer to %s did not get out: %s", word.do or "a word", exc)
        if done.ok and word.do in SERVER_WORDS:
            begun_ns = time.time_ns()
            try:
                await (self._words.kill_server(word.for_s) if word.do == "server_kill" else self._words.restart_server())
            except FloodmarkError as exc:
                _log.error("the NATS server did not come back: %s", exc)
                return
            await self._back()
            await self._mark("server_restart", [], begun_ns=begun_ns, at_ns=time.time_ns())

    async def _done(self, text: bytes, begun_ns: int) -> tuple[Word, Done]:
        """Have one word done; whatever is wrong with it is in the answer."""
        try:
            word = msgspec.json.decode(text, type=Word)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:  # no UTF-8 inside, or nested too deeply
            return Word(do=""), Done(ok=False, error=f'{exc}; send for example {{"do": "start", "count": 3}}')
        try:
            if word.do == "status":
                return word, Done(ok=True, begun_ns=begun_ns, at_ns=time.time_ns(), workers=await self._words.status(word))
            struck = await self._words.act(word)
        except (FloodmarkError, OSError) as exc:
            return word, Done(ok=False, begun_ns=begun_ns, at_ns=time.time_ns(), error=str(exc))
        at_ns = time.time_ns()
        if word.do != "server_restart":
            await self._mark(word.do, struck, begun_ns=begun_ns, at_ns=at_ns)
        workers = [
            {"number": member.number, "worker": member.worker, "pid": squad.pid if squad else 0} for squad, member in struck if member
        ]
        return word, Done(ok=True, begun_ns=begun_ns, at_ns=at_ns, workers=workers, partitions=self._words.partitions_count)

    async def _back(self) -> None:
        """Wait until a server that was started again answers for its streams, BACK_LIMIT_S at most."""
        try:
            async with asyncio.timeout(BACK_LIMIT_S):
                while True:
                    try:
                        await self._link.ask("look for the server", f"$JS.API.STREAM.INFO.{FM_IN}")
                        return
                    except StoreError:
                        await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            return

    async def _mark(self, word: str, struck: Struck, *, begun_ns: int, at_ns: int) -> None:
        """Tell the record what was done to whom; where nobody keeps one, nobody is told."""
        for squad, member in struck or [(None, None)]:
            told: dict[str, Any] = {"at_ns": at_ns, "begun_ns": begun_ns, "pid": squad.pid if squad else 0}
            told |= {"worker": member.worker, "number": member.number} if member else {"worker": "", "number": 0}
            try:
                await self._link.ask(f"mark {word}", f"done.{word}", msgspec.json.encode(told))
            except StoreError:
                return
