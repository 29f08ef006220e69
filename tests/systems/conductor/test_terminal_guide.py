"""The guide to the conductor is true: its commands and examples run, and its tables name what there is."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from floodmark.systems.conductor import Complete, ConductorSettings, Request
from floodmark.systems.conductor.backend.numbered import text_of
from floodmark.systems.conductor.host.command import HEARTBEAT_S
from floodmark.systems.conductor.host.heartbeat import MISSED_MAX
from floodmark.systems.conductor.terminal.command import Order
from floodmark.systems.conductor.terminal.help import COMMANDS
from floodmark.systems.conductor.terminal.history import HISTORY_COUNT
from floodmark.systems.conductor.terminal.page import PAGE_PARTS
from tests.docs.guide import follow, steps

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "systems" / "conductor.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.timeout(180)
def test_guide_commands_run_as_shown(tmp_path: Path) -> None:
    shown = steps(PAGE)

    follow(shown, tmp_path)

    assert len(shown) == 2
    assert "bounded queue" in (tmp_path / "answer.md").read_text()


def test_guide_example_gives_the_answer_word_for_word() -> None:
    found: dict[str, Any] = {"__name__": "guide"}

    exec(compile(BLOCKS[0], "conductor.md", "exec"), found)

    assert len(BLOCKS) == 2
    assert found["answer"] == text_of(3, 0, 1000, 10)


def test_guide_backend_answers_to_its_end() -> None:
    found: dict[str, Any] = {"__name__": "guide"}
    exec(compile(BLOCKS[1], "conductor.md", "exec"), found)

    async def ask() -> str:
        stream = found["Echo"]().send_streaming(Request(prompt="to and fro"))
        texts: list[str] = []
        async with asyncio.timeout(10):
            while stream.terminal is None:
                await stream.wait()
                texts += stream.take(256)
        assert stream.terminal == Complete(token_count=3)
        return "".join(texts)

    assert asyncio.run(ask()) == "to and fro "


def test_guide_options_and_commands_are_those_of_the_code() -> None:
    told = set(re.findall(r"^\| `--([a-z-]+)`", PAGE, re.MULTILINE))

    assert told == {field.replace("_", "-") for field in Order.__struct_fields__}
    assert all(f"`/{name}" in PAGE for name in COMMANDS)


def test_guide_limits_are_those_of_the_code() -> None:
    settings = ConductorSettings()

    assert f"| {settings.conversations_count}, {settings.streams.limit_count} (" in PAGE
    assert f"| {settings.limits.message_bytes // 1000} KB, {settings.limits.messages_per_minute} (" in PAGE
    assert f"| {settings.session.messages_count} messages and {settings.session.kept_bytes // 2**20} MiB;" in PAGE
    assert f"| {settings.max_tokens_per_poll}, so that" in PAGE
    assert f"| {settings.channel_count} (`channel_count`)" in PAGE
    assert f"| {settings.quit_limit_s:g} s;" in PAGE
    assert f"| {MISSED_MAX} heartbeats of {HEARTBEAT_S:g} s" in PAGE
    assert f"{PAGE_PARTS} blocks" in PAGE
    assert f"the last {HISTORY_COUNT} texts" in PAGE
