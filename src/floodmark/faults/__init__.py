"""What goes wrong on purpose: one fault per file, all of them in the table below.

The files hold the pure part: which connections, in which order, decided by the seed. The agent carries it out.
"""

from __future__ import annotations

import difflib

import msgspec

from floodmark.core.errors import UsageError
from floodmark.faults.churn import Churn
from floodmark.faults.disconnect import Disconnect
from floodmark.model.scenario import Fault

FaultPlan = Churn | Disconnect

FAULTS: dict[str, tuple[type[Churn] | type[Disconnect], str]] = {
    "disconnect": (Disconnect, "drop a share of the connections at once, then bring them back, resuming where the driver can"),
    "churn": (Churn, "end a share of the subscriptions and open new ones; some of them by dropping the connection instead"),
}


def plan(fault: Fault) -> FaultPlan:
    """Read a fault slot's options.

    Raises: UsageError for an unknown kind (naming the nearest) or an unknown or wrong option (naming those that exist).
    """
    entry = FAULTS.get(fault.kind)
    if entry is None:
        near = difflib.get_close_matches(fault.kind, FAULTS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known faults: {', '.join(FAULTS)}"
        raise UsageError(f"unknown fault {fault.kind!r}; {hint}")
    kind = entry[0]
    unknown = set(fault.options) - set(kind.__struct_fields__)
    if unknown:
        raise UsageError(f"fault {fault.kind!r} has no option {min(unknown)!r}; it has: {', '.join(kind.__struct_fields__)}")
    try:
        return msgspec.convert(fault.options, kind)
    except msgspec.ValidationError as exc:
        raise UsageError(f"fault {fault.kind!r}: {exc}") from exc
