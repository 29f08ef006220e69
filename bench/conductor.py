"""Tokens per CPU-second through a conductor in this process: `python -m bench conductor [--rounds N] [--tokens N]`.

A scripted backend gives tokens of 10 characters in batches of 256; they go through its stream, the poll, the session, the output channel
and a headless surface that keeps their texts. Beside it stands what one would write by hand: a task, an `asyncio.Queue` and one put and get
per token. Every figure is CPU time, producer and surface included, and counts only if every answer came out whole and in order, with one
end.

    one stream        one event per token; coalesced; through a channel of 100
    sixteen streams   the same tokens, shared by 16 conversations
    by hand           two queues, no session, no bounds on a turn, no commands taken out
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import sys
import time
from collections.abc import Callable, Sequence

import uvloop
from rich.console import Console

from bench.measure import Outcome, Reading, rate, take_turns
from bench.processes import BenchError
from bench.table import terminal
from floodmark.systems.conductor import (
    Complete,
    Conductor,
    ConductorSettings,
    HeadlessSurface,
    InputLimits,
    Producers,
    Request,
    TokenStream,
    UserMessage,
    attach,
)
from floodmark.systems.conductor.surface import Seen
from floodmark.systems.conductor.vocabulary import MAIN_ID, Capabilities, Token

BATCH = 256
STREAMS = 16


@functools.cache
def texts(count: int) -> list[str]:
    """Tokens of ten characters that tell their place."""
    return [f"{number:09d} " for number in range(count)]


class Scripted:
    """A backend that gives the same tokens to whoever asks."""

    name = "scripted"

    def __init__(self, count: int) -> None:
        self._texts = texts(count)
        self._producers = Producers()

    async def health_check(self) -> None:
        pass

    def send_streaming(self, request: Request) -> TokenStream:
        stream = TokenStream(capacity_count=BATCH)
        self._producers.start(stream, self._write(stream))
        return stream

    async def _write(self, stream: TokenStream) -> None:
        for at in range(0, len(self._texts), BATCH):
            await stream.put_many(self._texts[at : at + BATCH])
        stream.finish(Complete(token_count=len(self._texts)))

    async def send(self, request: Request) -> str:
        return "".join(self._texts)

    async def list_models(self) -> list[str]:
        return []

    async def has_model(self, name: str) -> bool:
        return False

    async def aclose(self) -> None:
        await self._producers.aclose()


def conducted(count: int, *, streams: int = 1, coalesce: bool = False, channel_count: int = 256) -> Reading:
    """Stream `count` tokens through a conductor, shared by `streams` conversations."""
    each = count // streams

    async def stream_all() -> tuple[float, HeadlessSurface]:
        settings = ConductorSettings(
            greet=False, channel_count=channel_count, conversations_count=STREAMS, limits=InputLimits(messages_per_minute=None)
        )
        conductor = Conductor(Scripted(each), settings)
        done = asyncio.Event()

        async def look(_: int) -> None:
            if surface.completed_count == streams:
                done.set()

        surface = HeadlessSurface(capabilities=Capabilities(coalesce=coalesce), keep_texts=True, pause=look)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(conductor.run())
            await conductor.start()
            shown = tasks.create_task(attach(conductor, surface))
            ids = [MAIN_ID, *(conductor.conversations.create("").id for _ in range(streams - 1))]
            began_s = time.process_time()
            for conversation_id in ids:
                await conductor.handle(UserMessage(text="go", conversation_id=conversation_id))
            await done.wait()
            spent_s = time.process_time() - began_s
            await conductor.quit()
            await shown
        return spent_s, surface

    spent_s, surface = uvloop.run(stream_all())
    return Reading(value=rate(each * streams, spent_s), check=checked(list(surface.answers.values()), each, streams))


def checked(answers: Sequence[Seen], each: int, streams: int) -> str:
    """Compare every answer with what was sent; BenchError if one is not the same."""
    wanted = "".join(texts(each))
    whole = [answer for answer in answers if answer.text == wanted and answer.tokens_count == each and answer.ends_count == 1]
    if len(whole) != streams or len(answers) != streams:
        raise BenchError(f"{len(whole)} of {streams} answers are whole and in order, of {len(answers)} that were seen")
    return f"{each * streams:,} tokens in order, {streams} ended once"


def by_hand(count: int) -> Reading:
    """Hand every token from task to task by itself."""
    sent = texts(count)

    async def stream_all() -> tuple[float, list[str]]:
        tokens: asyncio.Queue[str | None] = asyncio.Queue(BATCH)
        events: asyncio.Queue[Token | None] = asyncio.Queue(BATCH)
        seen: list[str] = []

        async def backend() -> None:
            for text in sent:
                await tokens.put(text)
            await tokens.put(None)

        async def conductor() -> None:
            while (text := await tokens.get()) is not None:
                await events.put(Token(message_id="msg_1", text=text))
            await events.put(None)

        async def surface() -> None:
            while (event := await events.get()) is not None:
                seen.append(event.text)

        began_s = time.process_time()
        async with asyncio.TaskGroup() as tasks:
            for job in (backend(), conductor(), surface()):
                tasks.create_task(job)
        return time.process_time() - began_s, seen

    spent_s, seen = uvloop.run(stream_all())
    if seen != sent:
        raise BenchError(f"{len(seen):,} tokens came out of {count:,}, or not in order")
    return Reading(value=rate(count, spent_s), check=f"{count:,} tokens in order")


def outcomes(*, rounds: int, tokens: int, progress: Callable[[str, int, str], None]) -> list[Outcome]:
    """Measure all contenders in turns."""
    contenders: dict[str, Callable[[], Reading]] = {
        "one stream, an event per token": functools.partial(conducted, tokens),
        "one stream, coalesced": functools.partial(conducted, tokens, coalesce=True),
        "one stream, a channel of 100": functools.partial(conducted, tokens, channel_count=100),
        "sixteen streams": functools.partial(conducted, tokens, streams=STREAMS),
        "asyncio.Queue by hand": functools.partial(by_hand, tokens),
    }
    figures = take_turns(contenders, rounds=rounds, progress=progress)
    return [Outcome(title="Tokens through a conductor", unit="tokens / CPU-s", better="higher", figures=figures)]


def main(arguments: list[str]) -> int:
    """Measure and print one table; exit code 1 if a figure is missing."""
    parser = argparse.ArgumentParser(prog="bench conductor", description="a conductor beside one queue per hop")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender is measured, in turns (default: 3)")
    parser.add_argument("--tokens", type=int, default=1_000_000, help="per contender (default: 1,000,000)")
    chosen = parser.parse_args(arguments)
    if chosen.rounds < 1 or chosen.tokens < STREAMS:
        parser.error(f"--rounds must be at least 1 and --tokens at least {STREAMS}")

    def progress(contender: str, number: int, said: str) -> None:
        print(f"round {number} of {chosen.rounds}: {contender}: {said}", file=sys.stderr, flush=True)

    measured = outcomes(rounds=chosen.rounds, tokens=chosen.tokens, progress=progress)
    Console(width=None if sys.stdout.isatty() else 200).print(terminal(measured))
    return int(any(figure.failure for outcome in measured for figure in outcome.figures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
