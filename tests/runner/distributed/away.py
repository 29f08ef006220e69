"""A NATS server and agents in processes of their own, for tests that play over several machines on this one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from floodmark.core.nats_server import EmbeddedNats
from tests.runner.played import MARK, holders, wait_for

STOP_LIMIT_S = 20.0


class Server:
    """A NATS server."""

    def __init__(self, embedded: EmbeddedNats) -> None:
        self._embedded = embedded
        self.url = embedded.url

    @property
    def pid(self) -> int:
        """Its process: another one once it was started again."""
        process = self._embedded.process
        assert process is not None
        return process.pid


@contextmanager
def nats() -> Iterator[str]:
    """A server of our own; gives its URL."""
    with nats_server() as server:
        yield server.url


@contextmanager
def nats_server(*, again_after_s: float = 0.5) -> Iterator[Server]:
    """A server of our own, which is started again when it dies."""
    servers: list[Server] = []
    failed: list[BaseException] = []
    up, done = Event(), Event()

    async def serve() -> None:
        async with EmbeddedNats(keep=True, again_after_s=again_after_s) as embedded:
            servers.append(Server(embedded))
            up.set()
            await asyncio.to_thread(done.wait)

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as exc:
            failed.append(exc)
            up.set()

    thread = Thread(target=run)  # its child dies with the thread that started it, so it must be one that stays
    thread.start()
    try:
        assert up.wait(20)
        assert not failed, failed
        yield servers[0]
    finally:
        done.set()
        thread.join(20)


class Away:
    """One agent."""

    def __init__(self, name: str, log: Path, process: subprocess.Popen[bytes]) -> None:
        self.name, self.log, self.process = name, log, process

    @property
    def words(self) -> str:
        """What it has said so far."""
        return self.log.read_text("utf-8", "replace")

    @property
    def plays(self) -> bool:
        """Whether it plays a slice now."""
        return self.words.count("playing slice") > self.words.count("is over")

    def there_or_gone(self) -> bool:
        """Whether its start is over."""
        return "is there" in self.words or self.process.poll() is not None

    def stop(self) -> int:
        """End it as Ctrl-C does; gives its exit code."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_LIMIT_S)


@contextmanager
def agents(
    folder: Path,
    url: str,
    count: int,
    *,
    capacity: int = 1,
    under: Callable[[int], Sequence[str]] = lambda number: (),
) -> Iterator[list[Away]]:
    """Start so many agents and wait until they are there; `under` gives words to put before each command. All are gone afterwards."""
    mark = f"away-{os.getpid()}-{folder.name}"
    environment = {**os.environ, MARK: mark}
    started: list[Away] = []
    try:
        for number in range(count):
            log = folder / f"agent-{number}.log"
            words = [*under(number), sys.executable, "-m", "floodmark", "agent", "--nats", url]
            with log.open("wb") as stderr:
                process = subprocess.Popen(
                    [*words, "--name", f"agent-{number}", "--capacity", str(capacity)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    env=environment,
                    start_new_session=True,
                )
            started.append(Away(f"agent-{number}", log, process))
        for each in started:
            wait_for(each.there_or_gone, f"agent {each.name}")
            assert each.process.poll() is None, each.words
        yield started
    finally:
        for each in started:
            if each.process.poll() is None:
                with suppress(ProcessLookupError):
                    each.process.send_signal(signal.SIGCONT)
                    each.process.send_signal(signal.SIGINT)
        for each in started:
            try:
                each.process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                each.process.kill()
                each.process.wait()
        left = holders(mark)
        assert not left, f"agents left behind: {left}"
