"""`floodmark run`: play scenarios, show them while they run, judge them, and say how to run the same again."""

from __future__ import annotations

import secrets
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from floodmark import __version__
from floodmark.core.errors import UsageError
from floodmark.core.nats_client import without_login
from floodmark.model.result import RunResult
from floodmark.model.trial import Trial
from floodmark.playing import played
from floodmark.report import RunFolder, json
from floodmark.report.display import Display
from floodmark.report.folder import RUNS
from floodmark.report.live import LiveFile
from floodmark.report.terminal import Progress, show_result, stderr_console
from floodmark.runner.run import Order, Run
from floodmark.runner.session import Settings
from floodmark.selection import retarget, select


class Tier(StrEnum):
    """How much of a suite to run."""

    QUICK = "quick"
    FULL = "full"


class Profiled(StrEnum):
    """What of the target to profile."""

    CPU = "cpu"
    MEMORY = "memory"


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
    items = tuple(retarget(item, target, url, driver) for item in select(names, scale, quick=quick))
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
        command=replay(chosen_seed),
    )
    console = stderr_console()
    console.print(f"floodmark {__version__} · seed {chosen_seed} · {len(items)} scenario{'s' if len(items) != 1 else ''}")
    with Progress(console) as progress, LiveFile() as told:
        result = _play(order, progress, told, view=not (plain or as_json))
    show_result(result, command=order.command, console=console)
    if as_json:
        sys.stdout.buffer.write(json.encode(result) + b"\n")
        sys.stdout.flush()
    interrupted = add_pdf(result) or result.interrupted
    raise typer.Exit(130 if interrupted else result.verdict.exit_code)


def add_pdf(result: RunResult) -> bool:
    """Put report.pdf into the run folder, now that the result is told: whatever comes of it, that stands.

    Returns: whether it was interrupted.
    """
    from floodmark.report import pdf  # here: the pipeline and the typesetter have no place on the way to a verdict

    missing = pdf.add_pdf(RunFolder(Path(result.run)))
    if missing is not None:
        print(f"floodmark: {missing.said}", file=sys.stderr)
    return missing is not None and missing.interrupted


def _play(order: Order, progress: Progress, told: Display, *, view: bool) -> RunResult:
    """Run an order; an interrupt ends it in order."""
    return played(lambda display: Run(order, display).play(), progress, told, view=view)


def replay(seed: int) -> str:
    """What to type to run the same again."""
    arguments = sys.argv[1:]
    if "--seed" not in arguments and not any(argument.startswith("--seed=") for argument in arguments):
        arguments = [*arguments, "--seed", str(seed)]
    return shlex.join(["floodmark", *map(without_login, arguments)])
