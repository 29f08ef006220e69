"""Live tests speak to a real server, a browser or a JavaScript client.

Every test in this folder carries the mark `live`. What it needs it asks for with `require`:

    from tests.live.conftest import NODE_MODULES, require

    def test_hub_speaks_to_graphql_ws() -> None:
        require(shutil.which("node") is not None, "node is not installed")
        require((NODE_MODULES / "graphql-ws").is_dir(), "run `npm ci` in tests/live/npm")

Locally a missing need skips with that reason; under CI=true it fails, so that a test cannot fall silent there.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

collect_ignore = ["servers"]  # programs that floodmark starts; they need packages that may be missing here
NODE_MODULES = Path(__file__).parent / "npm" / "node_modules"  # the run sets NODE_PATH to it, or works in tests/live/npm


def require(what: bool, reason: str) -> None:
    """Go on if `what` is there; else skip here and fail in CI, with the reason."""
    if what:
        return
    if os.environ.get("CI", "").lower() in ("", "0", "false"):
        pytest.skip(reason)
    pytest.fail(f"needed in CI, and missing: {reason}", pytrace=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lives in this folder, so that nobody has to remember to."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.live)
