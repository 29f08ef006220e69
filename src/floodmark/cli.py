"""The command line. Progress and summaries go to stderr, the result alone to stdout.

Exit codes: 0 pass, 10 fail, 11 unknown, 2 usage, 70 a bug in floodmark, 130 interrupted. Every usage error is one sentence.
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import shlex
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer
import uvloop

from floodmark import __version__, listing, suites
from floodmark.agent_command import agent
from floodmark.core.errors import UsageError
from floodmark.core.nats_client import without_login
from floodmark.core.tasks import group
from floodmark.exits import end_with
from floodmark.faults.wire.parse import is_mapping, parse_fault, parse_mapping
from floodmark.faults.wire.serve import serve as serve_proxy
from floodmark.live.view import View, possible
from floodmark.model.read import read_python, read_toml
from floodmark.model.result import RunResult
from floodmark.model.scale import at_scale
from floodmark.model.scenario import Scenario, Target
from floodmark.model.trial import Trial
from floodmark.report import APART, FORMATS, RunFolder, json, render
from floodmark.report.display import Display, Displays
from floodmark.report.live import LiveFile
from floodmark.report.terminal import Progress, show_result, stderr_console
from floodmark.runner import doctor as doctor_room
from floodmark.runner.embedded import SYSTEMS
from floodmark.runner.run import Order, Run
from floodmark.runner.session import Settings
from floodmark.suites.entry import Entry
from floodmark.systems.hub.command import hub

RUNS = Path("runs")
URL_IN_LOG = r"(wss?://[^\s\"']+)"

app = typer.Typer(
    name="floodmark",
    help="Stress-test streaming systems: raise the load until they break, account for every message, report the mark.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
serve = typer.Typer(help="Start a reference system to try things on.", no_args_is_help=True)
serve.command("hub")(hub)


@serve.command("pipeline")
def serve_pipeline(
    *,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 lets the OS choose.")] = 0,
    lie: Annotated[list[str] | None, typer.Option(help="Break a promise, such as skip=1 or miscount=3; repeatable.")] = None,
) -> None:
    """Host the pipeline, for the driver `pulled`, until SIGTERM or SIGINT."""
    from floodmark.systems.pipeline.host.command import host  # what it brings takes half a second that no other command should pay

    host(port=port, lie=lie)


@serve.command("tokens")
def serve_tokens(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 lets the OS choose.")] = 0,
    rate: Annotated[float, typer.Option(help="Tokens per second of prose; 0: as fast as they are taken.")] = 30.0,
    per_chunk: Annotated[int, typer.Option(help="Tokens in one chunk of a stream.")] = 1,
    max_streams: Annotated[int, typer.Option(help="Answers at once; more are refused.")] = 20_000,
    lie: Annotated[list[str] | None, typer.Option(help="Break a promise, such as truncate=3 or drop=5; repeatable.")] = None,
) -> None:
    """Serve known text over the OpenAI protocol until SIGTERM or SIGINT."""
    from floodmark.systems.conductor.tokens.command import tokens  # brings an HTTP server that no other command should pay for

    tokens(host=host, port=port, rate=rate, per_chunk=per_chunk, max_streams=max_streams, lie=lie)


@serve.command("conductor")
def serve_conductor(
    *,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 lets the OS choose.")] = 0,
    backend: Annotated[str, typer.Option(help="Where answers come from: mock, openai or ollama.")] = "mock",
    url: Annotated[str, typer.Option(help="Where the backend is; empty: its usual place.")] = "",
    model: Annotated[str, typer.Option(help="The model to ask for; empty: the backend's own choice.")] = "",
    api_key_env: Annotated[str, typer.Option(help="The environment variable that holds the backend's API key.")] = "",
    channel: Annotated[int, typer.Option(help="Events that may wait for a surface.")] = 10_000,
    lie: Annotated[list[str] | None, typer.Option(help="Break a promise, such as skip=1 or no-end=2; repeatable.")] = None,
) -> None:
    """Host conductors, for the driver `conductor`, until SIGTERM or SIGINT."""
    from floodmark.systems.conductor.host.command import host  # here: no other command needs it

    host(port=port, backend=backend, url=url, model=model, api_key_env=api_key_env, channel=channel, lie=lie)


@serve.command("fleet")
def serve_fleet(
    *,
    nats: Annotated[str, typer.Option(help="URL of a NATS server; without it one is started.")] = "",
    server: Annotated[str, typer.Option(help="Where a server of our own runs: inside our process tree, or apart from it.")] = "inside",
    profile: Annotated[str, typer.Option(help="Settings by name: default, production, fast, baseline ...")] = "default",
    set_: Annotated[list[str] | None, typer.Option("--set", help="One setting, such as heartbeat_s=0.5; repeatable.")] = None,
    strategy: Annotated[str, typer.Option(help="consistent-hash, weighted or round-robin.")] = "consistent-hash",
    partitions: Annotated[int | None, typer.Option(help="How many, named p0, p1 ...; 100 unless weights say.")] = None,
    weights: Annotated[str, typer.Option(help="Partitions times their weight: 10x1 5x2 2x5.")] = "",
    per_process: Annotated[int, typer.Option(help="Workers in one process.")] = 1,
    network: Annotated[bool, typer.Option("--network", help="Workers reach NATS by a fault proxy: isolate and heal.")] = False,
    lie: Annotated[list[str] | None, typer.Option(help="Break a promise, such as drop=100; repeatable.")] = None,
) -> None:
    """Host a fleet, for the driver `fleet`, until SIGTERM or SIGINT; words on the NATS subject fleet.control start and end its workers."""
    from floodmark.systems.fleet.host.command import host  # brings NATS, numpy and the fleet, for which no other command should pay

    host(
        nats=nats,
        server=server,
        profile=profile,
        set_=set_,
        strategy=strategy,
        partitions=partitions,
        weights=weights,
        per_process=per_process,
        network=network,
        lie=lie,
    )


@serve.command("nats")
def serve_nats(
    *,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 lets the server choose.")] = 0,
    store: Annotated[str, typer.Option(help="Directory of the streams; empty: one that goes with the server.")] = "",
    sync: Annotated[str, typer.Option(help="When streams are synced to disk: always, or how often, such as 2m.")] = "always",
    keep: Annotated[bool, typer.Option(help="Start a server that dies again, with what it held.")] = False,
) -> None:
    """Run a nats-server with JetStream, for the drivers `nats` and `jetstream`, until SIGTERM or SIGINT."""
    from floodmark.core.nats_command import main as nats  # here: no other command needs it

    raise typer.Exit(nats(["--port", str(port), "--store", store, "--sync", sync, *(["--keep"] if keep else [])]))


app.add_typer(serve, name="serve")


class Tier(StrEnum):
    """How much of a suite to run."""

    QUICK = "quick"
    FULL = "full"


class Profiled(StrEnum):
    """What of the target to profile."""

    CPU = "cpu"
    MEMORY = "memory"


class What(StrEnum):
    """What `floodmark list` shows."""

    SUITES = "suites"
    SCENARIOS = "scenarios"
    DRIVERS = "drivers"
    FAULTS = "faults"
    METRICS = "metrics"


@app.command()
def run(
    what: Annotated[
        list[str] | None, typer.Argument(help="Suites, scenario ids or scenario files; nothing: the quick tier of every suite.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="A URL, an embedded system's name, or a command line to start.")] = None,
    url: Annotated[str | None, typer.Option(help="Where a command given by --target will listen, if it does not print its URL.")] = None,
    driver: Annotated[str | None, typer.Option(help="How to speak to the target; see `floodmark list drivers`.")] = None,
    scale: Annotated[float | None, typer.Option(help="Multiplies the sizes of the plan.")] = None,
    tier: Annotated[Tier | None, typer.Option(help="quick or full; full when scenarios are named.")] = None,
    seed: Annotated[int | None, typer.Option(help="Fixes every random choice; a new one each run unless given.")] = None,
    agents: Annotated[int | None, typer.Option(help="Load processes; as many as fit unless given.")] = None,
    nats: Annotated[
        str | None, typer.Option(metavar="URL", help="Play with `floodmark agent`s that answer at this NATS server; needs --agents.")
    ] = None,
    wait: Annotated[float, typer.Option(metavar="SECONDS", help="With --nats: how long to wait for enough agents.")] = 30.0,
    profile: Annotated[
        Profiled | None, typer.Option(help="Profile the target, in Python: its processor time (py-spy) or its memory (memray).")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the run folder goes.")] = RUNS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Progress as plain lines, also on a terminal: no live view.")] = False,
) -> None:
    """Run scenarios and judge them."""
    names = what or []
    if agents is not None and agents < 1:
        raise UsageError(f"--agents must be at least 1, got {agents}")
    if not 0 < wait < float("inf"):
        raise UsageError(f"--wait must be finite and greater than 0, got {wait:g}")
    if nats is not None and agents is None:
        raise UsageError("--nats plays with agents on other machines; say with --agents how many load processes are needed")
    if scale is not None and not 0 < scale < float("inf"):
        raise UsageError(f"--scale must be finite and greater than 0, got {scale:g}")
    if seed is not None and not 0 <= seed < 2**63:
        raise UsageError(f"--seed must be between 0 and 2^63 - 1, got {seed}")
    chosen_seed = secrets.randbelow(2**31) if seed is None else seed
    quick = tier is Tier.QUICK or (tier is None and not names)
    items = tuple(_retarget(item, target, url, driver) for item in _items(names, scale, quick=quick))
    trial = next((item.id for item in items if isinstance(item, Trial)), None)
    if profile is not None and trial is not None:
        raise UsageError(f"{trial} tries the harness on a system that lies on request; --profile does not go with it")
    order = Order(
        name="-".join(Path(name).stem for name in names) if 0 < len(names) <= 2 else ("quick" if quick else "run"),
        items=items,
        settings=Settings(
            seed=chosen_seed, agents=agents, profile=None if profile is None else profile.value, nats=nats, agents_limit_s=wait
        ),
        scale=1.0 if scale is None else scale,
        out=out,
        command=_replay(chosen_seed),
    )
    console = stderr_console()
    console.print(f"floodmark {__version__} · seed {chosen_seed} · {len(items)} scenario{'s' if len(items) != 1 else ''}")
    with Progress(console) as progress, LiveFile() as told:
        result = _play(order, progress, told, view=not (plain or as_json))
    show_result(result, command=order.command, console=console)
    if as_json:
        sys.stdout.buffer.write(json.encode(result) + b"\n")
        sys.stdout.flush()
    interrupted = _add_pdf(result) or result.interrupted
    raise typer.Exit(130 if interrupted else result.verdict.exit_code)


def _add_pdf(result: RunResult) -> bool:
    """Put report.pdf into the run folder, now that the result is told: whatever comes of it, that stands.

    Returns: whether it was interrupted.
    """
    from floodmark.report.pdf import add_pdf  # here: the pipeline and the typesetter have no place on the way to a verdict

    missing = add_pdf(RunFolder(Path(result.run)))
    if missing is not None:
        print(f"floodmark: {missing.said}", file=sys.stderr)
    return missing is not None and missing.interrupted


def _play(order: Order, progress: Progress, told: Display, *, view: bool) -> RunResult:
    """Run an order on its own event loop; the first Ctrl-C or SIGTERM ends it in order, and so does Ctrl-C in the live view."""

    async def main() -> RunResult:
        screen = View(progress, wanted=view and possible(sys.stdin, sys.stderr, os.environ))

        async def play() -> RunResult:
            async with group() as tasks:
                showing = tasks.create_task(screen.follow(interrupt))
                try:
                    return await Run(order, Displays(progress, told, screen)).play()
                finally:
                    showing.cancel()

        task = asyncio.ensure_future(play())  # begins only once the handlers below are there: from the run folder on, all ends in order
        loop = asyncio.get_running_loop()
        asked = False

        def interrupt() -> None:
            nonlocal asked
            if not asked:
                asked = True
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, interrupt)
        return await task

    gc.freeze()
    return uvloop.run(main())


def _items(names: list[str], scale: float | None, *, quick: bool) -> list[Scenario | Trial]:
    found: list[Scenario | Trial] = []
    for name in names or list(suites.SUITES):
        path = Path(name)
        if path.suffix in (".toml", ".py"):
            scenarios = read_toml(path) if path.suffix == ".toml" else read_python(path)
            found.extend(at_scale(scenario, 1.0 if scale is None else scale) for scenario in scenarios)
            continue
        for entry in suites.find(name):
            size = _size(entry, scale, quick=quick)
            if size is not None:
                found.append(entry.build(size))
    return found


def _size(entry: Entry, scale: float | None, *, quick: bool) -> float | None:
    if scale is not None:
        return scale
    return entry.quick_scale if quick else 1.0


def _retarget(item: Scenario | Trial, target: str | None, url: str | None, driver: str | None) -> Scenario | Trial:
    """Point a scenario at another target or driver."""
    if isinstance(item, Trial):
        if target is not None:
            raise UsageError(f"{item.id} tries the harness on a system that lies on request; --target does not go with it")
        return item
    changes: dict[str, object] = {}
    if url is not None and (target is None or "://" in target or target in SYSTEMS):
        raise UsageError("--url says where a command given by --target will listen; to test a URL, give it to --target")
    if target is not None:
        if "://" in target:
            changes["target"] = Target(url=target)
        elif target in SYSTEMS:
            changes["target"] = Target(system=target, args=item.target.args if item.target.system == target else ())
        else:
            changes["target"] = Target(command=target, url=url, ready_pattern=None if url else URL_IN_LOG)
    if driver is not None:
        changes["driver"] = driver
        if driver != item.driver:
            changes["driver_options"] = {}
    return msgspec.structs.replace(item, **changes) if changes else item


def _replay(seed: int) -> str:
    """What to type to run the same again."""
    arguments = sys.argv[1:]
    if "--seed" not in arguments and not any(argument.startswith("--seed=") for argument in arguments):
        arguments = [*arguments, "--seed", str(seed)]
    return shlex.join(["floodmark", *map(without_login, arguments)])


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
