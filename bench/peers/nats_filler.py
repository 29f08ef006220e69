"""Fill a subject of a NATS server with stamped messages: `python -m bench.peers.nats_filler URL core|stream COUNT`.

The stream is there already. 2,000 messages at once may wait for their acknowledgement, or for the server's confirmation where there is no
stream. Says `{"sent": ...}`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop

from floodmark.drivers import build
from floodmark.drivers.base import Connection
from floodmark.ledger.block import Block
from floodmark.ledger.stamp import Stamper

RUN = 0x5A75
SUBJECT, STREAM = f"fm{RUN:x}.0", f"floodmark-fm{RUN:x}"
PAYLOAD_BYTES = 100
WINDOW_COUNT = 2_000
TURN_COUNT = 256


class Answers:
    """Counts what was acknowledged; a sink that nothing else comes to."""

    takes_blocks = False

    def __init__(self) -> None:
        self.acknowledged_count = 0
        self.failure = ""
        self.put = lambda frame: None
        self.turn = lambda: None

    def put_block(self, block: Block) -> None: ...

    def acknowledged(self, token: int) -> None:
        self.acknowledged_count += 1

    def refused(self, token: int, reason: str) -> None:
        self.failure = reason

    def ended(self, slot: int, reason: str) -> None: ...

    def closed(self, connection: Connection, reason: str) -> None:
        self.failure = self.failure or reason


async def main(url: str, kind: str, count: int) -> None:
    """Send `count` messages."""
    answers, stamper = Answers(), Stamper(RUN, "binary", PAYLOAD_BYTES)
    driver = build("nats", {}) if kind == "core" else build("jetstream", {"stream": STREAM, "message_ids": False})
    connection = await driver.connect(url, SUBJECT, answers, limit_s=10.0)
    sent = 0
    while answers.acknowledged_count < count and not answers.failure:
        room = min(count - sent, WINDOW_COUNT - (sent - answers.acknowledged_count), TURN_COUNT)
        for seq in range(sent, sent + max(0, room)):
            now_ns = time.monotonic_ns()
            connection.publish(SUBJECT, stamper.payload(0, seq, now_ns, now_ns), seq + 1)
        sent += max(0, room)
        await asyncio.sleep(0)
    print(json.dumps({"sent": answers.acknowledged_count, "failure": answers.failure}), flush=True)
    await connection.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
