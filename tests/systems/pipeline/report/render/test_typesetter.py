"""The typesetter's processes: each complaint a typed error, limits kept, memory flat, no process left."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest

from floodmark.core.errors import HarnessBugError
from floodmark.systems.pipeline.report.render import RenderError, compile_template
from floodmark.systems.pipeline.report.render import typesetter as typesetter_module
from floodmark.systems.pipeline.report.render.errors import (
    CompilationError,
    EmptyTemplateError,
    FontError,
    InvalidFormatError,
    TemplateFileError,
    TemplateSyntaxError,
    TemplateTooLargeError,
    TypesetterDiedError,
    TypesetTimeoutError,
)
from floodmark.systems.pipeline.report.render.typesetter import JOIN_RSS_BYTES, RENEW_RSS_BYTES, TEMPLATE_LIMIT_BYTES, Typesetter

ENDLESS = "#let i = 0\n#while i < 1000000000 { i += 1; let s = range(50000) }"


def compiled(template: str, files: Mapping[str, bytes] | None = None, *, format: str = "pdf", timeout_s: float = 30.0) -> list[bytes]:  # noqa: A002
    return asyncio.run(compile_template(template, files, format=format, timeout_s=timeout_s))


@pytest.mark.parametrize(("kind", "head"), [("pdf", b"%PDF-"), ("png", b"\x89PNG"), ("svg", b"<svg")])
def test_compile_template_each_format(kind: str, head: bytes) -> None:
    pages = compiled("one #pagebreak() two", format=kind)

    assert len(pages) == (1 if kind == "pdf" else 2)
    assert all(page.startswith(head) for page in pages)


def test_compile_template_reads_the_files_it_is_given() -> None:
    (page,) = compiled(
        '#set page(width: auto, height: auto)\n#json("it.json").at(0)', {"it.json": json.dumps(["x"]).encode()}, format="svg"
    )

    assert b"<svg" in page


@pytest.mark.parametrize(
    ("template", "error", "kind"),
    [
        ("#let x = ", TemplateSyntaxError, "syntax_error"),
        ("#[", TemplateSyntaxError, "syntax_error"),
        ('#import "nowhere.typ"', TemplateFileError, "file_not_found"),
        ('#read("/etc/passwd")', TemplateFileError, "file_not_found"),
        ('#set text(font: "No Such Font")\nx', FontError, "font_error"),
        ('#(1 + "a")', CompilationError, "compilation_error"),
        ('#set page(width: "wide")', CompilationError, "compilation_error"),
        ("", EmptyTemplateError, "empty_template"),
        (" \n", EmptyTemplateError, "empty_template"),
        ("x" * (TEMPLATE_LIMIT_BYTES + 1), TemplateTooLargeError, "template_too_large"),
    ],
)
def test_compile_template_each_mistake_its_error(template: str, error: type[RenderError], kind: str) -> None:
    with pytest.raises(error) as raised:
        compiled(template)

    assert type(raised.value) is error
    assert raised.value.kind == kind
    again = pickle.loads(pickle.dumps(raised.value))
    assert (type(again), str(again)) == (error, str(raised.value))


def test_compile_template_unknown_format_refused() -> None:
    with pytest.raises(InvalidFormatError, match="docx"):
        compiled("x", format="docx")


def test_compile_template_past_its_limit_timeout() -> None:
    with pytest.raises(TypesetTimeoutError) as raised:
        compiled(ENDLESS, timeout_s=0.5)

    assert (raised.value.kind, raised.value.limit_s) == ("timeout", 0.5)


def test_typesetter_works_on_after_an_error() -> None:
    async def play() -> tuple[int, int]:
        async with Typesetter(timeout_s=20) as typesetter:
            out = typesetter.folder / "out.pdf"
            with pytest.raises(TemplateSyntaxError):
                await typesetter.compile(b"#let", {}, out=out)
            done = await typesetter.compile(b"fine", {}, out=out)
            return done.pages, typesetter.started_count

    assert asyncio.run(play()) == (1, 1)


def test_typesetter_works_on_after_a_timeout() -> None:
    async def play() -> tuple[int, int]:
        async with Typesetter(timeout_s=0.5) as typesetter:
            out = typesetter.folder / "out.pdf"
            with pytest.raises(TypesetTimeoutError):
                await typesetter.compile(ENDLESS.encode(), {}, out=out)
            typesetter.timeout_s = 20
            done = await typesetter.compile(b"fine", {}, out=out)
            return done.pages, typesetter.started_count

    assert asyncio.run(play()) == (1, 2)


def test_typesetter_renews_a_process_that_has_grown() -> None:
    async def play() -> int:
        async with Typesetter(timeout_s=20, renew_rss_bytes=1) as typesetter:
            for _ in range(3):
                await typesetter.compile(b"x", {}, out=typesetter.folder / "out.pdf")
            return typesetter.started_count

    assert asyncio.run(play()) == 3


@pytest.mark.parametrize(("join_rss_bytes", "started_count"), [(JOIN_RSS_BYTES, 1), (1, 2)])
def test_typesetter_joins_in_a_process_of_its_own_once_one_has_grown(
    join_rss_bytes: int, started_count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> tuple[int, int]:
        async with Typesetter(timeout_s=20) as typesetter:
            section, around, out = (typesetter.folder / name for name in ("section.pdf", "around.pdf", "out.pdf"))
            await typesetter.compile(b"one #pagebreak() two", {}, out=section)
            await typesetter.compile(b"#pagebreak()", {}, out=around)
            done = await typesetter.join([(section, 2)], [around], out=out, title="joined", timeout_s=20)
            return done.pages, typesetter.started_count

    monkeypatch.setattr(typesetter_module, "JOIN_RSS_BYTES", join_rss_bytes)

    assert asyncio.run(play()) == (2, started_count)


def test_typesetter_process_killed_says_so() -> None:
    async def play() -> None:
        async with Typesetter(timeout_s=20) as typesetter:
            await typesetter.compile(b"x", {}, out=typesetter.folder / "out.pdf")
            process = typesetter._process
            assert process is not None
            process.kill()
            await typesetter.compile(b"x", {}, out=typesetter.folder / "out.pdf")

    with pytest.raises(TypesetterDiedError, match="-9"):
        asyncio.run(play())


def test_typesetter_answer_that_cannot_be_written_told(tmp_path: Path) -> None:
    async def play() -> None:
        async with Typesetter(timeout_s=20) as typesetter:
            await typesetter.compile(b"x", {}, out=tmp_path / "nowhere" / "out.pdf")

    with pytest.raises(TypesetterDiedError, match="nowhere"):
        asyncio.run(play())


def test_typesetter_outside_of_its_block_is_our_bug() -> None:
    with pytest.raises(HarnessBugError):
        _ = Typesetter().folder


def test_typesetter_under_a_large_parent_is_not_renewed_for_what_the_parent_holds() -> None:
    async def play() -> tuple[int, int]:
        async with Typesetter(timeout_s=20) as typesetter:
            for _ in range(2):
                await typesetter.compile(b"x", {}, out=typesetter.folder / "out.pdf")
            return typesetter.started_count, typesetter.rss_bytes_peak

    ballast = bytearray(RENEW_RSS_BYTES + 60_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])  # in memory, not only promised
    started, peak_bytes = asyncio.run(play())

    assert started == 1
    assert peak_bytes < len(ballast)
