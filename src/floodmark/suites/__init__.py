"""The scenarios that come with floodmark, as data: one suite per file, all of them in the table below."""

from __future__ import annotations

import difflib

from floodmark.core.errors import UsageError
from floodmark.model.trial import Trial
from floodmark.suites import fleet, liars, nats, pipeline, subscriptions, tokens
from floodmark.suites.entry import Entry

SUITES: dict[str, tuple[Entry, ...]] = {
    "subscriptions": subscriptions.SCENARIOS,
    "pipeline": pipeline.SCENARIOS,
    "tokens": tokens.SCENARIOS,
    "fleet": fleet.SCENARIOS,
    "nats": nats.SCENARIOS,
    "liars": liars.SCENARIOS,
}

__all__ = ["SUITES", "Entry", "Trial", "entries", "find"]


def entries() -> dict[str, Entry]:
    """Every scenario by its id."""
    return {entry.id: entry for suite in SUITES.values() for entry in suite}


def find(name: str) -> tuple[Entry, ...]:
    """The scenarios of a suite, or the one scenario of that id.

    Raises: UsageError that names the nearest.
    """
    if name in SUITES:
        return SUITES[name]
    known = entries()
    if name in known:
        return (known[name],)
    near = difflib.get_close_matches(name, [*SUITES, *known], n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"suites: {', '.join(SUITES)}"
    raise UsageError(f"unknown suite or scenario {name!r}; {hint} (floodmark list scenarios shows them all; a file ends in .toml or .py)")
