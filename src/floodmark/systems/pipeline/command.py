"""`floodmark pipeline sales.py --source sales.db -o sales.pdf`: make a report from a file that declares it.

What is wrong with the words of the command is a UsageError before anything is opened. While it works it tells how far it is on stderr;
stdout has nothing but the rows, and those only for `-o -`. The first Ctrl-C (or SIGTERM) ends everything in order: no half file, no
process. A source that fails for good is a ReportFailedError: the report cannot be made, exit code 11.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from floodmark.core.errors import UsageError
from floodmark.core.tasks import until_asked_to_end
from floodmark.systems.pipeline.errors import PipelineError, StreamFailedError, nearest
from floodmark.systems.pipeline.pipeline import Pipeline
from floodmark.systems.pipeline.report.loader import Document, stream_for_typst
from floodmark.systems.pipeline.report.model import OUTPUTS, Report
from floodmark.systems.pipeline.report.parameters import bind
from floodmark.systems.pipeline.report.render import Progress, Rendered, RenderError, render
from floodmark.systems.pipeline.report_file import read_report

STDOUT = "-"
STREAMED = ("csv", "jsonl", "html")  # what can be written to stdout as it comes
DEFAULT_FORMAT = "pdf"
TERMINAL_INTERVAL_S, LOG_INTERVAL_S = 0.1, 10.0  # between two words on how far it is: on a terminal, in a log
_TOLD_AT_THE_END = "floodmark.systems.pipeline.report.shape"  # rows left out: the last line counts them and names the first


class ReportFailedError(PipelineError):
    """The report could not be made: the source, the stream or the typesetter has failed; that error is the cause."""

    kind = "report_failed"
    exit_code = 11


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    file: Path
    source: str = ""  # "": the report's own
    out: str = ""  # "": the file's name with the format for an ending
    format: str = ""  # "": from the ending of `out`, else PDF
    parameters: tuple[str, ...] = ()  # name=value
    chunk_size: int = 500
    pager: str = "keyset"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """An order that has been checked."""

    report: Report
    source: str
    out: Path | None  # None: stdout
    format: str
    parameters: dict[str, Any]
    chunk_size: int
    pager: str


def checked(order: Order) -> Job:
    """Read the report's file and hold the rest of the order against it.

    Raises: UsageError, in one sentence.
    """
    if order.chunk_size < 1:
        raise UsageError(f"--chunk-size must be at least 1, got {order.chunk_size}")
    if order.pager not in ("keyset", "offset"):
        raise UsageError(f"--pager must be keyset or offset, got {order.pager!r}")
    given = split_parameters(order.parameters)
    report = read_report(order.file)
    source = order.source or report.source
    if not source:
        raise UsageError(f"{order.file}: the report {report.name!r} names no source; give one with --source, such as --source sales.db")
    chosen = _format(order, report)
    out = None if order.out == STDOUT else Path(order.out or f"{order.file.stem}.{chosen}")
    if out is None and chosen not in STREAMED:
        raise UsageError(f"{chosen} cannot be written to stdout; give --format {' or '.join(STREAMED)}, or a file to -o")
    if out is not None:
        _check_place(out, source, order.file)
    return Job(
        report=report,
        source=source,
        out=out,
        format=chosen,
        parameters=bind(report.parameters, given),
        chunk_size=order.chunk_size,
        pager=order.pager,
    )


def split_parameters(texts: Sequence[str]) -> dict[str, str]:
    """Return what `--parameter name=value` gave, by name.

    >>> split_parameters(["since=2026-01-01", "note=a=b"])
    {'since': '2026-01-01', 'note': 'a=b'}

    Raises: UsageError for a text without `=` and for a name given twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--parameter takes name=value, got {text!r}")
        if name.strip() in found:
            raise UsageError(f"--parameter {name.strip()} is given twice; give it once")
        found[name.strip()] = value
    return found


def _format(order: Order, report: Report) -> str:
    ending = "" if order.out in ("", STDOUT) else Path(order.out).suffix.removeprefix(".").lower()
    known = tuple(name for name in OUTPUTS if name in report.outputs)
    chosen = order.format or ending or ("" if order.out == STDOUT else DEFAULT_FORMAT)
    if chosen in known:
        return chosen
    if not chosen:
        raise UsageError(f"-o - needs a --format: {', '.join(name for name in STREAMED if name in known)}")
    where = f"--format {chosen}" if order.format else f"-o {order.out}" if ending else "no --format, so PDF"
    near = nearest(chosen, known)
    raise UsageError(f"{where}: the report {report.name!r} is made as {', '.join(known)}" + (f"; did you mean {near!r}?" if near else ""))


def _check_place(out: Path, source: str, file: Path) -> None:
    """Refuse a place where the report would do harm or cannot be."""
    if out.is_dir():
        raise UsageError(f"-o {out} is a folder; give the name of a file in it")
    if not out.parent.is_dir():
        raise UsageError(f"-o {out}: the folder {out.parent} is not there; make it first")
    for taken in (source, str(file)):
        with contextlib.suppress(OSError, ValueError):  # an address is no file
            if out.exists() and out.samefile(taken.partition(":///")[2] or taken):
                raise UsageError(f"-o {out} would overwrite {taken}, which the report is made from; give another name")


def run(order: Order, *, stdout: IO[bytes], stderr: IO[str]) -> Rendered | None:
    """Make the report, and tell on `stderr` how far it is and what came of it.

    Returns: what was written; None when whoever reads stdout has left before the end, which is his good right.
    Raises: UsageError, ReportFailedError; CancelledError after a Ctrl-C or SIGTERM, when everything has been put away.
    """
    job = checked(order)
    teller = Teller(stderr, on_terminal=stderr.isatty())
    try:
        with teller.logging():
            rendered, skipped_count, reason = asyncio.run(until_asked_to_end(_make(job, stdout, teller)))
    except BrokenPipeError:
        with Path(os.devnull).open("wb") as nothing:  # what is still in the buffer must not fail once more when Python ends
            os.dup2(nothing.fileno(), stdout.fileno())
        return None
    place = "stdout" if job.out is None else str(rendered.files[0]) if rendered.files else str(job.out)
    teller.say(summary(rendered, place, skipped_count, reason))
    return rendered


async def _make(job: Job, stdout: IO[bytes], teller: Teller) -> tuple[Rendered, int, str]:
    """Stream the report's rows into its rendering. Returns: what was written, how many rows were left out, and why the first was."""
    try:
        async with Pipeline() as pipeline:
            document = await stream_for_typst(
                job.report,
                source=job.source,
                parameters=job.parameters,
                pipeline=pipeline,
                chunk_size=job.chunk_size,
                max_demand=max(1000, job.chunk_size),
                buffer_size=max(1000, job.chunk_size),
                pager=job.pager,
                enable_cache=False,  # nothing is read twice
                timeout_s=None,  # a large report takes its time, and there is somebody to end it
            )
            async with document:
                rendered = await render(
                    job.report,
                    document.batches(),
                    stdout if job.out is None else job.out,
                    format=job.format,
                    parameters=job.parameters,
                    progress=lambda progress: teller.progress(*_seen(document, progress)),
                )
            return rendered, document.skipped_count + rendered.skipped, document.skipped_reason or rendered.skipped_reason
    except UsageError:
        raise
    except RenderError as exc:
        raise ReportFailedError(f"the report could not be typeset: {exc}") from exc
    except PipelineError as exc:
        reason = exc.reason if isinstance(exc, StreamFailedError) else str(exc)  # its id tells a reader nothing
        raise ReportFailedError(f"the report could not be made: {reason}") from exc
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise UsageError(f"cannot write {job.out or 'to stdout'}: {exc.strerror or exc}; nothing of the report was kept") from exc


def _seen(document: Document, progress: Progress) -> tuple[int, int | None, int, int]:
    """Rows printed, rows there are, rows left out, pages."""
    return progress.records, document.stream.figures().total_count, document.skipped_count + progress.skipped, progress.pages


class Teller:
    """Says how far a report is: one line that is written over on a terminal, a line now and then in a log."""

    def __init__(self, stderr: IO[str], *, on_terminal: bool, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._stderr, self._on_terminal, self._clock_s = stderr, on_terminal, clock_s
        self._interval_s = TERMINAL_INTERVAL_S if on_terminal else LOG_INTERVAL_S
        self._told_s = clock_s()
        self._line_open = False

    def progress(self, rows_count: int, total_count: int | None, skipped_count: int, pages_count: int) -> None:
        """Tell how far it is, unless that was told a moment ago."""
        now_s = self._clock_s()
        if now_s - self._told_s < self._interval_s:
            return
        self._told_s = now_s
        text = progress_line(rows_count, total_count, skipped_count, pages_count)
        if self._on_terminal:
            self._stderr.write(f"\r\x1b[K{text}")
            self._line_open = True
        else:
            self._stderr.write(f"{text}\n")
        self._stderr.flush()

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self.clear()
        self._stderr.write(f"{text}\n")
        self._stderr.flush()

    def clear(self) -> None:
        """Take the line away that is written over."""
        if self._line_open:
            self._stderr.write("\r\x1b[K")
            self._stderr.flush()
            self._line_open = False

    @contextlib.contextmanager
    def logging(self) -> Iterator[None]:
        """Say what the pipeline logs meanwhile (a query that is tried again, a group limit), and leave no progress line behind."""
        handler = _Said(self)
        logger = logging.getLogger("floodmark.systems.pipeline")
        before, logger.propagate = logger.propagate, False
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.propagate = before
            self.clear()


class _Said(logging.Handler):
    """Hands warnings to a Teller."""

    def __init__(self, teller: Teller) -> None:
        super().__init__(logging.WARNING)
        self._teller = teller

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != _TOLD_AT_THE_END:
            self._teller.say(f"{record.levelname.lower()}: {record.getMessage()}")


def progress_line(rows_count: int, total_count: int | None, skipped_count: int, pages_count: int) -> str:
    """Return how far a report is, as text.

    >>> progress_line(1500, 3000, 1, 31)
    '1,500 of 3,000 rows (50 %), 31 pages, 1 left out'
    """
    parts = [_count(rows_count, "row")]
    if total_count:
        parts = [f"{rows_count:,} of {total_count:,} rows ({100 * min(rows_count + skipped_count, total_count) // total_count} %)"]
    parts += [_count(pages_count, "page")] if pages_count else []
    parts += [f"{skipped_count:,} left out"] if skipped_count else []
    return ", ".join(parts)


def summary(rendered: Rendered, place: str, skipped_count: int, skipped_reason: str) -> str:
    """Return what came of a report, as text: one line, and one more when rows were left out."""
    pages = f" on {_count(rendered.pages, 'page')}" if rendered.pages else ""
    first = len(rendered.files) - 1
    files = f" and {_count(first, 'file')} more" if first > 0 else ""
    line = f"{place}{files}: {_count(rendered.records, 'row')}{pages}, {_size(rendered.bytes)} in {rendered.seconds:,.1f} s"
    if not skipped_count:
        return f"{line}, 0 left out"
    return f"{line}, {skipped_count:,} left out\nleft out because a value could not be read; the first: {skipped_reason}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _size(count_bytes: int) -> str:
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count_bytes >= factor:
            return f"{count_bytes / factor:,.1f} {unit}"
    return f"{count_bytes} B"
