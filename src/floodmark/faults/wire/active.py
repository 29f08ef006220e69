"""A fault that was added to a proxy: its settings, its choice of connections, its random numbers and what it did."""

from __future__ import annotations

import numpy as np

from floodmark.faults.wire.choice import Choice
from floodmark.faults.wire.journal import Totals
from floodmark.faults.wire.spec import Direction, WireFault


class ActiveFault:
    """The handle that `Proxy.add` gives and `Proxy.remove` takes."""

    def __init__(self, number: int, spec: WireFault, *, seed: int, choice: Choice) -> None:
        self.number = number
        self.spec = spec
        self.choice = choice
        self.totals = Totals(number, spec.kind)
        self.make = None if spec.inert else spec.shapers()
        self._seed = seed

    @property
    def hits(self) -> int:
        """How often it touched something; 0 means that it was never felt."""
        return self.totals.hits

    @property
    def size_bytes(self) -> int:
        """How many bytes it touched."""
        return self.totals.size_bytes

    def takes(self, connection: int) -> bool:
        """Tell if a connection that came after the fault is hit."""
        return not self.spec.spent(self.totals.hits) and self.choice.takes(connection)

    def generator(self, connection: int, direction: Direction) -> np.random.Generator:
        """Give the random numbers for one lane: by seed, fault, connection and direction, and nothing else."""
        return np.random.default_rng([self._seed, self.number, connection, list(Direction).index(direction)])
