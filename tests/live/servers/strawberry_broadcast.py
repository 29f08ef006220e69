"""A GraphQL server as people write them with Strawberry: an in-memory broadcast behind one subscription and one mutation.

    python strawberry_broadcast.py [OFFSET ...]

Prints its URL when it listens. The event with one of the given offsets of its channel reaches nobody, though its publisher is told that
all is well: the lie that a test must see caught to the number.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator

import strawberry
import uvicorn
from strawberry.asgi import GraphQL

QUEUE_COUNT = 10_000  # per subscription; a publish waits while one is full
LOSES = frozenset(int(offset) for offset in sys.argv[1:])

subscribers: defaultdict[str, set[asyncio.Queue[Message]]] = defaultdict(set)
offsets: Counter[str] = Counter()


@strawberry.type
class Message:
    """One event of a channel."""

    text: str
    offset: int


@strawberry.type
class Query:
    """GraphQL wants one."""

    @strawberry.field
    def channels(self) -> int:
        """How many channels have subscribers."""
        return len(subscribers)


@strawberry.type
class Mutation:
    """The publisher's side."""

    @strawberry.mutation
    async def say(self, room: str, text: str) -> int:
        """Give the message to every subscriber of the room; the answer is its offset."""
        offsets[room] += 1
        offset = offsets[room]
        if offset not in LOSES:
            for queue in list(subscribers[room]):
                await queue.put(Message(text=text, offset=offset))
        return offset


@strawberry.type
class Subscription:
    """The subscriber's side."""

    @strawberry.subscription
    async def said(self, room: str) -> AsyncGenerator[Message, None]:
        """Everything said in the room from now on."""
        queue: asyncio.Queue[Message] = asyncio.Queue(QUEUE_COUNT)
        subscribers[room].add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            subscribers[room].discard(queue)


def main() -> None:
    """Listen on a port that the system chooses, and serve until SIGTERM."""
    schema = strawberry.Schema(query=Query, mutation=Mutation, subscription=Subscription)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        print(f"strawberry ready ws://127.0.0.1:{listening.getsockname()[1]}/graphql", flush=True)
        config = uvicorn.Config(GraphQL(schema), log_level="warning", timeout_graceful_shutdown=2)
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
