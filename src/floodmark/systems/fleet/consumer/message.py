"""A message as the handler sees it, and the words with which it is settled.

Sequence and delivery count come with the message, in the name of the subject that its answer goes to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nats.aio.msg import Msg

ACK, NAK, WORKING, TERM = b"+ACK", b"-NAK", b"+WPI", b"+TERM"
_SHORT, _LONG = 9, 11  # words of the answer's subject, without and with a domain


class Message:
    """One delivery.

    Attributes:
        sequence: in the stream; the same for every delivery of a message.
        deliveries: how often this consumer was given it, this time included.
        consumer_sequence: counts the deliveries of this consumer.
        stale: the durable that delivered it is gone. Its answer must not reach the one that has its name now: that would take the numbers
            of the old one's deliveries for its own. The message comes again, and is answered then.
    """

    __slots__ = ("_msg", "_on_settled", "consumer_sequence", "deliveries", "sequence", "settled", "stale")

    def __init__(self, msg: Msg) -> None:
        words = msg.reply.split(".")
        at = 4 if len(words) == _SHORT else 6
        self.deliveries = int(words[at])
        self.sequence = int(words[at + 1])
        self.consumer_sequence = int(words[at + 2])
        self.settled = self.stale = False
        self._msg = msg
        self._on_settled: Callable[[Message, bool], None] | None = None

    @property
    def subject(self) -> str:
        """The subject it was published to."""
        return str(self._msg.subject)

    @property
    def data(self) -> bytes:
        """The payload."""
        return bytes(self._msg.data)

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, empty when there are none."""
        return self._msg.headers or {}

    async def ack(self) -> None:
        """Done: it shall not come again."""
        await self._settle(ACK, done=True)

    async def nak(self) -> None:
        """Not done: it shall come again."""
        await self._settle(NAK, done=False)

    async def term(self) -> None:
        """Not done, and never will be: it shall not come again."""
        await self._settle(TERM, done=True)

    async def working(self) -> None:
        """Still at it: the time to acknowledge begins anew."""
        await self.say(WORKING)

    async def say(self, word: bytes) -> None:
        """Answer this delivery, whether it is settled or not."""
        if not self.stale:
            await self._msg._client.publish(self._msg.reply, word)

    def on_settled(self, told: Callable[[Message, bool], None]) -> None:
        """Have `told` called with this message, and whether it is done with, when it is settled."""
        self._on_settled = told

    def adopt(self, newer: Message) -> None:
        """Let the answer go to another delivery of the same message: that of the consumer as it is now."""
        self._msg, self.stale = newer._msg, False
        self.consumer_sequence, self.deliveries = newer.consumer_sequence, newer.deliveries

    async def _settle(self, word: bytes, *, done: bool) -> None:
        if self.settled:
            return
        self.settled = True
        if self._on_settled is not None:
            self._on_settled(self, done)
        await self.say(word)
