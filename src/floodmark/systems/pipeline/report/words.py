"""Split an expression into words, and say in plain language what is wrong with its form.

The SQL parser behind us answers a slip with "unable to parse" and takes two names in a row for a renaming; here the usual slips (a missing
operand, an unclosed bracket, a stray character) are told with their place. Which names exist is checked by `expression.py`.

Limits: expressions only. No comments, no semicolons, no `::` casts (CAST says the same), no `AS` outside of CAST.
"""

from __future__ import annotations

import enum
import re

import msgspec

from floodmark.systems.pipeline.report.errors import PlacedError


class Sort(enum.Enum):
    """What a word is."""

    NAME = enum.auto()  # a field, a variable, a group; `customer.name`
    PARAMETER = enum.auto()  # :since
    FUNCTION = enum.auto()  # a name with a bracket behind it
    KEYWORD = enum.auto()
    VALUE = enum.auto()  # a number or a text
    OPERATOR = enum.auto()
    OPEN = enum.auto()
    CLOSE = enum.auto()
    COMMA = enum.auto()


class Word(msgspec.Struct, frozen=True):
    """One word, where it began, and what it stands for (a name without its quotes, a keyword in capitals)."""

    sort: Sort
    text: str
    at: int


KEYWORDS = frozenset(
    {"AND", "OR", "NOT", "IN", "IS", "NULL", "TRUE", "FALSE", "CASE", "WHEN", "THEN", "ELSE", "END", "BETWEEN", "LIKE", "ILIKE"}
    | {"AS", "FROM", "FOR", "BOTH", "LEADING", "TRAILING", "DATE", "TIMESTAMP", "INTERVAL", "DISTINCT"}
)
CASTS = frozenset({"CAST", "TRY_CAST"})

_ONE = r'(?:"(?:[^"]|"")+"|[A-Za-z_]\w*)'
_WORD = re.compile(
    rf"""
    (?P<text>'(?:[^']|'')*')
  | (?P<name>{_ONE}(?:\.{_ONE})*)
  | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
  | (?P<parameter>:[A-Za-z_]\w*)
  | (?P<operator>\|\||<>|!=|<=|>=|[-+*/%=<>])
  | (?P<open>\() | (?P<close>\)) | (?P<comma>,)
    """,
    re.VERBOSE,
)
_SORTS = {"text": Sort.VALUE, "number": Sort.VALUE, "operator": Sort.OPERATOR, "open": Sort.OPEN, "close": Sort.CLOSE, "comma": Sort.COMMA}

_PLAIN = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")

_ENDS = frozenset({Sort.NAME, Sort.PARAMETER, Sort.VALUE, Sort.CLOSE})  # a value may end with it
_STARTS = frozenset({Sort.NAME, Sort.PARAMETER, Sort.VALUE, Sort.FUNCTION, Sort.OPEN})  # a value may begin with it
_ENDING_KEYWORDS = frozenset({"NULL", "TRUE", "FALSE", "END"})
_STARTING_KEYWORDS = frozenset({"NULL", "TRUE", "FALSE", "CASE", "DATE", "TIMESTAMP", "INTERVAL"})


def split(text: str) -> tuple[Word, ...]:
    """Return the words of an expression.

    Raises: PlacedError for what is no expression, whatever the names in it.

    >>> [word.text for word in split("SUM(amount * 2)")]
    ['SUM', '(', 'amount', '*', '2', ')']
    """
    words = _read(text)
    if not words:
        raise PlacedError("the expression is empty")
    _check_brackets(text, words)
    _check_order(text, words)
    return tuple(words)


def unquoted(name: str) -> str:
    """Return a name without its quotes.

    >>> unquoted('customer."first name"')
    'customer.first name'
    """
    return ".".join(part[1:-1].replace('""', '"') if part.startswith('"') else part for part in re.findall(_ONE, name))


def quoted(name: str) -> str:
    """Return a name as SQL takes it whatever it is made of."""
    return '"' + name.replace('"', '""') + '"'


def named(name: str) -> str:
    """Return a name as it may be written in an expression: in quotes only where it needs them.

    >>> named("customer.name"), named("end"), named("unit price")
    ('customer.name', '"end"', '"unit price"')
    """
    return name if _PLAIN.fullmatch(name) and name.upper() not in KEYWORDS else quoted(name)


def written(words: tuple[Word, ...]) -> str:
    """Return an expression in its one regular form, by which two can be compared and a column can be named.

    >>> written(split("sum( amount*quantity )"))
    'SUM(amount * quantity)'
    """
    parts = []
    previous: Word | None = None
    for word in words:
        glued = previous is None or previous.sort is Sort.OPEN or word.sort in (Sort.CLOSE, Sort.COMMA)
        glued = glued or (previous is not None and previous.sort is Sort.FUNCTION)
        text = named(word.text) if word.sort is Sort.NAME else word.text
        parts.append(text if glued else f" {text}")
        previous = word
    return "".join(parts)


def _read(text: str) -> list[Word]:
    words: list[Word] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        match = _WORD.match(text, at)
        if match is None:
            raise PlacedError(_stray(text, at))
        words.append(_word(match, text))
        at = match.end()
    return words


def _word(match: re.Match[str], text: str) -> Word:
    kind, found, at = str(match.lastgroup), match.group(), match.start()
    if kind == "parameter":
        return Word(Sort.PARAMETER, found, at)
    if kind != "name":
        return Word(_SORTS[kind], found, at)
    called = text[match.end() :].lstrip().startswith("(")
    if found.upper() in KEYWORDS and not (called and found.upper() in {"DATE", "LEFT"}):
        return Word(Sort.KEYWORD, found.upper(), at)
    if called and "." not in found:
        return Word(Sort.FUNCTION, found.upper(), at)
    return Word(Sort.NAME, unquoted(found), at)


def _stray(text: str, at: int) -> str:
    if text[at] == "'":
        return f"the text that begins at letter {at + 1} of {text!r} has no closing quote"
    if text.startswith("::", at):
        return f"{text!r}: write CAST(value AS type) instead of value::type"
    return f"{text!r}: letter {at + 1} is {text[at]!r}, which no expression has"


def _check_brackets(text: str, words: list[Word]) -> None:
    depth = 0
    for word in words:
        depth += (word.sort is Sort.OPEN) - (word.sort is Sort.CLOSE)
        if depth < 0:
            raise PlacedError(f"{text!r}: the bracket at letter {word.at + 1} closes nothing")
    if depth:
        raise PlacedError(f"{text!r}: {depth} bracket{'s are' if depth > 1 else ' is'} not closed")


def _check_order(text: str, words: list[Word]) -> None:
    """Refuse two values without an operator between them and an operator without a value beside it."""
    typed = 0  # > 0: within the type name of a CAST, up to its closing bracket
    for index, word in enumerate(words):
        before = words[index - 1] if index else None
        after = words[index + 1] if index + 1 < len(words) else None
        if word.sort is Sort.KEYWORD and word.text == "AS":
            typed = 1
        elif typed:
            typed += (word.sort is Sort.OPEN) - (word.sort is Sort.CLOSE)
            continue
        if word.sort is Sort.OPERATOR:
            _check_operator(text, word, before, after)
        elif before is not None and _ends(before) and _starts(word):
            raise PlacedError(f"{text!r}: something is missing between {before.text!r} and {word.text!r}, perhaps an operator or a comma")
        elif word.sort is Sort.COMMA and (
            before is None or before.sort in (Sort.OPEN, Sort.COMMA) or after is None or after.sort is Sort.CLOSE
        ):
            raise PlacedError(f"{text!r}: a value is missing beside the comma at letter {word.at + 1}")


def _check_operator(text: str, word: Word, before: Word | None, after: Word | None) -> None:
    starred = word.text == "*" and before is not None and before.sort is Sort.OPEN and after is not None and after.sort is Sort.CLOSE
    if starred:  # COUNT(*)
        return
    if after is None or after.sort in (Sort.CLOSE, Sort.COMMA):
        raise PlacedError(f"{text!r}: a value is missing behind {word.text!r}")
    if word.text not in "+-" and not (before is not None and _ends(before)):
        raise PlacedError(f"{text!r}: a value is missing in front of {word.text!r}")


def _ends(word: Word) -> bool:
    return word.sort in _ENDS or (word.sort is Sort.KEYWORD and word.text in _ENDING_KEYWORDS)


def _starts(word: Word) -> bool:
    return word.sort in _STARTS or (word.sort is Sort.KEYWORD and word.text in _STARTING_KEYWORDS)
