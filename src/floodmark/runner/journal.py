"""Write down what was done to whom: every strike of a fault with its victims, and what proxy and process faults noted themselves.

One flat line each, for `faults.jsonl` of the run folder. `t_s` counts from the first intended message, as everything in a report does;
the times inside an entry of a journal are that journal's own: of the proxy since its start, of processes by the machine's monotonic clock.
Limit: the journals are bounded and keep their newest entries.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from floodmark.runner.evidence import Blow, Evidence


def lines(evidence: Evidence) -> Iterator[dict[str, Any]]:
    """Give the strikes in the order in which they came, then each journal as it was written."""
    origin_ns = evidence.first_intended_ns or evidence.started_ns
    for blow in evidence.blows:
        yield {"by": "runner", **_strike(blow, origin_ns)}
    for who, entries in evidence.journals.items():
        for entry in entries:
            yield {"by": who, **msgspec.to_builtins(entry)}


def _strike(blow: Blow, origin_ns: int) -> dict[str, Any]:
    return {
        "kind": blow.kind,
        "slot": blow.index,
        "occasion": blow.occasion,
        "standing": blow.standing,
        "struck_t_s": (blow.struck_ns - origin_ns) / 1e9,
        "lifted_t_s": (blow.lifted_ns - origin_ns) / 1e9,
        "healed": blow.healed or blow.standing,
        "hits": blow.hits,
        "back": blow.back,
        "connections": list(blow.victims),
    }
