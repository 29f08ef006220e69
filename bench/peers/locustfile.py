"""Locust, doing the same stamp check on a WebSocket user. Settings come from the environment:

BENCH_URL, BENCH_RUN; BENCH_EXPECTED messages (0: stay connected and idle); BENCH_STATISTICS=1 fires Locust's request event per message,
which is how a message reaches Locust's own statistics.
"""

from __future__ import annotations

import os
from typing import Any

import gevent
import websocket
from locust import User, constant, task

from bench.peers.check import Check

URL = os.environ["BENCH_URL"]
EXPECTED = int(os.environ["BENCH_EXPECTED"])
STATISTICS = os.environ.get("BENCH_STATISTICS") == "1"


class Subscriber(User):
    """Connects, then receives until its account is complete."""

    wait_time = constant(0)

    @task
    def listen(self) -> None:
        connection = websocket.create_connection(URL, skip_utf8_validation=True, enable_multithread=False)
        if EXPECTED:
            self.receive(connection)
        while True:
            gevent.sleep(3600)

    def receive(self, connection: websocket.WebSocket) -> None:
        """Check every message."""
        check = Check(int(os.environ["BENCH_RUN"]), EXPECTED)
        fire = self.environment.events.request.fire
        complete = False
        while not complete:
            data: Any = connection.recv()  # bytes, as all frames are binary
            complete = check.message(data)
            if STATISTICS:
                fire(
                    request_type="WS",
                    name="message",
                    response_time=check.latency_ns / 1e6,
                    response_length=len(data),
                    exception=None,
                    context={},
                )
        check.report()
