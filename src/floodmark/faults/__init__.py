"""What goes wrong on purpose: one fault per file, all of them in the tables below.

The files beside this one are faults in the clients. They hold the pure part: which connections or operations, decided by the seed; the
agent carries it out. `wire/` holds the faults between clients and target, whose kinds begin with `wire.`; `process/` those on the target's
own processes, whose kinds begin with `process.`.
"""

from __future__ import annotations

import difflib
from typing import Any

import msgspec

from floodmark.core.errors import UsageError
from floodmark.faults.churn import Churn
from floodmark.faults.disconnect import Disconnect
from floodmark.faults.drop import Drop
from floodmark.faults.failure import Failure
from floodmark.faults.latency import Latency
from floodmark.faults.process import PROCESS_FAULTS
from floodmark.faults.process.spec import ProcessFault
from floodmark.faults.reader import Reader
from floodmark.faults.wire import WIRE_FAULTS
from floodmark.faults.wire.spec import WireFault
from floodmark.model.scenario import Fault

ClientFault = Churn | Disconnect | Drop | Failure | Latency | Reader
FaultPlan = ClientFault | WireFault | ProcessFault

CLIENT_FAULTS: dict[str, tuple[type[ClientFault], str]] = {
    "disconnect": (Disconnect, "drop a share of the connections at once, then bring them back, resuming where the driver can"),
    "drop": (Drop, "drop a share of the connections while they connect, subscribe, publish, receive or unsubscribe"),
    "churn": (Churn, "end a share of the subscriptions and open new ones; some of them by dropping the connection instead"),
    "reader": (Reader, "a share of the connections reads slowly, or not at all, for a while"),
    "latency": (Latency, "publishes, subscribes or deliveries wait in the client: fixed, or drawn from a distribution"),
    "failure": (Failure, "publishes or subscribes fail in the client and are never sent: at a rate, or an exact number of them"),
}

#: Every kind that a fault slot of a scenario may name.
FAULTS: dict[str, tuple[type[Any], str]] = {
    **CLIENT_FAULTS,
    **{f"wire.{name}": entry for name, entry in WIRE_FAULTS.items()},
    **{f"process.{name}": entry for name, entry in PROCESS_FAULTS.items()},
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
    options = dict(fault.options)
    if issubclass(kind, WireFault):
        options.setdefault("share", fault.ratio)
    unknown = set(options) - set(kind.__struct_fields__)
    if unknown:
        raise UsageError(f"fault {fault.kind!r} has no option {min(unknown)!r}; it has: {', '.join(kind.__struct_fields__)}")
    try:
        made: FaultPlan = msgspec.convert(options, kind)
    except msgspec.ValidationError as exc:
        raise UsageError(f"fault {fault.kind!r}: {exc}") from exc
    if isinstance(made, Failure):
        made.check_ratio(fault.ratio)
    return made
