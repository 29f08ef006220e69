"""The words on the wire: every kind round-trips, unknown ones are refused."""

from __future__ import annotations

import typing

import msgspec
import pytest

from floodmark.systems.conductor import vocabulary as v

TO_SURFACE = msgspec.json.Decoder(v.FromConductor)
TO_CONDUCTOR = msgspec.json.Decoder(v.FromSurface)
SAMPLES = {
    str: "x",
    int: 3,
    float: 0.5,
    bool: True,
    v.ResponseMetadata: v.ResponseMetadata(token_count=4),
    dict[str, float]: {"polls": 2.0},
}
SAMPLES |= {v.ConductorState: v.ConductorState.READY, v.ConversationState: v.ConversationState.STREAMING, v.Level: v.Level.WARNING}
SAMPLES |= {v.Role: v.Role.USER, v.Capabilities: v.Capabilities(columns=132)}


def sample(kind: type[v.Event]) -> v.Event:
    """Make an event with a value in every field that needs one."""
    needed = {field.name: SAMPLES.get(field.type, ()) for field in msgspec.structs.fields(kind) if field.required}
    return kind(**needed)


@pytest.mark.parametrize("kind", typing.get_args(v.ConductorEvent))
def test_event_of_the_conductor_round_trips_by_its_kind(kind: type[v.Event]) -> None:
    event = sample(kind)

    assert TO_SURFACE.decode(msgspec.json.encode(event)) == event
    assert TO_SURFACE.decode(msgspec.json.encode([event, event])) == [event, event]


@pytest.mark.parametrize("kind", typing.get_args(v.SurfaceEvent))
def test_event_of_a_surface_round_trips_by_its_kind(kind: type[v.Event]) -> None:
    event = sample(kind)

    assert TO_CONDUCTOR.decode(msgspec.json.encode(event)) == event


@pytest.mark.parametrize(
    "text", [b'{"kind":"nonsense"}', b"{}", b'{"kind":"token","message_id":"m","text":"t"}', b'{"kind":"user_message"}']
)
def test_event_that_no_surface_may_say_is_refused(text: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        TO_CONDUCTOR.decode(text)


def test_kinds_are_the_names_in_snake_case() -> None:
    kinds = [msgspec.json.decode(msgspec.json.encode(sample(kind)))["kind"] for kind in typing.get_args(v.ConductorEvent)]

    assert kinds[:9] == [
        "message",
        "token",
        "stream_end",
        "stream_error",
        "conversation_created",
        "conversation_focused",
        "conversation_state_changed",
        "stream_token",
        "conversation_stream_end",
    ]
    assert len(set(kinds)) == len(kinds)


@pytest.mark.parametrize(
    ("metadata", "slow", "heavy"),
    [
        (v.ResponseMetadata(), False, False),
        (v.ResponseMetadata(elapsed_ms=10_000.0, files_processed=3, bytes_processed=100_000), False, False),
        (v.ResponseMetadata(elapsed_ms=10_001.0), True, False),
        (v.ResponseMetadata(agent_tasks_spawned=1), False, True),
        (v.ResponseMetadata(files_processed=4), False, True),
        (v.ResponseMetadata(bytes_processed=100_001), False, True),
    ],
)
def test_answers_are_slow_and_heavy_beyond_their_marks(metadata: v.ResponseMetadata, slow: bool, heavy: bool) -> None:
    assert (metadata.slow, metadata.heavy) == (slow, heavy)
