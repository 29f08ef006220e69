"""What a backend is, and the bounded stream of tokens that it fills and the conductor empties.

A `TokenStream` is a queue of strings followed by exactly one terminal, `Complete` or `Failed`. Both sides move whole lists, so that a token
costs a fraction of a microsecond here and no task, future or lock of its own. The producer waits while the stream is full: that is the only
way in which a slow surface is felt, and nothing is ever dropped. The consumer never waits unless it asks to.

    stream = TokenStream(capacity_count=256)
    producers.start(stream, write())      # the backend's side: await stream.put_many([...]), stream.finish(Complete(token_count=n))
    texts = stream.take(256)              # the conductor's side; then, once stream.terminal is not None, the stream is over

`Producers` is the parent of a backend's tasks. A producer that ends without a terminal has vanished, and its stream fails as such: an end
that nobody declared is an error, never a success. Single-threaded: one event loop owns both sides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, TypeAlias

from msgspec import Struct
from msgspec.structs import force_setattr

from floodmark.systems.conductor.vocabulary import Role

STREAM_CAPACITY_COUNT: Final = 256
STREAM_CAPACITY_CHARS: Final = 4 * 1024 * 1024  # a stream of long tokens is full before it has that many of them
HEALTH_LIMIT_S: Final = 5.0


class ChatMessage(Struct, frozen=True, kw_only=True):
    """An earlier message that the backend is to know."""

    role: Role
    content: str


class Request(Struct, frozen=True, kw_only=True):
    """What a backend is asked."""

    prompt: str
    model: str = ""
    stream: bool = True
    max_tokens: int = 0  # 0: as many as the model likes
    temperature: float = 0.7
    system: str = ""
    context: tuple[ChatMessage, ...] = ()  # oldest first, without the prompt itself

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature <= 1.0:  # clamped, not refused: models differ in their scales; NaN becomes 0
            force_setattr(self, "temperature", 1.0 if self.temperature > 1.0 else 0.0)


class Complete(Struct, frozen=True, kw_only=True):
    """The stream ended as it should."""

    token_count: int
    usage: int | None = None  # completion tokens as the server told them; None: it told nothing
    model: str = ""


class Failed(Struct, frozen=True, kw_only=True):
    """The stream ended otherwise."""

    reason: str
    retryable: bool = False


Terminal: TypeAlias = Complete | Failed


class TokenStream:
    """Tokens on their way from one producer to one consumer, followed by one terminal.

    Args:
        capacity_count: tokens that may wait; the producer waits beyond.
        capacity_chars: and characters. One batch may go over it, so that a token longer than the bound gets through at all.
    """

    __slots__ = (
        "_cancelled",
        "_capacity_chars",
        "_capacity_count",
        "_chars",
        "_ended",
        "_listener",
        "_on_cancel",
        "_readers",
        "_texts",
        "_writers",
        "put_count",
        "taken_count",
    )

    def __init__(self, *, capacity_count: int = STREAM_CAPACITY_COUNT, capacity_chars: int = STREAM_CAPACITY_CHARS) -> None:
        if capacity_count < 1 or capacity_chars < 1:
            raise ValueError(f"a stream holds at least one token of one character, not {capacity_count} tokens of {capacity_chars}")
        self._capacity_count, self._capacity_chars = capacity_count, capacity_chars
        self._texts: list[str] = []
        self._chars = 0
        self._ended: Terminal | None = None
        self._cancelled = False
        self._listener: Callable[[], None] | None = None
        self._on_cancel: Callable[[], object] | None = None
        self._readers = asyncio.Event()
        self._writers = asyncio.Event()
        self.put_count = 0
        self.taken_count = 0

    # ---- the consumer's side

    @property
    def available_count(self) -> int:
        """Tokens that `take` could give now."""
        return len(self._texts)

    @property
    def chars_count(self) -> int:
        """Characters in them."""
        return self._chars

    @property
    def terminal(self) -> Terminal | None:
        """How the stream ended; None while it lives or tokens before the end have not been taken."""
        return None if self._texts else self._ended

    @property
    def cancelled(self) -> bool:
        """Whether the consumer wants no more."""
        return self._cancelled

    def take(self, max_count: int) -> list[str]:
        """Give up to `max_count` tokens, oldest first, without waiting; empty when there are none now."""
        texts = self._texts
        if not texts or max_count < 1:
            return []
        if len(texts) <= max_count:
            self._texts, self._chars = [], 0
        else:
            self._texts = texts[max_count:]
            del texts[max_count:]
            self._chars -= sum(map(len, texts))
        self.taken_count += len(texts)
        self._writers.set()
        return texts

    async def wait(self) -> None:
        """Wait until `take` or `terminal` has something. Cancelled half-way, it leaves nothing behind."""
        while not self._texts and self._ended is None:
            self._readers.clear()
            await self._readers.wait()

    def listen(self, listener: Callable[[], None] | None) -> None:
        """Have `listener()` called whenever tokens or the terminal arrive; one consumer waits for many streams this way."""
        self._listener = listener

    def cancel(self) -> None:
        """Want no more: what waits is dropped, the producer is stopped, the terminal says so. Harmless after the end."""
        if self._ended is not None and not self._texts:
            return
        self._cancelled = True
        self._texts, self._chars = [], 0
        self._ended = Failed(reason="cancelled")
        self._writers.set()
        self._tell()
        if self._on_cancel is not None:
            self._on_cancel()

    # ---- the producer's side

    def room(self) -> int:
        """Tokens that fit now; 0 once the stream was cancelled."""
        if self._cancelled or self._chars >= self._capacity_chars:
            return 0
        return self._capacity_count - len(self._texts)

    def put(self, texts: list[str]) -> None:
        """Add tokens without waiting; no more than `room()`. What comes after a cancellation is ignored.

        Raises: RuntimeError after the end, ValueError without room; both are bugs of the producer.
        """
        if self._cancelled or not texts:
            return
        if self._ended is not None:
            raise RuntimeError("a stream takes nothing after its terminal")
        if len(texts) > self.room():
            raise ValueError(f"{len(texts)} tokens do not fit into the room of {self.room()}; await put_many, or look at room() first")
        self._texts += texts
        self._chars += sum(map(len, texts))
        self.put_count += len(texts)
        self._tell()

    async def put_many(self, texts: list[str]) -> bool:
        """Add tokens in order, waiting while the stream is full: this is the back-pressure.

        Returns: False once the consumer has cancelled: the producer may stop. Cancelled half-way, a first part of `texts` has been added.
        """
        at = 0
        while at < len(texts) and not self._cancelled:
            room = self.room()
            if room <= 0:
                self._writers.clear()
                await self._writers.wait()
                continue
            part = texts[at : at + room] if at or room < len(texts) else texts
            self.put(part)
            at += len(part)
        return not self._cancelled

    def finish(self, terminal: Terminal) -> None:
        """End the stream, once. Ignored after a cancellation, which has ended it already."""
        if self._cancelled:
            return
        if self._ended is not None:
            raise RuntimeError(f"a stream ends once; it ended with {self._ended}")
        self._ended = terminal
        self._tell()

    @property
    def finished(self) -> bool:
        """Whether the terminal is there, taken or not."""
        return self._ended is not None

    def on_cancel(self, stop: Callable[[], object]) -> None:
        """Have `stop()` called when the consumer cancels."""
        self._on_cancel = stop

    def _tell(self) -> None:
        self._readers.set()
        if self._listener is not None:
            self._listener()


class Producers:
    """The tasks of a backend that fill streams: one per answer, each ended with its stream, all ended by `aclose`."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def live_count(self) -> int:
        """Producers that have not ended."""
        return len(self._tasks)

    def start(self, stream: TokenStream, produce: Coroutine[Any, Any, None]) -> None:
        """Run `produce`, which fills `stream`; cancelling the stream cancels it, and an end without a terminal fails the stream."""
        task = asyncio.get_running_loop().create_task(produce)  # its parent is this object: aclose() awaits it
        self._tasks.add(task)
        stream.on_cancel(task.cancel)

        def ended(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            raised = None if done.cancelled() else done.exception()
            if not stream.finished:
                stream.finish(Failed(reason=f"unexpected: {_vanished(done, raised)}"))

        task.add_done_callback(ended)

    async def aclose(self) -> None:
        """Cancel every producer and wait until all have ended."""
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))


def _vanished(task: asyncio.Task[None], raised: BaseException | None) -> str:
    if raised is not None:
        return f"the backend failed with {type(raised).__name__}: {raised}"
    return "the backend was stopped" if task.cancelled() else "the backend vanished without ending its answer"


class Backend(Protocol):
    """Where answers come from. Every method but `send_streaming` may take time; each keeps a limit of its own."""

    @property
    def name(self) -> str:
        """What the backend is called in messages."""

    async def health_check(self) -> None:
        """Tell within HEALTH_LIMIT_S that the backend can answer; raises BackendError when it cannot."""

    def send_streaming(self, request: Request) -> TokenStream:
        """Ask, and give at once the stream that will carry the answer; what goes wrong later is the stream's terminal."""

    async def send(self, request: Request) -> str:
        """Ask, and give the whole answer; raises BackendError."""

    async def list_models(self) -> list[str]:
        """Name the models there are; raises BackendError."""

    async def has_model(self, name: str) -> bool:
        """Tell if there is a model of this name."""

    async def aclose(self) -> None:
        """Stop every answer and let go of every connection; calling it twice does no harm."""
