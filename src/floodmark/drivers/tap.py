"""Take runs of frames of one length straight from the socket, before the WebSocket library looks at each of them.

A flooded connection receives hundreds of like frames in one read. Calling back for each of them costs more than checking them all at
once (`ledger/block.py`), so the tap sits in front of the library: it walks the frame headers, hands whole runs on as a block, and gives
everything else, every control frame, fragment, odd length or frame cut by the end of the read, to the library as if it had not been there.

INVARIANT: every byte goes exactly one way, in order, and the library sees whole frames or the beginning of one whose rest follows.
Memory: one read buffer for all taps of a process, since a read is worked off before the next one begins.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

READ_BYTES = 256 * 1024
HEADER_BYTES_MAX = 10  # of a frame from a server, which is not masked
LEAST_COUNT = 24  # a shorter run costs less one by one
_shared = bytearray(READ_BYTES + HEADER_BYTES_MAX)
_view = memoryview(_shared)
_bytes = np.frombuffer(_shared, np.uint8)


class Library(Protocol):
    """The part of picows' protocol object that the tap feeds."""

    def get_buffer(self, size_hint: int) -> memoryview: ...
    def buffer_updated(self, nbytes: int) -> None: ...
    def eof_received(self) -> bool | None: ...
    def connection_lost(self, exc: BaseException | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Tap(asyncio.BufferedProtocol):
    """Sits between a transport and the library's protocol.

    Args:
        library: what was there before; gets all that is not taken.
        take: called with (rows, header bytes, received_ns) for a run of like frames, rows a (n, frame bytes) array that is valid
            during the call only; returns whether it took them. If not, the library gets them.
    """

    def __init__(self, library: Library, take: Callable[[np.ndarray, int, int], bool]) -> None:
        self._library = library
        self._take = take
        self._owed_bytes = 0  # of a frame that the library has the beginning of
        self._stub = b""  # the beginning of a frame header, kept until the rest comes

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next read goes: behind what is left of the last one."""
        return _view[len(self._stub) :]

    def buffer_updated(self, nbytes: int) -> None:
        """Work off a read completely."""
        received_ns = time.monotonic_ns()
        stub = self._stub
        end = len(stub) + nbytes
        if stub:
            _shared[: len(stub)] = stub
            self._stub = b""
        at = min(self._owed_bytes, end)
        if at:
            self._owed_bytes -= at
            self._feed(0, at)
        while at < end:
            header, size = _header(at, end)
            if not size:
                self._stub = bytes(_view[at:end])
                return
            first = _shared[at]
            if (first == 0x81 or first == 0x82) and end - at >= size * LEAST_COUNT and _may_run(at, size, header):
                count = _run(at, size, header, (end - at) // size)
                if count >= LEAST_COUNT and self._take(_bytes[at : at + count * size].reshape(count, size), header, received_ns):
                    at += count * size
                    continue
            # Frames that go to the library are gathered up to the next that may begin a run, so that it is fed once.
            stop = self._gather(at, end, size)
            self._feed(at, min(stop, end))
            self._owed_bytes = max(stop - end, 0)
            at = stop

    def _gather(self, at: int, end: int, size: int) -> int:
        """The end of the frames that are not worth a run: all of a short read, or up to a frame of another length."""
        stop = at + size
        while stop < end:
            _, following = _header(stop, end)
            if not following or (following != size and end - stop >= following * LEAST_COUNT):
                break
            stop += following
        return stop

    def _feed(self, at: int, stop: int) -> None:
        """Give these bytes to the library, in as many pieces as its own buffer takes."""
        while at < stop:
            room = self._library.get_buffer(-1)
            count = min(len(room), stop - at)
            room[:count] = _view[at : at + count]
            del room  # picows may move its buffer while it works
            self._library.buffer_updated(count)
            at += count

    def eof_received(self) -> bool | None:
        """The peer will send no more."""
        return self._library.eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The socket is gone."""
        self._library.connection_lost(exc)

    def pause_writing(self) -> None:
        """The peer takes no more."""
        self._library.pause_writing()

    def resume_writing(self) -> None:
        """The peer takes more again."""
        self._library.resume_writing()


def _header(at: int, end: int) -> tuple[int, int]:
    """The header's length and the whole frame's, of the frame that begins at `at`; zeros when its header is cut off."""
    if end - at < 2:
        return 0, 0
    length = _shared[at + 1]
    if length < 126:
        return 2, 2 + length
    if length == 126:
        return (4, 4 + (_shared[at + 2] << 8 | _shared[at + 3])) if end - at >= 4 else (0, 0)
    if length == 127:
        return (10, 10 + int.from_bytes(_view[at + 2 : at + 10], "big")) if end - at >= 10 else (0, 0)
    return 2, end - at  # masked, which a server must not do: the library says so


def _may_run(at: int, size: int, header: int) -> bool:
    """Whether the least run of this length is not ruled out by its last frame: cheap, since where lengths alternate it is asked often."""
    last = at + (LEAST_COUNT - 1) * size
    return _shared[last : last + header] == _shared[at : at + header]


def _run(at: int, size: int, header: int, most: int) -> int:
    """How many frames with this very header follow each other."""
    headers = _bytes[at : at + most * size].reshape(most, size)[:, :header]
    same = (headers == headers[0]).all(axis=1)
    return most if same.all() else int(same.argmin())
