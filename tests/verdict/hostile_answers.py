"""A server of streamed chat completions, honest or dishonest in one known way, that the tests put under a whole floodmark run.

`python hostile_answers.py TRICK` prints the URL it listens on. It speaks HTTP/1.1 with chunked bodies of server-sent events, as
OpenAI-compatible servers do, and answers the line `numbered: ...` in the prompt with numbered text. A trick is a subclass of `Honest` that
answers in a way that somebody might hope passes. Not here: anything of floodmark; the text is worked out the slow way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from typing import NamedTuple

LINE = re.compile(r"numbered: stream=(\d+) first=(\d+) count=(\d+) size=(\d+) rate=(\S+)")
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
LONG_S = 2.5
"""Longer than any run here allows a first token, or a gap, to take."""
PING_S = 0.05


class Order(NamedTuple):
    """What was asked for."""

    stream: int = 0
    first: int = 0
    tokens: int = 20
    size: int = 10
    rate_hz: float = 0.0

    @property
    def due_s(self) -> float:
        """How long the whole answer should take."""
        return (self.tokens - 1) / self.rate_hz if self.rate_hz else 0.0


def token(order: Order, index: int) -> str:
    """One token of an answer."""
    rest = (order.first + index) % 36**4
    digits: list[int] = []
    for _ in range(4):
        rest, digit = divmod(rest, 36)
        digits.insert(0, digit)
    check = (7 * digits[0] + 5 * digits[1] + 3 * digits[2] + digits[3] + order.stream) % 36
    filler = " " + "abcdefghijklmnopqrstuvwxyz" * (order.size // 26 + 1)
    return "".join(DIGITS[digit] for digit in (*digits, check)) + filler[: order.size - 5]


def text_of(order: Order) -> list[str]:
    """All tokens of the answer that was asked for."""
    return [token(order, index) for index in range(order.tokens)]


class Body:
    """The body of one answer: events in chunks of HTTP."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def raw(self, event: str) -> None:
        """Send one event, or a comment."""
        data = f"{event}\n\n".encode()
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self._writer.drain()

    async def text(self, text: str) -> None:
        """Send one chunk of a completion."""
        await self.raw("data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}))

    async def finish(self, usage: int) -> None:
        """Send the terminal event, how many tokens there were, and the seal."""
        await self.raw("data: " + json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
        await self.raw("data: " + json.dumps({"choices": [], "usage": {"completion_tokens": usage}}))
        await self.raw("data: [DONE]")


class Honest:
    """Answers every request with what it asks for, at the pace it asks for."""

    def __init__(self) -> None:
        self.orders: dict[int, Order] = {}
        self.news = asyncio.Condition()

    async def answer(self, body: Body, order: Order) -> None:
        """Send one whole answer."""
        await self.say(body, text_of(order), order.rate_hz)
        await body.finish(order.tokens)

    async def say(self, body: Body, texts: list[str], rate_hz: float = 0.0) -> None:
        """Send chunks, each when it is due."""
        begun_s = asyncio.get_running_loop().time()
        for index, text in enumerate(texts):
            wait_s = begun_s + index / rate_hz - asyncio.get_running_loop().time() if rate_hz else 0.0
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            await body.text(text)

    async def other(self, order: Order) -> Order:
        """Wait until the neighbour of this stream has asked, and give what it asked for."""
        async with self.news:
            self.orders[order.stream] = order
            self.news.notify_all()
            await self.news.wait_for(lambda: order.stream ^ 1 in self.orders)
        return self.orders[order.stream ^ 1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, request after request."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = re.search(r"(?i)content-length: *(\d+)", head)
                document = json.loads(await reader.readexactly(int(length[1]) if length else 0))
                found = LINE.search(document["messages"][-1]["content"])
                order = Order(int(found[1]), int(found[2]), int(found[3]), int(found[4]), float(found[5])) if found else Order()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
                await self.answer(Body(writer), order)
                writer.write(b"0\r\n\r\n")
        writer.close()


class PreviousRequest(Honest):
    """Right text, every time of the request before: what a cache with a bad key gives."""

    async def answer(self, body: Body, order: Order) -> None:
        answered = self.orders.get(order.stream, order)
        self.orders[order.stream] = order
        await super().answer(body, answered)


class SameAnswer(Honest):
    """Answers every request with the text that the first one asked for."""

    async def answer(self, body: Body, order: Order) -> None:
        await super().answer(body, self.orders.setdefault(0, order))


class SwapStreams(Honest):
    """Two streams get each other's text."""

    async def answer(self, body: Body, order: Order) -> None:
        await super().answer(body, await self.other(order))


class EndFirst(Honest):
    """Says that it has finished, then sends the text."""

    async def answer(self, body: Body, order: Order) -> None:
        await body.finish(order.tokens)
        await self.say(body, text_of(order))


class ToldNotSent(Honest):
    """Tells the usage that was asked for and sends half of the text."""

    async def answer(self, body: Body, order: Order) -> None:
        await self.say(body, text_of(order)[: order.tokens // 2])
        await body.finish(order.tokens)


class HalfPolitely(Honest):
    """Sends half of the text and tells the truth about it, as if that had been all."""

    async def answer(self, body: Body, order: Order) -> None:
        await self.say(body, text_of(order)[: order.tokens // 2])
        await body.finish(order.tokens // 2)


class HalfAndNoEnd(Honest):
    """Sends half of the text, and ends its body in good order without a terminal event."""

    async def answer(self, body: Body, order: Order) -> None:
        await self.say(body, text_of(order)[: order.tokens // 2])


class NeverAnswers(Honest):
    """Takes every request and says nothing."""

    async def answer(self, body: Body, order: Order) -> None:
        await asyncio.Event().wait()


class OnlyPings(Honest):
    """Takes every request and keeps the line alive with comments."""

    async def answer(self, body: Body, order: Order) -> None:
        while True:
            await body.raw(": ping")
            await asyncio.sleep(PING_S)


class Empty(Honest):
    """Ends every answer properly, and it was empty, as it says itself."""

    async def answer(self, body: Body, order: Order) -> None:
        await body.finish(0)


class EmptyChunks(Honest):
    """As many chunks as tokens were asked for, all empty, and their number told."""

    async def answer(self, body: Body, order: Order) -> None:
        await self.say(body, [""] * order.tokens)
        await body.finish(order.tokens)


class BurstAtTheEnd(Honest):
    """Keeps the pace on average: the first token at once, all others when the last one is due."""

    async def answer(self, body: Body, order: Order) -> None:
        first, *others = text_of(order)
        await body.text(first)
        await asyncio.sleep(order.due_s)
        await self.say(body, others)
        await body.finish(order.tokens)


class AllAtTheEnd(Honest):
    """Keeps the pace on average: everything when the last token is due."""

    async def answer(self, body: Body, order: Order) -> None:
        await asyncio.sleep(order.due_s)
        await self.say(body, text_of(order))
        await body.finish(order.tokens)


class EmptyFirstChunk(Honest):
    """A chunk without text at once, so that something has come; then it thinks."""

    async def answer(self, body: Body, order: Order) -> None:
        await body.text("")
        await asyncio.sleep(LONG_S)
        await super().answer(body, order)


class OneByteFirst(Honest):
    """A single byte of the first token at once; then it thinks."""

    async def answer(self, body: Body, order: Order) -> None:
        first, *others = text_of(order)
        await body.text(first[0])
        await asyncio.sleep(LONG_S)
        await self.say(body, [first[1:], *others])
        await body.finish(order.tokens)


class ManyAsOne(Honest):
    """Ten tokens in a chunk, counted as one."""

    async def answer(self, body: Body, order: Order) -> None:
        texts = text_of(order)
        await self.say(body, ["".join(texts[at : at + 10]) for at in range(0, order.tokens, 10)])
        await body.finish(order.tokens // 10)


async def main(trick: str) -> None:
    """Serve until the process is ended."""
    server = await asyncio.start_server(globals()[trick]().serve, "127.0.0.1", 0)
    print(f"answers ready http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1]))
