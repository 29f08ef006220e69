"""What a lying host does wrong with what its conductors say: `NAME=K`, exactly K times over all surfaces, spread among honest events.

Of tokens, every STRIDE-th of them from the second on, until all is told:

    skip=K    leaves K tokens out
    repeat=K  sends K tokens twice
    swap=K    sends K tokens after the one that follows them in the same answer
    flip=K    changes a character of K tokens
    cross=K   sends K tokens as part of another answer that is being streamed to the same surface

Of the ends of answers, the first K:

    no-end=K     leaves the end out
    end-twice=K  sends it twice
    late=K       sends the answer's last token again, after the end
    error=K      says that the answer failed, although all of it was sent
    miscount=K   tells one token too many in the metadata

Of sessions:

    stall=K   writes nothing for STALL_S, K times, in the midst of answers
    linger=K  answers K requests to quit only after LINGER_S
    leak=K    keeps K bytes for every token, for ever
    stats=K   claims in the statistics to have delivered K tokens more than were written

A lie counts as told once it is done; one that does not fit where its turn comes waits for the next place. `leak` and `stats` count as told
from the start. The conductors themselves do not lie. Acting on those of sessions is the matter of `session.py` and `server.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from msgspec.structs import replace

from floodmark.systems.conductor.lying import read_lies
from floodmark.systems.conductor.vocabulary import (
    MAIN_ID,
    ConductorEvent,
    ConversationStreamEnd,
    StreamEnd,
    StreamError,
    StreamToken,
    Token,
)

OF_TOKENS: Final = ("skip", "repeat", "swap", "flip", "cross")
OF_ENDS: Final = ("no-end", "end-twice", "late", "error", "miscount")
OF_SESSIONS: Final = ("stall", "linger", "leak", "stats")
LIES: Final = (*OF_TOKENS, *OF_ENDS, *OF_SESSIONS)
STALL_S: Final = 3.0
LINGER_S: Final = 2.0
STRIDE: Final = 7
FIRST: Final = 1

AnyToken: TypeAlias = Token | StreamToken
AnyEnd: TypeAlias = StreamEnd | ConversationStreamEnd


class Lies:
    """How much of each lie is left to tell, and how much is told."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        """Read them. Raises: UsageError that quotes the text and gives the grammar."""
        self._left = read_lies(texts, LIES)
        self.told = dict.fromkeys(self._left, 0)
        self.overstated_count = self._from_the_start("stats")
        self._leak_bytes = self._from_the_start("leak")
        self._leaked: list[bytes] = []
        self._token_count = 0

    def _from_the_start(self, name: str) -> int:
        count = self._left.pop(name, 0)
        if count:
            self.told[name] = count
        return count

    @property
    def waiting(self) -> bool:
        """Whether there is one to tell."""
        return any(self._left.values()) or self._leak_bytes > 0

    def leak(self, token_count: int) -> None:
        """Keep what a leak keeps of so many tokens."""
        if self._leak_bytes and token_count:
            self._leaked.append(b"\1" * (self._leak_bytes * token_count))

    def once(self, name: str) -> bool:
        """Tell a lie of sessions, if there is one left."""
        if not self._left.get(name):
            return False
        self.tell(name)
        return True

    def next_of_tokens(self) -> Sequence[str]:
        """Count one more token; the lies that could be told with it, the one whose turn it is first."""
        number = self._token_count
        self._token_count += 1
        if number % STRIDE != FIRST:
            return ()
        names = [name for name in OF_TOKENS if self._left.get(name)]
        turn = number // STRIDE % len(names) if names else 0
        return names[turn:] + names[:turn]

    def next_of_ends(self) -> str:
        """The lie to tell about an end; "" for none."""
        return next((name for name in OF_ENDS if self._left.get(name)), "")

    def tell(self, name: str) -> None:
        """A lie is told."""
        self._left[name] -= 1
        self.told[name] += 1


class Liar:
    """Rewrites what one surface is told."""

    def __init__(self, lies: Lies) -> None:
        self._lies = lies
        self._streaming: dict[str, AnyToken] = {}  # by message_id: the last token, as long as the answer goes on

    def rewrite(self, events: Sequence[ConductorEvent]) -> list[ConductorEvent]:
        """Give what is sent instead of these."""
        self._lies.leak(sum(isinstance(event, Token | StreamToken) for event in events))
        said: list[ConductorEvent] = []
        held: AnyToken | None = None  # changes places with the next token
        for event in events:
            match event:
                case Token() | StreamToken():
                    follows = held is not None and held.message_id == event.message_id
                    if held is not None and not follows:
                        said.append(held)
                        held = None
                    self._streaming[event.message_id] = event
                    if follows and held is not None:
                        self._lies.tell("swap")
                        said += [event, held]
                        held = None
                    else:
                        held = self._about_token(event, said)
                case _:
                    if held is not None:
                        said.append(held)
                        held = None
                    self._about_rest(event, said)
        if held is not None:
            said.append(held)
        return said

    def stalls(self, said: Sequence[ConductorEvent]) -> bool:
        """Whether nothing is to be written for a while after these: only in the midst of an answer."""
        return bool(said) and isinstance(said[-1], Token | StreamToken) and self._lies.once("stall")

    def lingers(self) -> bool:
        """Whether a request to quit is to wait."""
        return self._lies.once("linger")

    def _about_token(self, event: AnyToken, said: list[ConductorEvent]) -> AnyToken | None:
        """Say a token, or something else. Returns: it, when it is to change places with the one that follows, if one does."""
        for name in self._lies.next_of_tokens():
            match name:
                case "skip":
                    pass
                case "repeat":
                    said += [event, event]
                case "flip" if event.text:
                    said.append(replace(event, text=event.text[:-1] + chr(ord(event.text[-1]) ^ 1)))
                case "flip":
                    continue
                case "swap":
                    return event
                case _:
                    other = self._other(event)
                    if other is None:
                        continue
                    said.append(replace(other, text=event.text, count=event.count))
            self._lies.tell(name)
            return None
        said.append(event)
        return None

    def _other(self, event: AnyToken) -> AnyToken | None:
        """A token of another answer that goes on."""
        return next((token for message_id, token in self._streaming.items() if message_id != event.message_id), None)

    def _about_rest(self, event: ConductorEvent, said: list[ConductorEvent]) -> None:
        match event:
            case StreamEnd() | ConversationStreamEnd():
                self._about_end(event, self._streaming.pop(event.message_id, None), said)
            case StreamError():
                self._streaming.pop(event.message_id, None)
                said.append(event)
            case _:
                said.append(event)

    def _about_end(self, event: AnyEnd, last: AnyToken | None, said: list[ConductorEvent]) -> None:
        name = self._lies.next_of_ends()
        conversation_id = event.conversation_id if isinstance(event, ConversationStreamEnd) else MAIN_ID
        match name:
            case "no-end":
                pass
            case "end-twice":
                said += [event, event]
            case "late" if last is not None:
                said += [event, last]
            case "error":
                said.append(StreamError(message_id=event.message_id, reason="nothing went wrong", conversation_id=conversation_id))
            case "miscount":
                said.append(replace(event, metadata=replace(event.metadata, token_count=event.metadata.token_count + 1)))
            case _:
                said.append(event)
                return
        self._lies.tell(name)
