"""Notice at once that a client has left while the hub does not read from it.

Who does not read does not see the end of the stream: a publisher that is held back could leave, and its publish would go on waiting. So
the sockets that are not read are watched for their end alone, all of them by one epoll, which the loop watches in turn.
Limits: Linux; elsewhere such a client is noticed when it is read from again. One that vanished without a word is the heartbeat's business.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import select
import termios
from collections.abc import Callable


def unacknowledged_bytes(descriptor: int) -> int:
    """Count what a socket was given and the other end's system has not confirmed; 0 where that cannot be told."""
    count = array.array("i", [0])
    try:
        fcntl.ioctl(descriptor, termios.TIOCOUTQ, count)
    except OSError:
        return 0
    return count[0]


class Departures:
    """The sockets that are not read at present."""

    def __init__(self) -> None:
        self._watched: dict[int, Callable[[], None]] = {}
        self._epoll: select.epoll | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to watch."""
        if hasattr(select, "epoll"):
            self._loop = loop
            self._epoll = select.epoll()
            loop.add_reader(self._epoll.fileno(), self._look)

    def stop(self) -> None:
        """Watch no more."""
        if self._epoll is not None and self._loop is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None
        self._watched.clear()

    def watch(self, descriptor: int, left: Callable[[], None]) -> None:
        """Call `left`, once, when the other end of a socket has said that it will send no more, or the connection broke."""
        if self._epoll is not None:
            self._epoll.register(descriptor, select.EPOLLRDHUP)  # and EPOLLHUP and EPOLLERR, which come unasked
            self._watched[descriptor] = left

    def forget(self, descriptor: int) -> None:
        """It is read again, or closed; INVARIANT: told before the descriptor is closed, or the number may be another's already."""
        if self._epoll is not None and self._watched.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def _look(self) -> None:
        assert self._epoll is not None
        for descriptor, _ in self._epoll.poll(0):
            left = self._watched.get(descriptor)
            self.forget(descriptor)
            if left is not None:
                left()
