"""The screen of a run without a terminal: fed from a folder through a real conductor, driven by Textual's pilot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from textual.pilot import Pilot

from floodmark.live import feed
from floodmark.live.source import Nobody
from floodmark.live.terminal import RunApp
from floodmark.report.folder import RunFolder
from floodmark.systems.conductor.conductor import Conductor
from floodmark.systems.conductor.settings import ConductorSettings
from floodmark.systems.conductor.terminal.link import ConductorLink

LIMIT_S = 20.0


class Screen:
    """What is on it."""

    def __init__(self, app: RunApp, pilot: Pilot[Any], conductor: Conductor) -> None:
        self.app, self.pilot, self.conductor = app, pilot, conductor

    @property
    def lines(self) -> list[str]:
        """The text, line by line."""
        width, height = self.app.size
        strips = self.app.screen._compositor.render_strips()
        assert len(strips) == height
        return ["".join(segment.text for segment in strip).rstrip("\n")[:width] for strip in strips]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    async def until(self, look: Callable[[], object]) -> None:
        """Wait until it is so."""
        async with asyncio.timeout(LIMIT_S):
            while not look():
                await self.pilot.pause(0.02)


@asynccontextmanager
async def screen(
    folder: RunFolder, *, size: tuple[int, int] = (80, 24), light: bool = False, beside: bool = False
) -> AsyncIterator[Screen]:
    """Show a folder."""
    conductor = Conductor(Nobody(), ConductorSettings(greet=False))
    app = RunApp(ConductorLink(conductor), light=light, beside=beside)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(conductor.run())
        await conductor.start(announce=False)
        feeding = tasks.create_task(feed.follow(folder, conductor))
        try:
            async with app.run_test(size=size) as pilot:
                yield Screen(app, pilot, conductor)
        finally:
            feeding.cancel()
            await conductor.quit()


def played(play: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run one."""
    asyncio.run(play())
