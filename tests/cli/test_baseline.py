"""`floodmark baseline` and `floodmark compare` as a person types them, on run folders of the real shape."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from floodmark import cli
from floodmark.model.arrival import Constant
from floodmark.model.criterion import parse
from floodmark.model.result import ScenarioResult
from floodmark.model.scenario import Phase, Population, Scenario
from floodmark.model.verdict import Verdict
from floodmark.report import RunFolder
from tests.judge.repeated import CALM
from tests.report import made
from tests.runner.played import play, write_scenario

ID = "subscriptions.case-1"
Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Run the command line in this process, in a folder of its own. Returns: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["floodmark", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def played(number: int, *, factor: float = 1.0, verdict: Verdict = Verdict.PASS, cores: int = 4, rate_hz: float = 500.0) -> str:
    """Write one run of a calm hub; `factor` is how much slower and larger it is. Returns: the folder's name."""
    moved = CALM[number % len(CALM)]
    metrics = {
        "throughput": 1000.0 * moved / factor,
        "latency_p50": 0.02 * moved * factor,
        "rss_peak": 5e7 * moved * factor,
        "load_time": 18.0,
    }
    result: ScenarioResult = made.passed(1, verdict=verdict, metrics=metrics)
    started = made.STARTED + timedelta(minutes=number)
    folder = RunFolder.create(Path("runs"), "case", started)
    folder.add_samples(result.id, *made.sampled(seed=number))
    load = Phase(name="steady", duration_s=18.0, arrival=Constant(rate_hz=rate_hz))
    scenario = Scenario(id=ID, population=Population(connections=10), phases=(load,), criteria=(parse("lost == 0"),))
    machine = msgspec.structs.replace(made.MACHINE, cores=cores)
    folder.write_result(made.run_of(result), [scenario], machine, command=made.COMMAND, started=started)
    return folder.id


def test_compare_of_repetitions_alike_ends_with_0_and_of_slower_ones_with_10(typed: Typed) -> None:
    before, alike = [played(number) for number in range(8)], [played(number) for number in range(8, 16)]
    slower = [played(number, factor=1.5) for number in range(16, 24)]

    assert typed("baseline", "save", "main", *before)[:2] == (0, "wrote baselines/main.json: 1 scenario, 8 repetitions each\n")
    same, same_out, _ = typed("compare", "main", *alike)
    worse, worse_out, _ = typed("compare", "main", *slower)

    assert (same, worse) == (0, 10)
    assert "✓ PASS  No regression" in same_out
    assert "✗ FAIL  A regression: 3 worse" in worse_out


def test_compare_of_the_latest_run_alone_ends_with_11_and_says_what_it_takes(typed: Typed) -> None:
    played(1)
    assert typed("baseline", "save", "main")[0] == 0
    played(2)

    code, out, _ = typed("compare", "main")

    assert code == 11
    assert "repeat the baseline and the runs until there are 5" in " ".join(out.split())


def test_compare_of_an_empty_run_ends_with_11(typed: Typed) -> None:
    played(1)
    typed("baseline", "save", "main")
    folder = RunFolder.create(Path("runs"), "empty", made.STARTED + timedelta(hours=1))
    folder.write_result(made.run_of(), [], made.MACHINE, command=made.COMMAND, started=made.STARTED)

    assert typed("compare", "main")[0] == 11


def test_compare_where_it_passed_and_fails_now_ends_with_10(typed: Typed) -> None:
    played(1)
    typed("baseline", "save", "main")
    played(2, verdict=Verdict.FAIL)

    code, out, _ = typed("compare", "main", "--json")

    assert code == 10
    assert json.loads(out)["comparisons"][0]["reason"].startswith("it passed before, and now")


@pytest.mark.parametrize(("changes", "words"), [({"cores": 64}, "another machine: 64 x"), ({"rate_hz": 900.0}, "the load is configured")])
def test_compare_of_what_is_not_the_same_thing_ends_with_11(typed: Typed, changes: dict[str, float], words: str) -> None:
    played(1)
    typed("baseline", "save", "main")
    played(2, **changes)  # type: ignore[arg-type]

    code, out, _ = typed("compare", "main", "--json")

    assert code == 11
    assert any(words in one["reason"] for one in json.loads(out)["comparisons"])


def test_compare_writes_one_json_document_or_one_comment_to_stdout(typed: Typed) -> None:
    typed("baseline", "save", "main", *[played(number) for number in range(5)])
    slower = [played(number, factor=2.0) for number in range(5, 10)]

    _, as_json, nothing = typed("compare", "main", *slower, "--json", "--metric", "rss_peak")
    _, as_markdown, _ = typed("compare", "main", *slower, "--markdown")

    assert nothing == ""
    assert [one["metric"] for one in json.loads(as_json)["comparisons"]] == ["verdict", "rss_peak"]
    assert as_markdown.startswith("### ✗ FAIL")


def test_compare_takes_a_tolerance_for_all_and_one_for_a_figure(typed: Typed) -> None:
    typed("baseline", "save", "main", *[played(number) for number in range(8)])
    slower = [played(number, factor=1.5) for number in range(8, 16)]

    code, out, _ = typed("compare", "main", *slower, "--tolerance", "100%", "--tolerance", "rss_peak=5%", "--json")

    assert code == 10
    assert [one["metric"] for one in json.loads(out)["comparisons"] if one["verdict"] == "worse"] == ["rss_peak"]


def test_save_again_needs_add_or_force_and_add_makes_repetitions(typed: Typed) -> None:
    one, two = played(1), played(2)
    typed("baseline", "save", "main", one)

    refused = typed("baseline", "save", "main", two)
    added = typed("baseline", "save", "main", two, "--add")
    replaced = typed("baseline", "save", "main", two, "--force")

    assert refused[0] == 2
    assert "--add puts these runs beside its own, --force takes its place" in refused[2]
    assert "2 repetitions each" in added[1]
    assert "1 repetition each" in replaced[1]


def test_save_keeps_a_scenario_that_did_not_pass_out_and_refuses_when_none_is_left(typed: Typed) -> None:
    good, bad = played(1), played(2, verdict=Verdict.FAIL)

    some, none = typed("baseline", "save", "main", good, bad), typed("baseline", "save", "other", bad)

    assert some[0] == 0
    assert f"{ID} of {bad} is kept out: it ended FAIL" in some[2]
    assert none[0] == 2
    assert "nothing to keep" in none[2]
    assert not Path("baselines/other.json").exists()


def test_saved_baseline_holds_the_spread_within_each_run_and_no_path_of_the_machine(typed: Typed) -> None:
    typed("baseline", "save", "main", played(1))

    text = Path("baselines/main.json").read_text(encoding="utf-8")

    figures = json.loads(text)["scenarios"][ID]["figures"]
    assert 0 < figures["throughput"]["spreads"][0] < 0.5
    assert figures["rss_peak"]["spreads"] == [None]
    assert str(Path.cwd()) not in text
    assert len(text) < 4000


def test_list_and_show_tell_what_is_kept(typed: Typed) -> None:
    nothing = typed("baseline", "list")
    typed("baseline", "save", "main", played(1))

    listed, shown = typed("baseline", "list"), typed("baseline", "show", "main")

    assert nothing[:2] == (0, "")
    assert "no baselines in baselines" in nothing[2]
    assert listed[1] == "main  1 scenario, 1 repetition each, on 4 x An Honest Processor 3.2 GHz\n"
    assert "latency_p50" in shown[1]
    assert "seed 7" in shown[1]


MISTAKES = {
    "no-baseline": (("compare", "mian"), "no baseline 'mian' in baselines; there are: main;"),
    "no-run": (("compare", "main", "nothing"), "'nothing' is no run folder"),
    "itself": (("compare", "main"), "is part of the baseline 'main', and cannot be compared with itself"),
    "name": (("baseline", "save", "../x"), "a baseline's name is letters"),
    "add-and-force": (("baseline", "save", "main", "--add", "--force"), "give one of them"),
    "twice": (("baseline", "save", "two", "latest", "latest"), "is named twice"),
    "added-again": (("baseline", "save", "main", "--add"), "is there already"),
    "unknown-figure": (("compare", "main", "--metric", "rss_pek"), "did you mean 'rss_peak'?"),
    "bare-tolerance": (("compare", "main", "--tolerance", "10"), "write a share in per cent, such as 10%"),
    "no-tolerance": (("compare", "main", "--tolerance", "0%"), "greater than 0"),
    "two-tolerances": (("compare", "main", "--tolerance", "10%", "--tolerance", "20%"), "write FIGURE=20% for a single one"),
    "two-forms": (("compare", "main", "--json", "--markdown"), "give one of them"),
    "no-json": (("baseline", "show", "broken"), "broken.json is no baseline"),
    "no-text": (("compare", "bytes"), "bytes.json is no baseline"),
    "run-of-another-schema": (("compare", "main", "later"), "this version can read: it has the schema 2, and this version reads 1"),
}


@pytest.mark.parametrize(("words", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_gets_one_sentence_and_2(typed: Typed, words: tuple[str, ...], sentence: str) -> None:
    played(1)
    typed("baseline", "save", "main")
    Path("baselines/broken.json").write_text("nonsense", encoding="utf-8")
    Path("baselines/bytes.json").write_bytes(b'{"schema": 1, "name": "\xff"}')
    Path("later").mkdir()
    Path("later/run.json").write_text('{"schema": 2}', encoding="utf-8")

    code, out, err = typed(*words)

    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1


def test_save_to_a_place_that_cannot_be_written_is_told(typed: Typed) -> None:
    name = played(1)
    Path("taken").write_text("a file", encoding="utf-8")

    code, _, err = typed("baseline", "save", "main", name, "--dir", "taken")

    assert code == 2
    assert "cannot write to taken" in err


def test_compare_of_two_real_runs_knows_them_for_the_same_thing_and_for_too_few(tmp_path: Path) -> None:
    path = write_scenario(
        tmp_path,
        target='system = "hub"\nargs = ["--no-rate-limits"]',
        phase='arrival = { kind = "constant", rate_hz = 200 }\nduration_s = 2.75',
        criteria=("lost == 0",),
    )

    codes = [
        play(tmp_path, *words).code
        for words in (("run", str(path), "--seed", "1"), ("baseline", "save", "main"), ("run", str(path), "--seed", "2"))
    ]
    compared = play(tmp_path, "compare", "main", "--json")

    assert (codes, compared.code) == ([0, 0, 0], 11)
    rows = {one["metric"]: one for one in json.loads(compared.stdout)["comparisons"]}
    assert rows["verdict"]["verdict"] == "same"
    assert rows["throughput"]["method"] == "spread within runs"
    assert {one["verdict"] for name, one in rows.items() if name != "verdict"} == {"unknown"}
    assert {"cpu_per_delivery", "rss_peak", "latency_p99", "fds_peak"} <= set(rows)
