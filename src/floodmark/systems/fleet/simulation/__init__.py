"""The whole fleet in one thread on virtual time: thousands of seeded histories of faults, each judged at every step.

`run_virtual` and `virtual` are for tests of anything that takes its time from the event loop. The rest is the simulation itself:
`python -m floodmark.systems.fleet.simulation --seeds 0..2000`.
"""

from __future__ import annotations

from floodmark.systems.fleet.simulation.loop import Node, VirtualLoop, VirtualTimeError, current_node, run_virtual, virtual

__all__ = ["Node", "VirtualLoop", "VirtualTimeError", "current_node", "run_virtual", "virtual"]
