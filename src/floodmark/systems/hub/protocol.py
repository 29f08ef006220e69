"""States and close codes of a connection, as tables.

Only what the sub-protocols say: no sockets, no clock. `connection.py` acts on it.
"""

from __future__ import annotations

import enum


class ConnectionState(enum.IntEnum):
    """Where a connection stands; it only ever moves forward."""

    WAITING = 0  # open, no connection_init yet
    CONNECTED = 1  # acknowledged
    CLOSING = 2  # a close frame went out
    CLOSED = 3


class SubscriptionState(enum.IntEnum):
    """Where a subscription stands."""

    PENDING = 0
    ACTIVE = 1
    COMPLETING = 2
    COMPLETED = 3
    ERRORED = 4


CONNECTION_MOVES: dict[ConnectionState, frozenset[ConnectionState]] = {
    ConnectionState.WAITING: frozenset({ConnectionState.CONNECTED, ConnectionState.CLOSING, ConnectionState.CLOSED}),
    ConnectionState.CONNECTED: frozenset({ConnectionState.CLOSING, ConnectionState.CLOSED}),
    ConnectionState.CLOSING: frozenset({ConnectionState.CLOSED}),
    ConnectionState.CLOSED: frozenset(),
}

SUBSCRIPTION_MOVES: dict[SubscriptionState, frozenset[SubscriptionState]] = {
    SubscriptionState.PENDING: frozenset({SubscriptionState.ACTIVE, SubscriptionState.ERRORED}),
    SubscriptionState.ACTIVE: frozenset({SubscriptionState.COMPLETING, SubscriptionState.ERRORED}),
    SubscriptionState.COMPLETING: frozenset({SubscriptionState.COMPLETED}),
    SubscriptionState.COMPLETED: frozenset(),
    SubscriptionState.ERRORED: frozenset(),
}


class Close(enum.IntEnum):
    """Close codes of the hub."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL = 1002
    BAD_TEXT = 1007
    TOO_BIG = 1009
    INTERNAL = 1011
    MALFORMED = 4400  # also: the on-connect hook said no
    UNAUTHORIZED = 4401
    FORBIDDEN = 4403  # a limit per user
    UNKNOWN_SUBSCRIPTION = 4404
    NO_SUBPROTOCOL = 4406
    INIT_LATE = 4408
    DUPLICATE_ID = 4409
    SECOND_INIT = 4429
