"""What the package says in public, and the example of its first lines."""

from __future__ import annotations

import asyncio

from floodmark.systems import conductor
from floodmark.systems.conductor import Conductor, HeadlessSurface, UserMessage, attach, backend_of, stress_settings
from tests.systems.conductor.scripted import until


def test_public_names_are_there_once_each() -> None:
    assert all(hasattr(conductor, name) for name in conductor.__all__)
    assert len(set(conductor.__all__)) == len(conductor.__all__)


def test_example_of_the_package_answers_a_message_with_the_mock() -> None:
    async def main() -> HeadlessSurface:
        talker, surface = Conductor(backend_of("mock"), stress_settings()), HeadlessSurface(keep_texts=True)
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            tasks.create_task(talker.run())
            await talker.start()
            tasks.create_task(attach(talker, surface))
            await talker.handle(UserMessage(text="numbered: stream=3 first=0 count=2000 size=10"))
            await until(lambda: surface.completed_count == 1)
            await talker.quit()
        return surface

    surface = asyncio.run(main())

    (answer,) = surface.answers.values()
    assert (answer.tokens_count, answer.chars_count, answer.ends_count) == (2_000, 20_000, 1)
    assert answer.text.startswith("00003 abcd")
