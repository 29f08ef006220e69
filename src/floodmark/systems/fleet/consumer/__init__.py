"""How a worker consumes its partitions; see `base` for the contract."""

from floodmark.systems.fleet.consumer.base import Consumer

__all__ = ["Consumer"]
