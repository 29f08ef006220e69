"""Token buckets and limits per user, with shared state: every subscription and connection of a user draws from the same bucket.

Pure: the clock is handed in as seconds. Every refusal is counted by kind, for `/metrics`.
"""

from __future__ import annotations

from floodmark.systems.hub.errors import RateLimitExceeded, TooManySubscriptions
from floodmark.systems.hub.settings import HubSettings


class TokenBucket:
    """Takes up to `capacity` at once and refills at `refill_hz`; never lets more than capacity + refill x time through."""

    __slots__ = ("_at_s", "_tokens", "capacity", "refill_hz")

    def __init__(self, *, capacity: float, refill_hz: float, now_s: float) -> None:
        self.capacity = capacity
        self.refill_hz = refill_hz
        self._tokens = float(capacity)
        self._at_s = now_s

    def available(self, now_s: float) -> float:
        """Tokens there are at a time; a clock that runs backwards adds none."""
        if now_s > self._at_s:
            self._tokens = min(self.capacity, self._tokens + (now_s - self._at_s) * self.refill_hz)
            self._at_s = now_s
        return self._tokens

    def take(self, count: float, now_s: float) -> bool:
        """Take tokens, all or none."""
        if self.available(now_s) < count:
            return False
        self._tokens -= count
        return True

    def wait_s(self, count: float, now_s: float) -> float:
        """Seconds until that many tokens are there, as things stand."""
        return max(0.0, (count - self.available(now_s)) / self.refill_hz)


class User:
    """What one user holds and has used; shared by all of the user's connections."""

    __slots__ = ("connection_count", "operations", "subscription_count", "subscriptions_started")

    def __init__(self, settings: HubSettings, now_s: float) -> None:
        self.connection_count = 0
        self.subscription_count = 0
        per_min = settings.subscriptions_per_user_per_min
        self.subscriptions_started = TokenBucket(capacity=per_min, refill_hz=max(per_min / 60.0, 1e-9), now_s=now_s)
        self.operations = TokenBucket(capacity=settings.bucket_capacity, refill_hz=max(settings.bucket_refill_hz, 1e-9), now_s=now_s)


class Limits:
    """The users of a hub and what each may still do. A user is forgotten with the last connection, so buckets outlive none of them."""

    def __init__(self, settings: HubSettings) -> None:
        self._settings = settings
        self._users: dict[str, User] = {}
        self.violations: dict[str, int] = {}

    def violated(self, kind: str) -> None:
        """Count a refusal."""
        self.violations[kind] = self.violations.get(kind, 0) + 1

    def join(self, name: str, now_s: float) -> User:
        """Admit one more connection of a user.

        Raises: RateLimitExceeded when the user has as many as allowed.
        """
        user = self._users.get(name)
        if user is None:
            user = self._users[name] = User(self._settings, now_s)
        if self._settings.rate_limits and user.connection_count >= self._settings.connections_per_user:
            self.violated("connections_per_user")
            limit = self._settings.connections_per_user
            raise RateLimitExceeded(f"{user.connection_count} connections are open for this user, the limit", {"limit": limit})
        user.connection_count += 1
        return user

    def leave(self, name: str) -> None:
        """A connection of a user is gone."""
        user = self._users[name]
        user.connection_count -= 1
        if not user.connection_count:
            del self._users[name]

    def operation(self, user: User, now_s: float) -> None:
        """Let one operation of a user pass.

        Raises: RateLimitExceeded when the bucket is empty.
        """
        if self._settings.rate_limits and not user.operations.take(1, now_s):
            self.violated("operations_per_user")
            wait_s = user.operations.wait_s(1, now_s)
            raise RateLimitExceeded(f"too many operations; retry in {wait_s:.3g} s", {"retryAfterS": round(wait_s, 3)})

    def subscribe(self, user: User, held_by_connection: int, now_s: float) -> None:
        """Let a user start one more subscription; the caller counts it in `user.subscription_count`.

        Raises: TooManySubscriptions or RateLimitExceeded.
        """
        settings = self._settings
        if held_by_connection >= settings.subscriptions_per_connection:
            self.violated("subscriptions_per_connection")
            limit = settings.subscriptions_per_connection
            raise TooManySubscriptions(f"{held_by_connection} subscriptions are active on this connection, the limit", {"limit": limit})
        if not settings.rate_limits:
            return
        if user.subscription_count >= settings.subscriptions_per_user:
            self.violated("subscriptions_per_user")
            limit = settings.subscriptions_per_user
            raise TooManySubscriptions(f"{user.subscription_count} subscriptions are active for this user, the limit", {"limit": limit})
        if not user.subscriptions_started.take(1, now_s):
            self.violated("subscriptions_per_user_per_min")
            wait_s = user.subscriptions_started.wait_s(1, now_s)
            raise RateLimitExceeded(f"too many new subscriptions; retry in {wait_s:.3g} s", {"retryAfterS": round(wait_s, 3)})
