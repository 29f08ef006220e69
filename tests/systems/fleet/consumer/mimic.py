"""What a durable consumer sees of JetStream, in memory, for virtual time: a work queue, and lines that are slow, lose answers and break.

It does as nats-server 2.15 was measured to do where that matters: a filter that grows does not rewind; what was delivered and not
acknowledged comes again even when its subject has left the filter; of overlapping filters the second is refused; an acknowledgement of what
was not delivered is ignored; who pulls from a durable that is deleted is told.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import nats.errors
from nats.aio.msg import Msg

NANOSECONDS = 1_000_000_000
NOT_FOUND, EXISTS, NO_SUCH, NOT_UNIQUE = 10014, 10148, 10149, 10100

Callback = Callable[[Msg], Awaitable[None]]


class Refusal(Exception):
    """What the server answers instead of doing it."""

    def __init__(self, code: int, error_code: int, description: str) -> None:
        super().__init__(description)
        self.words = {"code": code, "err_code": error_code, "description": description}


class Asked:
    """A pull that waits."""

    def __init__(self, line: Line, inbox: str, count: int, expires_s: float) -> None:
        self.line, self.inbox, self.count, self.expires_s = line, inbox, count, expires_s


class Durable:
    """One consumer on the server."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.position = 1
        self.delivered = 0
        self.pending: dict[int, tuple[int, float, int]] = {}  # by sequence: number of the delivery, until when, how often
        self.again: set[int] = set()
        self.asked: list[Asked] = []

    @property
    def subjects(self) -> set[str]:
        return set(self.config["filter_subjects"])

    @property
    def floor(self) -> int:
        return min(self.pending, default=self.position) - 1

    def info(self) -> dict[str, Any]:
        return {
            "name": self.config["name"],
            "config": self.config,
            "ack_floor": {"stream_seq": self.floor},
            "delivered": {"consumer_seq": self.delivered},
        }


class Server:
    """One stream and its consumers."""

    def __init__(self) -> None:
        self.messages: dict[int, tuple[str, bytes]] = {}
        self.last = 0
        self.durables: dict[str, Durable] = {}

    def store(self, subject: str, data: bytes) -> None:
        self.last += 1
        self.messages[self.last] = (subject, data)
        for durable in self.durables.values():
            self._deliver(durable)

    def answer(self, subject: str, words: dict[str, Any]) -> dict[str, Any]:
        """Do what the API is asked for."""
        _, _, *what = subject.split(".")
        match what:
            case ["STREAM", "INFO", _]:
                return {"config": {"retention": "workqueue"}}
            case ["CONSUMER", "LIST", _]:
                page = [self.durables[name].info() for name in sorted(self.durables)][words["offset"] :]
                return {"consumers": page, "total": len(self.durables)}
            case ["CONSUMER", "INFO", _, name]:
                return self._found(name).info()
            case ["CONSUMER", "DELETE", _, name]:
                durable = self._found(name)
                del self.durables[name]
                for asked in durable.asked:
                    asked.line.status(asked.inbox, "409", "Consumer Deleted")
                return {"success": True}
            case ["CONSUMER", "CREATE", _, name]:
                return self._write(name, words["config"], words["action"])
        raise AssertionError(subject)

    def _found(self, name: str) -> Durable:
        if name not in self.durables:
            raise Refusal(404, NOT_FOUND, "consumer not found")
        return self.durables[name]

    def _write(self, name: str, config: dict[str, Any], action: str) -> dict[str, Any]:
        durable = self.durables.get(name)
        if durable is None and action == "update":
            raise Refusal(400, NO_SUCH, "consumer does not exist")
        if durable is not None and action == "create" and durable.config != config:
            raise Refusal(400, EXISTS, "consumer already exists")
        wanted = set(config["filter_subjects"])
        if any(wanted & other.subjects for key, other in self.durables.items() if key != name):
            raise Refusal(400, NOT_UNIQUE, "filtered consumer not unique on workqueue stream")
        if durable is None:
            durable = self.durables[name] = Durable(config)
        durable.config = config
        return durable.info()

    def pull(self, line: Line, name: str, inbox: str, words: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        durable = self.durables.get(name)
        if durable is None:
            line.status(inbox, "503", "")
            return
        asked = Asked(line, inbox, words["batch"], loop.time() + words["expires"] / NANOSECONDS)
        durable.asked.append(asked)
        self._deliver(durable)
        loop.call_later(words["idle_heartbeat"] / NANOSECONDS, self._beat, durable, asked, words["idle_heartbeat"] / NANOSECONDS)

    def _beat(self, durable: Durable, asked: Asked, period_s: float) -> None:
        loop = asyncio.get_running_loop()
        if asked not in durable.asked or self.durables.get(durable.config["name"]) is not durable:
            return
        if loop.time() >= asked.expires_s:
            durable.asked.remove(asked)
            asked.line.status(asked.inbox, "408", "Request Timeout")
            return
        asked.line.status(asked.inbox, "100", "Idle Heartbeat")
        loop.call_later(period_s, self._beat, durable, asked, period_s)

    def acknowledge(self, reply: str, word: bytes) -> None:
        _, _, _, name, _, sequence_word, *_ = reply.split(".")
        durable, sequence = self.durables.get(name), int(sequence_word)
        if durable is None or sequence not in durable.pending:
            return
        if word == b"+ACK":
            del durable.pending[sequence]
            durable.again.discard(sequence)
            self.messages.pop(sequence, None)
        elif word == b"-NAK":
            durable.again.add(sequence)
        self._deliver(durable)

    def forget(self, line: Line) -> None:
        """A connection broke: its pulls wait no longer."""
        for durable in self.durables.values():
            durable.asked = [asked for asked in durable.asked if asked.line is not line]

    def _deliver(self, durable: Durable) -> None:
        loop = asyncio.get_running_loop()
        while durable.asked and (sequence := self._next(durable)):
            asked = durable.asked[0]
            asked.count -= 1
            if not asked.count:
                durable.asked.pop(0)
            durable.delivered += 1
            ack_wait_s = durable.config["ack_wait"] / NANOSECONDS
            times = durable.pending[sequence][2] + 1 if sequence in durable.pending else 1
            durable.pending[sequence] = (durable.delivered, loop.time() + ack_wait_s, times)
            loop.call_later(ack_wait_s, self._expire, durable, sequence, durable.delivered)
            subject, data = self.messages[sequence]
            reply = f"$JS.ACK.FM_IN.{durable.config['name']}.{times}.{sequence}.{durable.delivered}.0.0"
            asked.line.bring(asked.inbox, subject, reply, data)

    def _next(self, durable: Durable) -> int:
        """What is delivered next; 0: nothing."""
        most = durable.config["max_deliver"]
        for sequence in sorted(durable.again):
            durable.again.discard(sequence)
            if sequence in self.messages and (most < 0 or durable.pending[sequence][2] < most):
                return sequence
        while durable.position <= self.last:
            durable.position += 1
            if durable.position - 1 in self.messages and self.messages[durable.position - 1][0] in durable.subjects:
                return durable.position - 1
        return 0

    def _expire(self, durable: Durable, sequence: int, number: int) -> None:
        if sequence in durable.pending and durable.pending[sequence][0] == number:
            durable.again.add(sequence)
            self._deliver(durable)


class Line:
    """A worker's connection: in order, slow at random; `loss_ratio` of its requests are lost, on the way there or on the way back."""

    def __init__(self, server: Server, rng: Random, number: int) -> None:
        self.client_id = number
        self.stats = {"reconnects": 0}
        self.loss_ratio = 0.0
        self.closed = False
        self._server, self._rng = server, rng
        self._inboxes = 0
        self._heard: dict[str, Callback] = {}
        self._there_s = self._back_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    # what the consumer asks of a client

    def new_inbox(self) -> str:
        self._inboxes += 1
        return f"_INBOX.{self.client_id}.{self._inboxes}"

    async def subscribe(self, subject: str, *, cb: Callback, pending_msgs_limit: int) -> Subscription:
        inbox = subject.removesuffix(".*")
        self._heard[inbox] = cb
        return Subscription(lambda: self._heard.pop(inbox, None))

    async def publish(self, subject: str, payload: bytes = b"", reply: str = "") -> None:
        if self.closed:
            raise nats.errors.ConnectionClosedError
        if subject.startswith("$JS.ACK."):
            self._there(lambda: self._server.acknowledge(subject, payload))
        else:
            self._there(lambda: self._server.pull(self, subject.rsplit(".", 1)[1], reply, json.loads(payload)))

    async def request(self, subject: str, payload: bytes, *, timeout: float | None, headers: object = None) -> Msg:
        if self.closed:
            raise nats.errors.ConnectionClosedError
        came: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def say(said: dict[str, Any]) -> None:
            if not came.done():
                came.set_result(json.dumps(said).encode())

        fate = self._rng.random() / self.loss_ratio if self.loss_ratio else 1.0

        def arrive() -> None:
            try:
                said = self._server.answer(subject, json.loads(payload or b"{}"))
            except Refusal as exc:
                said = {"error": exc.words}
            if fate >= 0.5:
                self._back(lambda: say(said))

        if fate >= 1.0 or fate < 0.5:
            self._there(arrive)
        elif fate < 0.75:  # refused, and not done
            full = {"error": {"code": 500, "err_code": 10023, "description": "insufficient resources"}}
            self._there(lambda: self._back(lambda: say(full)))
        try:
            async with asyncio.timeout(timeout):
                return Msg(self, data=await came)  # type: ignore[arg-type]
        except TimeoutError:
            raise nats.errors.TimeoutError from None

    # what happens to it

    def break_off(self) -> None:
        """What is on the way is lost, both ways; the client is connected again at once."""
        self.stats["reconnects"] += 1
        self._server.forget(self)

    def close(self) -> None:
        self.closed = True
        self.break_off()

    def status(self, inbox: str, code: str, description: str) -> None:
        self._bring(inbox, Msg(self, subject=inbox, headers={"Status": code, "Description": description}))  # type: ignore[arg-type]

    def bring(self, inbox: str, subject: str, reply: str, data: bytes) -> None:
        self._bring(inbox, Msg(self, subject=subject, reply=reply, data=data))  # type: ignore[arg-type]

    def _bring(self, inbox: str, msg: Msg) -> None:
        def arrive() -> None:
            heard = self._heard.get(inbox.rsplit(".", 1)[0])
            if heard is not None:
                task = asyncio.ensure_future(heard(msg))  # it never waits, so the order holds
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

        self._back(arrive)

    def _there(self, arrive: Callable[[], object]) -> None:
        self._there_s = self._later(self._there_s, arrive)

    def _back(self, arrive: Callable[[], object]) -> None:
        self._back_s = self._later(self._back_s, arrive)

    def _later(self, after_s: float, arrive: Callable[[], object]) -> float:
        loop, reconnects = asyncio.get_running_loop(), self.stats["reconnects"]
        at_s = max(after_s + 1e-6, loop.time() + self._rng.choice((0.0001, 0.001, 0.01)))
        loop.call_at(at_s, lambda: arrive() if self.stats["reconnects"] == reconnects else None)
        return at_s


class Subscription:
    """What ends a subscription."""

    def __init__(self, end: Callable[[], object]) -> None:
        self._end = end

    async def unsubscribe(self) -> None:
        self._end()
