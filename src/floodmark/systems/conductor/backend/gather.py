"""Wait for a whole answer and give it in one piece, for callers that do not show it as it comes."""

from __future__ import annotations

from floodmark.systems.conductor.backend.base import STREAM_CAPACITY_COUNT, Failed, TokenStream
from floodmark.systems.conductor.errors import BackendError


async def gather(backend: str, stream: TokenStream) -> str:
    """The text of an answer. Cancelled half-way, it cancels the stream.

    Raises: BackendError for a stream that failed.
    """
    texts: list[str] = []
    try:
        while stream.terminal is None:
            await stream.wait()
            texts += stream.take(STREAM_CAPACITY_COUNT)
    finally:
        terminal = stream.terminal
        stream.cancel()  # without effect after the end
    if isinstance(terminal, Failed):
        raise BackendError(backend, terminal.reason, retryable=terminal.retryable)
    return "".join(texts)
