"""What the embedded backend answers a human: a few paragraphs of Markdown about the conductor, the same for the same question every time.

Tokens are words with the space that follows them, so that their concatenation is the text.
"""

from __future__ import annotations

import re
import zlib

RATE_HZ = 30.0  # words per second: as fast as one reads along
_TOKEN = re.compile(r"\S+\s*")

ANSWERS = (
    """\
## What you are talking to

This is the **conductor**, one of the reference systems that come with floodmark, and its embedded `mock` backend. No language model is
involved: this text is fixed, and which of a few texts you get depends on your question alone.

A conductor stands between backends that produce tokens and surfaces that show them. It has four duties:

- never block: a surface that does not read holds up its own stream and nothing else;
- never lose a token: every queue is bounded, and a full one slows its producer down;
- stay small: what a session remembers is limited by count and by bytes;
- quit at once: in mid-stream as well.

To talk to a real model, give the address of any server that speaks the OpenAI protocol, for instance
`floodmark chat --backend openai --url http://127.0.0.1:8080`.
""",
    """\
## How a token travels

1. The **backend** takes up a request and puts tokens into a bounded queue, many at a time. When the queue is full, the backend stops
   reading from its server, and the server's socket fills up: that is all there is to back-pressure.
2. The **conductor** takes what is there without waiting, at most 256 tokens at a time, so that a flood in one conversation cannot
   starve the others.
3. The **surface** draws at its own pace. Tokens that gather meanwhile are merged, but their text and their number are kept.

A stream ends with exactly one terminal event. A stream that just stops is an *error*, never a short answer:

```python
match stream.terminal:
    case Complete():
        ...
    case Failed():
        ...
```

That is what the suite `tokens` puts under stress, with a ledger that counts at the surface.
""",
    """\
## Text with a known answer

Ask with a line like the next one, and you get *numbered text*, whose every token says which one it is and proves it with a check digit:

    numbered: stream=3 first=0 count=1000 size=10 rate=100000

Whoever reads it can tell what was lost, repeated, put in another order or changed. Three more keys break the answer on purpose after so
many tokens: `fail_after` with an error, `hang_after` with silence, `cut_after` with an end that lacks its terminal event.

> A stress test that cannot fail proves nothing: plant a fault first, and see that it is found.

The same line works with `floodmark serve tokens`, over HTTP.
""",
)


def answer_to(prompt: str) -> list[str]:
    """The tokens of the answer to a question.

    >>> "".join(answer_to("hello")) in ANSWERS
    True
    """
    return _TOKEN.findall(ANSWERS[zlib.crc32(prompt.encode()) % len(ANSWERS)])


class Words:
    """An answer taken piece by piece, like `numbered.Source`."""

    __slots__ = ("_tokens", "taken_count")

    def __init__(self, prompt: str) -> None:
        self._tokens = answer_to(prompt)
        self.taken_count = 0

    @property
    def left_count(self) -> int:
        """Tokens that are still to come."""
        return len(self._tokens) - self.taken_count

    def texts(self, count: int, group: int = 1) -> list[str]:
        """The next `count` tokens, `group` of them to a string."""
        taken = self._tokens[self.taken_count : self.taken_count + count]
        self.taken_count += len(taken)
        return taken if group == 1 else ["".join(taken[at : at + group]) for at in range(0, len(taken), group)]

    @staticmethod
    def count_of(piece: str) -> int:
        """Tokens in a string that came from here."""
        return len(piece.split())
