"""`python -m bench terminal [--streams N] [--rate HZ] [--seconds S] [--size 80x24]`: the chat's screen under many streams at once.

The whole chat runs in this process, conductor and mock backend too, on a terminal that only takes what is written to it: every frame is
rendered to the bytes that a real one would get. Measured: frames (writes that bring new text to the screen) in each second, from a key to
the write that has its letter in it, the text of every conversation at the end against the harness's own numbered text, what is painted
against it too, the share of one core, and how long leaving takes in mid-stream. The conversation on the screen changes every second.
Exit code 1 when a figure is missed: 20 frames in the worst second, 100 ms for a key, every text right, 1 s for leaving.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import uvloop
from textual import events
from textual.app import App
from textual.drivers.headless_driver import HeadlessDriver
from textual.pilot import Pilot
from textual.theme import BUILTIN_THEMES

from floodmark.core.tasks import group
from floodmark.ledger import numbered
from floodmark.systems.conductor import vocabulary as say
from floodmark.systems.conductor.backend.mock import MockBackend
from floodmark.systems.conductor.conductor import Conductor
from floodmark.systems.conductor.settings import ConductorSettings, InputLimits, StreamSettings
from floodmark.systems.conductor.terminal.app import ChatApp
from floodmark.systems.conductor.terminal.link import ConductorLink
from floodmark.systems.conductor.terminal.page import PAGE_CHARS
from floodmark.systems.conductor.terminal.paint import Painter, Palette

FRAMES_LEAST_HZ, ECHO_MOST_S, QUIT_MOST_S = 20, 0.1, 1.0
LIMIT_S = 60.0
LOOK_S = 0.002  # between two looks at a condition
KEY_INTERVAL_S = 0.05
SIZE_BYTES = 10
LETTERS = "αβγδεζηθικλμνξοπρστυφχψω"


class Terminal(HeadlessDriver):
    """A terminal that takes what is written and remembers when text and letters came."""

    def __init__(self, app: App[int], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self.frames_s: list[float] = []  # when a write brought a new frame of the text
        self.bytes_count = 0
        self.awaited = ""  # a letter, and when it was written
        self.seen_s = 0.0
        self.shown_count: Callable[[], int] = lambda: 0
        self._last_shown = 0

    @property
    def is_headless(self) -> bool:
        return False  # so that Textual renders

    def write(self, data: str) -> None:
        now_s = time.perf_counter()
        self.bytes_count += len(data)
        shown = self.shown_count()
        if shown != self._last_shown:
            self._last_shown = shown
            self.frames_s.append(now_s)
        if self.awaited and self.awaited in data:
            self.awaited, self.seen_s = "", now_s


class Measured(msgspec.Struct, kw_only=True):
    """What was seen."""

    frames_hz: list[int] = []
    echoes_s: list[float] = []
    wrong_texts: int = 0
    wrong_screens: int = 0
    tokens_count: int = 0
    cpu_share: float = 0.0
    written_bytes: int = 0
    stream_s: float = 0.0
    quit_s: float = 0.0
    poll_max_s: float = 0.0

    def missed(self) -> list[str]:
        """The figures that are not reached; a figure that was not seen is not reached."""
        found = []
        if not self.frames_hz or min(self.frames_hz) < FRAMES_LEAST_HZ:
            found.append(f"frames in the worst second: {min(self.frames_hz, default=0)}, wanted {FRAMES_LEAST_HZ}")
        if not self.echoes_s or max(self.echoes_s) >= ECHO_MOST_S:
            found.append(f"slowest key: {max(self.echoes_s, default=float('nan')) * 1e3:.0f} ms, wanted < {ECHO_MOST_S * 1e3:.0f} ms")
        if self.wrong_texts or self.wrong_screens or not self.tokens_count:
            found.append(f"{self.wrong_texts} texts and {self.wrong_screens} screens are wrong, of {self.tokens_count:,} tokens")
        if not 0 < self.quit_s < QUIT_MOST_S:
            found.append(f"leaving took {self.quit_s:.3f} s, wanted < {QUIT_MOST_S:g} s")
        return found


async def until(condition: Callable[[], object]) -> None:
    """Look until it is so."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - what is looked at tells nobody
            await asyncio.sleep(LOOK_S)


async def measure(*, streams: int, rate_hz: float, seconds: float, size: tuple[int, int]) -> Measured:
    """Run the chat once."""
    settings = ConductorSettings(
        model="numbered",
        greet=False,
        conversations_count=max(streams, 1),
        streams=StreamSettings(limit_count=streams),
        limits=InputLimits(messages_per_minute=None),
    )
    conductor = Conductor(MockBackend(), settings)
    app = ChatApp(ConductorLink(conductor), where="bench")
    app.driver_class = Terminal
    gc.freeze()  # as the command does
    measured = Measured()
    ended_s = 0.0

    async def play(_pilot: Pilot[Any]) -> None:
        nonlocal ended_s
        terminal = app._driver
        assert isinstance(terminal, Terminal)
        terminal.shown_count = lambda: app.transcript.frames_count
        await until(lambda: app.board.state is say.ConductorState.READY)
        for _ in range(streams - 1):
            app.action_new()
        await until(lambda: len(app.board.rooms) == streams and not app.board.arrived)
        count = int(rate_hz * seconds)
        await _stream(app, count, rate_hz)
        began_s, began_cpu_s, first_frame = time.perf_counter(), time.process_time(), len(terminal.frames_s)
        await _type(app, terminal, measured, seconds)
        await until(lambda: all(room.pace is None and room.last is not None for room in app.board.rooms.values()))
        measured.stream_s = time.perf_counter() - began_s
        measured.cpu_share = (time.process_time() - began_cpu_s) / measured.stream_s
        frames = np.asarray(terminal.frames_s[first_frame:]) - began_s
        measured.frames_hz = [int(np.sum((frames >= second) & (frames < second + 1))) for second in range(int(seconds))]
        measured.written_bytes = terminal.bytes_count
        app.board.absorb()
        _compare(app, measured, count)
        await _stream(app, 10_000_000, rate_hz)
        await until(lambda: all(room.pace is not None and room.pace.tokens_count for room in app.board.rooms.values()))
        ended_s = time.perf_counter()
        app.post_message(events.Key("ctrl+q", None))

    async with group() as tasks:
        tasks.create_task(conductor.run())
        tasks.create_task(conductor.start())
        await app.run_async(size=size, auto_pilot=play)
        await conductor.quit()
    measured.quit_s = time.perf_counter() - ended_s
    measured.poll_max_s = conductor.report()["poll_max_s"]
    return measured


async def _stream(app: ChatApp, count: int, rate_hz: float) -> None:
    """Ask for numbered text in every conversation, of a stream of its own."""
    for stream, room in enumerate(app.board.rooms.values()):
        room.last = None
        prompt = f"numbered: stream={stream} first=0 count={count} size={SIZE_BYTES} rate={rate_hz:g}"
        await app.link.send(say.UserMessage(text=prompt, conversation_id=room.conversation_id))
    await until(lambda: any(room.pace is not None for room in app.board.rooms.values()))


async def _type(app: ChatApp, terminal: Terminal, measured: Measured, seconds: float) -> None:
    """Type a letter now and then and wait for it, and look at another conversation every second."""
    began_s = time.perf_counter()
    looked = 0
    for letter in itertools.cycle(LETTERS):
        now_s = time.perf_counter() - began_s
        if now_s >= seconds:
            return
        if int(now_s) > looked:
            looked = int(now_s)
            app.post_message(events.Key("ctrl+n", None))
        app.prompt.text = ""
        await asyncio.sleep(KEY_INTERVAL_S)
        sent_s = time.perf_counter()
        terminal.awaited = letter
        app.post_message(events.Key(letter, letter))
        await until(lambda: not terminal.awaited)
        measured.echoes_s.append(terminal.seen_s - sent_s)


def _compare(app: ChatApp, measured: Measured, count: int) -> None:
    """Hold what every conversation has, and what would be painted of it, against the known text."""
    painter = Painter(Palette(BUILTIN_THEMES["textual-dark"].to_color_system().generate()), 100)
    for stream, room in enumerate(app.board.rooms.values()):
        expected = numbered.tokens(stream, 0, count, SIZE_BYTES).decode("ascii")
        measured.wrong_texts += room.page.text != expected
        while not room.page.lay(painter, limit_s=1.0):
            pass
        lines = (room.page.line(y) for y in range(room.page.height))
        painted = "".join(line.text for line in lines if line is not None).replace(" ", "")
        measured.wrong_screens += expected.replace(" ", "") not in painted
        measured.tokens_count += count


def main(arguments: list[str]) -> int:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(prog="bench terminal", description="the chat's screen under many streams at once")
    parser.add_argument("--streams", type=int, default=16, help="conversations that are answered at once (default: 16)")
    parser.add_argument("--rate", type=float, default=1000.0, help="tokens per second of each (default: 1000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument("--size", default="80x24", help="of the terminal, in columns and rows (default: 80x24)")
    chosen = parser.parse_args(arguments)
    columns, _, rows = chosen.size.partition("x")
    if chosen.streams < 1 or chosen.rate <= 0 or chosen.seconds < 1 or not (columns.isdigit() and rows.isdigit()):
        parser.error("--streams and --seconds must be at least 1, --rate above 0, and --size such as 80x24")
    if chosen.rate * chosen.seconds * SIZE_BYTES > PAGE_CHARS:
        parser.error(f"a page keeps {PAGE_CHARS:,} characters, so that longer texts cannot be compared; lower --rate or --seconds")

    measured = uvloop.run(measure(streams=chosen.streams, rate_hz=chosen.rate, seconds=chosen.seconds, size=(int(columns), int(rows))))

    echoes_ms = np.asarray(measured.echoes_s) * 1e3
    print(f"{chosen.streams} streams of {chosen.rate:g} tokens/s for {measured.stream_s:.2f} s on {chosen.size}")
    print(f"frames/s        median {np.median(measured.frames_hz):.0f}, worst second {min(measured.frames_hz)}")
    print(f"key to screen   p50 {np.percentile(echoes_ms, 50):.1f} ms, p99 {np.percentile(echoes_ms, 99):.1f} ms, "
          f"max {echoes_ms.max():.1f} ms, of {len(echoes_ms)}")  # fmt: skip
    print(f"text            {measured.tokens_count:,} tokens, {measured.wrong_texts} texts wrong, {measured.wrong_screens} screens wrong")
    print(f"cost            {measured.cpu_share:.0%} of one core, {measured.written_bytes / 1e6:.1f} MB written to the terminal")
    print(f"leaving         {measured.quit_s * 1e3:.0f} ms in mid-stream; longest poll {measured.poll_max_s * 1e3:.1f} ms")
    missed = measured.missed()
    for figure in missed:
        print(f"missed: {figure}", file=sys.stderr)
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
