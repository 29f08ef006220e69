"""A trial of the harness itself: an honest system, its lying twin, and what was planted in it."""

from __future__ import annotations

import msgspec

from floodmark.model.criterion import Criterion
from floodmark.model.scenario import Scenario


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """The harness on trial: a lying system must FAIL with exactly what was planted, its honest twin must PASS.

    `caught` are criteria that the lying run must meet, such as `lost == 20`; they are the planted figures.
    """

    id: str
    title: str
    plan: str = ""
    honest: Scenario
    lying: Scenario
    caught: tuple[Criterion, ...]
