"""A publish/subscribe service, honest or broken in one known way, that the tests put under a whole floodmark run.

`python hostile.py TRICK` prints the URL it listens on. It speaks JSON over WebSocket ({"op": "sub"|"pub", "ch": CHANNEL, "t": TOKEN,
"p": PAYLOAD}, answered by {"ack": TOKEN} or {"no": TOKEN}) and graphql-transport-ws to whoever asks for that sub-protocol. A trick is a
subclass that overrides one of the hooks of `Honest`; all of them behave in the warm-up (token 0) unless they say otherwise, because a
system that is broken from the start is the easier one to catch. Not here: anything of floodmark; a stamp that a trick changes is taken
apart by hand, as a stranger would.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import struct
import sys
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

GRAPHQL = Subprotocol("graphql-transport-ws")
MARKER = "fm1:"
HEAD = struct.Struct("<IIQQQI")  # run, publisher, seq, intended_ns, sent_ns, length: what the checksum covers, before the body
HEAD_AT = len(MARKER) + 8
BODY_AT = HEAD_AT + 2 * HEAD.size
SOON_S = 0.05
LONG_S = 30.0  # longer than any run here waits
MESSAGES = 100  # of the load that the tests put on it


class Client:
    """One connection and its subscriptions, by the operation's id (GraphQL) or the channel (JSON)."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.graphql = socket.subprotocol == GRAPHQL
        self.channels: dict[str, str] = {}

    async def send(self, document: dict[str, object]) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self.socket.send(json.dumps(document))

    async def event(self, key: str, payload: str, offset: int) -> None:
        """Send one delivery."""
        if self.graphql:
            await self.send({"id": key, "type": "next", "payload": {"data": {"events": {"data": payload, "offset": offset}}}})
        else:
            await self.send({"ch": self.channels.get(key, key), "offset": offset, "p": payload})

    async def accept(self, token: int) -> None:
        """Acknowledge a publish."""
        if self.graphql:
            await self.send({"id": f"p{token}", "type": "next", "payload": {"data": {"publish": {"offset": 0}}}})
        else:
            await self.send({"ack": token})

    async def refuse(self, token: int) -> None:
        if self.graphql:
            await self.send({"id": f"p{token}", "type": "error", "payload": [{"message": "too busy"}]})
        else:
            await self.send({"no": token})


Subscription = tuple[Client, str]


class Honest:
    """Delivers each message once, in order, to every subscription of its channel; then acknowledges it.

    `number` counts the messages of the load, `nth` those of a channel; both are 1 for the first one.
    """

    def __init__(self) -> None:
        self.clients: list[Client] = []
        self.subscriptions: dict[str, list[Subscription]] = defaultdict(list)
        self.number = 0
        self.nth: Counter[str] = Counter()
        self.log: dict[str, list[str]] = defaultdict(list)
        self.idle = asyncio.Event()

    # -- hooks -------------------------------------------------------------------------------------------------------------------

    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        await self.deliver(channel, payload)
        await client.accept(token)

    async def deliver(self, channel: str, payload: str) -> None:
        for place, subscription in enumerate(list(self.subscriptions[channel])):
            await self.hand(place, subscription, channel, payload)

    async def hand(self, place: int, subscription: Subscription, channel: str, payload: str) -> None:
        """Deliver to one subscription, the `place`-th of its channel."""
        await self.event(subscription, payload)

    async def subscribed(self, subscription: Subscription, channel: str, after: int | None) -> None:
        """Resume after a position, where asked."""
        if after is not None:
            for offset, payload in enumerate(self.log[channel][after:], start=after + 1):
                await subscription[0].event(subscription[1], payload, offset)

    def page(self) -> str | None:
        """The statistics page, None for none."""
        return None

    async def when_idle(self) -> None:
        """Once, a moment after the last publish."""

    # -- the machinery -----------------------------------------------------------------------------------------------------------

    async def event(self, subscription: Subscription, payload: str) -> None:
        client, key = subscription
        await client.event(key, payload, len(self.log[client.channels.get(key, "")]))

    async def warmed(self, client: Client, channel: str, payload: str) -> None:
        for subscription in list(self.subscriptions[channel]):
            await self.event(subscription, payload)
        await client.accept(0)

    async def handle(self, socket: ServerConnection) -> None:
        client = Client(socket)
        self.clients.append(client)
        with contextlib.suppress(ConnectionClosed):
            async for text in socket:
                message = json.loads(text)
                await (self._graphql(client, message) if client.graphql else self._json(client, message))
        for channel in client.channels.values():
            self.subscriptions[channel] = [one for one in self.subscriptions[channel] if one[0] is not client]

    async def _json(self, client: Client, message: dict[str, str | int]) -> None:
        channel = str(message["ch"])
        if message["op"] == "pub":
            await self._publish(client, channel, str(message["p"]), int(message["t"]))
        else:
            await self._subscribe(client, channel, channel, int(message["after"]) if message.get("after") else None)
            await client.send({"subscribed": channel})

    async def _graphql(self, client: Client, message: dict[str, object]) -> None:
        match message:
            case {"type": "connection_init"}:
                await client.send({"type": "connection_ack"})
            case {"type": "ping"}:
                await client.send({"type": "pong"})
            case {"type": "subscribe", "id": str(key), "payload": {"variables": {"channel": str(channel), **rest}}}:
                if "data" in rest:  # p<token>, or w<number> for a probe of the warm-up
                    await self._publish(client, channel, str(rest["data"]), int(key[1:]) if key.startswith("p") else 0)
                else:
                    after = rest.get("after")
                    await self._subscribe(client, key, channel, after if isinstance(after, int) else None)

    async def _subscribe(self, client: Client, key: str, channel: str, after: int | None) -> None:
        client.channels[key] = channel
        self.subscriptions[channel].append((client, key))
        await self.subscribed((client, key), channel, after)

    async def _publish(self, client: Client, channel: str, payload: str, token: int) -> None:
        self.idle.set()
        if token == 0:
            await self.warmed(client, channel, payload)
            return
        self.number += 1
        self.nth[channel] += 1
        self.log[channel].append(payload)
        await self.published(client, channel, payload, token)

    async def watch_idle(self) -> None:
        """Call `when_idle` once the load has been silent for a moment."""
        while True:
            self.idle.clear()
            try:
                async with asyncio.timeout(SOON_S):
                    await self.idle.wait()
            except TimeoutError:
                if self.number:
                    await self.when_idle()
                    return

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path != "/metrics":
            return None
        page = self.page()
        return Response(404, "Not Found", Headers()) if page is None else Response(200, "OK", Headers(), page.encode())


def stamp(payload: str, **changes: int) -> str:
    """The payload with other numbers in its stamp and a checksum that fits."""
    names = ("run", "publisher", "seq", "intended_ns", "sent_ns", "length")
    numbers = dict(zip(names, HEAD.unpack(bytes.fromhex(payload[HEAD_AT:BODY_AT])), strict=True)) | changes
    covered = HEAD.pack(*numbers.values()).hex() + payload[BODY_AT:]
    return f"{MARKER}{zlib.crc32(covered.encode()):08x}{covered}"


def run_of(payload: str) -> int:
    return int(HEAD.unpack(bytes.fromhex(payload[HEAD_AT:BODY_AT]))[0])


def seq_of(payload: str) -> int:
    return int(HEAD.unpack(bytes.fromhex(payload[HEAD_AT:BODY_AT]))[2])


def publisher_of(payload: str) -> int:
    return int(HEAD.unpack(bytes.fromhex(payload[HEAD_AT:BODY_AT]))[1])


# -- acknowledgements ----------------------------------------------------------------------------------------------------------------


class AckFirst(Honest):
    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        await client.accept(token)
        await self.deliver(channel, payload)


class AckNothing(Honest):
    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        await self.deliver(channel, payload)


class AckHalf(Honest):
    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        await self.deliver(channel, payload)
        if self.number % 2:
            await client.accept(token)


class AckTwice(Honest):
    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        await super().published(client, channel, payload, token)
        await client.accept(token)


class AckThenRefuse(Honest):
    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        await client.accept(token)
        await client.refuse(token)


class AckUnsent(Honest):
    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        await client.accept(token + 1_000_000)
        await super().published(client, channel, payload, token)


class AckUnsentOnly(Honest):
    """Acknowledges everything before it was sent, and nothing after."""

    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        if self.number == 1:
            for ahead in range(token + 1, token + 1_000):
                await client.accept(ahead)


class AckBackwards(Honest):
    """Acknowledges ten at a time, the last one first."""

    held: list[tuple[Client, int]]

    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        await self.deliver(channel, payload)
        self.held = [*getattr(self, "held", []), (client, token)]
        if len(self.held) == 10:
            for owner, one in reversed(self.held):
                await owner.accept(one)
            self.held = []


class AckAtTheEnd(Honest):
    """Acknowledges everything in one go, long after it was delivered."""

    held: list[tuple[Client, int]]

    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        await self.deliver(channel, payload)
        self.held = [*getattr(self, "held", []), (client, token)]

    async def when_idle(self) -> None:
        for owner, one in self.held:
            await owner.accept(one)


class AckAll(Honest):
    """Acknowledges everything and delivers nothing but the warm-up."""

    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        await client.accept(token)


class Refuse99(Honest):
    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        if self.number % 100 == 1:
            await super().published(client, channel, payload, token)
        else:
            await client.refuse(token)


class Stall(Honest):
    """Serves the warm-up and is never heard of again."""

    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        await asyncio.Event().wait()


# -- who gets what -------------------------------------------------------------------------------------------------------------------


class EchoOnly(Honest):
    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        await client.event("s0000000" if client.graphql else channel, payload, 0)
        await client.accept(token)


class HalfOfThem(Honest):
    async def hand(self, place: int, subscription: Subscription, channel: str, payload: str) -> None:
        if place % 2 == 0:
            await self.event(subscription, payload)


class OneTwiceOneNever(Honest):
    async def hand(self, place: int, subscription: Subscription, channel: str, payload: str) -> None:
        for _ in range(0 if place % 2 else 2):
            await self.event(subscription, payload)


class SwapChannels(Honest):
    async def deliver(self, channel: str, payload: str) -> None:
        others = sorted(self.subscriptions)
        await super().deliver(others[others.index(channel) - 1], payload)


class LeakToAll(Honest):
    """Delivers rightly, and to every other connection as well, under the message's own channel."""

    async def deliver(self, channel: str, payload: str) -> None:
        await super().deliver(channel, payload)
        for client in self.clients:
            if client.channels and channel not in client.channels.values():
                await client.send({"ch": channel, "p": payload})


class SwapWarmUp(Honest):
    """Mixes the channels up in the warm-up only."""

    async def warmed(self, client: Client, channel: str, payload: str) -> None:
        others = sorted(self.subscriptions)
        await super().warmed(client, others[others.index(channel) - 1], payload)


class WarmHalf(Honest):
    """Half of the subscriptions never come to life."""

    async def warmed(self, client: Client, channel: str, payload: str) -> None:
        for subscription in self.subscriptions[channel][::2]:
            await self.event(subscription, payload)
        await client.accept(0)

    async def hand(self, place: int, subscription: Subscription, channel: str, payload: str) -> None:
        if place % 2 == 0:
            await self.event(subscription, payload)


class IgnoreSubscribe(Honest):
    async def _subscribe(self, client: Client, key: str, channel: str, after: int | None) -> None:
        client.channels[key] = channel


# -- loss, duplicates, order ---------------------------------------------------------------------------------------------------------


class Chosen(Honest):
    """Treats some messages of the load otherwise, chosen by their number in their publisher's sequence."""

    def chosen(self, seq: int) -> bool:
        raise NotImplementedError

    async def otherwise(self, channel: str, payload: str) -> None:
        """Lost, unless a trick says something else."""

    async def deliver(self, channel: str, payload: str) -> None:
        await (self.otherwise if self.chosen(seq_of(payload)) else super().deliver)(channel, payload)


class LoseFirst(Chosen):
    def chosen(self, seq: int) -> bool:
        return seq == 0


class LoseLast(Chosen):
    def chosen(self, seq: int) -> bool:
        return seq == 49


class LoseTenth(Chosen):
    def chosen(self, seq: int) -> bool:
        return seq % 10 == 3


class TwiceLast(LoseLast):
    async def otherwise(self, channel: str, payload: str) -> None:
        await Honest.deliver(self, channel, payload)
        await Honest.deliver(self, channel, payload)


class TwiceTenth(LoseTenth):
    async def otherwise(self, channel: str, payload: str) -> None:
        await Honest.deliver(self, channel, payload)
        await Honest.deliver(self, channel, payload)


class SwapPairs(Honest):
    """Delivers 1, 0, 3, 2, ... of each publisher."""

    held: dict[int, str]

    async def deliver(self, channel: str, payload: str) -> None:
        held = self.__dict__.setdefault("held", {})
        publisher = publisher_of(payload)
        if publisher not in held:
            held[publisher] = payload
            return
        await super().deliver(channel, payload)
        await super().deliver(channel, held.pop(publisher))


class HoldOnePublisher(Honest):
    """Delivers everything of one publisher after everything of the others: no promise speaks of that."""

    held: list[tuple[str, str]]

    async def deliver(self, channel: str, payload: str) -> None:
        if publisher_of(payload) == 0:
            self.__dict__.setdefault("held", []).append((channel, payload))
        else:
            await super().deliver(channel, payload)

    async def when_idle(self) -> None:
        for channel, payload in self.held:
            await super().deliver(channel, payload)


class LateTwins(Honest):
    """Delivers everything a second time, when nobody watches any more."""

    async def when_idle(self) -> None:
        await asyncio.sleep(LONG_S)
        for channel, payloads in self.log.items():
            for payload in payloads:
                await super().deliver(channel, payload)


# -- what is in a message ------------------------------------------------------------------------------------------------------------


class Rewrite(Honest):
    def rewritten(self, payload: str) -> Iterable[str]:
        raise NotImplementedError

    async def deliver(self, channel: str, payload: str) -> None:
        for text in self.rewritten(payload):
            await super().deliver(channel, text)


class Truncate(Rewrite):
    def rewritten(self, payload: str) -> Iterable[str]:
        return (payload[:-1],)


class Pad(Rewrite):
    def rewritten(self, payload: str) -> Iterable[str]:
        return (payload + "XYZ",)


class UpperCase(Rewrite):
    def rewritten(self, payload: str) -> Iterable[str]:
        return (MARKER + payload[len(MARKER) :].upper(),)


class FlipStamp(Rewrite):
    """Makes the sequence number another one, under the old checksum."""

    def rewritten(self, payload: str) -> Iterable[str]:
        at = HEAD_AT + 16
        return (payload[:at] + ("1" if payload[at] == "0" else "0") + payload[at + 1 :],)


class FlipBody(Rewrite):
    def rewritten(self, payload: str) -> Iterable[str]:
        return (payload[:-1] + ("a" if payload[-1] != "a" else "b"),)


class OldRun(Rewrite):
    """Delivers a message of a run of long ago before each of this one."""

    def rewritten(self, payload: str) -> Iterable[str]:
        return (stamp(payload, run=run_of(payload) ^ 0x5A5A5A5A), payload)


class StrangePublisher(Rewrite):
    def rewritten(self, payload: str) -> Iterable[str]:
        return (stamp(payload, publisher=1_000), payload)


class FutureSequence(Rewrite):
    """Invents one message that nobody sent, after the last one of each publisher."""

    def rewritten(self, payload: str) -> Iterable[str]:
        return (payload, stamp(payload, seq=1_000)) if seq_of(payload) == 49 else (payload,)


class HugeSequence(Rewrite):
    def rewritten(self, payload: str) -> Iterable[str]:
        return (payload, stamp(payload, seq=2**63 + 5), stamp(payload, seq=2**63 - 1)) if seq_of(payload) == 49 else (payload,)


class FromTheFuture(Rewrite):
    """Makes itself look fast: every message says that it was sent ten seconds from now, under a checksum that fits."""

    def rewritten(self, payload: str) -> Iterable[str]:
        at_ns = time.monotonic_ns() + 10_000_000_000
        return (stamp(payload, intended_ns=at_ns, sent_ns=at_ns),)


class HalfFromTheFuture(FromTheFuture):
    def rewritten(self, payload: str) -> Iterable[str]:
        return super().rewritten(payload) if seq_of(payload) % 2 else (payload,)


class Fragments(Honest):
    """Sends every delivery in three fragments, as the protocol allows."""

    async def hand(self, place: int, subscription: Subscription, channel: str, payload: str) -> None:
        text = json.dumps({"ch": channel, "p": payload})
        with contextlib.suppress(ConnectionClosed):
            await subscription[0].socket.send([text[:40], text[40:90], text[90:]])


# -- connections and the process -----------------------------------------------------------------------------------------------------


class CloseHalf(Honest):
    """Drops half of the subscribers right after the warm-up, without a word."""

    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        if self.number == 1:
            for subscriber in [one for one in self.clients if one.channels][::2]:
                subscriber.socket.transport.abort()
        await super().published(client, channel, payload, token)


class CloseLater(Honest):
    """Drops all subscribers when as many messages as a test here usually has have come three times over."""

    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        if self.number == 3 * MESSAGES:
            for subscriber in [one for one in self.clients if one.channels]:
                subscriber.socket.transport.abort()
        await super().published(client, channel, payload, token)


class EndLater(Honest):
    """Ends the first subscription of every channel at that same moment. GraphQL only."""

    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        if self.number == 3 * MESSAGES:
            for subscriptions in self.subscriptions.values():
                ended, key = subscriptions.pop(0)
                await ended.send({"id": key, "type": "complete"})
        await super().published(client, channel, payload, token)


class RefuseHalf(Honest):
    """Lets every second connection go that asks for a subscription, before the load."""

    async def subscribed(self, subscription: Subscription, channel: str, after: int | None) -> None:
        if len([one for one in self.clients if one.channels]) % 2 == 0:
            subscription[0].socket.transport.abort()


class AtTheEnd(Honest):
    """Honest, until all is delivered; then `last_act`, in the drain for sure: the last acknowledgement waits for it."""

    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        await self.deliver(channel, payload)
        if self.number < MESSAGES:
            await client.accept(token)
        else:
            self.held = (client, token)

    async def when_idle(self) -> None:
        await self.last_act()
        client, token = self.held
        await client.accept(token)

    async def last_act(self) -> None:
        raise NotImplementedError


class TwiceWhenIdle(AtTheEnd):
    """Delivers everything a second time, a moment after the last publish."""

    async def last_act(self) -> None:
        for channel, payloads in self.log.items():
            for payload in payloads:
                await super().deliver(channel, payload)


class CloseHalfIdle(AtTheEnd):
    async def last_act(self) -> None:
        for subscriber in [one for one in self.clients if one.channels][::2]:
            subscriber.socket.transport.abort()


class CloseOnePolitely(AtTheEnd):
    async def last_act(self) -> None:
        await next(one for one in self.clients if one.channels).socket.close(1000)


class ClosePublisher(Honest):
    """Delivers everything, acknowledges nothing, and leaves the publishers when they are done."""

    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        await self.deliver(channel, payload)

    async def when_idle(self) -> None:
        for client in self.clients:
            if not client.channels:
                client.socket.transport.abort()


class EndHalfWay(Honest):
    """Ends the first subscription of every channel with an error after half of its messages. GraphQL only."""

    async def deliver(self, channel: str, payload: str) -> None:
        if self.nth[channel] == 26:
            client, key = self.subscriptions[channel].pop(0)
            await client.send({"id": key, "type": "error", "payload": [{"message": "you have seen enough"}]})
        await super().deliver(channel, payload)


class EndWhenIdle(AtTheEnd):
    async def last_act(self) -> None:
        for subscriptions in self.subscriptions.values():
            client, key = subscriptions[0]
            await client.send({"id": key, "type": "complete"})


class DieWhenDone(AtTheEnd):
    async def when_idle(self) -> None:
        client, token = self.held
        await client.accept(token)
        print("my work is done", flush=True)
        os._exit(0)


class DieHalfWay(Honest):
    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        if self.number > 50:
            await asyncio.Event().wait()
        await super().published(client, channel, payload, token)
        if self.number == 50:
            await asyncio.sleep(SOON_S)  # what the other publisher's handler was about to send is on its way
            os._exit(3)


class FreezeInTheDrain(AckAll):
    """Acknowledges at once; when the load is over it delivers the first half, then stands still with its sockets open."""

    async def when_idle(self) -> None:
        for channel, payloads in self.log.items():
            for payload in payloads[:25]:
                await self.deliver(channel, payload)
        await asyncio.sleep(SOON_S)  # what was written is on its way
        time.sleep(LONG_S)  # noqa: ASYNC251  # standing still is the trick


class TooLate(AckAll):
    """Delivers everything, when the drain is over."""

    async def when_idle(self) -> None:
        await asyncio.sleep(LONG_S)
        for channel, payloads in self.log.items():
            for payload in payloads:
                await self.deliver(channel, payload)


class SlowButComplete(AckAll):
    """Delivers everything, a while after the load was over."""

    async def when_idle(self) -> None:
        await asyncio.sleep(0.5)
        for channel, payloads in self.log.items():
            for payload in payloads:
                await self.deliver(channel, payload)
                await asyncio.sleep(0.002)


class Bursts(Honest):
    """Delivers twenty-five of a channel at once, then nothing for a while."""

    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        if self.nth[channel] % 25 == 0:
            for one in self.log[channel][-25:]:
                await self.deliver(channel, one)
        await client.accept(token)


class ReplayToLateJoiners(Honest):
    """Gives every new subscription the whole history of its channel, which it never asked for, and goes on from there."""

    async def subscribed(self, subscription: Subscription, channel: str, after: int | None) -> None:
        for payload in self.log[channel]:
            await self.event(subscription, payload)


# -- statistics ----------------------------------------------------------------------------------------------------------------------


class Pages(Honest):
    """Tells the truth in its statistics, as a page in Prometheus' text format."""

    figures: Counter[str]

    async def event(self, subscription: Subscription, payload: str) -> None:
        self.__dict__.setdefault("figures", Counter())["delivered"] += 1
        await super().event(subscription, payload)

    def samples(self) -> dict[str, object]:
        warmups = len(self.subscriptions)
        return {
            "total_events_delivered": self.figures["delivered"],
            "total_events_published": self.number + warmups,
            "active_connections": len(self.clients),
            "active_subscriptions": sum(len(each) for each in self.subscriptions.values()),
        }

    def page(self) -> str | None:
        return "".join(f"floodmark_hub_{name} {value}\n" for name, value in self.samples().items())


class PageOfNans(Pages):
    def samples(self) -> dict[str, object]:
        return super().samples() | {"total_events_published": "NaN", "active_subscriptions": "NaN"}


class PageWithoutDeliveries(Pages):
    """Answers what is easy to know and is silent about what matters."""

    def samples(self) -> dict[str, object]:
        return {name: value for name, value in super().samples().items() if name.startswith("active")}


class PageOfLies(Pages):
    def samples(self) -> dict[str, object]:
        return super().samples() | {"total_events_delivered": 2 * self.figures["delivered"]}


class PageOfGarbage(Pages):
    def page(self) -> str | None:
        return "\x00\x01 <html> floodmark_hub_total_events_delivered over 9000 \n}}}\n"


# -- after a fault -------------------------------------------------------------------------------------------------------------------


class OtherReplay(Honest):
    """Replays what a returning subscription missed otherwise than it was: `replayed` says how. The tests' victims miss more than 15."""

    def replayed(self, missed: list[tuple[int, str]]) -> list[tuple[int, str]]:
        raise NotImplementedError

    async def subscribed(self, subscription: Subscription, channel: str, after: int | None) -> None:
        if after is not None:
            for offset, payload in self.replayed(list(enumerate(self.log[channel][after:], start=after + 1))):
                await subscription[0].event(subscription[1], payload, offset)


class SkipOnResume(OtherReplay):
    """Leaves five of the messages out, of which the client never hears."""

    def replayed(self, missed: list[tuple[int, str]]) -> list[tuple[int, str]]:
        return missed[:10] + missed[15:]


class TwiceOnResume(OtherReplay):
    def replayed(self, missed: list[tuple[int, str]]) -> list[tuple[int, str]]:
        return missed[:15] + missed[10:]


class NeverBack(Honest):
    """Lets nobody in once the load has begun."""

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        return Response(503, "Service Unavailable", Headers()) if self.number else super().answer(connection, request)


class SlowAfterCut(Honest):
    """Metastable: from the first lost connection on it delivers `SLOW_HZ` messages a second, and all the rest once the load is over.

    Nothing is lost and everything is acknowledged at once, so that only its speed can tell.
    """

    SLOW_HZ = 60.0
    SILENCE_S = 0.5

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[str, str]] = []
        self.delivered: Counter[str] = Counter()
        self.pumping: asyncio.Task[None] | None = None
        self.published_s = 0.0

    async def handle(self, socket: ServerConnection) -> None:
        await super().handle(socket)
        if self.pumping is None and self.number:
            self.pumping = asyncio.get_running_loop().create_task(self.pump())

    async def published(self, client: Client, channel: str, payload: str, token: int) -> None:
        await client.accept(token)
        self.published_s = time.monotonic()
        self.waiting.append((channel, payload))
        if self.pumping is None:
            await self.deliver_next()

    async def deliver_next(self) -> None:
        channel, payload = self.waiting.pop(0)
        self.delivered[channel] += 1
        await self.deliver(channel, payload)

    async def subscribed(self, subscription: Subscription, channel: str, after: int | None) -> None:
        """What still waits will come to everybody; only what went out is replayed."""
        if after is not None:
            for offset, payload in enumerate(self.log[channel][after : self.delivered[channel]], start=after + 1):
                await subscription[0].event(subscription[1], payload, offset)

    async def pump(self) -> None:
        while True:
            if self.waiting:
                await self.deliver_next()
            if time.monotonic() - self.published_s < self.SILENCE_S:
                await asyncio.sleep(1 / self.SLOW_HZ)
            elif not self.waiting:
                return


class LivePages(Pages):
    """Tells the truth in its statistics also when connections come and go."""

    async def handle(self, socket: ServerConnection) -> None:
        await super().handle(socket)
        self.clients = [client for client in self.clients if client.socket is not socket]

    async def subscribed(self, subscription: Subscription, channel: str, after: int | None) -> None:
        await super().subscribed(subscription, channel, after)
        if after is not None:
            self.figures["delivered"] += len(self.log[channel]) - after


class ForgetfulPages(LivePages):
    """Forgets a fifth of its count of deliveries whenever somebody comes back."""

    async def subscribed(self, subscription: Subscription, channel: str, after: int | None) -> None:
        await super().subscribed(subscription, channel, after)
        if after is not None:
            self.figures["delivered"] -= self.figures["delivered"] // 5


TRICKS: dict[str, Callable[[], Honest]] = {trick.__name__: trick for trick in (
    Honest, AckFirst, AckNothing, AckHalf, AckTwice, AckThenRefuse, AckUnsent, AckUnsentOnly, AckBackwards, AckAtTheEnd, AckAll,
    Refuse99, Stall, EchoOnly, HalfOfThem, OneTwiceOneNever, SwapChannels, LeakToAll, SwapWarmUp, WarmHalf, IgnoreSubscribe, LoseFirst,
    LoseLast, LoseTenth, TwiceLast, TwiceTenth, SwapPairs, HoldOnePublisher, LateTwins, TwiceWhenIdle, Truncate, Pad, UpperCase,
    FlipStamp, FlipBody, OldRun, StrangePublisher, FutureSequence, HugeSequence, FromTheFuture, HalfFromTheFuture, Fragments,
    CloseHalf, CloseLater, EndLater, RefuseHalf, CloseHalfIdle, CloseOnePolitely, ClosePublisher, EndHalfWay, EndWhenIdle,
    DieWhenDone, DieHalfWay, FreezeInTheDrain, TooLate, SlowButComplete, Bursts, ReplayToLateJoiners, Pages, PageOfNans,
    PageWithoutDeliveries, PageOfLies, PageOfGarbage, SkipOnResume, TwiceOnResume, NeverBack, SlowAfterCut, LivePages,
    ForgetfulPages,
)}  # fmt: skip


async def main(trick: str) -> None:
    service = TRICKS[trick]()
    server: Server
    async with serve(
        service.handle,
        "127.0.0.1",
        0,
        subprotocols=[GRAPHQL],
        select_subprotocol=lambda _, offered: GRAPHQL if GRAPHQL in offered else None,
        compression=None,
        ping_interval=None,
        process_request=service.answer,
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        print(f"ready ws://127.0.0.1:{port}/", flush=True)
        await service.watch_idle()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
