"""The backend of a conductor that shows a run: there is nobody to ask, so that whoever asks is told so."""

from __future__ import annotations

from floodmark.systems.conductor.backend.base import Failed, Request, TokenStream
from floodmark.systems.conductor.errors import BackendError

_NO_ANSWER = "a run gives no answers; it is only watched"


class Nobody:
    """Answers nothing."""

    name = "run"

    async def health_check(self) -> None:
        """It is always well."""

    def send_streaming(self, request: Request) -> TokenStream:
        """Fail at once."""
        stream = TokenStream()
        stream.finish(Failed(reason=_NO_ANSWER, retryable=False))
        return stream

    async def send(self, request: Request) -> str:
        """Fail at once."""
        raise BackendError(self.name, _NO_ANSWER)

    async def list_models(self) -> list[str]:
        """There are none."""
        return []

    async def has_model(self, name: str) -> bool:
        """There is none."""
        return False

    async def aclose(self) -> None:
        """Nothing is open."""
