"""The simulated store's network: one server, and one link per node that delays, fails, cuts, holds and loses.

An operation is a message to the server, an effect there, and a message back; each way can be cut by itself. So an operation can fail and
have been done, an effect can come long after its caller gave it up, and a frozen node finds its answers waiting when it thaws.
INVARIANT: effects happen in the world's context, at the world's time; answers and watch events happen in the node's.
Contract: links draw from their own `random.Random`, in the order of events, and never look at a real clock.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from floodmark.core.errors import HarnessBugError
from floodmark.systems.fleet.simulation.loop import Node, VirtualLoop
from floodmark.systems.fleet.simulation.weather import Weather
from floodmark.systems.fleet.store.base import Entry, StoreError, StoreUnavailableError
from floodmark.systems.fleet.store.memory import MemoryBackend

T = TypeVar("T")
Act = Callable[[], Coroutine[Any, Any, T]]

REFUSAL_S = 0.002  # how long it takes to be told that there is no connection


class Listener(Protocol):
    """A watch, as the server sees it."""

    link: Link

    def feed(self, entry: Entry) -> None: ...

    def lose(self, reason: str) -> None: ...


class Server:
    """The server: its data outlives its outages, as file storage does."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.backend = MemoryBackend()
        self.down = False
        self.writer: Link | None = None  # whose operation is being done right now
        self.requests_count = 0
        self.links: list[Link] = []
        self._failing: dict[str, list[int]] = {}  # by bucket, how many writes from now each planted failure comes
        self._listeners: dict[tuple[str, str], list[Listener]] = {}
        self.backend.observers.append(self._tell)

    def listen(self, bucket: str, prefix: str, listener: Listener) -> None:
        """Tell a listener of every write below a prefix from now on."""
        self._listeners.setdefault((bucket, prefix), []).append(listener)

    def forget(self, bucket: str, prefix: str, listener: Listener) -> None:
        """Tell a listener nothing more."""
        found = self._listeners.get((bucket, prefix))
        if found is not None and listener in found:
            found.remove(listener)

    def plant_failure(self, bucket: str, nth: int) -> None:
        """Let the nth write to a bucket from now, 1 being the next, fail and not be done."""
        self._failing.setdefault(bucket, []).append(nth)

    def takes_failure(self, bucket: str) -> bool:
        """Count one write, and tell if it is one that is to fail."""
        waiting = self._failing.get(bucket)
        if not waiting:
            return False
        self._failing[bucket] = [nth - 1 for nth in waiting if nth > 1]
        return 1 in waiting

    def set_down(self, down: bool) -> None:
        """Stop or restart the server. Every connection breaks at once; the links reconnect by themselves later."""
        self.down = down
        for link in self.links:
            if down:
                link.break_off("the server is down")
            else:
                link.reconnect_later()

    def _tell(self, bucket: str, entry: Entry) -> None:
        for prefix in _prefixes(entry.key):
            for listener in self._listeners.get((bucket, prefix), ()):
                listener.link.tell(listener, entry)


class Link:
    """One node's way to the server and back."""

    def __init__(self, server: Server, node: Node, weather: Weather, *, operation_s: float, rng: random.Random) -> None:
        self.server = server
        self.node = node
        self.weather = weather
        self.connected = True
        self.cut_out = False  # requests do not arrive
        self.cut_in = False  # answers and events do not arrive
        self.disturbed_s = -1.0  # the last moment at which the link was cut or broken, as far as it is over
        self.watches: dict[Listener, None] = {}
        self.clock_error_s = rng.uniform(-1, 1) * weather.clock_error_s
        self.muted_bucket = ""  # writes to this bucket are lost on the way, for a node whose heartbeats alone do not arrive
        self._loop = server.loop
        self._operation_s = operation_s
        self._draw = rng.random
        self._normal = rng.gauss
        self._held: list[_Request[Any]] = []
        self._held_events: list[tuple[Listener, Entry]] = []
        self._sent_s = 0.0
        self._cuts_count = 0
        server.links.append(self)

    @property
    def disturbed(self) -> bool:
        """Whether something is wrong with the link now."""
        return self.cut_out or self.cut_in or not self.connected

    # --- operations ---

    def ask(self, operation: str, act: Act[T], *, bucket: str = "") -> asyncio.Future[T]:
        """Send one operation; the future has its result, or a StoreError. Called in the node."""
        self.server.requests_count += 1
        request = _Request(self._loop.create_future(), operation, act, bucket, self._loop.now_s + self._operation_s)
        weather = self.weather
        if not self.connected:
            self._answer(REFUSAL_S, request, None, StoreUnavailableError(operation, "not connected"))
            return request.answer
        delay_s = weather.delay_s(self._draw(), self._normal(0.0, 1.0))
        if weather.fail_before_ratio and self._draw() < weather.fail_before_ratio:
            self._answer(delay_s, request, None, StoreUnavailableError(operation, "planted: lost on the way there"))
        elif bucket and bucket == self.muted_bucket:
            self._answer(delay_s, request, None, StoreUnavailableError(operation, "planted: this bucket is out of reach"))
        else:
            arrives_s = self._loop.now_s + delay_s
            if weather.in_order:
                arrives_s = self._sent_s = max(arrives_s, self._sent_s)
            self._loop.call_when(self._loop.world, arrives_s, self._arrive, request)
        return request.answer

    def _arrive(self, request: _Request[Any]) -> None:
        if self.cut_out or self.server.down:
            self._give_up(request)
            if not self.server.down:
                self._held.append(request)
            return
        weather, result, error = self.weather, None, None
        if request.bucket and self.server.takes_failure(request.bucket):
            self._answer(REFUSAL_S, request, None, StoreUnavailableError(request.operation, "planted: this write fails"))
            return
        self.server.writer = self
        try:
            result = _done_at_once(request.act())
        except StoreError as exc:
            error = exc
        finally:
            self.server.writer = None
        if weather.fail_after_ratio and self._draw() < weather.fail_after_ratio:
            result, error = None, StoreUnavailableError(request.operation, "planted: the answer was lost")
        self._answer(weather.delay_s(self._draw(), self._normal(0.0, 1.0)), request, result, error)

    def _answer(self, delay_s: float, request: _Request[Any], result: Any, error: StoreError | None) -> None:
        if self._loop.now_s + delay_s > request.until_s:
            self._give_up(request)
        else:
            self._loop.call_in(self.node, delay_s, self._settle, request, result, error)

    def _settle(self, request: _Request[Any], result: Any, error: StoreError | None) -> None:
        if (self.cut_in or self.server.down) and not (isinstance(error, StoreUnavailableError)):
            self._give_up(request)
        else:
            request.settle(result, error)

    def _give_up(self, request: _Request[Any]) -> None:
        """Let the caller wait until its limit, and then tell it that nobody answered."""
        error = StoreUnavailableError(request.operation, f"no answer within {self._operation_s:g} s")
        self._loop.call_in(self.node, max(0.0, request.until_s - self._loop.now_s), request.settle, None, error)

    def seen(self, entry: Entry) -> Entry:
        """An entry as the node sees it: with the time of writing by the node's own clock, as well as that is known."""
        return msgspec.structs.replace(entry, written_s=entry.written_s * self.node.clock_rate + self.clock_error_s)

    # --- watches ---

    def tell(self, listener: Listener, entry: Entry) -> None:
        """Send a watch event on its way to the node."""
        weather = self.weather
        if weather.watch_loss_ratio and self._draw() < weather.watch_loss_ratio:
            self._loop.call_in(self.node, REFUSAL_S, listener.lose, "planted: the watch broke")
            return
        listener.feed(entry)

    def event_delay_s(self) -> float:
        """Draw how long an event takes."""
        return self.weather.delay_s(self._draw(), self._normal(0.0, 1.0))

    def holds(self, listener: Listener, entry: Entry) -> bool:
        """Tell if an event that has come to the end of its way is held by a cut."""
        if not self.cut_in:
            return False
        self._held_events.append((listener, entry))
        return True

    # --- faults ---

    def cut(self, *, out: bool = True, back: bool = True) -> None:
        """Cut one way or both. The node notices by and by, and then has no connection."""
        self.cut_out, self.cut_in = out, back
        self._cuts_count += 1
        self._loop.call_in(self.node, self._draw() * self.weather.detect_limit_s, self._notice, self._cuts_count)

    def heal(self) -> None:
        """End a cut. What was on its way arrives late where the connection was not given up, and sometimes where it was."""
        if not (self.cut_out or self.cut_in):
            return
        self.cut_out = self.cut_in = False
        self._cuts_count += 1
        self.disturbed_s = self._loop.now_s
        held, self._held = self._held, []
        events, self._held_events = self._held_events, []
        for request in held:
            if self.connected or self._draw() < self.weather.late_packet_ratio:
                self._arrive(request)
        for listener, entry in events:
            if self.connected:
                listener.feed(entry)
        if not self.connected:
            self.reconnect_later()

    def _notice(self, cuts_count: int) -> None:
        if cuts_count == self._cuts_count and (self.cut_out or self.cut_in):
            self.break_off("the connection was lost")

    def break_off(self, reason: str) -> None:
        """Lose the connection: watches break, operations are refused."""
        self.connected = False
        for watch in list(self.watches):
            self._loop.call_in(self.node, 0.0, watch.lose, reason)

    def reconnect_later(self) -> None:
        """Have a connection again, a little later, unless it is cut or the server down by then."""
        self._loop.call_in(self.node, self._draw() * self.weather.reconnect_limit_s, self._reconnect)

    def _reconnect(self) -> None:
        if not (self.cut_out or self.cut_in or self.server.down or self.connected):
            self.connected = True
            self.disturbed_s = self._loop.now_s


class _Request(Generic[T]):
    __slots__ = ("act", "answer", "bucket", "operation", "until_s")

    def __init__(self, answer: asyncio.Future[T], operation: str, act: Act[T], bucket: str, until_s: float) -> None:
        self.answer = answer
        self.operation = operation
        self.act = act
        self.bucket = bucket  # that it writes to
        self.until_s = until_s

    def settle(self, result: T, error: StoreError | None) -> None:
        """Give the caller its answer, unless it has one or has gone."""
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(result)
        else:
            self.answer.set_exception(error)


def _done_at_once(job: Coroutine[Any, Any, T]) -> T:
    """The result of an operation that takes no turn of the loop."""
    try:
        job.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    job.close()
    raise HarnessBugError("an operation of the store in memory waited")


def _prefixes(key: str) -> Iterator[str]:
    """Every prefix, in whole words, that names a key.

    >>> list(_prefixes("assignment.worker-1"))
    ['', 'assignment.worker-1', 'assignment', 'assignment.']
    """
    yield ""
    yield key
    at = key.find(".")
    while at >= 0:
        yield key[:at]
        yield key[: at + 1]
        at = key.find(".", at + 1)
