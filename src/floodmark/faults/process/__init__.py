"""Faults on the target's own processes, without root: one file per thing that goes wrong, all of them in the table below.

`inflict(fault, scene, for_s=...)` carries one out on a `Tree`, which holds nobody but what the runner started. Every fault is applied to
all its processes in one go, journalled, and healed also when it is cancelled. What each does, and its limits: docs/process-faults.md.
"""

from __future__ import annotations

from floodmark.faults.process.descriptors import Descriptors
from floodmark.faults.process.journal import Entry, Journal
from floodmark.faults.process.kill import Kill
from floodmark.faults.process.memory import Memory
from floodmark.faults.process.pause import Pause
from floodmark.faults.process.restart import Restart
from floodmark.faults.process.spec import ProcessFault, Restarter, Scene, inflict
from floodmark.faults.process.starve import Starve
from floodmark.faults.process.terminate import Terminate
from floodmark.faults.process.tree import Tree

__all__ = [
    "PROCESS_FAULTS",
    "Descriptors",
    "Entry",
    "Journal",
    "Kill",
    "Memory",
    "Pause",
    "ProcessFault",
    "ProcessPlan",
    "Restart",
    "Restarter",
    "Scene",
    "Starve",
    "Terminate",
    "Tree",
    "inflict",
]

ProcessPlan = Kill | Terminate | Pause | Memory | Descriptors | Starve | Restart

PROCESS_FAULTS: dict[str, tuple[type[ProcessPlan], str]] = {
    "kill": (Kill, "the target's processes, or a share of them, end at once (SIGKILL)"),
    "terminate": (Terminate, "the target is asked to end (SIGTERM)"),
    "pause": (Pause, "the target stands still and goes on later; its connections stay open"),
    "memory": (Memory, "the target may grow by so many bytes, then its allocations fail"),
    "descriptors": (Descriptors, "the target may open so many more files and sockets, then open and accept fail"),
    "starve": (Starve, "busy processes take the target's cores"),
    "restart": (Restart, "the target ends, stays away for a while and is started again"),
}
