"""The page about the host names the words that there are, and the lies."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from floodmark.systems.fleet.host.crew import Crew
from floodmark.systems.fleet.host.lies import LIES
from floodmark.systems.fleet.host.options import read_options
from floodmark.systems.fleet.host.server import GivenServer
from floodmark.systems.fleet.host.words import Words

PAGE = Path(__file__).parents[4] / "docs" / "systems" / "fleet-host.md"


def test_page_names_every_word_and_no_other() -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = text[text.index("| word | fields |") : text.index("What strikes a process")]

    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`([a-z_]+)`", row.split("|")[1] if "|" in row else "")}

    assert named == set(words().names)


def test_page_names_every_lie() -> None:
    text = PAGE.read_text(encoding="utf-8")

    table = text[text.index("| lie | what") : text.index("SIGTERM and Ctrl-C")]

    assert re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE) == list(LIES)


def words() -> Words:
    """All words, about a fleet that is not there."""
    nowhere: Any = None
    return Words(Crew(read_options(), "", None, lambda *_: None), GivenServer(""), None, nowhere)
