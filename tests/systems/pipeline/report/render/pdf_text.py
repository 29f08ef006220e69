"""Read the text of a PDF page by page, the way a viewer's search does: glyphs through the fonts' own tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pikepdf


def pages_of(path: Path) -> list[list[str]]:
    """The pieces of text on each page, in the order in which they are drawn."""
    with pikepdf.open(path) as pdf:
        return [_texts(page.obj, None) for page in pdf.pages]


def _texts(content: Any, resources: Any) -> list[str]:
    resources = content.get("/Resources", resources)
    fonts = {name: _letters(font) for name, font in resources.get("/Font", {}).items()}
    letters: dict[int, str] = {}
    found: list[str] = []
    for instruction in pikepdf.parse_content_stream(content):
        operands = instruction.operands
        match str(instruction.operator):
            case "Tf":
                letters = fonts[str(operands[0])]
            case "Tj" | "TJ":
                parts = operands[0] if str(instruction.operator) == "TJ" else [operands[0]]
                codes = b"".join(bytes(part) for part in parts if isinstance(part, pikepdf.String))
                found.append("".join(letters[codes[at] << 8 | codes[at + 1]] for at in range(0, len(codes), 2)))
            case "Do":
                drawn = resources.XObject[str(operands[0])]
                if drawn.Subtype == "/Form":
                    found += _texts(drawn, resources)
    return found


def _letters(font: Any) -> dict[int, str]:
    table = font.ToUnicode.read_bytes().decode("latin-1")
    letters = {}
    for block in re.findall(r"beginbfchar(.*?)endbfchar", table, re.DOTALL):
        for code, text in re.findall(r"<(\w+)>\s*<(\w*)>", block):
            letters[int(code, 16)] = _utf16(text)
    for block in re.findall(r"beginbfrange(.*?)endbfrange", table, re.DOTALL):
        for first, last, text in re.findall(r"<(\w+)>\s*<(\w+)>\s*<(\w+)>", block):
            for code in range(int(first, 16), int(last, 16) + 1):
                letters[code] = _utf16(text)[:-1] + chr(ord(_utf16(text)[-1]) + code - int(first, 16))
    return letters


def _utf16(text: str) -> str:
    return bytes.fromhex(text).decode("utf-16-be")
