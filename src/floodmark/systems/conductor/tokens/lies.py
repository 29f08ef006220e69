"""What a lying token server does wrong, and where: `NAME=K`, exactly K times over all streams, at places spread among honest ones.

Of streams, each of which tells one lie at most:

    truncate=K  K streams end after half their tokens, with a proper end and the full usage count
    error=K     K streams break off in their midst with an error event
    no-end=K    K streams give all their tokens and then end without a terminal event
    stall=K     K streams stop for 3 s in their midst
    usage=K     K streams tell a wrong usage count (only those that were asked for one)
    after=K     K streams send another chunk after their terminal event

Of chunks, in the other streams: `repeat=K` sends K chunks twice, `drop=K` leaves K chunks out.

Every second stream lies, from the first on, and every seventh chunk, from the second on, until all is told. A stream qualifies with 4
tokens or more, and not when its prompt breaks it already. A lie counts as told once it is done: a client that leaves before leaves it for
another.
Here is only the bookkeeping; acting on it is `script.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

from floodmark.systems.conductor.lying import read_lies

OF_STREAMS = ("truncate", "error", "no-end", "stall", "usage", "after")
OF_CHUNKS = ("repeat", "drop")
LIES = (*OF_STREAMS, *OF_CHUNKS)
LEAST_TOKENS = 4  # of a stream that can lie: it needs a midst
STREAM_STRIDE, CHUNK_STRIDE, FIRST_CHUNK = 2, 7, 1


class Lies:
    """How much of each lie is left to tell, and how much is told."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        """Read them. Raises: UsageError that quotes the text and gives the grammar."""
        self._left = read_lies(texts, LIES)
        self.told = dict.fromkeys(self._left, 0)
        self._stream_count = 0
        self._chunk_count = 0

    def of_stream(self, token_count: int, *, tells_usage: bool) -> str:
        """Draw the lie of a stream that begins; "" for none. Must be followed by `tell` or `give_back`."""
        if token_count < LEAST_TOKENS:
            return ""
        names = [name for name in OF_STREAMS if self._left.get(name) and (name != "usage" or tells_usage)]
        if not names:
            return ""
        number = self._stream_count
        self._stream_count += 1
        if number % STREAM_STRIDE:
            return ""
        name = names[number // STREAM_STRIDE % len(names)]
        self._left[name] -= 1
        return name

    def tell(self, name: str) -> None:
        """A lie that was drawn is told."""
        self.told[name] += 1

    def give_back(self, name: str) -> None:
        """A lie that was drawn could not be told."""
        self._left[name] += 1

    @property
    def of_chunks(self) -> bool:
        """Whether there is a lie about chunks left."""
        return any(self._left.get(name) for name in OF_CHUNKS)

    def edit(self, pieces: list[str]) -> list[str]:
        """Send some of these chunks twice, leave some out, tell how many; called for every batch while `of_chunks`."""
        edited: list[str] = []
        for piece in pieces:
            number = self._chunk_count
            self._chunk_count += 1
            name = self._of_chunk(number)
            if name != "drop":
                edited.append(piece)
            if name == "repeat":
                edited.append(piece)
        return edited

    def _of_chunk(self, number: int) -> str:
        if number % CHUNK_STRIDE != FIRST_CHUNK:
            return ""
        names = [name for name in OF_CHUNKS if self._left.get(name)]
        if not names:
            return ""
        name = names[number // CHUNK_STRIDE % len(names)]
        self._left[name] -= 1
        self.told[name] += 1
        return name
