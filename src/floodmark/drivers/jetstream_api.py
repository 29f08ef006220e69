"""The JSON interface of JetStream: make, look at and remove streams and consumers. Errors become RefusedError in the server's own words.

Durations are nanoseconds in the server's words. Not here: messages.
"""

from __future__ import annotations

from typing import Any

import msgspec

from floodmark.drivers.base import RefusedError
from floodmark.drivers.nats_socket import NatsSocket

NOT_FOUND = frozenset({10059, 10014})  # a stream, a consumer that is not there
MARK = "made by floodmark for one run; it is removed at its end"
Config = dict[str, Any]


class ApiError(RefusedError):
    """JetStream said no; `code` is its own number for why."""

    def __init__(self, url: str, reason: str, code: int) -> None:
        super().__init__(url, reason)
        self.args = (url, reason, code)
        self.code = code


async def ask(socket: NatsSocket, subject: str, body: object = None) -> dict[str, Any]:
    """Put one question to the JSON interface; the caller limits the wait. Raises: ApiError when the answer is an error."""
    answer = await socket.request(f"$JS.API.{subject}", body)
    try:
        said = msgspec.json.decode(answer.payload, type=dict[str, Any])
    except msgspec.MsgspecError as exc:
        raise RefusedError(socket.url, f"answered {subject} with no JSON object ({exc})") from exc
    error = said.get("error")
    if isinstance(error, dict):
        words = error.get("description", error)
        raise ApiError(socket.url, f"refused {subject.rsplit('.', 1)[0]}: {words}", int(error.get("err_code", 0)))
    return said


async def make_stream(socket: NatsSocket, config: Config) -> None:
    """Make a stream; one that is there already and is like it will do. Raises: ApiError."""
    await ask(socket, f"STREAM.CREATE.{config['name']}", config)


async def remove_stream(socket: NatsSocket, name: str) -> None:
    """Remove a stream with its consumers; one that is not there is no error. Raises: ApiError."""
    try:
        await ask(socket, f"STREAM.DELETE.{name}")
    except ApiError as exc:
        if exc.code not in NOT_FOUND:
            raise


async def make_consumer(socket: NatsSocket, stream: str, name: str, config: Config) -> None:
    """Make a consumer, or find the one of that name that is like it. Raises: ApiError."""
    await ask(socket, f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": {"name": name, **config}})


async def consumer_config(socket: NatsSocket, stream: str, name: str) -> Config | None:
    """The settings of a consumer that is there; None when there is none. Raises: ApiError."""
    try:
        said = await ask(socket, f"CONSUMER.INFO.{stream}.{name}")
    except ApiError as exc:
        if exc.code in NOT_FOUND:
            return None
        raise
    config: Config = said["config"]
    return config


async def remove_consumer(socket: NatsSocket, stream: str, name: str) -> None:
    """Remove a consumer; one that is not there is no error. Raises: ApiError."""
    try:
        await ask(socket, f"CONSUMER.DELETE.{stream}.{name}")
    except ApiError as exc:
        if exc.code not in NOT_FOUND:
            raise
