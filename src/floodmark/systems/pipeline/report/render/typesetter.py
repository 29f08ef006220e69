"""The typesetter, in child processes: one at a time, each renewed when it has grown, killed when it takes too long.

    async with Typesetter() as typesetter:
        done = await typesetter.compile(TEMPLATE, {"data.json": data}, out=Path("report.pdf"))

Contract: one job at a time. Leaving the block, a cancelled job or a job past its limit kills the process; no job leaves one behind.
`compile_template` is the same for a single document. Not here: what the documents say.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from floodmark.core.errors import HarnessBugError
from floodmark.systems.pipeline.report.render.errors import (
    EmptyTemplateError,
    InvalidFormatError,
    TemplateTooLargeError,
    TypesetterDiedError,
    TypesetTimeoutError,
    compilation_error,
)

TYPST_FORMATS = ("pdf", "png", "svg")
TEMPLATE_LIMIT_BYTES = 10_000_000  # of a template and its data
SECTION_LIMIT_S = 30.0
RENEW_RSS_BYTES = 240_000_000  # a process that has held more is not given another job
JOIN_RSS_BYTES = 100_000_000  # nor is one that has held more given sections to join; below, a start costs more than it saves
ANSWER_LIMIT_BYTES = 4_000_000  # the pages of a section's items: 20 bytes each
PPI = 144.0


class Typeset(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one job."""

    pages: int
    bytes: int
    files: tuple[Path, ...] = ()
    attachment: Any = None  # what the document attached to itself


class Typesetter:
    """Child processes that compile and join documents."""

    def __init__(self, *, timeout_s: float = SECTION_LIMIT_S, renew_rss_bytes: int = RENEW_RSS_BYTES) -> None:
        self.timeout_s, self.renew_rss_bytes = timeout_s, renew_rss_bytes
        self.rss_bytes_peak = 0  # of any of the processes
        self.started_count = 0
        self._process: asyncio.subprocess.Process | None = None
        self._process_rss_bytes_peak = 0  # of this one
        self._said: Any = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    async def __aenter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="floodmark-typeset-")
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed when the block is left
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._end()
        if self._said is not None:
            self._said.close()
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def folder(self) -> Path:
        """A place for what is on its way, gone when the block is left."""
        if self._folder is None:
            raise HarnessBugError("a Typesetter works inside its `async with` block")
        return Path(self._folder.name)

    async def compile(
        self,
        template: bytes,
        inputs: Mapping[str, bytes],
        *,
        out: Path,
        format: str = "pdf",  # noqa: A002  # the word for it everywhere
        attachment: str = "",
        ppi: float = PPI,
        strict_fonts: bool = False,
    ) -> Typeset:
        """Compile one document into `out`; for PNG and SVG, `{page}` in its name is the number of the page.

        Raises: EmptyTemplateError, TemplateTooLargeError, InvalidFormatError before anything is done; a CompilationError of one kind or
        the other; TypesetTimeoutError; TypesetterDiedError.
        """
        if format not in TYPST_FORMATS:
            raise InvalidFormatError(format, TYPST_FORMATS)
        if not template.strip():
            raise EmptyTemplateError
        size_bytes = len(template) + sum(map(len, inputs.values()))
        if size_bytes > TEMPLATE_LIMIT_BYTES:
            raise TemplateTooLargeError(size_bytes, TEMPLATE_LIMIT_BYTES)
        paths = {name: self.folder / f"input-{number}" for number, name in enumerate(inputs)}
        main = self.folder / "main.typ"
        main.write_bytes(template)
        for name, path in paths.items():
            path.write_bytes(inputs[name])
        job = {
            "do": "compile",
            "main": str(main),
            "inputs": {name: str(path) for name, path in paths.items()},
            "out": _absolute(out),
            "format": format,
            "ppi": ppi,
            "attachment": attachment,
            "strict_fonts": strict_fonts,
        }
        answer = await self._do(job, self.timeout_s)
        return Typeset(
            pages=answer["pages"],
            bytes=answer["bytes"],
            files=tuple(map(Path, answer["files"])),
            attachment=answer.get("attachment"),
        )

    async def join(
        self,
        sections: list[tuple[Path, int]],
        overlays: list[Path],
        *,
        out: Path,
        title: str,
        author: str = "",
        outline: Sequence[tuple[str, int]] = (),
        timeout_s: float,
    ) -> Typeset:
        """Join the first pages of each section into one PDF, each under its page of the overlays.

        Args:
            outline: entries and their pages, counted from 0, behind those that the sections have of themselves.
        """
        if self._process_rss_bytes_peak > JOIN_RSS_BYTES:
            await self._end()  # joining holds all pages' objects: not on top of all that the typesetter has laid out
        job = {
            "do": "join",
            "sections": [[str(path), count] for path, count in sections],
            "overlays": list(map(str, overlays)),
            "out": _absolute(out),
            "title": title,
            "author": author,
            "outline": [[text, page] for text, page in outline],
        }
        answer = await self._do(job, timeout_s)
        return Typeset(pages=answer["pages"], bytes=answer["bytes"], files=(out,))

    async def _do(self, job: dict[str, Any], limit_s: float) -> dict[str, Any]:
        """Give a job to the process and return its answer; whatever goes wrong ends the process."""
        process = self._process or await self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        line = b""
        try:
            async with asyncio.timeout(limit_s) as limit:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # told apart below, with what it said
                    process.stdin.write(json.dumps(job).encode() + b"\n")
                    await process.stdin.drain()
                line = await process.stdout.readline()
        except TimeoutError as exc:
            await self._end()
            if not limit.expired():
                raise
            raise TypesetTimeoutError(limit_s) from exc
        except BaseException:
            await self._end()
            raise
        if not line.endswith(b"\n"):
            code = await process.wait()
            said = self._last_words()
            await self._end()
            raise TypesetterDiedError(code, said)
        answer = json.loads(line)
        self._process_rss_bytes_peak = answer["rss_bytes_peak"]
        self.rss_bytes_peak = max(self.rss_bytes_peak, self._process_rss_bytes_peak)
        if self._process_rss_bytes_peak > self.renew_rss_bytes:
            await self._end()
        if "error" in answer:
            error = answer["error"]
            if not error["typeset"]:
                raise TypesetterDiedError(None, error["message"])
            raise compilation_error(error["message"], tuple(error["hints"]), tuple(error["trace"]))
        result: dict[str, Any] = answer["ok"]
        return result

    async def _start(self) -> asyncio.subprocess.Process:
        worker = Path(__file__).with_name("worker.py")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",  # none of the caller's paths: the folder of worker.py holds a csv.py and a json.py of its own kind
            str(worker),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._said,
            cwd=self._root(),  # what a template may read from the disk: nothing
            limit=ANSWER_LIMIT_BYTES,
            start_new_session=True,  # Ctrl-C in a terminal is for us to act on
        )
        self.started_count += 1
        self._process_rss_bytes_peak = 0
        return self._process

    def _root(self) -> Path:
        root = self.folder / "root"
        root.mkdir(exist_ok=True)
        return root

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read()[-2000:].decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    async def _end(self) -> None:
        """Kill the process and collect it; it holds nothing that would be lost."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        if process.stdin is not None:
            process.stdin.close()
        # Shielded: a second cancellation must not leave the process behind as a zombie. It has been killed, so this does not wait long.
        await asyncio.shield(process.wait())


def _absolute(path: Path) -> str:
    """The process works in a folder of its own."""
    return str(path.absolute())


async def compile_template(
    template: str,
    files: Mapping[str, bytes] | None = None,
    *,
    format: str = "pdf",  # noqa: A002  # the word for it everywhere
    timeout_s: float = SECTION_LIMIT_S,
    ppi: float = PPI,
) -> list[bytes]:
    """Compile one Typst document that stands for itself and return it: one PDF, or each page as PNG or SVG.

    Args:
        template: the main file.
        files: what it may read and import, by name; it sees no other file.
    Raises: as `Typesetter.compile`; a font that is not there is a FontError.
    """
    async with Typesetter(timeout_s=timeout_s) as typesetter:
        name = "out.pdf" if format == "pdf" else "out-{page}"
        done = await typesetter.compile(
            template.encode(), files or {}, out=typesetter.folder / name, format=format, ppi=ppi, strict_fonts=True
        )
        return [path.read_bytes() for path in done.files]
