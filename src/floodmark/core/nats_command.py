"""`python -m floodmark.core.nats_command`: the nats-server of the wheel with JetStream, as a target of its own.

One line on stdout when it is ready, `floodmark nats ready nats://127.0.0.1:PORT`; it ends at SIGTERM or SIGINT, and the server with it.
With `--keep` a server that dies is started again on the same port with the same store; without, its death is that of the command.
Memory: some 20 MB of Python stand beside the server's own, since somebody has to see it dead.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import sys
from collections.abc import Callable

from floodmark.core.errors import UsageError
from floodmark.core.nats_server import EmbeddedNats

_SIZE = re.compile(r"\d+(KB|MB|GB)?")
_TIME = re.compile(r"always|\d+(ms|s|m|h)")


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="floodmark serve nats", description="A nats-server with JetStream, until SIGTERM or SIGINT.")
    made.add_argument("--port", type=int, default=0, help="port to listen on; 0 lets the server choose")
    made.add_argument("--store", default="", help="directory of the streams; empty: one that goes with the server")
    made.add_argument("--sync", type=_like(_TIME), default="always", help="when streams are synced to disk: always, or how often (2m)")
    made.add_argument("--max-payload", type=_like(_SIZE), default="8MB", help="the largest message it takes")
    made.add_argument("--max-pending", type=_like(_SIZE), default="64MB", help="what may wait for a client before that is cut off as slow")
    made.add_argument("--write-deadline", type=_like(_TIME), default="10s", help="how long a write to a client may take, likewise")
    made.add_argument("--keep", action="store_true", help="start a server that dies again, with what it held")
    made.add_argument("--again-after", type=float, default=0.05, help="seconds until then")
    return made


def _like(pattern: re.Pattern[str]) -> Callable[[str], str]:
    """Take a word of the server's configuration, and nothing that could be more than one."""

    def word(text: str) -> str:
        if pattern.fullmatch(text) is None:
            raise ValueError(text)
        return text

    return word


async def serve(options: argparse.Namespace) -> int:
    """Run the server until a signal comes, or it ends; returns the exit code."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = EmbeddedNats(
        keep=options.keep,
        again_after_s=options.again_after,
        store=options.store,
        port=options.port,
        sync_interval=options.sync,
        max_payload=options.max_payload,
        lines=(f"max_pending: {options.max_pending}", f"write_deadline: {options.write_deadline}"),
    )
    async with server:
        print(f"floodmark nats ready {server.url}", flush=True)
        waiting: list[asyncio.Task[bool] | asyncio.Task[int]] = [asyncio.create_task(stop.wait())]
        if not options.keep:
            assert server.process is not None
            waiting.append(asyncio.create_task(server.process.wait()))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        if stop.is_set():
            return 0
    print("nats-server ended by itself", file=sys.stderr)
    return 1


def main(words: list[str] | None = None) -> int:
    """Run the command line. Exit codes: 0 after a signal, 1 when the server died, 2 for what cannot be started."""
    try:
        return asyncio.run(serve(parser().parse_args(words)))
    except UsageError as exc:
        print(exc, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
