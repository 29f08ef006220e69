"""A conductor stands between token streams and the surface that shows them: it never blocks, loses no token and quits at once.

    conductor, surface = Conductor(backend_of("mock")), HeadlessSurface(keep_texts=True)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(conductor.run())
        await conductor.start()
        tasks.create_task(attach(conductor, surface))
        await conductor.handle(UserMessage(text="Hello"))

`vocabulary` holds every event, `settings` every option, `backend` where answers come from, `surface` what shows them.
"""

from floodmark.systems.conductor.backend import BACKENDS, BackendSettings, backend_of
from floodmark.systems.conductor.backend.base import Backend, Complete, Failed, Producers, Request, TokenStream
from floodmark.systems.conductor.channel import Channel
from floodmark.systems.conductor.conductor import Conductor
from floodmark.systems.conductor.errors import (
    BackendError,
    ChannelClosedError,
    ConversationLimitError,
    RefusedError,
    StreamExistsError,
    StreamLimitError,
    UnknownConversationError,
)
from floodmark.systems.conductor.settings import (
    ConductorSettings,
    InputLimits,
    Overflow,
    SessionSettings,
    StreamSettings,
    stress_settings,
)
from floodmark.systems.conductor.surface import HeadlessSurface, Surface, SurfaceRegistry, attach
from floodmark.systems.conductor.vocabulary import CancelStream, QuitRequested, StreamEnd, StreamError, Token, UserCommand, UserMessage

__all__ = [
    "BACKENDS",
    "Backend",
    "BackendError",
    "BackendSettings",
    "CancelStream",
    "Channel",
    "ChannelClosedError",
    "Complete",
    "Conductor",
    "ConductorSettings",
    "ConversationLimitError",
    "Failed",
    "HeadlessSurface",
    "InputLimits",
    "Overflow",
    "Producers",
    "QuitRequested",
    "RefusedError",
    "Request",
    "SessionSettings",
    "StreamEnd",
    "StreamError",
    "StreamExistsError",
    "StreamLimitError",
    "StreamSettings",
    "Surface",
    "SurfaceRegistry",
    "Token",
    "TokenStream",
    "UnknownConversationError",
    "UserCommand",
    "UserMessage",
    "attach",
    "backend_of",
    "stress_settings",
]
