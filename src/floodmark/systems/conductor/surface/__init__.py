"""What shows a conductor's events: the protocol of a surface, one without a screen, and the registry of several."""

from floodmark.systems.conductor.surface.base import Surface, attach
from floodmark.systems.conductor.surface.headless import HeadlessSurface, Seen
from floodmark.systems.conductor.surface.registry import BroadcastResult, RegisteredSurface, SurfaceRegistry

__all__ = ["BroadcastResult", "HeadlessSurface", "RegisteredSurface", "Seen", "Surface", "SurfaceRegistry", "attach"]
