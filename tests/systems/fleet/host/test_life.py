"""How a host begins and ends, and what is left then: nothing, however it ended."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from floodmark.core.nats_server import EmbeddedNats

from .played import Host, alive, gone, hosted

PARTITIONS = 6


def tree(host: Host) -> list[int]:
    """The host and all below it."""
    return [host.process.pid, *(child.pid for child in psutil.Process(host.process.pid).children(recursive=True))]


def servers_at(port: int) -> list[int]:
    """The nats-servers that listen there."""
    found = []
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == "nats-server":
            with suppress(psutil.NoSuchProcess):  # somebody else's, which has just ended
                if any(one.laddr.port == port for one in process.net_connections() if one.status == psutil.CONN_LISTEN):
                    found.append(process.pid)
    return found


def configuration(command: list[str]) -> str:
    """What a nats-server was started with."""
    return Path(command[command.index("-c") + 1]).read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("server", ["inside", "apart"])
def test_host_signalled_ends_all_gently_with_code_zero(number: int, server: str) -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS), "--network", "--server", server) as host:
            await host.do("start", count=2)
            await host.settled(2, PARTITIONS)
            await host.do("start", count=1)
            await host.do("pause", worker=1)  # one that can no longer be asked
            pids = tree(host)

            host.process.send_signal(number)
            async with asyncio.timeout(30.0):
                code = await host.process.wait()

            assert code == 0
            assert len(pids) >= 5
            assert await gone(pids)

    asyncio.run(main())


@pytest.mark.parametrize("server", ["inside", "apart"])
def test_host_killed_takes_workers_network_and_server_with_it(server: str) -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS), "--network", "--server", server) as host:
            await host.do("start", count=2)
            await host.settled(2, PARTITIONS)
            await host.do("pause", worker=2)
            mine = servers_at(int(host.url.rsplit(":", 1)[1]))
            pids = {*tree(host), mine[0], psutil.Process(mine[0]).ppid()}  # the keeper too, of a server apart

            host.process.kill()
            await host.process.wait()

            assert len(mine) == 1
            assert await gone(sorted(pids)), [pid for pid in pids if alive(pid)]

    asyncio.run(main())


def test_server_apart_is_not_below_the_host() -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS), "--server", "apart") as apart:
            assert not any("nats-server" in child.name() for child in psutil.Process(apart.process.pid).children(recursive=True))
        async with hosted("--partitions", str(PARTITIONS)) as inside:
            assert any("nats-server" in child.name() for child in psutil.Process(inside.process.pid).children(recursive=True))

    asyncio.run(main())


@pytest.mark.parametrize("server", ["inside", "apart"])
@pytest.mark.parametrize(("words", "told"), [((), "sync_interval: always"), (("--sync", "2m"), "sync_interval: 2m")])
def test_server_of_our_own_syncs_as_it_is_told(server: str, words: tuple[str, ...], told: str) -> None:
    async def main() -> None:
        async with hosted("--partitions", str(PARTITIONS), "--server", server, *words) as host:
            (pid,) = servers_at(int(host.url.rsplit(":", 1)[1]))
            command = psutil.Process(pid).cmdline()

            assert told in configuration(command)

    asyncio.run(main())


def test_server_given_is_used_and_left_alone() -> None:
    async def main() -> None:
        async with EmbeddedNats() as server:
            async with hosted("--partitions", str(PARTITIONS), "--nats", server.url) as host:
                await host.do("start", count=1)
                await host.settled(1, PARTITIONS)
                for word in ("server_kill", "server_restart"):
                    assert "is not ours to end" in (await host.ask(word))["error"]
                assert host.url == server.url
            assert server.process is not None
            assert server.process.returncode is None

    asyncio.run(main())


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--profile", "nope"], "no profile 'nope'; there are: default"),
        (["--set", "heartbeat_s=-1"], "heartbeat_s must be finite and more than 0"),
        (["--nats", "nats://127.0.0.1:1"], "connect to nats://127.0.0.1:1"),
        (["--nats", "nats://user:secret@127.0.0.1:1"], "connect to nats://***@127.0.0.1:1"),
    ],
)
def test_host_with_a_wrong_option_says_so_in_one_sentence_with_code_two(args: list[str], sentence: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "floodmark.systems.fleet.host", *args], capture_output=True, text=True, timeout=30, check=False
    )

    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize(("url", "loaded"), [("nats://127.0.0.1:1", False), ("ws://127.0.0.1:1", True)])
def test_host_loads_what_web_sockets_need_only_for_web_sockets(url: str, loaded: bool) -> None:
    look = (
        f"import sys; sys.argv += ['--nats', '{url}']; import floodmark.systems.fleet.host.__main__; print('aiohttp.client' in sys.modules)"
    )

    said = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=60)

    assert said.stdout.strip() == str(loaded)
