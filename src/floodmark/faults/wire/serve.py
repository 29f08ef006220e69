"""`floodmark proxy`: relays with faults, until Ctrl-C; a live table of connections on a terminal, and the control endpoint.

Where each relay listens, the seed and the control address are told first, on stderr, one line each, so that a script can read them.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from floodmark.core import units
from floodmark.core.errors import UsageError
from floodmark.core.units import Dimension
from floodmark.faults.wire.control import HOST, Control, listening
from floodmark.faults.wire.proxy import Address, Proxy, running
from floodmark.faults.wire.spec import WireFault

_REFRESH_S = 0.25
_ROWS_MAX = 30


async def serve(
    mappings: Sequence[tuple[Address, Address]],
    faults: Sequence[WireFault],
    *,
    control_port: int | None,
    seed: int,
    console: Console,
    stop: asyncio.Event | None = None,
) -> None:
    """Relay every mapping, with every fault on each, until SIGINT, SIGTERM or `stop`.

    Args:
        mappings: (listen, upstream) pairs; a listening port 0 picks a free one.
        control_port: where the control endpoint listens on the loopback address; 0 picks one, None leaves it out.
        console: where everything is told; a live table only if it is a terminal.
    Raises: UsageError for an address that cannot be had or a fault that cannot be. Leaves nothing behind, cancelled or not.
    """
    if not mappings:
        raise UsageError("nothing to relay; write LISTEN=UPSTREAM, for example 127.0.0.1:6543=127.0.0.1:5432")
    stop = stop or asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(_signals(stop))
        proxies = [await stack.enter_async_context(running(listen, upstream, seed=seed)) for listen, upstream in mappings]
        console.print(f"seed {seed}", highlight=False)
        for proxy in proxies:
            for fault in faults:
                proxy.add(fault)
            console.print(f"{_host_port(proxy.listen)} -> {_host_port(proxy.upstream)}", highlight=False)
        if control_port is not None:
            port = await stack.enter_async_context(listening(Control(proxies), control_port))
            console.print(f"control http://{HOST}:{port}", highlight=False)
        if console.is_terminal:
            await _show_until(stop, proxies, console)
        else:
            await stop.wait()
        for proxy in proxies:
            for active in proxy.faults():
                console.print(
                    f"{active.spec.kind}: {active.hits:,} hits, {units.show(active.size_bytes, Dimension.BYTES)}", highlight=False
                )


async def _show_until(stop: asyncio.Event, proxies: Sequence[Proxy], console: Console) -> None:
    with Live(table(proxies), console=console, auto_refresh=False, transient=True) as live:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REFRESH_S):
                    await stop.wait()
            live.update(table(proxies), refresh=True)


def table(proxies: Sequence[Proxy]) -> Table:
    """Draw the open connections, newest first, and the faults at work below them."""
    shown = Table(box=None, header_style="bold", caption_justify="left")
    for name in ("proxy", "connection", "client", "age", "upstream", "downstream", "held", "faults"):
        shown.add_column(name, justify="left" if name in ("proxy", "client", "faults") else "right")
    count = 0
    for proxy in proxies:
        connections = proxy.connections()
        names = {active.number: active.spec.kind for active in proxy.faults()}
        for one in connections[::-1][: max(0, _ROWS_MAX - count)]:
            sizes = (units.show(size, Dimension.BYTES) for size in (one.upstream_bytes, one.downstream_bytes, one.held_bytes))
            at_work = ", ".join(names.get(number, "") for number in one.faults)
            shown.add_row(_host_port(proxy.listen), str(one.number), one.client, f"{one.age_s:.0f} s", *sizes, at_work)
        count += len(connections)
    felt = (f"{active.spec.kind} {active.hits:,} hits" for proxy in proxies for active in proxy.faults())
    shown.caption = f"{count:,} open connections · " + (" · ".join(felt) or "no faults")
    return shown


@contextlib.asynccontextmanager
async def _signals(stop: asyncio.Event) -> AsyncIterator[None]:
    """Ctrl-C and SIGTERM end the block's wait and not the program, while the block lasts."""
    loop = asyncio.get_running_loop()
    caught = (signal.SIGINT, signal.SIGTERM)
    for one in caught:
        loop.add_signal_handler(one, stop.set)
    try:
        yield
    finally:
        for one in caught:
            loop.remove_signal_handler(one)


def _host_port(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
