"""What the scenarios of the subscription suite have in common: the embedded hub as their target, and how one becomes an entry."""

from __future__ import annotations

from collections.abc import Callable

from floodmark.model.scenario import Scenario, Target
from floodmark.suites.entry import Entry

GLOBAL = ("error_ratio < 0.5%",)
EXACT = ("lost == 0", "duplicated == 0")


def hub(*args: str, connections: int) -> Target:
    """The embedded hub with room for these connections and no rate limits."""
    room = ("--max-connections", str(connections + 64), "--no-rate-limits")
    return Target(system="hub", args=(*room, *args))


def entry(build: Callable[[float], Scenario], name: str, plan: str, quick_scale: float | None = None) -> Entry:
    """Make an entry; its text is the first line of the docstring behind the colon."""
    text = (build.__doc__ or "").split(": ", 1)[1].splitlines()[0]
    return Entry(id=f"subscriptions.{name}", text=text, build=build, plan=plan, quick_scale=quick_scale)
