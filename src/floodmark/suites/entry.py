"""What a suite is made of: named scenarios as functions of the scale, and trials of the harness itself."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from floodmark.model.criterion import Criterion, parse
from floodmark.model.scenario import Scenario
from floodmark.model.trial import Trial


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario of a suite. `build` takes the scale; the quick tier runs at `quick_scale`, or leaves it out when that is None."""

    id: str
    text: str
    build: Callable[[float], Scenario | Trial]
    plan: str = ""
    quick_scale: float | None = 0.1


def criteria(*texts: str) -> tuple[Criterion, ...]:
    """Parse several criteria."""
    return tuple(parse(text) for text in texts)


def against(twin: Scenario, title: str, lie: str, caught: tuple[str, ...], *words: str) -> Trial:
    """Set a lying system beside its honest twin, which has everything from it but the lie, and the `words` that belong to lying."""
    target = msgspec.structs.replace(twin.target, args=(*twin.target.args, "--lie", lie, *words))
    return Trial(
        id=twin.id,
        title=title,
        honest=msgspec.structs.replace(twin, id=f"{twin.id}.honest-twin", title="the honest twin"),
        lying=msgspec.structs.replace(twin, title=title, target=target),
        caught=criteria(*caught),
    )


def trial(
    name: str, title: str, twin: Callable[[], Scenario], lie: str, caught: tuple[str, ...], *words: str, quick_scale: float | None = None
) -> Entry:
    """Make the entry of a lying system beside its twin, which has one size whatever the scale."""
    return Entry(id=f"liars.{name}", text=title, build=lambda scale: against(twin(), title, lie, caught, *words), quick_scale=quick_scale)


def scaled(count: int, scale: float, *, least: int = 1) -> int:
    """A size at a scale: rounded, and never below `least`."""
    return max(least, round(count * scale))
