"""The reference systems that floodmark starts by name: each as the command line of its own process.

The runner never imports a system: it starts a command, as it would start anybody's.
"""

from __future__ import annotations

import difflib
import sys

from floodmark.core.errors import UsageError
from floodmark.model.scenario import Target

SYSTEMS: dict[str, tuple[tuple[str, ...], str]] = {
    "hub": (("-m", "floodmark.systems.hub"), r"^floodmark hub ready (\S+)$"),
    "pipeline": (("-m", "floodmark.systems.pipeline.host"), r"^floodmark pipeline ready (\S+)$"),
    "conductor": (("-m", "floodmark.systems.conductor.host"), r"^floodmark conductor ready (\S+)$"),
    "fleet": (("-m", "floodmark.systems.fleet.host"), r"^floodmark fleet ready (\S+)$"),
    "nats": (("-m", "floodmark.core.nats_command"), r"^floodmark nats ready (\S+)$"),
    "tokens": (("-m", "floodmark.systems.conductor.tokens"), r"^floodmark tokens ready (\S+)$"),
}


def command_of(target: Target) -> tuple[list[str], str]:
    """The command line of an embedded system and the pattern of its ready line.

    Raises: UsageError for an unknown name, naming the nearest.
    """
    assert target.system is not None
    entry = SYSTEMS.get(target.system)
    if entry is None:
        near = difflib.get_close_matches(target.system, SYSTEMS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known systems: {', '.join(SYSTEMS)}"
        raise UsageError(f"unknown system {target.system!r}; {hint}")
    arguments, ready = entry
    return [sys.executable, *arguments, *target.args], ready
