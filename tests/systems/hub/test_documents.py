"""What is refused on subscribe and why; and that a text is parsed once."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from floodmark.systems.hub import Hub, HubSettings
from floodmark.systems.hub.documents import Documents, EventsOperation, GeneralOperation, PublishOperation
from floodmark.systems.hub.errors import HubError, InvalidMessage
from floodmark.systems.hub.event import Event
from floodmark.systems.hub.testing import EVENTS, PUBLISH, connected, scenario

TWO = 'subscription A { events(channel: "a") { id } } subscription B { events(channel: "b") { id } } query Q { stats { mode } }'


def variables(**values: Any) -> dict[str, msgspec.Raw]:
    """Variables as they come off the wire."""
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in values.items()}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("subscription {", "Syntax Error"),
        ("{ nothing }", "Cannot query field"),
        ("fragment F on Event { id }", "0 operations"),
        ("subscription { events { id } }", "channel"),
        ('subscription { events(channel: "x") }', "must have a selection"),
        ('subscription { events(channel: "x") { id } more: events(channel: "y") { id } }', "must select only one"),
        ("subscription { __typename }", "not select an introspection"),
        ('subscription($s: Boolean!) { events(channel: "x") { id @skip(if: $s) } }', "@skip"),
        (TWO, "operationName"),
    ],
)
def test_compile_of_a_bad_document_says_what_is_wrong(query: str, message: str) -> None:
    with pytest.raises(HubError, match=message):
        Documents().compile(query, None)


def test_compile_by_name_finds_the_operation_and_refuses_another() -> None:
    documents = Documents()

    assert isinstance(documents.compile(TWO, "A"), EventsOperation)
    assert isinstance(documents.compile(TWO, "Q"), GeneralOperation)
    with pytest.raises(InvalidMessage, match="no operation 'C'"):
        documents.compile(TWO, "C")


def test_compile_of_the_same_text_parses_once() -> None:
    documents = Documents()
    operations = {id(documents.compile(EVENTS, None)) for _ in range(100)}

    assert len(operations) == 1
    assert documents.parsed_count == 1


def test_cache_is_bounded_and_keeps_what_is_used() -> None:
    documents = Documents(cached_max=3)
    for number in range(10):
        documents.compile(EVENTS, None)
        documents.compile(f'subscription {{ events(channel: "c{number}") {{ id }} }}', None)

    assert documents.parsed_count == 11  # EVENTS once, each other text once
    assert len(documents._cache) == 3


@pytest.mark.parametrize(("fields", "fits"), [(499, True), (500, False)])
def test_compile_counts_every_selected_field(fields: int, fits: bool) -> None:
    selected = " ".join(f"a{number}: id" for number in range(fields))
    query = f'subscription {{ events(channel: "x") {{ {selected} }} }}'

    if fits:
        Documents().compile(query, None)  # 499 and `events` itself
    else:
        with pytest.raises(InvalidMessage, match="more than 500 fields"):
            Documents().compile(query, None)


def test_compile_counts_fragments_as_often_as_they_are_spread() -> None:
    nested = "fragment F0 on Event { id data }" + "".join(f" fragment F{n} on Event {{ ...F{n - 1} ...F{n - 1} }}" for n in range(1, 9))

    with pytest.raises(InvalidMessage, match=r"more than 500 fields|too many fields"):
        Documents().compile('subscription { events(channel: "x") { ...F8 } } ' + nested, None)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("query { stats { " + "mode " * 19_000 + "} }", "more than 2000 selections"),
        ("{a" * 40_000, "nested too deeply"),
        (
            'subscription { events(channel: "x") { ...F40 } } fragment F0 on Event { id }'
            + "".join(f" fragment F{n} on Event {{ ...F{n - 1} ...F{n - 1} }}" for n in range(1, 41)),
            "too many fields",
        ),
    ],
)
def test_compile_of_a_hostile_document_is_refused_quickly(query: str, message: str) -> None:
    started_s = time.monotonic()
    with pytest.raises(HubError, match=message):
        Documents().compile(query, None)

    assert time.monotonic() - started_s < 20.0  # written out, they are a million selections and more


@pytest.mark.parametrize("filler", ["x", "é"])
def test_compile_refuses_a_query_beyond_its_bytes(filler: str) -> None:
    with pytest.raises(InvalidMessage, match="at most 1000 bytes"):
        Documents(query_bytes_max=1000).compile("# " + filler * 999, None)


def test_argument_from_variable_literal_and_default() -> None:
    documents = Documents()
    given = documents.compile("subscription($c: String!) { events(channel: $c) { id } }", None)
    default = documents.compile('subscription($c: String! = "d") { events(channel: $c, after: 3) { id } }', None)
    assert isinstance(given, EventsOperation)
    assert isinstance(default, EventsOperation)

    assert given.channel.scalar(str, variables(c="x")) == "x"
    assert default.channel.scalar(str, None) == "d"
    assert default.after.scalar(int, None) == 3
    assert given.after.scalar(int, None) is None


@pytest.mark.parametrize("values", [{}, {"c": 1}, {"c": True}, {"c": ["x"]}])
def test_argument_missing_or_of_another_kind_is_refused(values: dict[str, Any]) -> None:
    operation = Documents().compile("subscription($c: String!) { events(channel: $c) { id } }", None)
    assert isinstance(operation, EventsOperation)

    with pytest.raises(InvalidMessage, match="c"):
        operation.channel.scalar(str, variables(**values))


def test_publish_answer_has_the_selected_fields_in_order() -> None:
    operation = Documents().compile('mutation { x: publish(channel: "c", data: 1) { o: offset __typename id } }', None)
    assert isinstance(operation, PublishOperation)
    event = Event(id="abc", event_type="event", data=b"1", channel="c", timestamp_s=0.0, correlation_id=None, offset=7)

    assert operation.answer([event]) == b'{"data":{"x":{"o":7,"__typename":"PublishResult","id":"abc"}}}'


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "INVALID_MESSAGE"),
        ("subscription {", "GRAPHQL_VALIDATION_FAILED"),
        ('subscription { events(channel: "") { id } }', "SUBSCRIPTION_REJECTED"),
        ('subscription { events(channel: "*", after: 1) { id } }', "SUBSCRIPTION_REJECTED"),
        ('subscription { events(channel: "x", filter: {field: "nope", op: EXISTS}) { id } }', "SUBSCRIPTION_REJECTED"),
        ('mutation { publish(channel: "*", data: 1) { id } }', "INVALID_MESSAGE"),
        ('mutation { publish(channel: "", data: 1) { id } }', "INVALID_MESSAGE"),
        ('mutation { publishMany(channel: "x", data: $d) { count } }', "GRAPHQL_VALIDATION_FAILED"),
    ],
)
@scenario
async def test_subscribe_refused_ends_the_operation_and_nothing_else(query: str, code: str) -> None:
    async with Hub(HubSettings(rate_limits=False)) as hub, connected(hub.url) as client:
        client.start("1", query)
        error = await client.recv()
        answer = await client.ask("1", PUBLISH, c="x", d=1)

        assert (error["id"], error["type"]) == ("1", "error")
        assert error["payload"][0]["extensions"]["code"] == code
        assert answer["publish"]["offset"] == 1
        assert hub.active_subscriptions == 0
        assert hub.snapshot().labelled["errors"] == {code: 1}


@scenario
async def test_validation_error_has_its_place_in_the_text() -> None:
    async with Hub(HubSettings(rate_limits=False)) as hub, connected(hub.url) as client:
        client.start("1", 'subscription {\n  events(channel: "x") { nope }\n}')
        error = (await client.recv())["payload"][0]

        assert error["locations"] == [{"line": 2, "column": 26}]
