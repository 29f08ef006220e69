"""Keeps the order of each subject when a message fails: what follows it on its subject waits until it has come again.

The server delivers a message that was refused again at once, but what was on the way already overtakes it. The wait is bounded: by the
message's last delivery, after which it never comes again, and by a time.
Memory: the messages that wait are among those that were pulled, so they are bounded by the batch and the failures in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from floodmark.systems.fleet.consumer.message import Message


class Order:
    """The subjects that wait, and their messages."""

    def __init__(self) -> None:
        self.waiting: dict[str, tuple[int, float]] = {}  # by subject: the sequence that failed, and until when it is waited for
        self._held: list[Message] = []

    @property
    def held_count(self) -> int:
        """Messages that wait."""
        return len(self._held)

    def failed(self, message: Message, until_s: float) -> None:
        """Hold back what follows this one until it has come again, or the time is over."""
        self.waiting[message.subject] = (message.sequence, until_s)

    def ready(self, arrived: Sequence[Message], now_s: float) -> Sequence[Message]:
        """Put what waits and what has arrived into one order; each still has to be asked about with `admits`."""
        if not self.waiting and not self._held:
            return arrived
        for subject in [subject for subject, (_, until_s) in self.waiting.items() if now_s >= until_s]:
            del self.waiting[subject]
        held, self._held = self._held, []
        return sorted([*held, *arrived], key=lambda message: message.sequence)

    def admits(self, message: Message) -> bool:
        """Tell if it is this message's turn; if not, it is kept."""
        waited = self.waiting.get(message.subject)
        if waited is None:
            return True
        if message.sequence > waited[0]:
            self._held.append(message)
            return False
        if message.sequence == waited[0]:
            del self.waiting[message.subject]
        return True

    def clear(self) -> None:
        """Forget everything: the server begins anew."""
        self.waiting.clear()
        self._held.clear()
