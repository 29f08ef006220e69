"""`floodmark mark`: find how far a scenario can be driven, and by what it breaks.

Exit codes: 0 the mark was found, bracketed and confirmed; 10 it broke at the lowest value already; 11 not found (held to the end, the
generator was the limit, contradictions, trials or time ran out), and the last line says which; 2 usage; 130 interrupted, with the bracket
so far. The search itself is `judge/mark.py`, its trials are played by `runner/mark.py`.
"""

from __future__ import annotations

import math
import secrets
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from floodmark import __version__, drivers
from floodmark.core import units
from floodmark.core.errors import UsageError
from floodmark.core.units import Dimension
from floodmark.drivers.asking import asks_of
from floodmark.judge.mark import Search
from floodmark.model import criterion, vary
from floodmark.model.scenario import Scenario
from floodmark.model.trial import Trial
from floodmark.playing import played
from floodmark.report import json
from floodmark.report.folder import RUNS
from floodmark.report.live import LiveFile
from floodmark.report.mark_terminal import MarkProgress, show_mark
from floodmark.report.terminal import stderr_console
from floodmark.run_command import add_pdf, replay
from floodmark.runner.mark import MarkOrder, MarkRun
from floodmark.runner.session import Settings
from floodmark.selection import retarget, select


def mark(
    scenario: Annotated[str, typer.Argument(help="A scenario id, or a file with one scenario.")],
    what: Annotated[str, typer.Option("--vary", metavar="NAME=LO..HI", help="What to raise, from where to where: rate_hz=1k..1M.")],
    until: Annotated[
        list[str] | None,
        typer.Option(metavar="CRITERION", help="It holds while this does; repeatable. The scenario's own criteria unless given."),
    ] = None,
    precision: Annotated[str, typer.Option(help="How close the two ends of the mark shall be.")] = "10%",
    confirm: Annotated[int, typer.Option(help="How often each end is tried again.")] = 2,
    trials: Annotated[int, typer.Option(help="No more trials than these.")] = 30,
    limit: Annotated[str, typer.Option(metavar="TIME", help="No trial begins that would end later than this: 90s, 30min.")] = "1h",
    duration: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long the load of a trial lasts; as in the scenario unless given.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="A URL, an embedded system's name, or a command line to start.")] = None,
    url: Annotated[str | None, typer.Option(help="Where a command given by --target will listen, if it does not print its URL.")] = None,
    driver: Annotated[str | None, typer.Option(help="How to speak to the target; see `floodmark list drivers`.")] = None,
    scale: Annotated[float | None, typer.Option(help="Multiplies the sizes of the plan, but for what is varied.")] = None,
    seed: Annotated[int | None, typer.Option(help="Fixes every random choice; a new one each run unless given.")] = None,
    agents: Annotated[int | None, typer.Option(help="Load processes; as many as fit unless given.")] = None,
    out: Annotated[Path, typer.Option(help="Where the run folder goes.")] = RUNS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Progress as plain lines, also on a terminal: no live view.")] = False,
) -> None:
    """Find the breaking point: raise one number of a scenario until it breaks, and close in on where."""
    if agents is not None and agents < 1:
        raise UsageError(f"--agents must be at least 1, got {agents}")
    if scale is not None and not 0 < scale < float("inf"):
        raise UsageError(f"--scale must be finite and greater than 0, got {scale:g}")
    if seed is not None and not 0 <= seed < 2**63:
        raise UsageError(f"--seed must be between 0 and 2^63 - 1, got {seed}")
    chosen_seed = secrets.randbelow(2**31) if seed is None else seed
    limit_s = _time(limit, "--limit")
    base = _until(_one(scenario, scale, target, url, driver), until or [])
    base = vary.timed(base, None if duration is None else _time(duration, "--duration"))
    varies = vary.parse(what, base, own_channels=asks_of(drivers.build(base.driver, base.driver_options)))
    search = _search(varies, precision, confirm, trials)
    order = MarkOrder(
        name=f"mark-{Path(scenario).stem}",
        scenario=base,
        vary=varies,
        search=search,
        settings=Settings(seed=chosen_seed, agents=agents),
        limit_s=limit_s,
        out=out,
        command=replay(chosen_seed),
    )
    console = stderr_console()
    console.print(f"floodmark {__version__} · seed {chosen_seed} · {base.id}, {what}")
    with MarkProgress(console) as progress, LiveFile() as told:
        result = played(lambda display: MarkRun(order, display).play(), progress, told, view=not (plain or as_json))
        told.conclude(result)
    show_mark(result, command=order.command, console=console)
    if as_json:
        sys.stdout.buffer.write(json.encode(result) + b"\n")
        sys.stdout.flush()
    interrupted = add_pdf(result) or result.interrupted
    raise typer.Exit(130 if interrupted else result.verdict.exit_code)


def _one(name: str, scale: float | None, target: str | None, url: str | None, driver: str | None) -> Scenario:
    """The scenario that is meant: a search has one."""
    found = select([name], scale, quick=False)
    if len(found) != 1:
        ids = ", ".join(item.id for item in found[:3])
        raise UsageError(f"{name} holds {len(found)} scenarios, and a search is for one; name it: {ids} ...")
    item = retarget(found[0], target, url, driver)
    if isinstance(item, Trial):
        raise UsageError(f"{item.id} tries the harness on a system that lies on request; it has no mark to be found")
    return item


def _until(scenario: Scenario, until: list[str]) -> Scenario:
    """The scenario with what it has to hold; what its guarantee implies is judged beside that in any case."""
    if not until:
        return scenario
    try:
        return msgspec.structs.replace(scenario, criteria=tuple(criterion.parse(text) for text in until))
    except UsageError as error:
        raise UsageError(f"--until: {error}") from None


def _search(varies: vary.Vary, precision: str, confirm: int, trials: int) -> Search:
    ratio = units.parse(precision, Dimension.RATIO, where="--precision")
    if not 0.001 <= ratio <= 1:
        raise UsageError(f"--precision must be between 0.1% and 100%, got {precision}")
    if not 0 <= confirm <= 10:
        raise UsageError(f"--confirm must be between 0 and 10, got {confirm}")
    if trials < 1:
        raise UsageError(f"--trials must be at least 1, got {trials}")
    return Search(lo=varies.lo, hi=varies.hi, precision=ratio, confirm=confirm, trials_max=trials, whole=varies.whole)


def _time(text: str, where: str) -> float:
    seconds = units.parse(text, Dimension.TIME, where=where)
    if not 0 < seconds < math.inf:
        raise UsageError(f"{where} must be greater than 0, got {text}")
    return seconds
