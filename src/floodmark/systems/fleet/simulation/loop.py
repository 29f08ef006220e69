"""An event loop on virtual time: hours pass in milliseconds, and one seed gives one order of everything.

What it keeps of asyncio: callbacks of one node run first in, first out, and time stands still while one of them is ready. What it
adds: callbacks belong to nodes, as if each node were a process of its own. Which node goes next is drawn from the seed; a node can be
frozen (as by SIGSTOP: its callbacks and timers wait), dropped (as by SIGKILL: they never run) and can have a clock that runs at its
own rate. A node is found in the context of a callback, so tasks and timers inherit it without knowing.
Contract: no threads, no sockets, no signals; when nothing is ready and no timer is set, the wait would last for ever, which is an
error at once. The same seed gives the same order in every process, as long as the code under it draws nothing from elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import heapq
import random
import warnings
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Mapping
from typing import Any, Final, NoReturn, ParamSpec, TypeVar, TypeVarTuple, Unpack

from floodmark.core.errors import HarnessBugError

T = TypeVar("T")
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")

TICK_S: Final = 1e-9  # a timer fires this much after its time: code that sleeps until a moment finds it reached, whatever the rounding
STEPS_LIMIT: Final = 500_000_000
STEPS_PER_INSTANT_LIMIT: Final = 200_000  # callbacks while time stood still; more is a loop that never waits
_CANCELLED_KEPT_COUNT: Final = 200  # cancelled timers that may lie in the heap before it is swept
_CLOSINGS_COUNT: Final = 20  # waits one inside the other, in `finally` blocks, that a buried task may have
_HASH_MASK: Final = (1 << 61) - 1


class VirtualTimeError(HarnessBugError):
    """The simulated time cannot go on."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return self.what


class Node:
    """One simulated process: a queue of callbacks, and a clock that runs `clock_rate` times as fast as the world's."""

    __slots__ = ("_context", "_index", "_prune_at_count", "_ready", "_tasks", "clock_rate", "dropped", "frozen", "name")

    def __init__(self, name: str, index: int, clock_rate: float) -> None:
        self.name = name
        self.clock_rate = clock_rate
        self.frozen = False
        self.dropped = False
        self._index = index
        self._ready: deque[asyncio.Handle] = deque()
        # Strong and in order: a task that nobody else holds would else be destroyed, and its `finally` run, in the middle of another node.
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._prune_at_count = 64
        self._context = contextvars.copy_context()
        self._context.run(_NODE.set, self)

    @property
    def tasks_alive(self) -> list[asyncio.Task[Any]]:
        """Its tasks that have not ended, oldest first."""
        return [task for task in self._tasks if not task.done()]

    def _keep(self, task: asyncio.Task[Any]) -> None:
        if len(self._tasks) >= self._prune_at_count:
            self._tasks = {kept: None for kept in self._tasks if not kept.done()}
            self._prune_at_count = max(64, 2 * len(self._tasks))
        self._tasks[task] = None

    def __repr__(self) -> str:
        state = "dropped" if self.dropped else "frozen" if self.frozen else "running"
        return f"<node {self.name or 'world'}, {state}>"


_NODE: contextvars.ContextVar[Node | None] = contextvars.ContextVar("fleet_simulation_node", default=None)


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop. Callbacks outside of any node belong to the world, which has the true clock and never freezes."""

    def __init__(self, *, seed: int = 0, start_s: float = 1000.0) -> None:
        super().__init__()
        self.now_s = start_s
        self.steps_count = 0
        self.trace_hash = seed & _HASH_MASK
        self.errors: list[Mapping[str, Any]] = []  # what went to the exception handler; a simulation must end with none
        self.world = Node("", 0, 1.0)
        self._nodes_count = 1
        self._draw = random.Random(seed).random
        self._runnable: list[Node] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timers_count = 0
        self._cancelled_count = 0
        self._instant_steps_count = 0
        self._halted = False
        self.set_exception_handler(lambda _loop, context: self.errors.append(context))

    # --- nodes ---

    def node(self, name: str, *, clock_rate: float = 1.0) -> Node:
        """Add a node. Names are for people: two nodes of one name are two nodes."""
        made = Node(name, self._nodes_count, clock_rate)
        self._nodes_count += 1
        return made

    def start_in(self, node: Node, job: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Run a coroutine as a task of a node; whatever it starts belongs to the node as well. The caller keeps the task."""
        return self.create_task(job, name=name, context=node._context.copy())

    def call_in(self, node: Node, delay_s: float, callback: Callable[[*Ts], object], *args: *Ts) -> asyncio.TimerHandle:
        """Call something in a node after `delay_s` of the world's time."""
        return self._timer(self.now_s + delay_s, callback, args, node._context)

    def call_when(self, node: Node, at_s: float, callback: Callable[[*Ts], object], *args: *Ts) -> asyncio.TimerHandle:
        """Call something in a node at `at_s` of the world's time; of two at one time, the one that was asked for first goes first."""
        return self._timer(at_s, callback, args, node._context)

    def ask_in(self, node: Node, question: Callable[[], T]) -> T:
        """Call something at once as if from inside of a node: with its clock."""
        return node._context.copy().run(question)

    def freeze(self, node: Node) -> None:
        """Let nothing of a node run until it thaws; what falls due meanwhile waits for that."""
        node.frozen = True
        self._take_off(node)

    def thaw(self, node: Node) -> None:
        """Let a frozen node go on, with everything that fell due meanwhile, in order."""
        if not node.frozen:
            return
        node.frozen = False
        if node._ready and not node.dropped:
            self._runnable.append(node)

    def drop(self, node: Node) -> None:
        """End a node as SIGKILL would: nothing of it runs again, no `finally`, no `except`. Its tasks stay as they are, until `bury`."""
        node.dropped = True
        if not node.frozen:
            self._take_off(node)
        node._ready.clear()

    def bury(self, node: Node) -> None:
        """Free the tasks of a dropped node. Their `finally` blocks run now, and nothing that they ask of the loop happens."""
        assert node.dropped, "only what was dropped can be buried"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a coroutine that such a `finally` wanted to await never runs
            for task in node.tasks_alive:
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # not forgotten: dropped
                _close(task, node)
                asyncio._unregister_task(task)
        node._tasks.clear()

    def _take_off(self, node: Node) -> None:
        if node in self._runnable:
            self._runnable.remove(node)

    # --- what asyncio asks of a loop ---

    def create_task(
        self, coro: Generator[Any, None, T] | Coroutine[Any, Any, T], *, name: object = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=None if name is None else str(name), context=context)
        node = _NODE.get() if context is None else context.get(_NODE)
        if node is not None:
            node._keep(task)
        return task

    def time(self) -> float:
        node = _NODE.get()
        return self.now_s if node is None else self.now_s * node.clock_rate

    def call_soon(self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._push(handle)
        return handle

    call_soon_threadsafe = call_soon  # there is one thread

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        node = _NODE.get()
        return self._timer(when if node is None else when / node.clock_rate, callback, args, context)

    def _timer(self, at_s: float, callback: Any, args: Any, context: contextvars.Context | None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(at_s, callback, args, self, context)
        handle._scheduled = True  # type: ignore[attr-defined]  # so that cancelling it is told to the loop
        self._timers_count += 1
        heapq.heappush(self._timers, (at_s + TICK_S, self._timers_count, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self._cancelled_count += 1
        if self._cancelled_count > _CANCELLED_KEPT_COUNT and self._cancelled_count * 2 > len(self._timers):
            self._timers = [timer for timer in self._timers if not timer[2]._cancelled]
            heapq.heapify(self._timers)
            self._cancelled_count = 0

    def stop(self) -> None:
        super().stop()
        self._halted = True

    def run_forever(self) -> None:
        self._halted = False
        super().run_forever()

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> NoReturn:  # type: ignore[override]  # it never returns
        raise VirtualTimeError("a virtual loop runs no threads: what happens in them has no virtual time")

    def _push(self, handle: asyncio.Handle) -> None:  # HOT: once per callback
        node = handle._context.get(_NODE) or self.world  # type: ignore[attr-defined]
        if node.dropped:
            return
        ready = node._ready
        if not ready and not node.frozen:
            self._runnable.append(node)
        ready.append(handle)

    def _run_once(self) -> None:  # HOT: the whole simulation runs inside
        runnable, draw = self._runnable, self._draw
        while not self._halted:
            if not runnable:
                self._advance()
                continue
            count = len(runnable)
            place = int(draw() * count) if count > 1 else 0
            node = runnable[place]
            handle: Any = node._ready.popleft()
            if not node._ready:
                runnable[place] = runnable[-1]
                runnable.pop()
            if handle._cancelled:
                continue
            self.trace_hash = (self.trace_hash * 1_000_003 + node._index) & _HASH_MASK
            self._instant_steps_count += 1
            if self._instant_steps_count > STEPS_PER_INSTANT_LIMIT:
                raise VirtualTimeError(
                    f"{STEPS_PER_INSTANT_LIMIT} callbacks ran at {self.now_s:.6f} s: something never waits; {handle!r} is next"
                )
            try:
                handle._context.run(handle._callback, *handle._args)
            except (SystemExit, KeyboardInterrupt, VirtualTimeError):
                raise
            except BaseException as exc:
                self.call_exception_handler({"message": f"a callback of {node!r} failed", "exception": exc, "handle": handle})

    def _advance(self) -> None:
        """Go to the next timer; everything that is due then becomes ready."""
        self.steps_count += self._instant_steps_count
        self._instant_steps_count = 0
        if self.steps_count > STEPS_LIMIT:
            raise VirtualTimeError(f"{STEPS_LIMIT} callbacks ran by {self.now_s:.3f} s: the run is longer than any run should be")
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
            self._cancelled_count -= 1
        if not timers:
            waiting = ", ".join(sorted(task.get_name() for task in asyncio.all_tasks(self)))
            raise VirtualTimeError(
                f"nothing is ready and no timer is set at {self.now_s:.3f} s: these would wait for ever: {waiting or 'none'}"
            )
        self.now_s = max(self.now_s, timers[0][0])
        self.trace_hash = (self.trace_hash * 1_000_003 + hash(self.now_s)) & _HASH_MASK
        while timers and timers[0][0] <= self.now_s:
            handle = heapq.heappop(timers)[2]
            if handle._cancelled:
                self._cancelled_count -= 1
            else:
                handle._scheduled = False  # type: ignore[attr-defined]
                self._push(handle)


def _close(task: asyncio.Task[Any], node: Node) -> None:
    job: Any = task.get_coro()
    for _ in range(_CLOSINGS_COUNT):
        try:
            node._context.run(job.close)
        except RuntimeError:  # it awaits in a `finally`: close that wait, too
            continue
        return


def current_node() -> Node | None:
    """The node that the running callback belongs to; None for the world."""
    return _NODE.get()


def run_virtual(job: Coroutine[Any, Any, T], *, seed: int = 0) -> T:
    """Run a coroutine to its end on virtual time, as `asyncio.run` would on real time.

    Raises: VirtualTimeError when it waits for something that cannot happen, or when a callback or a forgotten task failed on the way.
    """
    loop = VirtualLoop(seed=seed)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        try:
            result = runner.run(job)
        except VirtualTimeError:
            _cancel_left(loop)  # what hangs would be told as forgotten, too
            raise
    if loop.errors:
        first = loop.errors[0]
        raise VirtualTimeError(f"{len(loop.errors)} errors had no owner, the first: {first['message']}: {first.get('exception')!r}")
    return result


def _cancel_left(loop: VirtualLoop) -> None:
    left = asyncio.all_tasks(loop)
    if not left:
        return
    for task in left:
        task.cancel()
    with contextlib.suppress(VirtualTimeError):
        # gather: these hang or are cancelled because the simulation has failed, which is being raised already
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))


def virtual(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Make an `async def` test one that pytest can call: it runs on virtual time, with seed 0; its fixtures stay."""

    @functools.wraps(test)
    def on_virtual_time(*args: P.args, **kwargs: P.kwargs) -> T:
        return run_virtual(test(*args, **kwargs))

    return on_virtual_time
