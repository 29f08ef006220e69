"""The agent's process: frames come in on standard input and go out on standard output; anything printed goes to standard error.

It ends when its input does, so that an agent never outlives its runner. Ctrl-C is the runner's to handle.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys

import uvloop

from floodmark.core.errors import FloodmarkError, UsageError
from floodmark.runner import wire
from floodmark.runner.agent.agent import Agent
from floodmark.runner.agent.unheard import Unheard


async def main(output_fd: int) -> None:
    """Read the set-up, then play."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    writer, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(output_fd, "wb", buffering=0))

    async def receive() -> wire.Message | None:
        try:
            head = await reader.readexactly(wire.HEAD_BYTES)
            return wire.unpack(await reader.readexactly(wire.length(head)))
        except asyncio.IncompleteReadError:
            return None

    def send(message: wire.Message) -> None:
        if not writer.is_closing():
            writer.write(wire.pack(message))

    setup = await receive()
    if not isinstance(setup, wire.Setup):
        return
    try:
        agent = Agent(setup, send)
    except FloodmarkError as exc:
        send(wire.Trouble(kind="usage" if isinstance(exc, UsageError) else "bug", text=str(exc)))
        await receive()
        return
    loop.set_exception_handler(Unheard(send))
    send(wire.Did(number=0))
    gc.freeze()  # what set-up built lives as long as the process; the collector need not look at it again
    await agent.run(receive)
    while writer.get_write_buffer_size():  # noqa: ASYNC110  # a transport has no event for it
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    protocol_fd = os.dup(1)
    os.dup2(2, 1)
    uvloop.run(main(protocol_fd))
