"""What was published and what was handled, written down, and what is wrong with it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable

from floodmark.systems.fleet.consumer import Message

NAMES = [f"p{number}" for number in range(12)]


class Diary:
    """What was published and what was handled, and who was to have what from when."""

    def __init__(self) -> None:
        self.published: dict[str, int] = dict.fromkeys(NAMES, 0)
        self.handled: list[tuple[str, str, int]] = []  # (worker, partition, number), in order of time
        self.owners: dict[str, set[str]] = {name: set() for name in NAMES}

    def handler(self, worker: str, gate: asyncio.Event) -> Callable[[Message], Awaitable[None]]:
        async def handle(message: Message) -> None:
            self.handled.append((worker, message.subject.removeprefix("in."), int(message.data)))
            await gate.wait()

        return handle

    def missing(self) -> list[tuple[str, int]]:
        seen = {(name, number) for _, name, number in self.handled}
        return [(name, number) for name, count in self.published.items() for number in range(count) if (name, number) not in seen]

    def disorder(self) -> list[tuple[str, int]]:
        """First handlings that come after that of a later message of the same partition."""
        last: dict[str, int] = defaultdict(lambda: -1)
        seen: set[tuple[str, int]] = set()
        wrong = []
        for _, name, number in self.handled:
            if (name, number) not in seen:
                seen.add((name, number))
                if number < last[name]:
                    wrong.append((name, number))
                last[name] = max(last[name], number)
        return wrong

    def twice_by_one(self) -> list[tuple[str, str, int]]:
        seen: set[tuple[str, str, int]] = set()
        return [entry for entry in self.handled if entry in seen or seen.add(entry)]  # type: ignore[func-returns-value]

    def duplicates(self) -> int:
        return len(self.handled) - len({(name, number) for _, name, number in self.handled})
