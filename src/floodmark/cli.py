"""The command line: all its commands, the longer ones from modules of their own. Progress and summaries go to stderr, the result alone
to stdout.

Exit codes: 0 pass, 10 fail, 11 unknown, 2 usage, 70 a bug in floodmark, 130 interrupted. Every usage error is one sentence.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from floodmark import __version__, listing
from floodmark.agent_command import agent
from floodmark.baseline_command import baseline, compare
from floodmark.core.errors import UsageError
from floodmark.exits import end_with
from floodmark.faults.wire.parse import is_mapping, parse_fault, parse_mapping
from floodmark.faults.wire.serve import serve as serve_proxy
from floodmark.mark_command import mark
from floodmark.report import APART, FORMATS, RunFolder, render
from floodmark.report.folder import RUNS
from floodmark.report.terminal import stderr_console
from floodmark.run_command import run
from floodmark.runner import doctor as doctor_room
from floodmark.serve_command import serve

app = typer.Typer(
    name="floodmark",
    help="Stress-test streaming systems: raise the load until they break, account for every message, report the mark.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(serve, name="serve")
app.command()(run)
app.command()(mark)


class What(StrEnum):
    """What `floodmark list` shows."""

    SUITES = "suites"
    SCENARIOS = "scenarios"
    DRIVERS = "drivers"
    FAULTS = "faults"
    METRICS = "metrics"


@app.command()
def proxy(
    what: Annotated[
        list[str], typer.Argument(metavar="LISTEN=UPSTREAM... [FAULT...]", help="Relays, then faults such as latency=50ms..500ms.")
    ],
    control_port: Annotated[int, typer.Option(help="Port of the HTTP control endpoint on 127.0.0.1; 0 takes a free one.")] = 8474,
    seed: Annotated[int, typer.Option(help="Fixes every random choice.")] = 1,
) -> None:
    """Run the fault proxy on its own, between any TCP clients and their server."""
    mappings = [parse_mapping(word) for word in what if is_mapping(word)]
    faults = [parse_fault(word) for word in what if not is_mapping(word)]
    if not mappings:
        raise UsageError("no relay given; write LISTEN=UPSTREAM before the faults, for example 127.0.0.1:6543=127.0.0.1:5432")
    uvloop.run(serve_proxy(mappings, faults, control_port=control_port, seed=seed, console=stderr_console()))


@app.command("list")
def list_(what: Annotated[What, typer.Argument(help="What to list.")] = What.SCENARIOS) -> None:
    """List suites, scenarios, drivers, faults or metrics."""
    print(listing.table(what.value))


@app.command()
def report(
    run_folder: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, its name, or `latest`.")] = "latest",
    format_: Annotated[str, typer.Option("--format", help=f"One of: {', '.join((*FORMATS, *APART))}.")] = "md",
) -> None:
    """Make a report of a run again, from its folder; a PDF is written into it."""
    folder = RunFolder.open(run_folder, base=RUNS)
    if format_ == "pdf":
        from floodmark.report.pdf import write_pdf  # here: the typesetter is needed by this format alone

        print(write_pdf(folder))
        return
    sys.stdout.write(render(folder, format_) + "\n")


@app.command()
def watch(
    run_folder: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, its name, or `latest`.")] = "latest",
    plain: Annotated[bool, typer.Option("--plain", help="Plain lines, also on a terminal.")] = False,
    light: Annotated[bool, typer.Option("--light", help="Dark words on a light ground.")] = False,
) -> None:
    """Watch a run that goes on, or look at one that is over: rates, latencies and memory over time, and what was found."""
    from floodmark.live import command  # here: only this command needs a screen

    raise typer.Exit(command.run(command.Order(run=run_folder, base=RUNS, plain=plain, light=light), stdin=sys.stdin, stdout=sys.stderr))


@app.command("pipeline", no_args_is_help=True)
def pipeline(
    file: Annotated[Path, typer.Argument(metavar="REPORT.py", help="A Python file that defines `report = Report(...)`.")],
    source: Annotated[str, typer.Option(help="Where the rows are: a file or an address; the report's own unless given.")] = "",
    out: Annotated[str, typer.Option("--output", "-o", help="The file to write; - is stdout, for csv, jsonl and html.")] = "",
    format_: Annotated[str, typer.Option("--format", help="pdf, png, svg, html, jsonl or csv; from the file's name unless given.")] = "",
    parameter: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A parameter of the report; repeatable.")] = None,
    chunk_size: Annotated[int, typer.Option(help="Rows fetched at once.")] = 500,
    pager: Annotated[str, typer.Option(help="keyset or offset.")] = "keyset",
) -> None:
    """Make a report of the rows of a database, a file or an address, chunk by chunk."""
    from floodmark.systems.pipeline import command  # here: only this command needs the pipeline

    order = command.Order(
        file=file, source=source, out=out, format=format_, parameters=tuple(parameter or ()), chunk_size=chunk_size, pager=pager
    )
    command.run(order, stdout=sys.stdout.buffer, stderr=sys.stderr)


@app.command()
def chat(
    backend: Annotated[str, typer.Option(help="mock, openai or ollama; openai when there is a URL, else the embedded mock.")] = "",
    url: Annotated[str, typer.Option(help="Where the server is, such as http://127.0.0.1:8000.")] = "",
    model: Annotated[str, typer.Option(help="What to ask for; the first that the server names unless given.")] = "",
    api_key_env: Annotated[str, typer.Option(metavar="NAME", help="The environment variable that holds the API key.")] = "",
    once: Annotated[
        str | None, typer.Option(metavar="PROMPT", help="Write the answer to one prompt as plain text and end; - reads it from stdin.")
    ] = None,
    light: Annotated[bool, typer.Option("--light", help="Dark words on a light ground.")] = False,
) -> None:
    """Chat with a language model in the terminal: several conversations at once, answers as they come."""
    from floodmark.systems.conductor.terminal import command  # here: only this command needs the conductor

    order = command.Order(backend=backend, url=url, model=model, api_key_env=api_key_env, once=once, light=light)
    raise typer.Exit(command.run(order, stdin=sys.stdin, stdout=sys.stdout))


app.command()(agent)
app.add_typer(baseline, name="baseline")
app.command()(compare)


@app.command()
def doctor() -> None:
    """Check whether this machine can do it: descriptors, ports, cores, clock, memory, servers."""
    checks = doctor_room.examine(RUNS)
    print(doctor_room.render(checks, colour=sys.stdout.isatty()))
    raise typer.Exit(doctor_room.exit_code(checks))


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The scenario file to write.")] = Path("scenario.toml"),
) -> None:
    """Write a commented scenario file to start from."""
    if path.exists():
        raise UsageError(f"{path} exists already; name another file or remove it first")
    try:
        path.write_text(listing.STARTER, encoding="utf-8")
    except OSError as exc:
        raise UsageError(f"{path} cannot be written: {exc.strerror}; name a place that can") from exc
    print(f"wrote {path}; run it with: floodmark run {path}")


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def main() -> None:
    """Run the command line and turn every error into one sentence and an exit code."""
    end_with(app)


if __name__ == "__main__":
    main()
