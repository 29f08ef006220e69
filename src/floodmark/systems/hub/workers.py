"""Several hub processes on one port.

The parent reserves the port, starts a nats-server if none was named, starts the workers, waits until all are ready and then only watches:
a worker that dies takes the service down, for half a service would look like a whole one. A worker leaves when its standard input
closes, so none outlives the parent. The kernel spreads connections over the workers (SO_REUSEPORT); limits on connections hold per worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys

import msgspec

from floodmark.core.errors import FloodmarkError, UsageError
from floodmark.core.nats_server import EmbeddedNats
from floodmark.systems.hub.hub import Hub
from floodmark.systems.hub.settings import OWN_NATS, HubSettings

_READY = b"ready\n"
_READY_LIMIT_S = 30.0


class WorkerDiedError(FloodmarkError):
    """One of the hub's processes ended by itself."""

    def __init__(self, pid: int, code: int) -> None:
        super().__init__(pid, code)
        self.pid, self.code = pid, code

    def __str__(self) -> str:
        return f"hub worker {self.pid} ended with code {self.code}; the service is stopped, see the lines above for its reason"


def _reserve(host: str, port: int) -> socket.socket:
    """Bind without listening: the port is ours, and only workers can listen on it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Without SO_REUSEPORT first: with it, binding would succeed beside another user's group of workers.
    probe = socket.socket(family, socket.SOCK_STREAM)
    try:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        port = probe.getsockname()[1]
    except OSError as exc:
        raise UsageError(f"the hub cannot listen on {host}:{port} ({exc.strerror}); choose another --port or --host") from None
    finally:
        probe.close()
    holder = socket.socket(family, socket.SOCK_STREAM)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind((host, port))
    return holder


async def serve_workers(settings: HubSettings, count: int) -> None:
    """Run the parent until a signal comes or a worker dies.

    Raises: WorkerDiedError.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        holder = stack.enter_context(contextlib.closing(_reserve(settings.host, settings.port)))
        bus = settings.bus
        if bus in ("memory", OWN_NATS):
            bus = (await stack.enter_async_context(EmbeddedNats(keep=True, store=settings.bus_store))).url
        port = holder.getsockname()[1]
        settings = msgspec.structs.replace(settings, port=port, bus=bus, reuse_port=True)
        workers = [await _start(settings) for _ in range(count)]
        stack.push_async_callback(_stop, workers, settings.shutdown_grace_s)
        async with asyncio.timeout(_READY_LIMIT_S):
            for worker in workers:
                assert worker.stdout is not None
                if await worker.stdout.readline() != _READY:
                    raise WorkerDiedError(worker.pid, await worker.wait())
        print(f"floodmark hub ready ws://{settings.host}:{port}/graphql", flush=True)
        await _watch(workers, stop)


async def _start(settings: HubSettings) -> asyncio.subprocess.Process:
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "floodmark.systems.hub.workers",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C is for the parent, which passes it on in order
    )
    assert worker.stdin is not None
    worker.stdin.write(msgspec.json.encode(settings) + b"\n")
    return worker


async def _watch(workers: list[asyncio.subprocess.Process], stop: asyncio.Event) -> None:
    """Return when asked to stop, raise when a worker ends first."""
    waits = {asyncio.create_task(worker.wait()): worker for worker in workers}
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([stopping, *waits], return_when=asyncio.FIRST_COMPLETED)
        if stopping not in done:
            worker = waits[next(iter(done))]
            raise WorkerDiedError(worker.pid, worker.returncode or 0)
    finally:
        for task in (stopping, *waits):
            task.cancel()
        await asyncio.gather(stopping, *waits, return_exceptions=True)  # gather: waits alone, which raise nothing but our cancellation


async def _stop(workers: list[asyncio.subprocess.Process], grace_s: float) -> None:
    """Ask every worker to drain, and end what has not ended after its grace."""
    for worker in workers:
        if worker.returncode is None:
            worker.terminate()
    try:
        async with asyncio.timeout(grace_s + 3.0):
            for worker in workers:
                await worker.wait()
    except TimeoutError:
        for worker in workers:
            if worker.returncode is None:
                worker.kill()
                await worker.wait()


async def work() -> None:
    """Be one worker: settings come on standard input, and its end is ours."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    settings = msgspec.json.decode(await reader.readline(), type=HubSettings)
    hub = Hub(settings)
    await hub.start()
    sys.stdout.buffer.write(_READY)
    sys.stdout.buffer.flush()
    orphaned = asyncio.create_task(reader.read())
    asked = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([orphaned, asked], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (orphaned, asked):
            task.cancel()
        await hub.stop()


if __name__ == "__main__":
    import uvloop

    from floodmark.systems.hub.command import raise_descriptor_limit

    raise_descriptor_limit()
    try:
        uvloop.run(work())
    except FloodmarkError as exc:
        print(exc, file=sys.stderr)
        sys.exit(exc.exit_code)
