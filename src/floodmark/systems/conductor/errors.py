"""What can go wrong in a conductor, each told in one sentence.

`RefusedError` is the user's to mend and becomes a notice on the surface; a `BackendError` is the backend's and becomes a stream error or a
warning. Neither ends the session.
"""

from __future__ import annotations

from floodmark.core.errors import FloodmarkError, SystemUnderTestError


class RefusedError(FloodmarkError):
    """What a surface asked for is not done; the sentence says why and what would be."""


class StreamLimitError(RefusedError):
    """As many answers are being streamed as the settings allow."""

    def __init__(self, limit_count: int) -> None:
        super().__init__(limit_count)
        self.limit_count = limit_count

    def __str__(self) -> str:
        return f"{self.limit_count} answers are being streamed already, and no more are allowed at once; wait for one to end, or cancel one"


class StreamExistsError(RefusedError):
    """The conversation is being answered already."""

    def __init__(self, stream_id: str) -> None:
        super().__init__(stream_id)
        self.stream_id = stream_id

    def __str__(self) -> str:
        return f"this conversation is being answered already ({self.stream_id}); wait for the end of the answer, or cancel it"


class ConversationLimitError(RefusedError):
    """As many conversations are open as the settings allow."""

    def __init__(self, limit_count: int) -> None:
        super().__init__(limit_count)
        self.limit_count = limit_count

    def __str__(self) -> str:
        return f"{self.limit_count} conversations are open, and no more are allowed; remove one first"


class UnknownConversationError(RefusedError):
    """No conversation has this id."""

    def __init__(self, conversation_id: str) -> None:
        super().__init__(conversation_id)
        self.conversation_id = conversation_id

    def __str__(self) -> str:
        return f"there is no conversation {self.conversation_id!r}; it may have been removed"


class ChannelClosedError(FloodmarkError):
    """Nothing goes into a channel any more: the conductor has quit."""

    def __str__(self) -> str:
        return "the conductor has quit, and its channel takes nothing any more"


class BackendError(SystemUnderTestError):
    """A backend cannot be reached or does not speak as it should."""

    def __init__(self, backend: str, reason: str, *, retryable: bool = False) -> None:
        super().__init__(backend, reason)
        self.backend, self.reason, self.retryable = backend, reason, retryable

    def __reduce__(self) -> tuple[object, ...]:
        return _backend_error, (self.backend, self.reason, self.retryable)

    def __str__(self) -> str:
        return f"{self.backend}: {self.reason}"


def _backend_error(backend: str, reason: str, retryable: bool) -> BackendError:
    return BackendError(backend, reason, retryable=retryable)
