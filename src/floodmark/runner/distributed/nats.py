"""A connection to NATS for agents and their runner: it tries to come back for ever, and says in one sentence why it could not begin."""

from __future__ import annotations

import logging

from nats.aio.client import Client
from nats.errors import Error

from floodmark.core.errors import UsageError
from floodmark.core.nats_client import connect_for_good, without_login

CONNECT_LIMIT_S = 3.0
_log = logging.getLogger("floodmark.nats")


async def connect(url: str, name: str) -> Client:
    """Connect. Raises: UsageError when nobody answers at `url`, or refuses us."""
    client = Client()
    reason = ""

    async def failed(error: Exception) -> None:
        nonlocal reason
        reason = str(error) or type(error).__name__
        _log.debug("%s", reason)

    try:
        await connect_for_good(
            client, url, limit_s=CONNECT_LIMIT_S, name=name, error_cb=failed, connect_timeout=2, reconnect_time_wait=1, ping_interval=5
        )
    except (OSError, TimeoutError, ValueError, Error) as exc:
        why = reason or str(exc) or type(exc).__name__
        raise UsageError(f"no NATS server at {without_login(url)}: {why}; start one, or give another URL with --nats") from exc
    return client
