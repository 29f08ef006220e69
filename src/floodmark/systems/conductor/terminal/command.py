"""`floodmark chat`: a conductor, a backend and the terminal between them; or `--once`, one question and its answer as plain text.

What is wrong with the words of the command, and a terminal that is none, is a UsageError before anything is opened (exit code 2). A
backend that cannot be reached, or breaks its answer off under `--once`, is a BackendError (exit code 11, as for any other target that
cannot be reached). In the chat itself such things are notices; leaving it is 0, Ctrl-C and SIGTERM are 130. Whatever ends it, every task
has ended and the backend is closed within `quit_limit_s`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from typing import IO

import msgspec
import uvloop

from floodmark.core.errors import HarnessBugError, UsageError
from floodmark.core.tasks import group
from floodmark.systems.conductor import vocabulary as say
from floodmark.systems.conductor.backend import BACKENDS, BackendSettings, backend_of
from floodmark.systems.conductor.backend.base import Backend
from floodmark.systems.conductor.conductor import Conductor
from floodmark.systems.conductor.errors import BackendError
from floodmark.systems.conductor.settings import ConductorSettings

STDIN = "-"
INTERRUPTED = 130


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    backend: str = ""  # "": openai if there is a URL, else the embedded mock
    url: str = ""
    model: str = ""  # "": the first that the backend names
    api_key_env: str = ""  # the name of an environment variable
    once: str | None = None  # a prompt; - reads it from stdin
    light: bool = False


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """An order that has been checked."""

    backend: str
    settings: BackendSettings
    prompt: str | None
    light: bool

    @property
    def where(self) -> str:
        """Where the answers come from, for the title."""
        if self.backend == "mock":
            return "embedded mock"
        return " ".join(part for part in (self.backend, self.settings.url) if part)


def checked(order: Order, *, stdin: IO[str], stdout: IO[str], environment: dict[str, str] | None = None) -> Job:
    """Hold an order against what there is.

    Raises: UsageError, in one sentence.
    """
    name = order.backend or ("openai" if order.url else "mock")
    if name not in BACKENDS:
        backend_of(name)  # raises, naming the nearest
    if name == "mock" and order.url:
        raise UsageError(f"--url {order.url}: the mock is part of this process; name the backend too, such as --backend openai")
    if order.url and not order.url.startswith(("http://", "https://")):
        raise UsageError(f"--url must begin with http:// or https://, got {order.url!r}")
    key = ""
    if order.api_key_env:
        key = (os.environ if environment is None else environment).get(order.api_key_env, "")
        if not key:
            raise UsageError(f"--api-key-env {order.api_key_env}: the environment has no such variable, or an empty one; set it to the key")
    prompt = order.once
    if prompt is None:
        for stream, what in ((stdout, "output"), (stdin, "input")):
            if not stream.isatty():
                raise UsageError(
                    f'standard {what} is no terminal, and a chat needs one; for a single answer as plain text use --once "PROMPT"'
                )
    else:
        if prompt == STDIN:
            prompt = stdin.read()
        if not prompt.strip():
            raise UsageError("--once needs a prompt, got an empty one")
    settings = BackendSettings(url=order.url, model=order.model, api_key=key)
    return Job(backend=name, settings=settings, prompt=prompt, light=order.light)


def run(order: Order, *, stdin: IO[str], stdout: IO[str]) -> int:
    """Chat, or answer one question. Returns: the exit code.

    Raises: UsageError, BackendError; KeyboardInterrupt under --once; HarnessBugError if the screen broke down.
    """
    job = checked(order, stdin=stdin, stdout=stdout)
    if job.prompt is None:
        return uvloop.run(_chat(job))
    try:
        asyncio.run(_once(job, job.prompt, stdout))
    except BrokenPipeError:  # whoever read it has left, which is his good right
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stdout.fileno())  # what is still in the buffer must not fail once more when Python ends
        os.close(nothing)
    return 0


async def _chat(job: Job) -> int:
    """Show the terminal surface until the user or the conductor ends it."""
    from floodmark.systems.conductor.terminal.app import ChatApp  # here: --once needs no screen, and a screen takes time to load
    from floodmark.systems.conductor.terminal.link import ConductorLink

    loop = asyncio.get_running_loop()
    conductor = await _conductor(job)
    app = ChatApp(ConductorLink(conductor), where=job.where, light=job.light)
    gc.freeze()  # what is loaded stays: the collector would halt the screen for some 40 ms now and then to look at it
    numbers = (signal.SIGINT, signal.SIGTERM)  # from outside: the keyboard's Ctrl-C is a key here
    for number in numbers:
        loop.add_signal_handler(number, app.exit, INTERRUPTED)
    try:
        async with group() as tasks:
            tasks.create_task(conductor.run())
            starting = tasks.create_task(conductor.start())
            try:
                code = await app.run_async()
            finally:
                starting.cancel()
                await conductor.quit()
        if code is None:
            raise HarnessBugError("the screen broke down, and what it said stands above")
        return code
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _once(job: Job, prompt: str, stdout: IO[str]) -> None:
    """Write the answer to one prompt as it comes, and a line end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # at once, also while a full pipe holds up a write
    conductor = await _conductor(job)
    try:
        async with group() as tasks:
            tasks.create_task(conductor.run())
            try:
                await conductor.backend.health_check()
                await conductor.start(announce=False)
                await conductor.handle(say.CapabilitiesReport(capabilities=say.Capabilities(coalesce=True)))
                await conductor.handle(say.UserMessage(text=prompt, event_id="evt_1"))
                await _print_answer(conductor, stdout)
            finally:
                await conductor.quit()
    finally:
        await conductor.backend.aclose()


async def _print_answer(conductor: Conductor, stdout: IO[str]) -> None:
    """Write tokens until the answer ends. Raises: BackendError for one that did not end as it should, UsageError for a refused prompt."""
    ends_line = True
    while await conductor.output.wait():
        texts: list[str] = []
        ended: say.Event | None = None
        for event in conductor.output.take_many():
            if isinstance(event, say.Token):
                texts.append(event.text)
            elif isinstance(event, say.StreamEnd | say.StreamError) or (isinstance(event, say.Notify) and event.event_id):
                ended = event
                break
        if texts:
            text = "".join(texts)
            ends_line = text.endswith("\n")
            stdout.write(text)
            stdout.flush()
        if ended is None:
            continue
        if not ends_line:
            stdout.write("\n")
            stdout.flush()
        if isinstance(ended, say.StreamError):
            raise BackendError(conductor.backend.name, f"the answer broke off: {ended.reason}")
        if isinstance(ended, say.Notify):
            raise UsageError(ended.text)
        return


async def _conductor(job: Job) -> Conductor:
    """Make a conductor for a backend, with a model that it has."""
    backend = backend_of(job.backend, job.settings)
    try:
        model = job.settings.model or await _first_model(backend)
    except BaseException:
        await backend.aclose()
        raise
    return Conductor(backend, ConductorSettings(model=model))


async def _first_model(backend: Backend) -> str:
    models = await backend.list_models()
    if not models:
        raise BackendError(backend.name, "it names no model; give one with --model")
    return models[0]
