"""What nats-py alone takes per message: it counts what it is given and checks nothing. `python -m bench.peers.nats_bare URL KIND COUNT`.

KIND is `core`, `ordered` (pushed) or `pull` (500 at once, each acknowledged). Says `{"ready": ...}` and, at the end, `{"received": ...}`.
"""

from __future__ import annotations

import asyncio
import json
import sys

import nats
import uvloop
from nats.aio.msg import Msg
from nats.js.api import StorageType, StreamConfig
from nats.js.client import JetStreamContext

from bench.peers.nats_filler import STREAM, SUBJECT

BATCH_COUNT = 500


async def main(url: str, kind: str, count: int) -> None:
    """Take `count` messages."""
    client = await nats.connect(url, pending_size=1 << 26)
    done = asyncio.Event()
    received = 0

    async def take(message: Msg) -> None:
        nonlocal received
        received += 1
        if received >= count:
            done.set()

    js = client.jetstream()
    if kind == "core":
        await client.subscribe(SUBJECT, cb=take, pending_msgs_limit=-1, pending_bytes_limit=-1)
        await client.flush()
    else:
        await js.add_stream(StreamConfig(name=STREAM, subjects=[SUBJECT], storage=StorageType.MEMORY))
    if kind == "ordered":
        await js.subscribe(SUBJECT, ordered_consumer=True, cb=take, pending_msgs_limit=-1, pending_bytes_limit=-1)
    pulled = await js.pull_subscribe(SUBJECT, "bench") if kind == "pull" else None
    print(json.dumps({"ready": kind}), flush=True)
    if pulled is not None:
        received = await pull(pulled, count)
    else:
        await done.wait()
    print(json.dumps({"received": received}), flush=True)
    await asyncio.Event().wait()  # until it is ended, so that its CPU time can be read


async def pull(pulled: JetStreamContext.PullSubscription, count: int) -> int:
    """Pull and acknowledge until all have come."""
    received = 0
    while received < count:
        try:
            messages = await pulled.fetch(min(BATCH_COUNT, count - received), timeout=60)
        except nats.errors.TimeoutError:
            continue
        for message in messages:
            await message.ack()
        received += len(messages)
    return received


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
