"""The token server: POST /v1/chat/completions (streamed or not), GET /v1/models, /health and /statistics, over HTTP/1.1.

One handler per answer, one write per turn of its script, so that many small chunks share a segment; a client that does not read holds up
its own answer. A client that leaves ends its answer at once. Texts, paces and lies are `script.py`'s; the JSON is `wire.py`'s.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
from aiohttp import web

from floodmark.core.errors import UsageError
from floodmark.systems.conductor.backend.numbered import Numbered, asked
from floodmark.systems.conductor.backend.prose import RATE_HZ, answer_to
from floodmark.systems.conductor.tokens.lies import Lies
from floodmark.systems.conductor.tokens.script import BROKEN, Plan, Script, plan_of, text_of
from floodmark.systems.conductor.tokens.wire import MODEL, ChatRequest, ChunkWriter, completion, error_of, usage_of

BODY_BYTES: Final = 10_000_000  # of a request
WHOLE_BYTES: Final = 64_000_000  # of an answer that is not streamed
BACKLOG_COUNT: Final = 4096
CLOSE_LIMIT_S: Final = 0.1  # for what is in its last steps when the server stops
_SSE = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class TokenSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the server does when a prompt does not say."""

    prose_rate_hz: float = RATE_HZ  # 0: as fast as it is taken
    group: int = 1  # tokens per chunk
    max_streams: int = 20_000  # answers at once; more are refused with 503

    def __post_init__(self) -> None:
        if not 0 <= self.prose_rate_hz < math.inf:
            raise UsageError(f"--rate {self.prose_rate_hz!r} is neither 0 nor a number of tokens per second")
        if not 1 <= self.group <= 4096:
            raise UsageError(f"--per-chunk {self.group} is not between 1 and 4096")
        if self.max_streams < 1:
            raise UsageError(f"--max-streams {self.max_streams} is not at least 1")


class Statistics(msgspec.Struct, kw_only=True):
    """What the server did, counted as it did it; GET /statistics gives it as JSON."""

    requests: int = 0  # to /v1/chat/completions
    live: int = 0  # answers going on, streamed or not
    refused: int = 0  # of them
    streams: int = 0  # streamed answers begun
    completed: int = 0  # streamed answers that ended with [DONE]
    broken: int = 0  # ended without it, on purpose
    abandoned: int = 0  # the client left before the end
    whole: int = 0  # answers given in one piece
    tokens_sent: int = 0  # in streamed answers, repeated ones twice, left out ones not at all
    chunks_sent: int = 0


class TokenServer:
    """An OpenAI-compatible server whose every answer is known in advance."""

    def __init__(self, settings: TokenSettings, lies: Lies) -> None:
        self._settings = settings
        self._lies = lies
        self._numbers = itertools.count(1)
        self._created = int(time.time())
        self.statistics = Statistics()
        self._answering: set[asyncio.Task[object]] = set()

    @asynccontextmanager
    async def serving(self, address: str, port: int) -> AsyncIterator[int]:
        """Serve while the block runs; gives the port. At its end every answer is cut.

        Raises: OSError when the address cannot be had.
        """
        application = web.Application(client_max_size=BODY_BYTES)
        application.add_routes(
            [
                web.post("/v1/chat/completions", self._chat),
                web.get("/v1/models", self._models),
                web.get("/health", self._health),
                web.get("/statistics", self._statistics),
            ]
        )
        runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=CLOSE_LIMIT_S)
        await runner.setup()
        try:
            await web.TCPSite(runner, address, port, backlog=BACKLOG_COUNT).start()
            yield int(runner.addresses[0][1])
        finally:
            for task in list(self._answering):
                task.cancel()
            await runner.cleanup()

    async def _health(self, _: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def _models(self, _: web.Request) -> web.Response:
        model = {"id": MODEL, "object": "model", "created": self._created, "owned_by": "floodmark"}
        return _json({"object": "list", "data": [model]})

    async def _statistics(self, _: web.Request) -> web.Response:
        return _json({**msgspec.structs.asdict(self.statistics), "lies": self._lies.told})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.statistics.requests += 1
        try:
            chat = msgspec.json.decode(await request.read(), type=ChatRequest)
            order = asked(chat.prompt)
        except (msgspec.MsgspecError, UnicodeDecodeError, UsageError) as exc:
            return self._refuse(400, str(exc), "invalid_request_error")
        if self.statistics.live >= self._settings.max_streams:
            return self._refuse(503, f"{self._settings.max_streams} answers are going on already", "overloaded_error")
        options = chat.stream_options
        plan = plan_of(
            order,
            len(answer_to(chat.prompt)) if order is None else 0,
            rate_hz=self._settings.prose_rate_hz,
            group=self._settings.group,
            limit=chat.limit,
            tells_usage=options is not None and options.include_usage,
        )
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        self.statistics.live += 1
        try:
            return await (self._stream(request, chat, order, plan) if chat.stream else self._answer(request, chat, order, plan))
        finally:
            self.statistics.live -= 1
            self._answering.discard(task)

    def _refuse(self, status: int, message: str, kind: str) -> web.Response:
        self.statistics.refused += 1
        return _json(error_of(message, kind), status=status)

    async def _stream(self, request: web.Request, chat: ChatRequest, order: Numbered | None, plan: Plan) -> web.StreamResponse:
        """Stream an answer; whatever ends it, the counts are right and an untold lie is given back."""
        options = chat.stream_options
        writer = ChunkWriter(
            f"chatcmpl-{next(self._numbers)}",
            self._created,
            chat.model or MODEL,
            prompt_tokens=chat.prompt_tokens,
            counts=options is not None and options.continuous_usage_stats,
            escapes=order is None,
        )
        statistics = self.statistics
        statistics.streams += 1
        script = Script(plan, text_of(order, chat.prompt), writer, self._lies, time.monotonic())
        response = web.StreamResponse(headers=_SSE)
        try:
            await response.prepare(request)
            await self._play(response, script)
            await response.write_eof()
        except ConnectionError:  # the client left between two turns; aiohttp closes its side
            pass
        finally:
            if script.proper:
                statistics.completed += 1
            elif script.over:
                statistics.broken += 1
            else:
                statistics.abandoned += 1
                script.abandon()
        return response

    async def _play(self, response: web.StreamResponse, script: Script) -> None:
        statistics = self.statistics
        while not script.over:
            now_s = time.monotonic()
            tokens, chunks = script.tokens_sent, script.chunks_sent
            data = script.turn(now_s)
            statistics.tokens_sent += script.tokens_sent - tokens
            statistics.chunks_sent += script.chunks_sent - chunks
            if data:
                await response.write(data)  # waits while the client does not read
                await _wait(script.pause_s(now_s))
            else:
                await _wait(script.wait_s(now_s))

    async def _answer(self, request: web.Request, chat: ChatRequest, order: Numbered | None, plan: Plan) -> web.StreamResponse:
        """Give an answer in one piece, when its last token is due. Only its prompt can break it: lies are of streams."""
        if plan.stop * plan.token_bytes > WHOLE_BYTES:
            return self._refuse(400, f"an answer of more than {WHOLE_BYTES} bytes must be streamed", "invalid_request_error")
        await _wait(math.inf if plan.ending == "hang" else plan.stop / plan.rate_hz if plan.rate_hz else 0)
        if plan.ending == "error":
            return _json(error_of(BROKEN, "server_error"), status=500)
        if plan.ending == "nothing":
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        self.statistics.whole += 1
        content = "".join(text_of(order, chat.prompt).texts(plan.stop))
        usage = usage_of(chat.prompt_tokens, plan.total)
        answer_id = f"chatcmpl-{next(self._numbers)}"
        body = completion(answer_id, self._created, chat.model or MODEL, content, plan.reason, usage)
        return web.Response(body=body, content_type="application/json")


async def _wait(seconds: float) -> None:
    if math.isinf(seconds):
        await asyncio.Event().wait()  # until the client leaves, or the server ends
    await asyncio.sleep(seconds)


def _json(document: object, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), status=status, content_type="application/json")
