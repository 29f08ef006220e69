"""How a worker consumes its partitions: the contract, and one durable pull consumer on JetStream that fulfils it."""

from floodmark.systems.fleet.consumer.base import Consumer
from floodmark.systems.fleet.consumer.durable import DurableConsumer
from floodmark.systems.fleet.consumer.errors import (
    ConsumerError,
    ConsumerStoppedError,
    MessageGivenUpError,
    ServerError,
    TooManySubjectsError,
    UnsuitableStreamError,
    WorkerIdChangedError,
)
from floodmark.systems.fleet.consumer.message import Message
from floodmark.systems.fleet.consumer.reader import Counts
from floodmark.systems.fleet.consumer.settings import ConsumerSettings

__all__ = [
    "Consumer",
    "ConsumerError",
    "ConsumerSettings",
    "ConsumerStoppedError",
    "Counts",
    "DurableConsumer",
    "Message",
    "MessageGivenUpError",
    "ServerError",
    "TooManySubjectsError",
    "UnsuitableStreamError",
    "WorkerIdChangedError",
]
