"""A hub that breaks its promises to those who come back, a known number of times.

Connections that broke off (that ended without a close frame) and resumes are numbered from 1; lies fall on these numbers by the plan of
`lies.py`. What is wrong with single deliveries is `liar.py`'s part, and `planted()` tells of both.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

from floodmark.systems.hub.conduct import Conduct
from floodmark.systems.hub.liar import Liar
from floodmark.systems.hub.lies import OF_BREAKS, OF_RESUMES, Due, parse_lie
from floodmark.systems.hub.metrics import Snapshot
from floodmark.systems.hub.settings import HubSettings
from floodmark.systems.hub.subscription import Group

if TYPE_CHECKING:
    from floodmark.systems.hub.connection import Connection


class Misconduct(Conduct):
    """Lies as `settings.lies` says, at places drawn from `settings.seed`."""

    def __init__(self, settings: HubSettings, liar: Liar, connections: Collection[Connection]) -> None:
        self._liar = liar
        self._connections = connections
        lies = [parse_lie(text) for text in settings.lies]
        self._due = {lie.name: Due(lie, settings.seed) for lie in lies if lie.name in OF_RESUMES + OF_BREAKS}
        self._down = next((lie for lie in lies if lie.name == "down"), None)
        self._slow = next((lie for lie in lies if lie.name == "slow"), None)
        self._stats_factor = math.prod(lie.factor for lie in lies if lie.name == "stats")
        self._breaks = 0
        self._resumes = 0
        self._most_open = 0  # connections, when one of them broke off
        self._places: int | None = None  # for connections, once some are gone for good
        self._refused = 0
        self._ghost_connections = 0
        self._ghost_subscriptions = 0

    def broke_off(self, connection: Connection) -> None:
        """Count the break, and do what falls on its number."""
        self._breaks += 1
        self._most_open = max(self._most_open, len(self._connections))
        if self._owed("drift", self._breaks):
            self._due["drift"].paid()
            self._ghost_connections += 1
            self._ghost_subscriptions += connection.subscription_count
        if self._down is not None and self._breaks == self._down.at:
            self._places = self._most_open - self._down.hits
        if self._slow is not None and self._breaks == self._slow.at:
            self._liar.slow_down(self._slow.factor)

    def admits(self, open_count: int) -> bool:
        """Of the places that were left, some are never given again: whoever comes when the others are taken stays out for good."""
        if self._places is None or open_count < self._places:
            return True
        self._refused += 1
        return False

    def resume_at(self, group: Group, cursor: int) -> int:
        """Start one event too late or too early; where there is none to skip or to repeat, the hit stays owed."""
        self._resumes += 1
        if self._owed("skip", self._resumes) and _is_for(group, cursor):
            self._due["skip"].paid()
            cursor += 1
        if self._owed("again", self._resumes) and _is_for(group, cursor - 1):
            self._due["again"].paid()
            cursor -= 1
        return cursor

    def _owed(self, name: str, number: int) -> bool:
        due = self._due.get(name)
        return due is not None and due.reach(number)

    def told(self, snapshot: Snapshot) -> Snapshot:
        """Ghosts are told of as if they were there, and counters multiplied."""
        gauges = dict(snapshot.gauges)
        gauges["active_connections"] += self._ghost_connections
        gauges["active_subscriptions"] += self._ghost_subscriptions
        counters = {name: round(value * self._stats_factor) for name, value in snapshot.counters.items()}
        return msgspec.structs.replace(snapshot, gauges=gauges, counters=counters)

    def planted(self) -> dict[str, dict[str, float]]:
        """What was really done, by lie."""
        done = self._liar.planted()
        done |= {name: {"planted": due.planted, "owed": due.owed} for name, due in self._due.items()}
        if self._down is not None:
            done["down"] = {"planted": self._down.hits if self._places is not None else 0, "refused": self._refused}
        if self._stats_factor != 1.0:
            done["stats"] = {"factor": self._stats_factor}
        return done


def _is_for(group: Group, position: int) -> bool:
    """Tell if the log holds an event at this position, and the group wants it."""
    log = group.log
    if not log.first <= position <= log.head:
        return False
    return group.predicate is None or group.predicate(log.entries[position - log.first])
