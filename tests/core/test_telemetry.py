"""The telemetry bus: who hears what, and what a failing listener can do (nothing)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from floodmark.core.telemetry import TelemetryBus


class Ear:
    def __init__(self) -> None:
        self.heard: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = []

    def __call__(self, event: str, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        self.heard.append((event, measurements, metadata))

    @property
    def names(self) -> list[str]:
        return [event for event, _, _ in self.heard]


def test_emit_reaches_the_event_itself_its_prefix_and_nothing_beside() -> None:
    bus, exact, prefix, everything = TelemetryBus(), Ear(), Ear(), Ear()
    bus.attach("a.b.c", exact)
    bus.attach("a.b", prefix)
    bus.attach("", everything)

    for event in ("a.b", "a.b.c", "a.bc", "x"):
        bus.emit(event, {"n": 1}, {"who": "me"})

    assert exact.heard == [("a.b.c", {"n": 1}, {"who": "me"})]
    assert prefix.names == ["a.b", "a.b.c"]
    assert everything.names == ["a.b", "a.b.c", "a.bc", "x"]


def test_detach_ends_it_and_may_be_called_twice() -> None:
    bus, ear = TelemetryBus(), Ear()
    detach = bus.attach("a", ear)
    bus.emit("a", {}, {})

    detach()
    detach()
    bus.emit("a", {}, {})

    assert ear.names == ["a"]


def test_attach_after_an_event_was_emitted_is_heard_from_then_on() -> None:
    bus, ear = TelemetryBus(), Ear()
    bus.emit("a", {}, {})
    assert not bus.wants("a")

    bus.attach("a", ear)
    bus.emit("a", {}, {})

    assert bus.wants("a")
    assert ear.names == ["a"]


def test_emit_a_failing_handler_is_detached_with_a_log_line_and_the_others_hear(caplog: pytest.LogCaptureFixture) -> None:
    bus, ear, calls = TelemetryBus(), Ear(), []

    def broken(event: str, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        calls.append(event)
        raise RuntimeError("no room")

    bus.attach("a", broken)
    bus.attach("a", ear)
    bus.emit("a", {}, {})
    bus.emit("a", {}, {})

    assert calls == ["a"]
    assert ear.names == ["a", "a"]
    assert "is detached" in caplog.text
    assert "no room" in caplog.text


def test_emit_a_handler_may_detach_itself_while_it_is_called() -> None:
    bus, calls = TelemetryBus(), []

    def once(event: str, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        calls.append(event)
        detach()

    detach = bus.attach("a", once)
    bus.emit("a", {}, {})
    bus.emit("a", {}, {})

    assert calls == ["a"]
