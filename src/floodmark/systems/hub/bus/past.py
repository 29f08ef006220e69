"""What a stream keeps of the past, so that a hub that starts again has its history and resume points hold.

Without history a stream keeps a message until every process has it. With history it keeps the newest `KEPT_MESSAGES` beyond that: each
process that starts reads them first, and from time to time what is older, and in every process's log, is cut off.
Limits: a message holds the events of one channel that came up together, so how many events are kept depends on the load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy

KEPT_MESSAGES = 20_000
_READ_LIMIT_S = 10.0
_CUT_EVERY_S = 2.0


async def read_past(js: JetStreamContext, stream: str, subject: str, take: Callable[[Msg], None]) -> int:
    """Hand over all that a stream holds now, oldest first; gives the sequence number of the last.

    Raises: TimeoutError when the stream says no more though it has more.
    """
    state = (await js.stream_info(stream)).state
    if not state.messages:
        return int(state.last_seq)
    reader = await js.subscribe(subject, stream=stream, ordered_consumer=True, config=ConsumerConfig(deliver_policy=DeliverPolicy.ALL))
    try:
        while True:
            message = await reader.next_msg(timeout=_READ_LIMIT_S)
            take(message)
            if not message.metadata.num_pending or message.metadata.sequence.stream >= state.last_seq:
                return int(message.metadata.sequence.stream)
    finally:
        await reader.unsubscribe()


async def cut_past(js: JetStreamContext, stream: str) -> None:
    """Cut off what is too old, again and again. Ends when cancelled."""
    while True:
        await asyncio.sleep(_CUT_EVERY_S)
        try:
            readers = await js.consumers_info(stream)
            state = (await js.stream_info(stream)).state
            reached = min((reader.ack_floor.stream_seq for reader in readers if reader.ack_floor is not None), default=0)
            first = min(reached, state.last_seq - KEPT_MESSAGES) + 1
            if first > state.first_seq:
                await js.purge_stream(stream, seq=first)
        except (TimeoutError, OSError, nats.errors.Error):  # it is down; later
            continue
