"""The consumers of JetStream subscriptions: what becomes of a message once the ledger has it, by the kind of acknowledgement.

A message is acknowledged after it was handed to the ledger, in one write per read. `Each` acknowledges every message, `All` the last one
of a read for all before it, `Twice` every message and waits for the server to confirm that: what was handled and never confirmed is known
by its stream sequence and is not handled again when it comes again. A pulled one asks for more when half of what it asked for has come.
A pull that the server refuses, as while nobody there has the consumer, is tried again after a pause, PAUSES_S in turn; then it has ended.
Memory: what is not confirmed, which the server bounds by `max_ack_pending`.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from floodmark.drivers.nats_place import sequence_of_reply
from floodmark.drivers.nats_runs import Rows
from floodmark.drivers.nats_socket import Answer

_END = 409  # why the server ends a pull, in words behind it
_NOBODY = 503
_REFUSED = (400, _END, _NOBODY)
PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)


class Reader(Protocol):
    """What a consumer needs of its connection."""

    touched: list[Consumer]
    inbox: bytes

    def send(self, words: bytes) -> None:
        """Send."""

    def gone(self, consumer: Consumer, reason: str) -> None:
        """The server has ended this consumer."""


class Consumer:
    """One consumer, without acknowledgement. `batch_count` > 0: it is pulled, so many messages at once."""

    def __init__(self, reader: Reader, *, slot: int, stream: str, name: str, batch_count: int, expires_ns: int) -> None:
        self.slot, self.stream, self.name = slot, stream, name
        self._reader = reader
        self._batch_count = batch_count
        self._expires_ns = expires_ns
        self._due_count = 0
        self._asked_count = 0
        self._touched = False
        self._refusals = 0
        self._again: asyncio.TimerHandle | None = None

    def admit(self, reply: bytes) -> bool:  # HOT: once per message
        """Take one message."""
        self._took(1)
        return True

    def admit_run(self, replies: Rows) -> bool:  # HOT: once per run of messages
        """Take a run."""
        self._took(len(replies))
        return True

    def _took(self, count: int) -> None:
        self._due_count -= count
        if not self._touched:
            self._touched = True
            self._reader.touched.append(self)

    def after_read(self) -> None:
        """HOT: once per read that brought something. Acknowledge, and ask for more."""
        self._touched = False
        self._refusals = 0
        self.acknowledge()
        self.pull()

    def acknowledge(self) -> None:
        """Tell the server what was handled."""

    def pull(self) -> None:
        """Ask for more once half of what was asked for has come."""
        count = self._batch_count - self._due_count
        if not self._batch_count or 2 * count < self._batch_count or self._again is not None:
            return
        self._due_count += count
        self._asked_count = count
        body = b'{"batch":%d,"expires":%d}' % (count, self._expires_ns)
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self.name}".encode()
        self._reader.send(b"PUB %b %b.m.%d %d\r\n%b\r\n" % (subject, self._reader.inbox, self.slot, len(body), body))

    def on_status(self, answer: Answer) -> None:
        """A pull has ended without all that it asked for, or the consumer has."""
        words = answer.headers.partition(b"\r\n")[0][13:].decode("utf-8", "replace")
        if answer.status == _END and "deleted" in words.lower():
            self._reader.gone(self, f"the server ended the consumer: {words}")
            return
        left_count = _left_count(answer.headers)
        if left_count is None and answer.status in _REFUSED and self._batch_count:
            self._on_refused(answer.status, words)
            return
        self._due_count = max(0, self._due_count - (left_count or 0))
        self.pull()

    def _on_refused(self, status: int, words: str) -> None:
        """The newest pull brings nothing: the answer to that comes at once, where one that was taken says what it leaves undone."""
        self._due_count = max(0, self._due_count - self._asked_count)
        self._asked_count = 0
        if self._again is not None:
            return
        if self._refusals == len(PAUSES_S):
            why = "nobody answers them" if status == _NOBODY else words
            self._reader.gone(self, f"the server refused {self._refusals + 1} pulls in a row: {why} ({status})")
            return
        self._again = asyncio.get_running_loop().call_later(PAUSES_S[self._refusals], self._pull_again)
        self._refusals += 1

    def _pull_again(self) -> None:
        self._again = None
        self.pull()

    def end(self) -> None:
        """Nobody wants its messages any more: a pull that waits for its turn is given up."""
        if self._again is not None:
            self._again.cancel()


class Each(Consumer):
    """Acknowledges every message."""

    def __init__(self, reader: Reader, *, slot: int, stream: str, name: str, batch_count: int, expires_ns: int) -> None:
        super().__init__(reader, slot=slot, stream=stream, name=name, batch_count=batch_count, expires_ns=expires_ns)
        self._replies: list[bytes] = []

    def admit(self, reply: bytes) -> bool:  # HOT
        """Take one message."""
        self._replies.append(reply)
        self._took(1)
        return True

    def admit_run(self, replies: Rows) -> bool:  # HOT
        """Take a run."""
        data, width = replies.tobytes(), replies.shape[1]
        self._replies += [data[at : at + width] for at in range(0, len(data), width)]
        self._took(len(replies))
        return True

    def acknowledge(self) -> None:
        """Every one, in one write."""
        self._reader.send(b"PUB " + b" 0\r\n\r\nPUB ".join(self._replies) + b" 0\r\n\r\n")
        self._replies.clear()


class All(Consumer):
    """Acknowledges the last message of a read, and with it all before."""

    _last = b""

    def admit(self, reply: bytes) -> bool:  # HOT
        """Take one message."""
        self._last = reply
        self._took(1)
        return True

    def admit_run(self, replies: Rows) -> bool:  # HOT
        """Take a run."""
        self._last = replies[-1].tobytes()
        self._took(len(replies))
        return True

    def acknowledge(self) -> None:
        """The last one."""
        self._reader.send(b"PUB %b 0\r\n\r\n" % self._last)


class Twice(Each):
    """Acknowledges every message, and knows which acknowledgements the server has confirmed."""

    def __init__(
        self, reader: Reader, *, slot: int, stream: str, name: str, batch_count: int, expires_ns: int, unconfirmed: set[int]
    ) -> None:
        super().__init__(reader, slot=slot, stream=stream, name=name, batch_count=batch_count, expires_ns=expires_ns)
        self._unconfirmed = unconfirmed

    def admit(self, reply: bytes) -> bool:  # HOT
        """Take one message, unless it was handled before and only the confirmation is missing."""
        super().admit(reply)
        seq = sequence_of_reply(reply)
        if seq in self._unconfirmed:
            return False
        self._unconfirmed.add(seq)
        return True

    def admit_run(self, replies: Rows) -> bool:
        """One by one: each is looked up."""
        return False

    def acknowledge(self) -> None:
        """Every one, each with an address for its confirmation."""
        place = b"%b.k.%d." % (self._reader.inbox, self.slot)
        self._reader.send(b"".join([b"PUB %b %b%d 0\r\n\r\n" % (reply, place, sequence_of_reply(reply)) for reply in self._replies]))
        self._replies.clear()

    def confirmed(self, seq: int) -> None:
        """The server has noted that this one was handled."""
        self._unconfirmed.discard(seq)


def _left_count(headers: bytes) -> int | None:
    """How many messages an ended pull would still have brought; None for one that was never taken."""
    _, found, rest = headers.partition(b"Nats-Pending-Messages:")
    return int(rest.partition(b"\r\n")[0]) if found else None
