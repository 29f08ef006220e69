"""What every rendering is fed with, told by and gives back.

A `Rendering` takes a stream of chunks and writes one file. It holds no more than a section of the rows at a time, writes beside the file
and puts it in its place when it is whole: what ends early leaves nothing behind, for whichever reason it does.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias

import msgspec
import polars as pl

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.batch import Batch, frame_of
from floodmark.systems.pipeline.report.model import Report

Chunk: TypeAlias = pl.DataFrame | Batch | list[dict[str, Any]]
Out: TypeAlias = Path | IO[bytes]

DIRECTORY_ERROR = "the folder {folder} is not there; make it first"


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a rendering is."""

    records: int
    skipped: int
    pages: int  # set so far; 0 where there are no pages


class Rendered(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a rendering."""

    pages: int
    records: int
    skipped: int  # rows with a value that could not be read as its field's kind
    bytes: int
    seconds: float
    skipped_reason: str = ""  # of the first of them
    files: tuple[Path, ...] = ()  # more than one where each page is a file
    rss_bytes_peak: int = 0  # of the typesetter's processes


class Front(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A document of its own that comes before a PDF's pages, upright A4: a cover, plots.

    Its pages are counted with the others and get the report's page header and footer, for which it leaves room; its outline is kept.
    """

    template: str  # in Typst
    files: Mapping[str, bytes] = {}  # what it may read and import, by name; it sees no other file
    entry: str = ""  # the outline's, of the report behind it; "": the report's title


class Style(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a document looks and is made."""

    size_pt: float = 11.0
    fonts: tuple[str, ...] = ("Libertinus Serif",)  # the first one that is there; others serve letters it lacks
    ppi: float = 144.0  # of PNG
    section_items: int = 1000  # rows, headers and footers that are set at once
    timeout_s: float = 30.0  # for a section
    front: Front | None = None  # of a PDF

    def __post_init__(self) -> None:
        if not 5 <= self.size_pt <= 30:
            raise UsageError(f"size_pt must be 5 to 30 pt, got {self.size_pt!r}")
        if not (self.section_items >= 1 and 36 <= self.ppi <= 1200 and self.timeout_s > 0):
            given = f"{self.section_items}, {self.ppi:g}, {self.timeout_s:g}"
            raise UsageError(f"section_items must be at least 1, ppi 36 to 1200, timeout_s above 0; got {given}")


Told: TypeAlias = Callable[[Progress], None]


class Rendering(Protocol):
    """Writes one output."""

    async def __call__(
        self, report: Report, chunks: AsyncIterable[Chunk], out: Out, *, parameters: Mapping[str, Any], style: Style, told: Told
    ) -> Rendered:
        """Render a report's chunks, in their order, into `out`."""
        ...


def frame(chunk: Chunk) -> pl.DataFrame:
    """The rows of a chunk, whatever it came as."""
    if isinstance(chunk, pl.DataFrame):
        return chunk
    return chunk.frame() if isinstance(chunk, Batch) else frame_of(chunk)


@contextlib.asynccontextmanager
async def frames(chunks: AsyncIterable[Chunk], *, most: int) -> AsyncIterator[AsyncIterator[pl.DataFrame]]:
    """The chunks as frames of at most `most` rows, so that a large one costs no more memory than others once it is laid out.

    A stream that can be closed (a generator) is closed when the block is left, so that an error in it ends what feeds it.
    """
    async with contextlib.aclosing(_sliced(chunks, most)) as sliced:
        try:
            yield sliced
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await sliced.aclose()
                await close()


async def _sliced(chunks: AsyncIterable[Chunk], most: int) -> AsyncGenerator[pl.DataFrame, None]:
    async for chunk in chunks:
        rows = frame(chunk)
        for part in rows.iter_slices(most) if len(rows) > most else (rows,):
            yield part


@contextlib.contextmanager
def placing(out: Path) -> Iterator[Path]:
    """Give a path beside `out` to write to; at the end of the block that file takes its place, at an error it is removed."""
    if not out.parent.is_dir():
        raise UsageError(DIRECTORY_ERROR.format(folder=out.parent))
    part = out.with_name(f".{out.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        part.replace(out)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def opened(out: Out) -> Iterator[IO[bytes]]:
    """Open where text is written to: a file that appears when it is whole, or a stream as it is."""
    if not isinstance(out, Path):
        yield out
        out.flush()
        return
    with placing(out) as part, part.open("wb") as file:
        yield file
