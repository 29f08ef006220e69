"""A declared table of states: which may follow which, and nothing else happens.

The table is data, so that it can be read in one place and shown in the documentation; a step that it does not name is refused with the
steps that it does. A state with no step out of it is final.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from typing import Generic, TypeVar

from floodmark.core.errors import FloodmarkError

S = TypeVar("S", bound=enum.Enum)


class IllegalTransitionError(FloodmarkError):
    """A step that the table of states does not have."""

    def __init__(self, source: str, target: str, allowed: tuple[str, ...]) -> None:
        super().__init__(source, target, allowed)
        self.source, self.target, self.allowed = source, target, allowed

    def __str__(self) -> str:
        after = f"only {', '.join(self.allowed)} may follow" if self.allowed else "it is final"
        return f"{self.source} cannot become {self.target}: {after}"


class Transitions(Generic[S]):
    """The legal steps between the members of one enumeration.

    >>> Light = enum.Enum("Light", "RED GREEN BROKEN")
    >>> steps = Transitions({Light.RED: {Light.GREEN, Light.BROKEN}, Light.GREEN: {Light.RED, Light.BROKEN}, Light.BROKEN: set()})
    >>> steps.allows(Light.RED, Light.GREEN), steps.allows(Light.BROKEN, Light.RED), steps.is_final(Light.BROKEN)
    (True, False, True)
    """

    __slots__ = ("table",)

    def __init__(self, table: Mapping[S, Collection[S]]) -> None:
        missing = {member for member in type(next(iter(table))) if member not in table}
        if missing:
            raise ValueError(f"the table says nothing about {', '.join(sorted(str(member.value) for member in missing))}")
        self.table: Mapping[S, frozenset[S]] = {source: frozenset(targets) for source, targets in table.items()}

    def allows(self, source: S, target: S) -> bool:
        """Tell if `target` may follow `source`."""
        return target in self.table[source]

    def is_final(self, state: S) -> bool:
        """Tell if nothing may follow."""
        return not self.table[state]

    def check(self, source: S, target: S) -> None:
        """Raise IllegalTransitionError unless `target` may follow `source`."""
        if target not in self.table[source]:
            allowed = tuple(sorted(str(step.value) for step in self.table[source]))
            raise IllegalTransitionError(str(source.value), str(target.value), allowed)
