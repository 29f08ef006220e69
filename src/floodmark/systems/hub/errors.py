"""What the hub tells a client that went wrong: one class per kind, each with the code that travels in `extensions.code`.

A `HubError` ends one operation (or, from the on-connect hook, one connection); it never ends the hub. The wire form is a GraphQL
error: message, locations, path, extensions. Not here: close codes of the WebSocket, which stand in `protocol.py`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from floodmark.core.errors import FloodmarkError


class HubError(FloodmarkError):
    """Root of what is reported to a client; `details` join the code in the error's extensions."""

    code: ClassVar[str] = "INTERNAL_ERROR"

    def __init__(self, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message, details)
        self.message, self.details = message, details or {}

    def __str__(self) -> str:
        return self.message

    def as_graphql(self) -> dict[str, Any]:
        """Give the error the shape GraphQL clients expect."""
        return {"message": self.message, "extensions": {"code": self.code, **self.details}}


class ConnectionNotFound(HubError):
    """An administrative call named a connection that is not open."""

    code = "CONNECTION_NOT_FOUND"


class SubscriptionNotFound(HubError):
    """A message named an operation that this connection never had."""

    code = "SUBSCRIPTION_NOT_FOUND"


class InvalidMessage(HubError):
    """The message or the GraphQL document in it cannot be used as it stands."""

    code = "INVALID_MESSAGE"


class AuthenticationFailed(HubError):
    """No credential, a wrong one, an expired one or a revoked one."""

    code = "AUTHENTICATION_FAILED"


class AuthorizationFailed(HubError):
    """The credential is good but does not allow this."""

    code = "AUTHORIZATION_FAILED"


class SubscriptionRejected(HubError):
    """The document is fine, but what it asks for cannot be subscribed to."""

    code = "SUBSCRIPTION_REJECTED"


class TooManySubscriptions(HubError):
    """A connection or a user holds as many subscriptions as it may."""

    code = "TOO_MANY_SUBSCRIPTIONS"


class RateLimitExceeded(HubError):
    """A token bucket is empty; `details` say when to come back."""

    code = "RATE_LIMIT_EXCEEDED"


class EventBusError(HubError):
    """The bus did not take an event after every retry, or its breaker is open."""

    code = "EVENT_BUS_ERROR"


class DatabaseError(HubError):
    """A store behind the bus failed."""

    code = "DATABASE_ERROR"


class InternalError(HubError):
    """The hub's own fault."""

    code = "INTERNAL_ERROR"


class EventsLagged(HubError):
    """A subscription fell further behind than its queue holds, and the policy is to end it rather than to skip events."""

    code = "EVENTS_LAGGED"


class OffsetExpired(HubError):
    """A resume asked for an offset that the history no longer holds, or does not hold yet."""

    code = "OFFSET_EXPIRED"


class ServerDraining(HubError):
    """The hub is shutting down and takes nothing new."""

    code = "SERVER_DRAINING"
