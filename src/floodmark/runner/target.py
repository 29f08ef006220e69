"""The process under test: started by name or by command line, watched, started again where a fault asks for it, ended; or a URL, where
nothing is started.

Every start carries the same mark and writes into the same log. A death that a fault brought about is expected, any other is the target's
own: `died`. Started again, a target must be where it was: an embedded system is told its port, and the port is kept from others meanwhile.
Limit: when the runner itself is killed, the target goes with it, but what the target started is the target's to end.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from floodmark.core.errors import SystemUnderTestError, UsageError
from floodmark.model.scenario import Target
from floodmark.runner.log import Log
from floodmark.runner.start import TERMINATE_LIMIT_S, Recipe, Start, accepts, recipe_of

FOLDER = "{folder}"
AGAIN = b"[floodmark: started again]\n"


class MovedError(SystemUnderTestError):
    """A target that was started again is not where it was, so nobody finds it."""

    def __init__(self, name: str, before: str, now: str) -> None:
        super().__init__(name, before, now)
        self.name, self.before, self.now = name, before, now

    def __str__(self) -> str:
        return f"{self.name} was at {self.before} and came back at {self.now}, where no client looks; give it a port of its own"


class RunningTarget:
    """A target that is up. `pid` is None when floodmark did not start it; `died` is set when it ends by itself.

    `on_start` are told the PID of every later start, before it is ready.
    """

    def __init__(self, name: str, url: str, recipe: Recipe | None = None, log: Log | None = None, *, embedded: bool = False) -> None:
        self.name = name
        self.url = url
        self.died = asyncio.Event()
        self.died_ns = 0
        self.on_start: list[Callable[[int], None]] = []
        self._recipe = recipe
        self._log = log
        self._embedded = embedded
        self._mark = secrets.token_hex(8)
        self._starts: list[Start] = []
        self._felled: set[Start] = set()
        self._watches: list[asyncio.Task[None]] = []
        self._ending = False
        self._fires = 0
        self._calm = asyncio.Event()
        self._calm.set()
        self._failure: SystemUnderTestError | None = None
        self._place: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """The root process id of the newest start."""
        return self._starts[-1].process.pid if self._starts else None

    @property
    def starts_count(self) -> int:
        """How often it was started; what its own counters say holds for the last start only."""
        return len(self._starts)

    @property
    def gone(self) -> bool:
        """Whether a fault has ended it, and nobody has started it again."""
        return bool(self._starts) and self._starts[-1] in self._felled and self._starts[-1].ended

    def log_tail(self) -> tuple[str, ...]:
        """Its last lines."""
        return () if self._log is None else self._log.last_lines()

    def death(self, when: str) -> SystemUnderTestError | None:
        """The error to raise when it has ended by itself, or did not come back."""
        if self._failure is not None:
            return self._failure
        if not self._starts or self._ending or self._starts[-1] in self._felled or not self._starts[-1].ended:
            return None
        return self._starts[-1].death(when)

    # -- faults ------------------------------------------------------------------------------------------------------------------------

    @contextmanager
    def under_fire(self) -> Iterator[None]:
        """A fault is about to end processes: whose doing a death is, nobody says before the block is left. See `fell`."""
        self._fires += 1
        self._calm.clear()
        try:
            yield
        finally:
            self._fires -= 1
            if not self._fires:
                self._calm.set()

    def fell(self) -> None:
        """Its root was hit by a fault that ends it: from now on its death is expected, whenever it comes."""
        self._felled.update(self._starts[-1:])

    async def seen_off(self) -> bool:
        """Wait a while until it is gone, if a fault has hit its root; tells whether it is: it may not heed being asked to end."""
        if not self._starts or self._starts[-1] not in self._felled:
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(TERMINATE_LIMIT_S):
                await self._starts[-1].process.wait()
        return self.gone

    async def restart(self) -> None:
        """Start it again where it was, and return when it is ready. The old one has ended by then.

        What keeps it from coming back is a death of its own: `died` is set, and `death` says why.
        """
        self.fell()
        assert self._log is not None
        self._log.write(AGAIN)
        try:
            url = await self._start()
            if url != self.url:
                raise MovedError(self.name, self.url, url)
        except SystemUnderTestError as exc:
            self._failure = exc
            self.died_ns = time.monotonic_ns()
            self.died.set()
        finally:
            self._give_place()

    # -- its life ----------------------------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Start it for the first time and wait until it is ready."""
        self.url = await self._start()
        port = urlsplit(self.url).port
        if self._embedded and self._recipe is not None:
            self._recipe = msgspec.structs.replace(self._recipe, words=[*self._recipe.words, "--port", str(port)])

    async def _start(self) -> str:
        assert self._recipe is not None
        assert self._log is not None
        start = await Start.of(self._recipe, self._log, self._mark)
        self._starts.append(start)
        self._watches.append(asyncio.create_task(self._note_death(start)))  # its parent is `close`
        if len(self._starts) > 1:
            for tell in self.on_start:
                tell(start.process.pid)
        return await start.ready()

    async def _note_death(self, start: Start) -> None:
        await start.process.wait()
        self._take_place()
        await self._calm.wait()
        if not self._ending and start not in self._felled and not self.died.is_set():
            self.died_ns = time.monotonic_ns()
            self.died.set()

    def _take_place(self) -> None:
        """Keep the port of an embedded system while nobody listens there.

        Many clients that try again and again would otherwise be given it, sooner or later, as the local port of one of their own
        connections, which then is connected to itself. Bound and not listening, it refuses them all; who binds it next may, as both
        set SO_REUSEADDR.
        """
        if not self._embedded or self._ending or self._place is not None or not self.url:
            return
        parts = urlsplit(self.url)
        place = socket.socket()
        try:
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            place.bind((parts.hostname, parts.port))
        except OSError:
            place.close()  # somebody of its own still holds it
        else:
            self._place = place

    def _give_place(self) -> None:
        if self._place is not None:
            self._place.close()
            self._place = None

    async def close(self) -> None:
        """End it and everything that it has started, also when cancelled meanwhile."""
        self._ending = not self._starts or not self._starts[-1].ended
        try:
            if self._starts:
                await self._starts[-1].end()  # and all that carries the mark, of earlier starts too
        finally:
            for start in self._starts:
                start.let_go()
            self._give_place()
            for watch in self._watches:
                watch.cancel()
            if self._watches:
                await asyncio.wait(self._watches)  # unlike awaiting them, it tells their cancellation from one of ours
            for watch in self._watches:
                if not watch.cancelled():
                    watch.result()


def require_startable(target: Target) -> None:
    """Refuse a command that cannot be started before anything else is. Raises: UsageError."""
    if target.command is not None or target.system is not None:
        recipe_of(target)


@asynccontextmanager
async def running(target: Target, log_path: Path, *, under: Callable[[list[str]], list[str]] = list) -> AsyncIterator[RunningTarget]:
    """Start a target and wait until it is ready; end it and everything it started on leaving, whatever happened.

    `under` may change its command, as a profiler does. `{folder}` in a word of the command is a folder of its own, empty at the first
    start, kept over restarts, and gone afterwards.

    Raises: UsageError for a command that cannot be started; SystemUnderTestError when it dies or is not ready in time.
    """
    if target.system is None and target.command is None:
        assert target.url is not None
        yield RunningTarget(target.url, target.url)
        return
    recipe = recipe_of(target)
    # Within the run folder: when the runner is killed, nothing of it lies about elsewhere.
    with tempfile.TemporaryDirectory(prefix="target-", dir=log_path.parent.resolve(), ignore_cleanup_errors=True) as folder:
        words = under([word.replace(FOLDER, folder) for word in recipe.words])
        # A system of ours that is killed leaves its temporary files: here they are found.
        environment = {"TMPDIR": folder} if target.system is not None else {}
        recipe = msgspec.structs.replace(recipe, words=words, environment=environment)
        if recipe.pattern is None and recipe.url is not None and await accepts(recipe.url):
            raise UsageError(
                f"{recipe.url} takes connections before {recipe.name!r} was started; end what listens there or use another port"
            )
        log = Log(log_path)
        up = RunningTarget(recipe.name, "", recipe, log, embedded=target.system is not None)
        try:
            await up.begin()
            yield up
        finally:
            try:
                await up.close()
            finally:
                log.close()
