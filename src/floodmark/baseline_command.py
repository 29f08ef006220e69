"""`floodmark baseline save|show|list` and `floodmark compare`: is what was just measured worse than it used to be?

Exit codes of `compare`: 0 no regression, 10 a regression, 11 it cannot be told, 2 usage. What went wrong is said on stderr; tables, JSON
and Markdown go to stdout. The comparison itself is `judge/compare.py`; `floodmark.cli` lists these commands among the others.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from floodmark.core import units
from floodmark.core.errors import UsageError
from floodmark.core.units import Dimension
from floodmark.report.folder import RUNS

if TYPE_CHECKING:
    from rich.console import Console

    from floodmark.judge.comparison import Wish
    from floodmark.judge.repetitions import KeptOut

BASELINES = Path("baselines")
_Dir = Annotated[Path, typer.Option("--dir", help="Where baselines are kept, one JSON file each.")]
_Runs = Annotated[list[str] | None, typer.Argument(metavar="RUN", help="Run folders, their names, or `latest`, which it is unless given.")]

baseline = typer.Typer(help="Keep what runs measured, to hold later ones against it.", no_args_is_help=True)


@baseline.command("save")
def save(
    name: Annotated[str, typer.Argument(help="What the baseline is called, such as main.")],
    runs: _Runs = None,
    directory: _Dir = BASELINES,
    add: Annotated[bool, typer.Option("--add", help="Add repetitions to what is there; noise is told by repetitions.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Take the place of what is there.")] = False,
) -> None:
    """Keep what one run or several measured, under a name."""
    from floodmark.judge.repetitions import gather  # here, as in each command: numpy and polars, for which no other should pay
    from floodmark.report import compare_runs

    path = compare_runs.path_of(directory, name)
    if add and force:
        raise UsageError("--add keeps what is there and --force does not; give one of them")
    if path.exists() and not (add or force):
        raise UsageError(f"{path} exists already; --add puts these runs beside its own, --force takes its place")
    before = compare_runs.load(directory, name) if add and path.exists() else None
    gathered = gather(name, compare_runs.runs_of(runs or ["latest"], base=RUNS), onto=before)
    _tell(gathered.kept_out)
    kept = {run for subject in gathered.baseline.scenarios.values() for run in subject.runs}
    fresh = [played.run for played in gathered.baseline.runs if before is None or played not in before.runs]
    if not kept.intersection(fresh):
        raise UsageError("no scenario of these runs passed, so there is nothing to keep; a baseline of a broken run is none")
    compare_runs.save(directory, gathered.baseline)
    counts = [len(subject.runs) for subject in gathered.baseline.scenarios.values()]
    print(f"wrote {path}: {len(counts)} scenario{'s' if len(counts) != 1 else ''}, {_spoken(counts)}")


@baseline.command("show")
def show(name: Annotated[str, typer.Argument(help="Which baseline.")], directory: _Dir = BASELINES) -> None:
    """Show what a baseline holds: every figure with its middle, its ends and how often it was measured."""
    from floodmark.report import compare_runs, compare_terminal

    _console().print(compare_terminal.baseline(compare_runs.load(directory, name)))


@baseline.command("list")
def list_(directory: _Dir = BASELINES) -> None:
    """List the baselines there are."""
    from floodmark.report import compare_runs

    names = compare_runs.names(directory)
    if not names:
        print(f"floodmark: no baselines in {directory}; floodmark baseline save NAME makes one", file=sys.stderr)
    for name in names:
        held = compare_runs.load(directory, name)
        counts = [len(subject.runs) for subject in held.scenarios.values()]
        print(f"{name}  {len(counts)} scenario{'s' if len(counts) != 1 else ''}, {_spoken(counts)}, on {held.machine.text}")


def compare(
    name: Annotated[str, typer.Argument(metavar="BASELINE", help="The name of a baseline.")],
    runs: _Runs = None,
    directory: _Dir = BASELINES,
    metric: Annotated[list[str] | None, typer.Option(help="A figure to compare instead of the usual ones; repeatable.")] = None,
    tolerance: Annotated[
        list[str] | None, typer.Option(metavar="SHARE", help="The change let pass, such as 10%, or for one figure rss_peak=2%; repeatable.")
    ] = None,
    across_machines: Annotated[
        bool, typer.Option("--across-machines", help="Compare with a baseline of another machine what does not hang on the machine.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, for the comment of a pull request.")] = False,
) -> None:
    """Compare runs with a baseline: exit code 0 for no regression, 10 for one, 11 where the noise does not let it be told."""
    if as_json and as_markdown:
        raise UsageError("--json and --markdown are two forms of the same; give one of them")
    wish = _wish(metric or [], tolerance or [], across_machines=across_machines)
    from floodmark.judge.compare import compare as compared_with
    from floodmark.judge.repetitions import gather
    from floodmark.report import compare_json, compare_markdown, compare_runs, compare_terminal

    held = compare_runs.load(directory, name)
    compared = compared_with(held, gather("now", compare_runs.runs_of(runs or ["latest"], base=RUNS)), wish)
    if as_json:
        print(compare_json.render(compared))
    elif as_markdown:
        print(compare_markdown.render(compared), end="")
    else:
        console = _console()
        console.print(compare_terminal.comparison(compared, columns=console.width))
    raise typer.Exit(compared.verdict.exit_code)


def _wish(metrics: list[str], tolerances: list[str], *, across_machines: bool) -> Wish:
    from floodmark.judge.comparison import Wish

    general: float | None = None
    own: dict[str, float] = {}
    for text in tolerances:
        name, equals, share = text.rpartition("=")
        if not share.rstrip().endswith("%"):
            raise UsageError(f"--tolerance {text}: write a share in per cent, such as 10%, or rss_peak=2% for one figure")
        value = units.parse(share, Dimension.RATIO, where=f"--tolerance {text}")
        if equals:
            own[name] = value
        elif general is not None:
            raise UsageError(f"--tolerance {text}: there is one for all figures already; write FIGURE={text} for a single one")
        else:
            general = value
    return Wish(metrics=tuple(metrics), tolerance_ratio=general, tolerances=own, across_machines=across_machines)


def _tell(kept_out: tuple[KeptOut, ...]) -> None:
    for one in kept_out:
        print(f"floodmark: {one.scenario} of {one.run} is kept out: {one.why}", file=sys.stderr)


def _spoken(counts: list[int]) -> str:
    """How often the scenarios of a baseline were measured."""
    least, most = min(counts, default=0), max(counts, default=0)
    times = f"{least}" if least == most else f"{least} to {most}"
    return f"{times} repetition{'s' if times != '1' else ''} each"


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)
