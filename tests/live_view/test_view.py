"""`floodmark run` on a terminal: the live view comes and goes, whatever ends it the run goes on or ends as it should, nothing is left."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from floodmark.report.live import LIVE
from tests.live_view.terminals import ALTERNATE, INTERRUPT, MAIN, terminal
from tests.runner.played import server, wait_for, write_scenario

LONG = 'arrival = { kind = "constant", rate_hz = 200 }\nduration_s = 30'
SHORT = 'arrival = { kind = "constant", rate_hz = 200 }\nduration_s = 3'
UNWARMED = "warmup = false"


def document(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "runs" / "latest" / "run.json").read_bytes())
    return found


def test_run_on_a_terminal_shows_the_view_and_ends_with_the_table(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, command=server(), phase=SHORT)

    with terminal(tmp_path, "run", str(scenario)) as shown:
        shown.until("offered", "200 /s", "Ctrl-C interrupt the run")
        shown.until("run it again")
        code = shown.ended()

        assert code == 0
        assert (shown.seen.count(ALTERNATE), shown.seen.count(MAIN)) == (1, 1)
        after = shown.seen.rpartition(MAIN)[2].decode()
        assert "PASS" in after
        assert "tried" in after
        assert "run folder" in after
        assert shown.as_before()
    assert not (tmp_path / "runs" / "latest" / LIVE).exists()
    assert document(tmp_path)["verdict"] == "PASS"


def test_run_counts_the_view_as_a_tree_of_its_own(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, command=server(), phase=SHORT)

    with terminal(tmp_path, "run", str(scenario)) as shown:
        assert shown.ended() == 0

    samples = pl.read_parquet(tmp_path / "runs" / "latest" / "samples.parquet")
    view, harness = (samples.filter(pl.col("series") == f"{tree}_rss_bytes")["value"].max() for tree in ("view", "harness"))
    assert isinstance(view, float)
    assert isinstance(harness, float)
    assert view > 10 * 2**20
    assert document(tmp_path)["scenarios"][0]["generator"]["processes"] == 2


def test_run_whose_view_the_user_leaves_goes_on_with_plain_lines(tmp_path: Path) -> None:
    scenario = write_scenario(
        tmp_path, command=server(), phase=SHORT.replace("duration_s = 3", "duration_s = 12")
    )  # there is a line each 5 s

    with terminal(tmp_path, "run", str(scenario)) as shown:
        shown.until("offered", "200 /s")
        shown.type_in(b"q")
        wait_for(lambda: not shown.view_pids(), "end of the view")
        shown.forget()
        shown.until("published")
        code = shown.ended()

        assert code == 0
        assert ALTERNATE not in shown.seen
        assert "All" in shown.words or "passed" in shown.words
    assert document(tmp_path)["verdict"] == "PASS"


@pytest.mark.parametrize("how", ["key in the view", "signal to the run", "signal to all"])
def test_run_interrupted_under_the_view_ends_with_130_and_keeps_everything(tmp_path: Path, how: str) -> None:
    scenario = write_scenario(tmp_path, command=server(), phase=LONG, top=UNWARMED)

    with terminal(tmp_path, "run", str(scenario)) as shown:
        shown.until("offered", "200 /s")
        match how:
            case "key in the view":
                shown.type_in(INTERRUPT)
            case "signal to the run":
                shown.process.send_signal(signal.SIGINT)
            case _:
                os.killpg(shown.process.pid, signal.SIGINT)
        code = shown.ended()

        assert code == 130
        assert "run it again" in shown.words
        assert shown.as_before()
    kept = document(tmp_path)
    assert kept["interrupted"] is True
    assert kept["scenarios"][0]["delivery"]["delivered"] > 0
    assert not (tmp_path / "runs" / "latest" / LIVE).exists()


def test_run_whose_view_is_killed_gives_the_terminal_back_and_goes_on(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, command=server(), phase=SHORT)

    with terminal(tmp_path, "run", str(scenario)) as shown:
        shown.until("offered", "200 /s")
        (pid,) = shown.view_pids()
        os.kill(pid, signal.SIGKILL)
        shown.until("the live view has ended with exit code -9")
        code = shown.ended()

        assert code == 0
        assert MAIN in shown.seen
        assert shown.as_before()


def test_view_of_a_run_that_is_killed_leaves_by_itself(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, command=server(), phase=LONG, top=UNWARMED)

    with terminal(tmp_path, "run", str(scenario)) as shown:
        shown.until("offered", "200 /s")
        shown.process.kill()

        assert shown.ended() == -signal.SIGKILL  # also looks whether the view has outlived it
        wait_for(lambda: shown.as_before(), "terminal as it was")
    assert (tmp_path / "runs" / "latest" / LIVE).exists()  # how far it came


@pytest.mark.parametrize(
    ("words", "size", "environment"),
    [
        pytest.param(("--plain",), (100, 30), {}, id="plain"),
        pytest.param(("--json",), (100, 30), {}, id="json"),
        pytest.param((), (50, 30), {}, id="narrow"),
        pytest.param((), (100, 15), {}, id="low"),
        pytest.param((), (100, 30), {"TERM": "dumb"}, id="dumb"),
    ],
)
def test_run_where_no_view_fits_is_plain(
    tmp_path: Path, words: tuple[str, ...], size: tuple[int, int], environment: dict[str, str]
) -> None:
    scenario = write_scenario(tmp_path, command=server())

    with terminal(tmp_path, "run", str(scenario), *words, size=size, **environment) as shown:
        assert shown.ended() == 0

        assert ALTERNATE not in shown.seen
        assert "run it again" in shown.words


def test_run_with_a_usage_error_shows_no_view(tmp_path: Path) -> None:
    with terminal(tmp_path, "run", "no-such-suite") as shown:
        assert shown.ended() == 2

        assert ALTERNATE not in shown.seen
        assert "no-such-suite" in shown.words


def test_watch_of_a_run_in_another_terminal_ends_with_it_and_stays_to_be_read(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, command=server(), phase=SHORT)

    with terminal(tmp_path, "run", str(scenario), "--plain") as running:
        wait_for(lambda: (tmp_path / "runs" / "latest" / LIVE).exists(), "live.jsonl")
        with terminal(tmp_path, "watch") as watching:
            watching.until("offered", "200 /s", "q leave")
            assert running.ended() == 0
            watching.until("PASS")
            assert watching.process.poll() is None
            watching.type_in(b"q")

            assert watching.ended() == 0
            assert watching.as_before()


def test_watch_interrupted_ends_with_130(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, command=server())
    with terminal(tmp_path, "run", str(scenario), "--plain") as running:
        assert running.ended() == 0

    with terminal(tmp_path, "watch", "latest") as watching:
        watching.until("PASS")
        watching.type_in(INTERRUPT)

        assert watching.ended() == 130
        assert watching.as_before()
