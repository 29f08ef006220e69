"""The fault proxy: a TCP relay between clients and one target that does, to chosen connections, what bad networks do.

Without faults it is a plain relay. Faults are added and removed at any time; each acts on the connections it chose in the same loop turn,
the open ones and those to come. Faults of one connection stack in the order in which they were added. Everything random comes from the
seed, the fault's number, the connection's number and the direction; numbers count from 1 in order of arrival.
Memory: one read buffer per proxy; per connection and direction what its faults may hold, and up to 512 KiB towards a socket that is slow.
Cancelled or closed half-way, it leaves no socket and no timer behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import time
from collections.abc import AsyncIterator, Iterable, Iterator

from floodmark.core.errors import HarnessBugError, UsageError
from floodmark.faults.wire.active import ActiveFault
from floodmark.faults.wire.choice import Choice
from floodmark.faults.wire.endpoint import READ_BYTES, linger_zero
from floodmark.faults.wire.journal import Journal
from floodmark.faults.wire.link import Connection, Link
from floodmark.faults.wire.spec import How, WireFault

Address = tuple[str, int]

_BACKLOG = 4096
_ACCEPTS_PER_TURN = 64
_ACCEPT_AGAIN_S = 0.1  # out of descriptors: look again when some may have been closed
_CONNECT_LIMIT_S = 10.0
_CLOSE_LIMIT_S = 5.0


class Proxy:
    """Listens on `listen` (port 0: the system picks one) and relays to `upstream`."""

    def __init__(self, listen: Address, upstream: Address, *, seed: int) -> None:
        self.listen = listen
        self.upstream = upstream
        self.seed = seed
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._started_s = time.monotonic()
        self._journal = Journal(lambda: time.monotonic() - self._started_s)
        self._faults: dict[int, ActiveFault] = {}
        self._faults_count = 0
        self._links: dict[int, Link] = {}
        self._links_count = 0
        self._opening: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._kept: socket.socket | None = None  # has the port while new connections are refused
        self._accept_timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    # Life.

    async def start(self) -> None:
        """Begin to listen. Raises: UsageError when the address cannot be had."""
        if self._listener is not None or self._closed:
            raise HarnessBugError("a proxy is started once")
        self._open_listener()
        self._started_s = time.monotonic()

    @property
    def port(self) -> int:
        """The port that clients connect to."""
        return self.listen[1]

    async def close(self) -> None:
        """Stop listening and end every connection; what faults still held is dropped. Safe to call twice."""
        self._closed = True
        self._close_listener()
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)  # cancelled by us; an error was told by `_opening_over`
        for link in tuple(self._links.values()):
            link.end(How.CLOSE)
        async with asyncio.timeout(_CLOSE_LIMIT_S):
            await self._idle.wait()

    # Faults.

    def add(self, fault: WireFault, *, connections: Iterable[int] | None = None) -> ActiveFault:
        """Put a fault to work on its share of the open connections, all in this loop turn, and on its share of those to come.

        Args:
            connections: the numbers of open connections to choose among; then none that comes later is hit.
        Returns: the handle for `remove`, which also counts what the fault touched.
        Raises: UsageError. Whatever it raises, the fault is on no connection then, and has ended none.
        """
        only = None if connections is None else frozenset(connections)
        if only is not None and (unknown := only - self._links.keys()):
            raise UsageError(f"no connection {min(unknown)}; open now: {', '.join(map(str, sorted(self._links))) or 'none'}")
        if only is not None and fault.door() is not None:
            raise UsageError(f"fault {fault.kind!r} is about new connections; leave connections out")
        self._faults_count += 1
        number = self._faults_count
        choice = Choice(fault.share, seed=self.seed, fault=number, first_new=self._links_count + 1, only=only)
        active = ActiveFault(number, fault, seed=self.seed, choice=choice)
        self._faults[number] = active
        self._journal.write("added", fault=number, kind=fault.kind)
        if fault.inert:
            return active
        try:
            if fault.door() is None:
                links = [self._links[chosen] for chosen in sorted(choice.of_present(sorted(self._links)))]
                for link in links:
                    link.attach(active)
                for link in links:
                    link.strike(active)
            elif fault.door() == "refused":
                self._refuse_all()
        except BaseException as exc:
            self.remove(active)
            self._journal.write("undone", fault=number, kind=fault.kind, note=str(exc) or type(exc).__name__)
            raise
        return active

    @contextlib.contextmanager
    def applied(self, fault: WireFault, *, connections: Iterable[int] | None = None) -> Iterator[ActiveFault]:
        """Keep a fault at work for the block; it is healed however the block ends, unless somebody has removed it before."""
        active = self.add(fault, connections=connections)
        try:
            yield active
        finally:
            if active in self._faults.values():
                self.remove(active)

    def remove(self, active: ActiveFault) -> None:
        """Heal: from now on the fault touches nothing; what it held goes on in order, as fast as the receivers take it."""
        if self._faults.pop(active.number, None) is not active:
            raise UsageError(f"fault {active.number} is not at work here; at work: {', '.join(map(str, self._faults)) or 'none'}")
        for link in tuple(self._links.values()):
            link.detach(active)
        self._journal.write("removed", fault=active.number, kind=active.spec.kind, hits=active.hits, size_bytes=active.size_bytes)
        if active.spec.door() == "refused" and not active.spec.inert and not self._refused() and not self._closed:
            self._listen_again()

    # What can be seen.

    def faults(self) -> tuple[ActiveFault, ...]:
        """The faults at work, in their order."""
        return tuple(self._faults.values())

    def connections(self) -> tuple[Connection, ...]:
        """A snapshot of the open connections, oldest first."""
        return tuple(link.look() for link in self._links.values())

    def journal(self) -> Journal:
        """What was done, to whom, when."""
        return self._journal

    # The door.

    def _refused(self) -> bool:
        return any(active.spec.door() == "refused" and not active.spec.inert for active in self._faults.values())

    def _open_listener(self) -> None:
        try:
            listener = self._bound()
            try:
                listener.listen(_BACKLOG)
            except BaseException:
                listener.close()
                raise
        except (OSError, OverflowError) as exc:
            raise UsageError(f"cannot listen on {self.listen[0]}:{self.listen[1]}: {exc}; name a free port, or 0 for any") from exc
        self.listen = (self.listen[0], listener.getsockname()[1])
        self._listen_on(listener)

    def _bound(self) -> socket.socket:
        """A socket that has the port and does not listen yet."""
        family = socket.getaddrinfo(*self.listen, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind(self.listen)
        except BaseException:
            bound.close()
            raise
        return bound

    def _listen_on(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener, self._accept)

    def _close_listener(self) -> None:
        if self._accept_timer is not None:
            self._accept_timer.cancel()
            self._accept_timer = None
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _refuse_all(self) -> None:
        """Stop listening and keep the port: one that is bound but does not listen refuses, and nobody else can be given it."""
        if self._kept is not None:
            return
        self._close_listener()
        self._kept = self._bound()

    def _listen_again(self) -> None:
        kept, self._kept = self._kept, None
        try:
            kept = kept or self._bound()
            kept.listen(_BACKLOG)
        except OSError as exc:
            if kept is not None:
                kept.close()
            raise UsageError(f"cannot listen on {self.listen[0]}:{self.port} again: {exc}; another program has taken the port") from exc
        self._listen_on(kept)

    def _accept(self) -> None:
        assert self._listener is not None
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                sock, address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as exc:
                self._journal.write("accept failed", note=str(exc))
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._listener)
                self._accept_timer = loop.call_later(_ACCEPT_AGAIN_S, self._accept_again)
                return
            self._greet(sock, f"{address[0]}:{address[1]}")

    def _accept_again(self) -> None:
        self._accept_timer = None
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _greet(self, sock: socket.socket, client: str) -> None:
        """Turn a newcomer away or give it its number and faults, and connect it."""
        self._links_count += 1
        number = self._links_count
        chosen = [active for active in self._faults.values() if not active.spec.inert and active.takes(number)]
        for active in chosen:
            if active.spec.door() is not None:
                active.totals.hits += 1
                self._journal.write("refused", fault=active.number, kind=active.spec.kind, connection=number, hits=1)
                if active.spec.door() == "reset":
                    linger_zero(sock.fileno())
                sock.close()
                return
        sock.setblocking(False)
        link = Link(number, client, self._buffer, self._journal, self._over)
        for active in chosen:
            link.attach(active)
        self._links[number] = link
        self._idle.clear()
        # One task per connection, for the time of its opening; close() cancels and awaits it.
        task = asyncio.get_running_loop().create_task(self._open(link, sock), name=f"proxy connection {number}")
        self._opening.add(task)
        task.add_done_callback(functools.partial(self._opening_over, link, sock))

    async def _open(self, link: Link, sock: socket.socket) -> None:
        """Connect to the target, then join both sides; a target that cannot be reached resets the client."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_LIMIT_S):
                await loop.create_connection(lambda: link.target, *self.upstream)
        except OSError as exc:  # TimeoutError is one too
            self._journal.write("target unreachable", connection=link.number, note=str(exc) or f"no answer in {_CONNECT_LIMIT_S:g} s")
            linger_zero(sock.fileno())
            return
        await loop.connect_accepted_socket(lambda: link.client, sock)
        link.begin()

    def _opening_over(self, link: Link, sock: socket.socket, task: asyncio.Task[None]) -> None:
        """Clean up after an opening that failed or was cancelled, even before its first step."""
        self._opening.discard(task)
        if not link.begun:
            link.end(How.CLOSE)
            sock.close()
            self._links.pop(link.number, None)
            self._settle()
        if not task.cancelled():
            task.result()  # nothing is expected to be raised: let the loop's handler tell

    def _over(self, link: Link) -> None:
        self._links.pop(link.number, None)
        if link.dropped_bytes:
            self._journal.write(
                "dropped", connection=link.number, size_bytes=link.dropped_bytes, note="held when the connection ended, or sent after"
            )
        self._settle()

    def _settle(self) -> None:
        if not self._links:
            self._idle.set()


@contextlib.asynccontextmanager
async def running(listen: Address, upstream: Address, *, seed: int) -> AsyncIterator[Proxy]:
    """A proxy for as long as the block lasts."""
    proxy = Proxy(listen, upstream, seed=seed)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
