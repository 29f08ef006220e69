"""The relays between the workers and NATS: one that could not be healed is not taken for whole, and goes to nobody."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from floodmark.systems.fleet.host.network import Network, NetworkError


class _Proxied(Network):
    """A network whose proxy heals nothing while it `refuses`."""

    def __init__(self) -> None:
        super().__init__("nats://127.0.0.1:4222")
        self._ports, self._free = [1001, 1002], {0, 1}
        self.refuses = False

    async def _ask(self, method: str, path: str, body: Any) -> Any:
        if method == "DELETE" and self.refuses:
            raise NetworkError("the fault proxy did not do it")
        return [{"id": "7"}]


def test_heal_that_failed_leaves_the_relay_cut_and_can_be_tried_again() -> None:
    async def play() -> None:
        network = _Proxied()
        await network.cut(0)
        network.refuses = True

        with pytest.raises(NetworkError):
            await network.heal(0)

        assert network.is_cut(0)
        network.refuses = False
        await network.heal(0)
        assert not network.is_cut(0)

    asyncio.run(play())


@pytest.mark.parametrize(("refuses", "port"), [(False, 1001), (True, 1002)])
def test_give_back_relay_goes_to_another_process_only_when_it_lets_everything_pass(refuses: bool, port: int) -> None:
    async def play() -> None:
        network = _Proxied()
        relay, _ = network.take()
        await network.cut(relay)
        network.refuses = refuses

        await network.give_back(relay)

        assert network.take()[1] == f"nats://127.0.0.1:{port}"

    asyncio.run(play())
