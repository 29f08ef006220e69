"""`python -m floodmark.systems.fleet.host.work`: one process of workers, told what to do on stdin by the host (`wire.py`).

It ends when its last worker has stopped, when stdin ends (all of them are stopped gently then), and at once with the host, however that
ends. Before it knows what it is to run it imports little, so that many can start beside each other.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from urllib.parse import urlsplit

import uvloop

from floodmark.core.errors import FloodmarkError
from floodmark.systems.fleet.host import wire
from floodmark.systems.fleet.host.wire import Begin, News


async def work() -> None:
    """Take the first line, then serve."""
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=wire.LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    begin = await wire.read(orders, Begin)
    if begin is None:
        return
    if urlsplit(begin.url).scheme not in ("ws", "wss"):
        # nats-py imports it for WebSocket alone: that is half of the time and 10 MB of what such a process costs.
        sys.modules.setdefault("aiohttp", None)  # type: ignore[arg-type]
    from floodmark.systems.fleet.host.office import serve
    from floodmark.systems.fleet.host.post import Outlet

    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
    outlet = Outlet(asyncio.StreamWriter(transport, protocol, None, loop))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, orders.feed_eof)
    outlet.say(News(kind="up"))
    await serve(begin, orders, outlet)
    await outlet.drain()


def main() -> None:
    """Run until it is over."""
    try:
        uvloop.run(work())
    except FloodmarkError as exc:
        print(exc, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
