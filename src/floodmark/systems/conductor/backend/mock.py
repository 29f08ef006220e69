"""The embedded backend: numbered text at any pace for stress, prose for humans, errors on demand, and an exact count of what it sent.

A prompt with a `numbered:` line gets that text (see `numbered`); `MockSettings.order` gives every other prompt the same, and without it a
human gets prose. Tokens go into the stream by deadline, many at a time; a full stream holds the generator up, and what fell due meanwhile
follows at once. `fail_after` and `cut_after` end the stream as Failed, `hang_after` leaves it silent until somebody cancels it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec

from floodmark.core.errors import UsageError
from floodmark.systems.conductor.backend.base import Complete, Failed, Producers, Request, TokenStream
from floodmark.systems.conductor.backend.gather import gather
from floodmark.systems.conductor.backend.numbered import Numbered, Source, asked
from floodmark.systems.conductor.backend.pace import Pace
from floodmark.systems.conductor.backend.prose import RATE_HZ, Words

MODEL: Final = "floodmark-numbered"
QUEUE_COUNT: Final = 10_000
TURN_COUNT: Final = 1024  # tokens between two yields, so that no stream keeps the loop to itself
TURN_BYTES: Final = 262_144
CUT_REASON: Final = "ended without its terminal event"
FAIL_REASON: Final = "error event: the backend failed on purpose"


class MockSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the mock does when the prompt does not say."""

    order: Numbered | None = None  # instead of prose
    prose_rate_hz: float = RATE_HZ  # 0: as fast as it is taken
    queue_count: int = QUEUE_COUNT


class MockBackend:
    """Answers out of itself. `sent_count` and the other counts are over all streams, and exact."""

    name = "mock"

    def __init__(self, settings: MockSettings | None = None) -> None:
        self._settings = settings if settings is not None else MockSettings()
        self._producers = Producers()
        self.sent_count = 0  # tokens that went into a stream
        self.stream_count = 0  # answers begun
        self.completed_count = 0
        self.failed_count = 0

    @property
    def live_count(self) -> int:
        """Answers that are still being produced."""
        return self._producers.live_count

    async def health_check(self) -> None:
        """It is always there."""

    def send_streaming(self, request: Request) -> TokenStream:
        """Begin an answer. A `numbered:` line that cannot be is a stream that fails."""
        stream = TokenStream(capacity_count=self._settings.queue_count)
        self.stream_count += 1
        try:
            order = asked(request.prompt) or self._settings.order
        except UsageError as exc:
            self._fail(stream, f"refused: {exc}")
            return stream
        self._producers.start(stream, self._produce(stream, order, request))
        return stream

    async def send(self, request: Request) -> str:
        """The whole answer. Raises: BackendError for one that failed."""
        return await gather(self.name, self.send_streaming(request))

    async def list_models(self) -> list[str]:
        """Its one model."""
        return [MODEL]

    async def has_model(self, name: str) -> bool:
        """Tell if this is its model."""
        return name == MODEL

    async def aclose(self) -> None:
        """Stop every answer."""
        await self._producers.aclose()

    async def _produce(self, stream: TokenStream, order: Numbered | None, request: Request) -> None:
        """Put the tokens in as they fall due, then the end."""
        source: Source | Words = Words(request.prompt) if order is None else Source(order)
        total = min(source.left_count, request.max_tokens) if request.max_tokens else source.left_count
        rate_hz = self._settings.prose_rate_hz if order is None else order.rate
        await self._play(stream, source, total, rate_hz)
        if order is None or (ending := _ending(order, total)) is None:
            self.completed_count += 1
            stream.finish(Complete(token_count=total, usage=total, model=MODEL))
        elif ending:
            self._fail(stream, ending)
        else:
            await asyncio.Event().wait()  # hangs until the stream is cancelled

    async def _play(self, stream: TokenStream, source: Source | Words, total: int, rate_hz: float) -> None:
        pace = Pace(rate_hz, time.monotonic())
        most = TURN_COUNT
        if isinstance(source, Source):
            most = max(1, min(TURN_COUNT, TURN_BYTES // source.size_bytes))
        while (taken := source.taken_count) < total:
            now_s = time.monotonic()
            count = min(pace.due_count(now_s, total) - taken, most)
            if count <= 0:
                await asyncio.sleep(pace.wait_s(taken + 1, now_s))
                continue
            room = stream.room()
            if room > 0:
                await self._put(stream, source.texts(min(count, room)))
                await asyncio.sleep(pace.pause_s(source.taken_count, total, now_s))
            else:
                await self._put(stream, source.texts(1))  # waits; then all that fell due meanwhile

    async def _put(self, stream: TokenStream, texts: list[str]) -> None:
        before = stream.put_count
        try:
            await stream.put_many(texts)
        finally:
            self.sent_count += stream.put_count - before

    def _fail(self, stream: TokenStream, reason: str) -> None:
        self.failed_count += 1
        stream.finish(Failed(reason=reason))


def _ending(order: Numbered, total: int) -> str | None:
    """How an answer of so many tokens ends: None properly, a text with that reason, "" not at all."""
    for after, reason in ((order.fail_after, FAIL_REASON), (order.hang_after, ""), (order.cut_after, CUT_REASON)):
        if after == total:
            return reason
    return None
