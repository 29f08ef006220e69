"""GraphQL documents: parsed, validated and compiled once per distinct text, then found in a bounded cache.

Three shapes come out. `EventsOperation` (a subscription) and `PublishOperation` or `PublishEachOperation` (a mutation of one publish
field) are compiled to what the fast path needs: where each argument comes from and what the answer looks like. Everything else,
introspection and `stats` and mutations of several fields, is a `GeneralOperation` that graphql-core executes. Nothing here knows a
connection.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSyntaxError,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    parse,
    specified_rules,
    validate,
    value_from_ast_untyped,
)
from graphql.validation import VariablesInAllowedPositionRule

from floodmark.systems.hub.errors import HubError, InvalidMessage
from floodmark.systems.hub.event import Event, encode_json
from floodmark.systems.hub.schema import SCHEMA
from floodmark.systems.hub.selection import Selection

Variables = dict[str, msgspec.Raw]

# Offset takes variables declared Int; what a variable holds is checked when it is read, below.
RULES = [rule for rule in specified_rules if rule is not VariablesInAllowedPositionRule]

_NODES_PER_FIELD = 4  # selections, spreads included, that we look at for each field that may be selected

DECODERS: dict[type, Any] = {kind: msgspec.json.Decoder(kind | None).decode for kind in (str, int)}


class DocumentError(HubError):
    """The document cannot be executed; carries GraphQL errors with their places in the text."""

    code = "INVALID_MESSAGE"

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__("; ".join(str(error["message"]) for error in errors), {"errors": errors})
        self.errors = errors


def _located(error: GraphQLError) -> dict[str, Any]:
    return {**error.formatted, "extensions": {"code": "GRAPHQL_VALIDATION_FAILED"}}


class Argument:
    """Where the value of one argument comes from: a variable, or a literal that may have variables inside."""

    __slots__ = ("default", "name", "node", "required", "variable")

    def __init__(self, name: str, node: ValueNode | None, operation: OperationDefinitionNode) -> None:
        self.name = name
        self.node = node
        self.variable = node.name.value if isinstance(node, VariableNode) else None
        self.default: Any = None
        self.required = False
        for definition in operation.variable_definitions or ():
            if definition.variable.name.value == self.variable:
                self.required = definition.type.kind == "non_null_type"
                if definition.default_value is not None:
                    self.default, self.required = value_from_ast_untyped(definition.default_value), False

    def _missing(self) -> Any:
        if self.required:
            raise InvalidMessage(f"variable ${self.variable} is required but was not given", {"variable": self.variable})
        return self.default

    def scalar(self, kind: type, variables: Variables | None) -> Any:
        """Give a str or int, or None if it was left out.

        Raises: InvalidMessage when the value is of another kind.
        """
        if self.variable is not None:
            raw = variables.get(self.variable) if variables else None
            if raw is None:
                value = self._missing()
            else:
                try:
                    return DECODERS[kind](raw)
                except msgspec.DecodeError as exc:
                    raise InvalidMessage(f"variable ${self.variable} for {self.name}: {exc}", {"variable": self.variable}) from None
        else:
            value = value_from_ast_untyped(self.node) if self.node is not None else None
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise InvalidMessage(f"{self.name} must be {kind.__name__}, got {value!r}")
        return value

    def json(self, variables: Variables | None) -> bytes:
        """Give the value as JSON text; a variable's text passes through untouched."""
        if self.variable is not None:
            raw = variables.get(self.variable) if variables else None
            return bytes(raw) if raw is not None else encode_json(self._missing())
        if self.node is None:
            return b"null"
        return encode_json(value_from_ast_untyped(self.node, _decoded(variables)))


def _decoded(variables: Variables | None) -> dict[str, Any]:
    return {name: msgspec.json.decode(raw) for name, raw in (variables or {}).items()}


class EventsOperation:
    """A subscription to events."""

    __slots__ = ("after", "channel", "filter", "selection")

    def __init__(self, field: FieldNode, operation: OperationDefinitionNode, selection: Selection) -> None:
        arguments = _arguments(field, operation, ("channel", "after", "filter"))
        self.channel, self.after, self.filter = arguments
        self.selection = selection


class PublishOperation:
    """One `publish` or `publishMany`, with the template of its answer."""

    __slots__ = ("channel", "correlation_id", "data", "event_type", "fields", "many", "response_key")

    def __init__(self, field: FieldNode, operation: OperationDefinitionNode, fields: list[tuple[str, str]]) -> None:
        self.many = field.name.value == "publishMany"
        self.response_key = _response_key(field)
        self.channel, self.data, self.event_type, self.correlation_id = _arguments(
            field, operation, ("channel", "data", "eventType", "correlationId")
        )
        self.fields = fields

    def answer(self, events: list[Event]) -> bytes:
        """Give the payload of the acknowledgement."""
        event_id, first_offset, count = (events[0].id, events[0].offset, len(events)) if events else ("", 0, 0)
        known = {
            "id": f'"{event_id}"',
            "offset": str(first_offset),
            "firstOffset": str(first_offset),
            "count": str(count),
            "__typename": '"PublishManyResult"' if self.many else '"PublishResult"',
        }
        return _answer(self.response_key, self.fields, known)


class PublishEachOperation:
    """One `publishEach`: events of any channels."""

    __slots__ = ("events", "fields", "response_key")

    def __init__(self, field: FieldNode, operation: OperationDefinitionNode, fields: list[tuple[str, str]]) -> None:
        self.response_key = _response_key(field)
        (self.events,) = _arguments(field, operation, ("events",))
        self.fields = fields

    def answer(self, events: list[Event]) -> bytes:
        """Give the payload of the acknowledgement."""
        return _answer(self.response_key, self.fields, {"count": str(len(events)), "__typename": '"PublishEachResult"'})


def _answer(response_key: str, fields: list[tuple[str, str]], known: dict[str, str]) -> bytes:
    body = ",".join(f'"{name}":{known[field]}' for name, field in fields)
    return f'{{"data":{{"{response_key}":{{{body}}}}}}}'.encode()


class GeneralOperation:
    """A query or a mutation for graphql-core."""

    __slots__ = ("document", "operation_name")

    def __init__(self, document: DocumentNode, operation_name: str | None) -> None:
        self.document = document
        self.operation_name = operation_name


Operation = EventsOperation | PublishOperation | PublishEachOperation | GeneralOperation


def _arguments(field: FieldNode, operation: OperationDefinitionNode, names: tuple[str, ...]) -> list[Argument]:
    given = {argument.name.value: argument.value for argument in field.arguments or ()}
    return [Argument(name, given.get(name), operation) for name in names]


def _response_key(field: FieldNode) -> str:
    return field.alias.value if field.alias else field.name.value


class _Flattener:
    """Selections with the fragments opened; None where @skip or @include make the shape depend on variables."""

    def __init__(self, fragments: dict[str, FragmentDefinitionNode], nodes_max: int) -> None:
        self._fragments = fragments
        self._nodes_left = nodes_max  # fragments that spread fragments grow without bound: stop while it is cheap
        self.conditional = False

    def fields(self, selections: SelectionSetNode | None) -> list[FieldNode]:
        found: list[FieldNode] = []
        for node in selections.selections if selections else ():
            self._nodes_left -= 1
            if self._nodes_left < 0:
                raise InvalidMessage("the fragments spread out to too many fields")
            self.conditional |= bool(node.directives)
            if isinstance(node, FieldNode):
                found.append(node)
            elif isinstance(node, InlineFragmentNode):
                found.extend(self.fields(node.selection_set))
            elif isinstance(node, FragmentSpreadNode):
                found.extend(self.fields(self._fragments[node.name.value].selection_set))
        return found


class Documents:
    """The compiler and its cache. A text costs a parse the first time and a dictionary look-up afterwards."""

    def __init__(self, *, query_bytes_max: int = 100_000, selected_fields_max: int = 500, cached_max: int = 1000) -> None:
        self._query_bytes_max = query_bytes_max
        self._selected_fields_max = selected_fields_max
        self._cached_max = cached_max
        self._cache: OrderedDict[tuple[str, str | None], Operation] = OrderedDict()
        self.parsed_count = 0

    def compile(self, query: str, operation_name: str | None) -> Operation:
        """Find or make the operation of a text.

        Raises: DocumentError or InvalidMessage, the client's mistake. Failures are not cached.
        """
        key = (query, operation_name)
        operation = self._cache.get(key)
        if operation is None:
            operation = self._compile(query, operation_name)
            while len(self._cache) >= self._cached_max:
                self._cache.popitem(last=False)
            self._cache[key] = operation
        else:
            self._cache.move_to_end(key)
        return operation

    def _compile(self, query: str, operation_name: str | None) -> Operation:
        if len(query) > self._query_bytes_max or len(query.encode()) > self._query_bytes_max:
            raise InvalidMessage(f"the query has {len(query)} characters, at most {self._query_bytes_max} bytes are allowed")
        if not query.strip():
            raise InvalidMessage("the query is empty")
        self.parsed_count += 1
        try:
            document = parse(query)
        except GraphQLSyntaxError as exc:
            raise DocumentError([_located(exc)]) from None
        except RecursionError:
            raise InvalidMessage("the document is nested too deeply") from None
        _refuse_too_many_nodes(document, _NODES_PER_FIELD * self._selected_fields_max)
        node = _pick(document, operation_name)
        errors = validate(SCHEMA, document, RULES)
        if errors:
            raise DocumentError([_located(error) for error in errors])
        fragments = {item.name.value: item for item in document.definitions if isinstance(item, FragmentDefinitionNode)}
        flattener = _Flattener(fragments, _NODES_PER_FIELD * self._selected_fields_max)
        selected = self._counted(flattener, flattener.fields(node.selection_set))
        if node.operation == OperationType.SUBSCRIPTION:
            return _events(node, selected, flattener)
        if node.operation == OperationType.MUTATION and len(selected) == 1 and selected[0].name.value != "__typename":
            answer = _named(flattener, selected[0])
            if not flattener.conditional:
                each = selected[0].name.value == "publishEach"
                return (PublishEachOperation if each else PublishOperation)(selected[0], node, answer)
        return GeneralOperation(document, operation_name)

    def _counted(self, flattener: _Flattener, top: list[FieldNode]) -> list[FieldNode]:
        """Refuse an operation that selects too much; fragments count as often as they are spread."""
        count, layer = 0, top
        while layer:
            count += len(layer)
            if count > self._selected_fields_max:
                raise InvalidMessage(f"more than {self._selected_fields_max} fields are selected")
            layer = [child for field in layer for child in flattener.fields(field.selection_set)]
        return top


def _refuse_too_many_nodes(document: DocumentNode, nodes_max: int) -> None:
    """Refuse a document that validation, which compares fields with each other, would take minutes for."""
    found = 0
    sets: list[SelectionSetNode | None] = [
        node.selection_set for node in document.definitions if isinstance(node, (OperationDefinitionNode, FragmentDefinitionNode))
    ]
    while sets:
        selections = each.selections if (each := sets.pop()) is not None else ()
        found += len(selections)
        if found > nodes_max:
            raise InvalidMessage(f"the document has more than {nodes_max} selections")
        sets += [node.selection_set for node in selections if isinstance(node, (FieldNode, InlineFragmentNode))]


def _named(flattener: _Flattener, field: FieldNode) -> list[tuple[str, str]]:
    """The selected leaves as (name in the answer, field), each name once, as the merge rule of GraphQL wants it."""
    return list({_response_key(leaf): leaf.name.value for leaf in flattener.fields(field.selection_set)}.items())


def _events(node: OperationDefinitionNode, selected: list[FieldNode], flattener: _Flattener) -> EventsOperation:
    field = selected[0]
    if field.name.value != "events":
        raise InvalidMessage(f"a subscription must select events, not {field.name.value}")
    leaves = _named(flattener, field)
    if flattener.conditional:
        raise InvalidMessage("@skip and @include are not supported in a subscription; select what you need")
    return EventsOperation(field, node, Selection(_response_key(field), leaves))


def _pick(document: DocumentNode, operation_name: str | None) -> OperationDefinitionNode:
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    if operation_name is None:
        if len(operations) != 1:
            raise InvalidMessage(f"the document has {len(operations)} operations; give operationName to choose one")
        return operations[0]
    for node in operations:
        if node.name is not None and node.name.value == operation_name:
            return node
    raise InvalidMessage(f"the document has no operation {operation_name!r}")
