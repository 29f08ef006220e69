"""Filters on events: conditions on event_type, channel and data fields by dotted path, all of which must hold.

Compiled once per distinct filter into one predicate; a filter is evaluated once per event, however many subscriptions share it.
A field that is missing satisfies NOT_EXISTS, NOT_EQUALS and NOT_IN, and nothing else; values of different kinds are never ordered.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import msgspec

from floodmark.systems.hub.errors import SubscriptionRejected
from floodmark.systems.hub.event import Event

Predicate = Callable[[Event], bool]


class Operator(enum.Enum):
    """The nine comparisons; the values are the names of the GraphQL enum."""

    EQUALS = "EQUALS"
    NOT_EQUALS = "NOT_EQUALS"
    GREATER_THAN = "GREATER_THAN"
    LESS_THAN = "LESS_THAN"
    EXISTS = "EXISTS"
    NOT_EXISTS = "NOT_EXISTS"
    CONTAINS = "CONTAINS"
    IN = "IN"
    NOT_IN = "NOT_IN"


class Condition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One comparison of one field with one value."""

    field: str
    op: Operator
    value: Any = None


MISSING = object()


def lookup(event: Event, field: str) -> Any:
    """Find a field: `event_type`, `channel`, `data`, or a dotted path into the data (list indices are digits); MISSING if there is none."""
    if field in ("event_type", "eventType"):
        return event.event_type
    if field == "channel":
        return event.channel
    _, _, path = field.partition(".")
    value = event.value
    for step in path.split(".") if path else ():
        if isinstance(value, dict):
            value = value.get(step, MISSING)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return MISSING
    return value


def _ordered(left: Any, right: Any) -> bool:
    """True if the two can be compared by size: two numbers (a bool is not one) or two strings."""
    if isinstance(left, bool) or isinstance(right, bool):
        return False
    return (isinstance(left, (int, float)) and isinstance(right, (int, float))) or (isinstance(left, str) and isinstance(right, str))


def _same(left: Any, right: Any) -> bool:
    """JSON equality: true is not 1, although Python says so."""
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _contains(holder: Any, value: Any) -> bool:
    if isinstance(holder, str):
        return isinstance(value, str) and value in holder
    if isinstance(holder, list):
        return any(_same(item, value) for item in holder)
    return isinstance(holder, dict) and isinstance(value, str) and value in holder


def holds(op: Operator, found: Any, value: Any) -> bool:
    """Decide one comparison; `found` may be MISSING."""
    missing = found is MISSING
    match op:
        case Operator.EXISTS:
            return not missing
        case Operator.NOT_EXISTS:
            return missing
        case Operator.EQUALS:
            return not missing and _same(found, value)
        case Operator.NOT_EQUALS:
            return missing or not _same(found, value)
        case Operator.GREATER_THAN:
            return not missing and _ordered(found, value) and bool(found > value)
        case Operator.LESS_THAN:
            return not missing and _ordered(found, value) and bool(found < value)
        case Operator.CONTAINS:
            return not missing and _contains(found, value)
        case Operator.IN:
            return not missing and any(_same(found, item) for item in value)
        case Operator.NOT_IN:
            return missing or not any(_same(found, item) for item in value)


def compile_filter(conditions: list[Condition], *, complexity_max: int) -> Predicate | None:
    """Turn conditions into one predicate; no conditions are no filter.

    Raises: SubscriptionRejected for more conditions than allowed, an unknown field, or IN without a list.
    """
    if len(conditions) > complexity_max:
        raise SubscriptionRejected(
            f"the filter has {len(conditions)} conditions, at most {complexity_max} are allowed", {"limit": complexity_max}
        )
    for condition in conditions:
        if condition.field not in ("event_type", "eventType", "channel", "data") and not condition.field.startswith("data."):
            raise SubscriptionRejected(f"no field {condition.field!r} to filter on; use event_type, channel or data.some.path")
        if condition.op in (Operator.IN, Operator.NOT_IN) and not isinstance(condition.value, list):
            raise SubscriptionRejected(f"{condition.op.value} on {condition.field} needs a list of values")
    if not conditions:
        return None
    parts = [(condition.op, condition.field, condition.value) for condition in conditions]

    def accepts(event: Event) -> bool:
        return all(holds(op, lookup(event, field), value) for op, field, value in parts)

    return accepts
