"""What the leader of a fleet does: see who is there, decide when to share anew, and publish who does what."""

from floodmark.systems.fleet.leader.calculator import Calculator
from floodmark.systems.fleet.leader.decide import Lifecycle
from floodmark.systems.fleet.leader.publisher import Lease

__all__ = ["Calculator", "Lease", "Lifecycle"]
