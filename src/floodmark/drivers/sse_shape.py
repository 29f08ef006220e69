"""Check the shape of a streamed answer: text, then exactly one terminal event, then nothing.

Input: the events of one answer in order, and how its body ended. Output: the texts, whether and how it was settled (once), and what is
odd: a second terminal event, anything after the end, an event that cannot be read. Pure: no I/O, no clock. Not here: what the text says
(ledger/), when it came, HTTP.

`OpenAIShape`: chunks of a chat completion. The terminal event is a chunk with a `finish_reason`, which `[DONE]` seals; between the two
only the usage may come. An error object ends an answer too, and a `[DONE]` after it is what servers do. `PlainShape`: whatever the
options describe.

HOT: `take` runs once per read, its loop once per event.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from floodmark.core.errors import UsageError
from floodmark.drivers.asking import CUT_OFF, ERROR_EVENT, NO_TERMINAL
from floodmark.drivers.sse_events import Event

DONE = b"[DONE]"
ERROR_NAME = b"error"
SHOWN_BYTES = 120


class Delta(msgspec.Struct, frozen=True, gc=False):
    """What a chunk adds."""

    content: str | None = None


class Choice(msgspec.Struct, frozen=True, gc=False):
    """One of the answers to a prompt; the first is the one that is read."""

    delta: Delta | None = None
    finish_reason: str | None = None
    index: int = 0


class Usage(msgspec.Struct, frozen=True, gc=False):
    """What the server says it has made."""

    completion_tokens: int | None = None


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """The few fields of a chat completion's chunk that are needed; all others are skipped unread."""

    choices: tuple[Choice, ...] | None = None
    usage: Usage | None = None
    error: Any = None


class Shape:
    """One answer. After `take` and `end`: read `settled`, `failure` and `told`, and take away what is in `odd`."""

    __slots__ = ("failure", "odd", "settled", "told")

    def __init__(self) -> None:
        self.settled = False  # finished or failed, for good
        self.failure = ""  # why it failed; empty: it did not
        self.told = -1  # tokens, as the server counts them; -1: it does not say
        self.odd: list[str] = []

    def take(self, events: Sequence[Event]) -> list[bytes]:
        """HOT: read events; give their texts, none of them empty."""
        raise NotImplementedError

    def end(self, cut: str = "") -> None:
        """The body is over. `cut`: why, when it did not come to its own end."""
        if not self.settled:
            self._fail(f"{CUT_OFF}{cut}" if cut else NO_TERMINAL)

    def _finish(self) -> None:
        self.settled = True

    def _fail(self, reason: str) -> None:
        self.settled = True
        self.failure = reason

    def _unreadable(self, data: bytes) -> None:
        self.odd.append(f"an event that cannot be read: {shown(data)}")


class OpenAIShape(Shape):
    """The chunks of a streamed chat completion."""

    __slots__ = ("_decode", "_finish_reason", "_is_sealed")

    _decoder = msgspec.json.Decoder(Chunk)

    def __init__(self) -> None:
        super().__init__()
        self._decode = self._decoder.decode
        self._finish_reason = ""
        self._is_sealed = False  # by [DONE]

    def take(self, events: Sequence[Event]) -> list[bytes]:
        """HOT: see `Shape.take`."""
        texts: list[bytes] = []
        add, decode = texts.append, self._decode
        for name, data in events:
            if name or data == DONE or self.settled:
                self._take_rare(name, data, texts)
                continue
            try:
                chunk = decode(data)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                self._unreadable(data)
                continue
            choices = chunk.choices
            if choices is not None and len(choices) == 1 and not self._finish_reason and chunk.usage is None and chunk.error is None:
                choice = choices[0]
                delta = choice.delta
                if delta is not None and choice.finish_reason is None and not choice.index:
                    if delta.content:
                        add(delta.content.encode())
                    continue
            self._take_chunk(chunk, texts)
        return texts

    def _take_rare(self, name: bytes, data: bytes, texts: list[bytes]) -> None:
        """Anything but a nameless chunk in the midst of the answer."""
        if data == DONE:
            self._take_done()
        elif self.settled:
            self.odd.append(self._late(data))
        elif name == ERROR_NAME:
            self._fail(f"{ERROR_EVENT}{_error_text(data)}")
        else:
            try:
                self._take_chunk(self._decode(data), texts)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                self._unreadable(data)

    def _late(self, data: bytes) -> str:
        """What came after the end, without what is another one in every event: its id and its time."""
        try:
            chunk = self._decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return f"an event after the end: {shown(data)}"
        text = "".join((choice.delta and choice.delta.content) or "" for choice in chunk.choices or ())
        if text:
            return f"text after the end: {shown(text.encode())}"
        what = "an error" if chunk.error is not None else "the usage" if chunk.usage is not None else "an empty chunk"
        return f"{what} after the end"

    def _take_done(self) -> None:
        if self._is_sealed:
            self.odd.append("a second [DONE]")
        elif not self.settled:
            if self._finish_reason:
                self._finish()
            else:
                self._fail(NO_TERMINAL)
        self._is_sealed = True

    def _take_chunk(self, chunk: Chunk, texts: list[bytes]) -> None:
        if chunk.error is not None:
            self._fail(f"{ERROR_EVENT}{error_words(chunk.error)}")
            return
        if chunk.usage is not None and chunk.usage.completion_tokens is not None:
            self.told = chunk.usage.completion_tokens
        for choice in chunk.choices or ():
            if choice.index:
                continue  # another answer to the same prompt, which nobody asked for
            text = (choice.delta and choice.delta.content) or ""
            if text and self._finish_reason:
                self.odd.append(f"text after the finish_reason: {shown(text.encode())}")
            elif text:
                texts.append(text.encode())
            if choice.finish_reason is not None:
                if self._finish_reason:
                    self.odd.append(f"a second finish_reason: {choice.finish_reason[:SHOWN_BYTES]}")
                self._finish_reason = choice.finish_reason or "(empty)"


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """What an event is known by: its name or its data. With both empty there is no such event."""

    name: bytes = b""
    data: bytes = b""

    def fits(self, name: bytes, data: bytes) -> bool:
        """Whether an event is one of these."""
        return (bool(self.name) and name == self.name) or (bool(self.data) and data == self.data)


def marker(text: str) -> Marker:
    """Read an option: `event:NAME` is the name of an event, anything else its whole data.

    >>> marker("event:done").name, marker("[DONE]").data
    (b'done', b'[DONE]')
    """
    name = text.removeprefix("event:")
    return Marker(name=name.encode()) if name != text else Marker(data=text.encode())


class PlainRules(msgspec.Struct, frozen=True, kw_only=True):
    """Where things are in the events of a plain stream. Empty `text_path`: the data is the text."""

    text_path: tuple[str, ...] = ()
    usage_path: tuple[str, ...] = ()
    done: Marker = Marker()
    error: Marker = Marker()


class PlainShape(Shape):
    """Events of any stream, by rules."""

    __slots__ = ("_rules",)

    def __init__(self, rules: PlainRules) -> None:
        super().__init__()
        self._rules = rules

    def take(self, events: Sequence[Event]) -> list[bytes]:
        """HOT: see `Shape.take`."""
        rules, texts = self._rules, list[bytes]()
        for name, data in events:
            is_done = rules.done.fits(name, data)
            if self.settled:
                self.odd.append("a second terminal event" if is_done else f"an event after the end: {shown(data)}")
            elif is_done:
                self._take_usage(data)
                self._finish()
            elif rules.error.fits(name, data):
                self._fail(f"{ERROR_EVENT}{_error_text(data)}")
            elif not rules.text_path:
                if data:
                    texts.append(data)
            else:
                self._take_json(data, texts)
        return texts

    def _take_json(self, data: bytes, texts: list[bytes]) -> None:
        try:
            event = msgspec.json.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._unreadable(data)
            return
        text = at_path(event, self._rules.text_path)
        if isinstance(text, str) and text:
            texts.append(text.encode())
        self._note_usage(event)

    def _take_usage(self, data: bytes) -> None:
        """The terminal event may be JSON that tells a count."""
        if self._rules.usage_path:
            try:
                self._note_usage(msgspec.json.decode(data))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                return

    def _note_usage(self, event: object) -> None:
        told = at_path(event, self._rules.usage_path) if self._rules.usage_path else None
        if isinstance(told, int) and not isinstance(told, bool):
            self.told = told


def path_of(text: str, *, option: str) -> tuple[str, ...]:
    """Read a dotted path: `choices.0.delta.content`. Raises: UsageError.

    >>> path_of("choices.0.text", option="text_path")
    ('choices', '0', 'text')
    """
    parts = tuple(text.split(".")) if text else ()
    if not all(parts):
        raise UsageError(f"option {option!r} must be names or numbers with dots between them, such as choices.0.text; got {text!r}")
    return parts


def at_path(value: object, path: tuple[str, ...]) -> object:
    """What stands at a path in decoded JSON; None where it leads nowhere."""
    for part in path:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def error_words(error: object) -> str:
    """The words of an error object, in one line: its message where it has one."""
    if isinstance(error, dict):
        inner = error.get("error", error)
        message = inner.get("message") if isinstance(inner, dict) else inner
        error = message if isinstance(message, str) and message else error
    text = error if isinstance(error, str) else msgspec.json.encode(error).decode()
    return shown(text.encode())


def _error_text(data: bytes) -> str:
    """The words of an error event, JSON or not."""
    try:
        return error_words(msgspec.json.decode(data))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return shown(data)


def shown(data: bytes) -> str:
    """The beginning of what came, in one line that can be printed."""
    line = b" ".join(data[: SHOWN_BYTES + 1].split())
    text = "".join(character if character.isprintable() else "?" for character in line.decode("utf-8", "replace"))
    return text if len(data) <= SHOWN_BYTES else f"{text[:SHOWN_BYTES]}..."
