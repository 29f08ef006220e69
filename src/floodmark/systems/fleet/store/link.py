"""One connection to a NATS server, as a store needs it: every request has a limit, and a lost connection is told at once.

nats-py connects again by itself, for ever. What is asked meanwhile is refused here instead of being kept for later: a heartbeat that
arrives long after it was true does harm. What was under way when the connection broke fails at that moment, not at its limit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Self, TypeVar

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from floodmark.core.nats_client import close_for_good, connect_for_good, without_login
from floodmark.systems.fleet.store.base import StoreUnavailableError

RECONNECT_S = 0.25
_log = logging.getLogger("floodmark.fleet")
Answer = TypeVar("Answer")


class ApiError(msgspec.Struct, frozen=True):
    """The server's own words for a refusal."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class Link:
    """A connection and what is under way on it."""

    def __init__(self, *, operation_s: float) -> None:
        self.client = Client()
        self.operation_s = operation_s
        self.offset_s = 0.0  # the server's wall clock less our loop's
        self.on_lost: set[Callable[[str], None]] = set()  # watches: each is told once, and takes itself out
        self._limits: set[asyncio.Timeout] = set()
        self._last_error = ""

    @classmethod
    async def open(cls, url: str, *, name: str, operation_s: float, connect_s: float, ping_s: float, credentials: str) -> Self:
        """Connect. Raises: StoreUnavailableError when there is no server within `connect_s`."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + connect_s
        while True:
            link = cls(operation_s=operation_s)
            try:
                await connect_for_good(
                    link.client,
                    url,
                    limit_s=until_s - loop.time(),
                    tries_count=1,
                    name=name or None,
                    user_credentials=credentials or None,
                    error_cb=link._note_error,
                    disconnected_cb=link._lose,
                    reconnect_time_wait=RECONNECT_S,
                    connect_timeout=2,
                    ping_interval=ping_s,
                    max_outstanding_pings=2,
                    pending_size=0,  # nothing is kept for a later connection
                )
            except (TimeoutError, OSError, nats.errors.Error) as exc:
                if loop.time() >= until_s:
                    why = link._last_error or str(exc) or f"no answer within {connect_s:g} s"
                    raise StoreUnavailableError(f"connect to {without_login(url)}", why) from exc
            else:
                return link

    @property
    def connected(self) -> bool:
        """Whether the connection stands."""
        return bool(self.client.is_connected)

    async def close(self) -> None:
        """End it; who waits for an answer is told."""
        await close_for_good(self.client)

    async def ask(self, operation: str, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None) -> Msg:
        """One request. Raises: StoreUnavailableError when it was not answered, whatever the reason."""
        if not self.client.is_connected:
            raise StoreUnavailableError(operation, f"there is no connection to NATS {self._last_error}".rstrip())
        limit = asyncio.timeout(self.operation_s)
        try:
            async with limit:
                self._limits.add(limit)
                # No limit of its own: ours ends it.
                return await self.client.request(subject, payload, timeout=None, headers=headers)  # type: ignore[arg-type]
        except TimeoutError as exc:
            lost = "the connection to NATS was lost" if not self.client.is_connected else f"NATS gave no answer in {self.operation_s:g} s"
            raise StoreUnavailableError(operation, lost) from exc
        except nats.errors.NoRespondersError as exc:
            raise StoreUnavailableError(
                operation, "nobody answers there: NATS has no JetStream, is starting, or has no such bucket"
            ) from exc
        except (nats.errors.Error, OSError) as exc:
            raise StoreUnavailableError(operation, str(exc) or type(exc).__name__) from exc
        finally:
            self._limits.discard(limit)

    async def call(self, operation: str, word: str, request: Any, kind: type[Answer]) -> Answer:
        """One word of the JetStream API, request and answer as JSON."""
        message = await self.ask(operation, f"$JS.API.{word}", msgspec.json.encode(request) if request is not None else b"")
        try:
            return msgspec.json.decode(message.data, type=kind)
        except msgspec.MsgspecError as exc:
            raise StoreUnavailableError(operation, f"NATS answered what is no JetStream: {exc}") from exc

    async def _note_error(self, error: Exception) -> None:
        self._last_error = str(error) or type(error).__name__
        _log.debug("NATS: %s", self._last_error)

    async def _lose(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for limit in tuple(self._limits):
            limit.reschedule(now_s)
        for tell in tuple(self.on_lost):
            tell("the connection to NATS was lost")
