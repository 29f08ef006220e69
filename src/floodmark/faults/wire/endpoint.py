"""One socket of a connection: the proxy's side towards the client or towards the target.

All endpoints of a proxy read into one buffer, because what was read is passed on, or copied, before the loop reads anything else; an idle
connection costs no buffer. Without faults bytes go from there to the other socket by one send, uncopied; only what the kernel does
not take at once is copied and left to the transport, whose high-water mark then pauses the source.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import TYPE_CHECKING, cast

import numpy as np

from floodmark.faults.wire.shaper import BLOCK_BYTES, End, Item

if TYPE_CHECKING:
    from floodmark.faults.wire.lane import Lane
    from floodmark.faults.wire.link import Link

READ_BYTES = BLOCK_BYTES
_BLOCK_BYTES_LEAST = READ_BYTES // 2  # what came of a read to keep its whole block for it
_HIGH_WATER_BYTES = 256 * 1024
_LINGER_0 = struct.pack("ii", 1, 0)


class Endpoint(asyncio.BufferedProtocol):
    """A socket, and the lanes that begin and end at it."""

    __slots__ = ("_block", "_buffer", "_early", "_ended", "_fd", "_reading", "_transport", "gone", "incoming", "link", "outgoing", "paused")

    outgoing: Lane  # what is read here goes there
    incoming: Lane  # what is written here comes from there

    def __init__(self, link: Link, buffer: memoryview) -> None:
        self.link = link
        self.paused = False  # the transport holds more than its high-water mark
        self.gone = False  # the connection is lost, or was ended by us
        self._buffer = buffer
        self._block: memoryview | None = None  # what the coming read goes into, when it is not the buffer
        self._transport: asyncio.Transport | None = None
        self._fd = -1
        self._reading = True
        self._ended = False  # the sender has nothing more to say
        self._early: list[Item] | None = []  # what was read before the link began; at most one chunk, reading is paused then

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self._fd = transport.get_extra_info("socket").fileno()

    def get_buffer(self, sizehint: int) -> memoryview:
        # INVARIANT: the loop reads and calls buffer_updated before anything else, so what is chosen here still holds there.
        if self.outgoing.roomy and self._early is None:
            self._block = np.empty(READ_BYTES, np.uint8).data  # unlike a bytearray, not filled with zeros first
            return self._block
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        # HOT: once per read; without faults this is all there is between two sockets.
        if self._early is not None:
            self._early.append(bytes(self._buffer[:nbytes]))
            self.set_reading(False)
            return
        lane = self.outgoing
        lane.received_bytes += nbytes
        if lane.direct:
            lane.sent_bytes += nbytes
            lane.sink.write(self._buffer[:nbytes])
        elif self._block is None:
            lane.feed(bytes(self._buffer[:nbytes]))
        else:
            block, self._block = self._block[:nbytes], None
            lane.feed(block if nbytes >= _BLOCK_BYTES_LEAST else bytes(block))

    def eof_received(self) -> bool:
        self._ended = True
        self._block = None
        self._take_end(End.FIN)
        return True  # half-closed: the other direction goes on

    def pause_writing(self) -> None:
        self.paused = True
        if not self.incoming.stages:
            self.incoming.update_reading()

    def resume_writing(self) -> None:
        self.paused = False
        self.incoming.sink_ready()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = self._block = None
        known = self.gone  # we ended it ourselves
        self.gone = True
        self.paused = False
        self.incoming.abandon()
        if not known:
            self._take_end(End.RST)
        self.link.endpoint_lost()

    # Called by lanes and link.

    def begin(self) -> None:
        """The link has both its ends: let through what came early, and read on."""
        early, self._early = self._early or [], None
        for item in early:
            if not isinstance(item, End):
                self.outgoing.received_bytes += len(item)
            self.outgoing.feed(item)
        self.outgoing.update_reading()

    @property
    def open(self) -> bool:
        """There is a transport that is not being closed."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def lost(self) -> bool:
        """There is no transport: it was lost, or never made."""
        return self._transport is None

    def write(self, data: bytes | memoryview) -> None:
        """Send now what the kernel takes and leave the rest to the transport."""
        transport = self._transport
        # INVARIANT: the descriptor is ours as long as the transport is not closing; afterwards its number may be another socket's.
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() == 0:
            try:
                sent = os.write(self._fd, data)
            except BlockingIOError:
                sent = 0
            except OSError:
                transport.abort()  # the connection is broken; connection_lost tells everybody
                return
            if sent == len(data):
                return
            data = data[sent:]
        transport.write(bytes(data))

    def finish(self) -> None:
        """Pass the end of the stream on, behind what is still to be written."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def set_reading(self, wanted: bool) -> None:
        """Read from the socket, or let the sender feel that we do not."""
        if wanted is self._reading or self._ended or (wanted and self._early is not None):
            return
        self._reading = wanted
        if self._transport is None or self._transport.is_closing():
            return
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def close(self) -> None:
        """Close when all is written."""
        self.gone = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now: FIN behind what the kernel has, the rest is dropped."""
        self.gone = True
        if self._transport is not None:
            self._transport.abort()

    def reset(self) -> None:
        """Close now with RST; what the kernel has is dropped too."""
        if self._transport is not None and not self._transport.is_closing():
            linger_zero(self._fd)
        self.abort()

    def _take_end(self, end: End) -> None:
        if self._early is None:
            self.outgoing.feed(end)
        else:
            self._early.append(end)


def linger_zero(descriptor: int) -> None:
    """Make the coming close of a socket a reset."""
    alias = socket.socket(fileno=descriptor)
    try:
        alias.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
    finally:
        alias.detach()
