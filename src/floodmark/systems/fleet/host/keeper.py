"""`python -m floodmark.systems.fleet.host.keeper SYNC`: keeps a NATS server outside of its user's process tree.

It leaves its parent at once, serves on its stdin the words `kill` and `start-again`, each answered by `ok URL` or `no REASON`, and ends the
server and itself when stdin ends: whoever holds the other end of that pipe may die in any way it likes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from floodmark.core.errors import FloodmarkError
from floodmark.systems.fleet.host.server import OwnServer


def main() -> None:
    """Fork, let the parent go, and keep the server in the child."""
    if os.fork():
        os._exit(0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the pipe tells when to end
    asyncio.run(_keep(sys.argv[1]))


async def _keep(sync: str) -> None:
    try:
        async with OwnServer(sync_interval=sync) as server:
            _tell(f"ok {server.url}")
            words = asyncio.StreamReader()
            await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(words), sys.stdin)
            while word := (await words.readline()).decode().strip():
                try:
                    await (server.kill() if word == "kill" else server.start_again())
                except (FloodmarkError, OSError) as exc:
                    _tell(f"no {exc}")
                else:
                    _tell(f"ok {server.url}")
    except (FloodmarkError, OSError) as exc:
        _tell(f"no {exc}")


def _tell(line: str) -> None:
    try:
        print(" ".join(line.split()), flush=True)
    except BrokenPipeError:  # nobody listens any more: the end of stdin is on its way
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  # nor does the interpreter's last flush fail then


if __name__ == "__main__":
    main()
