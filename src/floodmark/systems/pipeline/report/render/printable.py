"""Text that can be printed: what no output format takes is made visible or taken out, the rest stays as it is."""

from __future__ import annotations

import re

# Control characters but tab and line breaks, lone surrogates, and the two non-characters that XML refuses.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_BREAKS = re.compile(r"\r\n?")


def printable(text: str) -> str:
    r"""Return a text without what cannot be printed: each such character becomes U+FFFD.

    >>> printable("a\x00b\r\nc")
    'a�b\nc'
    """
    if text.isprintable():  # HOT: nearly every cell
        return text
    return _BREAKS.sub("\n", _UNPRINTABLE.sub("\ufffd", text))


def breakable(text: str, limit: int) -> str:
    """Return a text in which a word longer than `limit` letters may be broken: zero-width spaces stand in it.

    >>> breakable("abcdefgh ij", 4).split("\u200b")
    ['abcd', 'efgh ij']
    """
    if len(text) <= limit:
        return text
    return re.sub(rf"\S{{{limit}}}(?=\S)", lambda found: found[0] + "\u200b", text)


def width_em(text: str) -> float:
    """Estimate how wide a text is set, in units of its size; a text of several lines is as wide as its widest."""
    if "\n" in text:
        return max(map(width_em, text.split("\n")))
    return sum(map(_letter_em, text))


def _letter_em(letter: str) -> float:
    if letter in " .,;:'|!ijlt()[]":
        return 0.27
    if letter.isascii():
        return 0.72 if letter in "MWmw@%" else 0.66 if letter.isupper() else 0.49
    return 1.0 if ord(letter) >= 0x1100 else 0.55
