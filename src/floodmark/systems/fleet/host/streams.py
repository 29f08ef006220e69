"""The streams of the load: FM_IN, a work queue of `in.{partition}`, and FM_OUT, what the workers made of it."""

from __future__ import annotations

from typing import Any

import msgspec

from floodmark.core.errors import FloodmarkError
from floodmark.systems.fleet.store.link import ApiError, Link

FM_IN, FM_OUT = "FM_IN", "FM_OUT"
NAME_IN_USE = 10058


class StreamError(FloodmarkError):
    """NATS did not make a stream."""


class _Made(msgspec.Struct, frozen=True):
    error: ApiError | None = None


async def make_streams(link: Link, *, out_stream: bool) -> None:
    """Make them where they are not there; those that are, are used as they are. Raises: StreamError, StoreUnavailableError."""
    wanted: list[dict[str, Any]] = [{"name": FM_IN, "subjects": ["in.*"], "retention": "workqueue", "storage": "file"}]
    if out_stream:
        wanted.append({"name": FM_OUT, "subjects": ["out.*"], "retention": "limits", "storage": "file"})
    for config in wanted:
        made = await link.call(f"make stream {config['name']}", f"STREAM.CREATE.{config['name']}", config, _Made)
        if made.error is not None and made.error.err_code != NAME_IN_USE:
            raise StreamError(f"NATS did not make the stream {config['name']}: {made.error.description}")
