"""Where answers come from: one module per kind of backend, each named in `BACKENDS`.

    backend = BACKENDS["openai"](BackendSettings(url="http://127.0.0.1:8080"))

What a backend brings along is loaded when the first of its kind is made: an HTTP client takes a third of a second that the mock need not
pay.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Final

import msgspec

from floodmark.core.errors import UsageError
from floodmark.systems.conductor.backend.base import Backend


class BackendSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where a backend is and what it is asked for; empty: its own default."""

    url: str = ""
    model: str = ""  # used when a request names none
    api_key: str = ""

    def __repr__(self) -> str:
        """Without the key: settings may be logged, a key may not."""
        return f"BackendSettings(url={self.url!r}, model={self.model!r}, api_key={'...' if self.api_key else ''!r})"


def _mock(settings: BackendSettings) -> Backend:
    from floodmark.systems.conductor.backend.mock import MockBackend

    if settings.url:
        raise UsageError(f"the backend mock is part of this process and has no URL; leave out {settings.url!r}, or name another backend")
    return MockBackend()


def _openai(settings: BackendSettings) -> Backend:
    from floodmark.systems.conductor.backend.openai import OpenAIBackend

    return OpenAIBackend(settings.url, model=settings.model, api_key=settings.api_key)


def _ollama(settings: BackendSettings) -> Backend:
    from floodmark.systems.conductor.backend.ollama import OllamaBackend

    return OllamaBackend(settings.url, model=settings.model)


BACKENDS: Final[dict[str, Callable[[BackendSettings], Backend]]] = {"mock": _mock, "openai": _openai, "ollama": _ollama}


def backend_of(name: str, settings: BackendSettings | None = None) -> Backend:
    """Make a backend by its name; inside a running event loop for those that use the network.

    Raises: UsageError for an unknown name, naming the nearest, and for settings that it cannot use.
    """
    factory = BACKENDS.get(name)
    if factory is None:
        near = difflib.get_close_matches(name, BACKENDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known backends: {', '.join(BACKENDS)}"
        raise UsageError(f"there is no backend {name!r}; {hint}")
    return factory(settings if settings is not None else BackendSettings())
