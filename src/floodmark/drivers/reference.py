"""The tables of the drivers' options, written from their DEFAULTS and MEANINGS, so that the page cannot fall behind.

Output: Markdown. `docs/drivers.md` holds exactly this text below its marker, and a test compares them. After a change:
`python -m floodmark.drivers.reference docs`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from floodmark.core.errors import UsageError
from floodmark.drivers import DRIVERS, conductor, fleet, graphql_ws, jetstream_options, nats, pulled, sse, websocket
from floodmark.drivers.base import Options

MARKER = "<!-- Below this line: written from the code by `python -m floodmark.drivers.reference docs`; edits are lost. -->\n\n"
TABLES: dict[str, tuple[Options, Mapping[str, str]]] = {
    "graphql-ws": (graphql_ws.DEFAULTS, graphql_ws.MEANINGS),
    "websocket": (websocket.DEFAULTS, websocket.MEANINGS),
    "pulled": (pulled.DEFAULTS, pulled.MEANINGS),
    "sse": (sse.DEFAULTS, sse.MEANINGS),
    "conductor": (conductor.DEFAULTS, conductor.MEANINGS),
    "nats": (nats.DEFAULTS, nats.MEANINGS),
    "jetstream": (jetstream_options.DEFAULTS, jetstream_options.MEANINGS),
    "fleet": (fleet.DEFAULTS, fleet.MEANINGS),
}
_KINDS = {str: "text", int: "a whole number", float: "a number", bool: "`true` or `false`"}


def reference() -> str:
    """Write every option of every driver: what it takes, its default, and what it means."""
    return "\n".join(_section(name, *TABLES[name]) for name in DRIVERS)


def renew(folder: Path) -> None:
    """Write the tables anew into `drivers.md`, below the marker. Raises: UsageError when the page has no marker."""
    page = folder / "drivers.md"
    above, marker, _ = page.read_text(encoding="utf-8").partition(MARKER)
    if not marker:
        raise UsageError(f"{page}: the line {MARKER.strip()!r} is missing; put it where the tables belong")
    page.write_text(above + marker + reference(), encoding="utf-8")


def _section(name: str, defaults: Options, meanings: Mapping[str, str]) -> str:
    rows = [f"| `{option}` | {_KINDS[type(value)]} | {_shown(value)} | {meanings[option]} |" for option, value in defaults.items()]
    return "\n".join(
        [f"## `{name}`", "", DRIVERS[name][1] + ".", "", "| option | takes | default | meaning |", "|---|---|---|---|", *rows, ""]
    )


def _shown(value: object) -> str:
    return f"`{value}`" if value != "" else "empty"


if __name__ == "__main__":
    renew(Path(sys.argv[1]))
