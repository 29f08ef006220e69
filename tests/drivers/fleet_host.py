"""The least fleet: a nats-server, and a host in the test's own process that does the words and hands messages on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from floodmark.core.nats_server import EmbeddedNats
from floodmark.drivers.fleet_notes import BUCKETS

TTL_S = 2.0


class Host:
    """Workers are names here; `assign` gives each an equal part."""

    def __init__(self, client: Client, *, partitions_count: int = 4, out_stream: bool = True) -> None:
        self.client = client
        self.js: JetStreamContext = client.jetstream()
        self.partitions_count = partitions_count
        self.workers: list[str] = []
        self.words: list[dict[str, Any]] = []
        self.version = 0
        self.stands = True
        self._out_stream = out_stream

    async def begin(self) -> None:
        """Make what a fleet makes, and answer."""
        for bucket in BUCKETS.values():
            await self.js.create_key_value(bucket=bucket, history=64, ttl=TTL_S)
        await self.js.add_stream(name="FM_IN", subjects=["in.*"], retention="workqueue")
        if self._out_stream:
            await self.js.add_stream(name="FM_OUT", subjects=["out.*"])
        await self.client.subscribe("fleet.control", cb=self._on_word)
        await self.js.subscribe("in.*", stream="FM_IN", durable="w", cb=self._on_message, manual_ack=True)

    def owner(self, partition: str) -> str:
        """Who hands on what comes for a partition."""
        return self.workers[int(partition[1:]) % len(self.workers)]

    async def _on_message(self, message: Msg) -> None:
        name = message.subject.partition(".")[2]
        await self.client.publish(f"out.{name}", message.data, headers={"Fm-Worker": self.owner(name)})
        await message.ack()

    async def _on_word(self, message: Msg) -> None:
        word = json.loads(message.data)
        self.words.append(word)
        answer: dict[str, Any] = {"ok": True, "begun_ns": time.time_ns()}
        struck: list[str] = []
        match word["do"]:
            case "start":
                new = [f"worker-{len(self.workers) + number}" for number in range(int(word.get("count", 1)))]
                self.workers += new
                struck = new
            case "kill":
                number = int(word["worker"])
                if not 0 < number <= len(self.workers):
                    await message.respond(json.dumps({"ok": False, "error": f"there is no worker {number}"}).encode())
                    return
                struck = [self.workers.pop(number - 1)]
            case "pause":
                struck = [str(word["worker"])]
                answer["workers"] = [{"worker": word["worker"], "number": self.workers.index(word["worker"]) + 1}]
            case "status":
                answer["workers"] = [{"worker": name, "pid": os.getpid(), "state": "Stable", "tasks": 6} for name in self.workers]
        for worker in struck:
            await self.client.publish(f"done.{word['do']}", json.dumps({"begun_ns": answer["begun_ns"], "worker": worker}).encode())
        await message.respond(json.dumps(answer).encode())
        if self.stands and word["do"] in ("start", "kill"):
            await self.assign()

    async def assign(self) -> None:
        """One round, applied at once."""
        self.version += 1
        names = [f"p{number}" for number in range(self.partitions_count)]
        for worker in self.workers:
            parts = [{"keys": [name], "weight": 100} for name in names if self.owner(name) == worker]
            record = {"epoch": 1, "version": self.version, "lifecycle": "planned_scale", "partitions": parts}
            await self._put("assignment", f"assignment.{worker}", record)
            beat = {"worker": worker, "token": worker, "epoch": 1, "version": self.version, "applied": True}
            await self._put("heartbeat", f"heartbeat.{worker}", beat)

    async def _put(self, bucket: str, key: str, value: object) -> None:
        await self.js.publish(f"$KV.{BUCKETS[bucket]}.{key}", json.dumps(value).encode())


@asynccontextmanager
async def serving(url: str, **options: Any) -> AsyncIterator[Host]:
    """A host on a server that is there."""
    client = await nats.connect(url, allow_reconnect=False)
    try:
        host = Host(client, **options)
        await host.begin()
        yield host
    finally:
        await client.close()


@asynccontextmanager
async def hosting(**options: Any) -> AsyncIterator[tuple[str, Host]]:
    """A host on a server of its own; gives the URL and the host."""
    async with EmbeddedNats() as server, serving(server.url, **options) as host:
        yield server.url, host
