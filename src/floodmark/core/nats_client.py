"""A connection to NATS that comes back for ever, and that begins, is asked and ends within a limit all the same.

`asyncio.wait_for` can lose a cancellation to an error, or to a result, of the same moment (CPython 3.11). nats-py waits with it while it
connects: told to try for ever, it would survive a limit on its connecting, and its own close, and hold up the end of the program. So its
tries are few while it begins and when it ends, and without end only in between. It also waits with it for an answer within a limit: so the
limit of a request is ours.
Not here: the import of nats-py, which whoever has a client has done.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

_TRIES_COUNT = 20
_TRIES = "max_reconnect_attempts"
_LOGIN = re.compile(r"((?:nats|tls)://)[^/@\s,]*@")


def without_login(text: str) -> str:
    """Take user, password or token out of the URLs of servers, for whatever is shown or kept.

    >>> without_login("nats://user:secret@a:4222,nats://b")
    'nats://***@a:4222,nats://b'
    """
    return _LOGIN.sub(r"\1***@", text)


async def connect_for_good(client: Client, url: str, *, limit_s: float, tries_count: int = _TRIES_COUNT, **options: Any) -> None:
    """Connect, and from then on reconnect without end.

    Args:
        url: of the server, or of several, separated by commas.
        tries_count: of each server, within `limit_s`; at least 1.
        options: of `Client.connect`.

    Raises: TimeoutError, OSError, nats.errors.Error; the client is closed then, as it is when this is cancelled.
    """
    try:
        async with asyncio.timeout(limit_s):
            await client.connect([one.strip() for one in url.split(",")], max_reconnect_attempts=tries_count, **options)
    except BaseException:
        await close_for_good(client)
        raise
    client.options[_TRIES] = -1


async def ask(client: Client, subject: str, payload: bytes = b"", *, limit_s: float, headers: dict[str, str] | None = None) -> Msg:
    """One request. Cancelled, it ends, also when its answer comes at that moment. Raises: TimeoutError, nats.errors.Error."""
    async with asyncio.timeout(limit_s):
        return await client.request(subject, payload, timeout=None, headers=headers)  # type: ignore[arg-type]  # None: it keeps no limit


async def close_for_good(client: Client) -> None:
    """Close a connection that may be about to reconnect. One that is closed, or never began, is no error."""
    if client._flush_queue is None:  # it never began, and its own close would be an assertion
        return
    client.options[_TRIES] = 1
    await client.close()
