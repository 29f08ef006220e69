"""Surfaces: the headless one counts what it sees and finds what is wrong; the registry reaches those it should and stays small."""

from __future__ import annotations

import asyncio
import random

import pytest

from floodmark.systems.conductor import vocabulary as v
from floodmark.systems.conductor.channel import Channel
from floodmark.systems.conductor.conductor import Conductor
from floodmark.systems.conductor.errors import RefusedError
from floodmark.systems.conductor.settings import stress_settings
from floodmark.systems.conductor.surface import BroadcastResult, HeadlessSurface, SurfaceRegistry, attach
from tests.systems.conductor.scripted import Scripted, conducting, says, until


def end(message_id: str) -> v.StreamEnd:
    return v.StreamEnd(message_id=message_id, final_content="", metadata=v.ResponseMetadata())


def test_headless_surface_counts_tokens_by_their_answer() -> None:
    surface = HeadlessSurface(keep_texts=True)

    surface.take([v.Token(message_id="a", text="x"), v.Token(message_id="a", text="yz", count=3)])
    surface.take([v.StreamToken(conversation_id="c", message_id="b", text="q"), v.Token(message_id="a", text="!"), end("a")])

    assert (surface.tokens_count, surface.chars_count, surface.completed_count) == (6, 5, 1)
    assert (surface.answers["a"].text, surface.answers["a"].tokens_count, surface.answers["b"].tokens_count) == ("xyz!", 5, 1)


def test_headless_surface_notices_a_second_end_and_tokens_after_the_end() -> None:
    surface = HeadlessSurface()

    surface.take([v.Token(message_id="a", text="x"), end("a"), v.Token(message_id="a", text="late"), end("a")])

    assert (surface.answers["a"].ends_count, surface.answers["a"].late_count) == (2, 1)


def test_headless_surface_remembers_no_more_answers_than_it_may() -> None:
    surface = HeadlessSurface(answers_count=10)

    for number in range(100):
        surface.take([v.Token(message_id=str(number), text="x"), v.Message(id="m", role=v.Role.USER, content="x")])

    assert len(surface.answers) == len(surface.messages) == 10
    assert surface.tokens_count == 100


def test_attached_surface_sees_everything_up_to_quit() -> None:
    async def main() -> HeadlessSurface:
        async with conducting(Scripted(says(["a", "b"]))) as (conductor, surface):
            await conductor.handle(v.UserMessage(text="go"))
            await until(lambda: surface.completed_count == 1)
        return surface

    surface = asyncio.run(main())

    assert surface.quit == v.Quit(message="Goodbye.")
    assert surface.tokens_count == 2


def test_surface_attached_to_a_conductor_whose_channel_is_full_sees_everything() -> None:
    async def main() -> None:
        texts = [f"{number} " for number in range(100)]
        surface = HeadlessSurface(keep_texts=True)
        conductor = Conductor(Scripted(says(texts)), stress_settings(channel_count=16))
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            tasks.create_task(conductor.run())
            await conductor.start()
            await conductor.handle(v.UserMessage(text="go"))
            await until(lambda: conductor.output.room() < 2)
            tasks.create_task(attach(conductor, surface))
            await until(lambda: surface.completed_count == 1)
            await conductor.quit()
        (answer,) = surface.answers.values()
        assert (answer.text, answer.ends_count) == ("".join(texts), 1)

    asyncio.run(main())


def test_broadcast_reaches_those_with_room_and_names_the_others_as_failed() -> None:
    registry = SurfaceRegistry()
    channels: list[Channel[v.ConductorEvent]] = [Channel(capacity_count=2) for _ in range(3)]
    ids = [registry.register(channel) for channel in channels]
    channels[1].put([v.Ping(seq=0)])

    result = registry.broadcast([v.Ping(seq=1), v.Ping(seq=2)])

    assert result == BroadcastResult(2, 1, (ids[0], ids[2]))
    assert [len(channel) for channel in channels] == [2, 1, 2]
    assert all(surface_id.startswith("conn-") for surface_id in ids)


def test_events_go_to_one_surface_or_to_those_that_match() -> None:
    async def main() -> None:
        registry = SurfaceRegistry()
        channels: list[Channel[v.ConductorEvent]] = [Channel() for _ in range(2)]
        first = registry.register(channels[0], surface_type=v.SurfaceType.TUI)
        second = registry.register(channels[1])
        assert registry.send_to_matching(lambda one: one.surface_type is v.SurfaceType.TUI, [v.Ping(seq=1)]).ids == (first,)
        assert await registry.send_to(second, [v.Ping(seq=2)])
        assert not await registry.send_to("nobody", [v.Ping(seq=3)])
        channels[0].close()
        assert not await registry.send_to(first, [v.Ping(seq=4)])
        assert (registry.cleanup(), registry.cleanup(), len(registry)) == (1, 0, 1)
        assert registry.unregister(second)
        assert not registry.unregister(second)
        assert [len(channel) for channel in channels] == [1, 1]

    asyncio.run(main())


def test_registry_refuses_a_taken_id_and_more_than_its_limit() -> None:
    registry = SurfaceRegistry(limit_count=2)
    registry.register(Channel(), surface_id="one")

    with pytest.raises(RefusedError, match="is there already"):
        registry.register(Channel(), surface_id="one")
    registry.register(Channel())
    with pytest.raises(RefusedError, match="2 surfaces are there"):
        registry.register(Channel())


def test_registry_under_fifty_that_come_and_go_stays_below_twice_that_and_is_empty_at_the_end() -> None:
    concurrent = 50

    async def visitor(registry: SurfaceRegistry, number: int, sizes: list[int]) -> None:
        dice = random.Random(number)
        for _ in range(60):
            channel: Channel[v.ConductorEvent] = Channel(capacity_count=4)
            surface_id = registry.register(channel)
            sizes.append(len(registry))
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)
                registry.broadcast([v.Ping(seq=number)])
                channel.take_many()
            channel.close()
            if dice.random() < 0.5:  # the others leave without a word
                registry.unregister(surface_id)
            registry.cleanup()

    async def main() -> tuple[SurfaceRegistry, list[int]]:
        registry, sizes = SurfaceRegistry(), list[int]()
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            for number in range(concurrent):
                tasks.create_task(visitor(registry, number, sizes))
        return registry, sizes

    registry, sizes = asyncio.run(main())

    assert concurrent / 2 < max(sizes) < 2 * concurrent
    assert len(registry) == 0
