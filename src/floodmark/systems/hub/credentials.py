"""The one check of who may connect: a bearer token that can expire and be revoked, and a hook for an application's own rules.

`connection_init` carries `{"authorization": "Bearer TOKEN"}`. Without a token configured everyone may connect; a client may then call
itself something with `{"user": "name"}`, which joins its connections under that user's limits.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from typing import Any

from floodmark.systems.hub.errors import AuthenticationFailed
from floodmark.systems.hub.settings import HubSettings


class Credentials:
    """The tokens that are good now."""

    def __init__(self, settings: HubSettings) -> None:
        self._required = bool(settings.token)
        self._expires_s: dict[str, float] = {}
        self.on_connect: Callable[[dict[str, Any]], None] | None = None  # raises a HubError to reject with 4400
        if settings.token:
            self.grant(settings.token, lifetime_s=settings.token_lifetime_s or None)

    def grant(self, token: str, *, lifetime_s: float | None = None) -> None:
        """Accept a token from now on, for ever or for a while."""
        self._required = True
        self._expires_s[token] = float("inf") if lifetime_s is None else time.monotonic() + lifetime_s

    def revoke(self, token: str) -> None:
        """Accept a token no more; connections that came with it are closed with 4401 by the next sweep."""
        self._expires_s.pop(token, None)

    def valid(self, token: str) -> bool:
        """Tell if a token is good now."""
        return self._expires_s.get(token, 0.0) > time.monotonic()

    def check(self, payload: dict[str, Any], anonymous_name: str) -> tuple[str, str | None]:
        """Check a connection_init.

        Returns: the user's name for limits, and the token that must stay valid (None: none needed).
        Raises: AuthenticationFailed, or what the on-connect hook raises.
        """
        token: str | None = None
        if self._required:
            header = payload.get("authorization", payload.get("Authorization"))
            if not isinstance(header, str) or not header.startswith("Bearer "):
                raise AuthenticationFailed('connection_init needs {"authorization": "Bearer TOKEN"}')
            offered = header.removeprefix("Bearer ")
            token = next((known for known in self._expires_s if hmac.compare_digest(known.encode(), offered.encode())), None)
            if token is None or not self.valid(token):
                raise AuthenticationFailed("the token is unknown, expired or revoked")
        if self.on_connect is not None:
            self.on_connect(payload)
        user = payload.get("user")
        return (f"user {user}" if isinstance(user, str) and user else f"anonymous {anonymous_name}"), token
