"""Good scenario files: units, defaults, targets as text, several scenarios, Python, and the way through TOML and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given

from floodmark.core.errors import UsageError
from floodmark.drivers import build as build_driver
from floodmark.faults import plan
from floodmark.model import metrics
from floodmark.model.arrival import Constant, Ramp
from floodmark.model.criterion import Criterion, parse
from floodmark.model.finding import Guarantee, Order
from floodmark.model.read import checked, read_python, read_text, read_toml, reference, to_toml
from floodmark.model.reference import MARKER, renew
from floodmark.model.scenario import URL_IN_OUTPUT, Fault, Phase, Population, Scenario, Slow, Target
from tests.model.strategies import scenarios

ROOT = Path(__file__).parents[2]
UNITS = """
id = "units"
target = { command = "serve", url = "ws://127.0.0.1:1", start_limit_s = "1min" }
criteria = ["lost == 0", "latency_p99 @ ramp < 100ms"]
guarantee = "at-least-once"
order = "none"
scale = "0.5x"
drain_limit_s = 3
driver_options = { rate = "5/s", deep = 7, on = true, off = 0.5 }

[population]
connections = "1.5k"
consumer = { profile = "slow", rate_bytes_per_s = "1MB/s" }
consumer_ratio = "25%"

[[phases]]
name = "ramp"
arrival = { kind = "ramp", from_hz = "60/min", to_hz = "10k/s" }
duration_s = "1.5min"
payload_bytes = "2KiB"

[[phases]]
messages = "1M"

[[faults]]
kind = "disconnect"
at_s = "500ms"
ratio = "33%"
"""


def minimal(**changes: object) -> Scenario:
    """A small valid scenario with some fields changed, as careless Python would."""
    fields: dict[str, object] = {
        "id": "x",
        "population": Population(connections=1),
        "phases": (Phase(duration_s=1.0),),
        "criteria": (parse("lost == 0"),),
    }
    return Scenario(**(fields | changes))  # type: ignore[arg-type]


def test_read_text_units_become_base_units() -> None:
    (scenario,) = read_text(UNITS, "units.toml")

    assert scenario == Scenario(
        id="units",
        target=Target(command="serve", url="ws://127.0.0.1:1", start_limit_s=60.0),
        driver_options={"rate": "5/s", "deep": 7, "on": True, "off": 0.5},
        population=Population(connections=1500, consumer=Slow(rate_bytes_per_s=1e6), consumer_ratio=0.25),
        phases=(
            Phase(name="ramp", arrival=Ramp(from_hz=1.0, to_hz=10_000.0), duration_s=90.0, payload_bytes=2048),
            Phase(messages=1_000_000),
        ),
        faults=(Fault(kind="disconnect", at_s=0.5, ratio=0.33),),
        criteria=(parse("lost == 0"), parse("latency_p99 @ ramp < 100ms")),
        guarantee=Guarantee.AT_LEAST_ONCE,
        order=Order.NONE,
        drain_limit_s=3.0,
        scale=0.5,
    )


def test_read_text_a_number_without_text_gets_the_field_type() -> None:
    (scenario,) = read_text(UNITS, "units.toml")

    assert isinstance(scenario.drain_limit_s, float)
    assert isinstance(scenario.population.connections, int)


@pytest.mark.parametrize("rate", ['"1MB/s"', '"1MB"', "1_000_000", '"1 MB/s"'])
def test_read_text_a_byte_rate_may_leave_out_the_second(rate: str) -> None:
    (scenario,) = read_text(UNITS.replace('"1MB/s"', rate), "units.toml")

    assert scenario.population.consumer == Slow(rate_bytes_per_s=1e6)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("hub", Target(system="hub")),
        ("wss://example.org/chat?room=$channel", Target(url="wss://example.org/chat?room=$channel")),
        ("nats://127.0.0.1:4222", Target(url="nats://127.0.0.1:4222")),
        ("node server.js --port 0", Target(command="node server.js --port 0", ready_pattern=URL_IN_OUTPUT)),
        ("./serve", Target(command="./serve", ready_pattern=URL_IN_OUTPUT)),
        ("serve --of ws://127.0.0.1:1", Target(command="serve --of ws://127.0.0.1:1", ready_pattern=URL_IN_OUTPUT)),
        ("python:my.module:stream", Target(system="python:my.module:stream")),
    ],
)
def test_read_text_a_target_as_text_is_told_apart(text: str, target: Target) -> None:
    line = f"target = '{text}'"

    (scenario,) = read_text(UNITS.replace(UNITS.splitlines()[2], line), "units.toml")

    assert scenario.target == target


def test_read_text_scenario_tables_come_in_their_order() -> None:
    table = "[[scenario]]\nid = '{}'\ncriteria = ['lost == 0']\npopulation.connections = 1\n[[scenario.phases]]\nmessages = 1\n"

    ids = [scenario.id for scenario in read_text("".join(table.format(name) for name in "zab"), "x.toml")]

    assert ids == ["z", "a", "b"]


def test_read_toml_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(UNITS, encoding="utf-8-sig")

    assert read_toml(path)[0].id == "units"


def test_read_python_takes_one_or_several_and_keeps_stdout_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.py"
    several = (ROOT / "examples/steady.py").read_text(encoding="utf-8") + "\nprint('hello')\n"
    path.write_text(several, encoding="utf-8")
    assert len(read_python(path)) == 3
    path.write_text(several + "scenario = scenarios[0]\ndel scenarios\n", encoding="utf-8")

    (scenario,) = read_python(path)

    assert scenario.id == "steady.200-bytes"
    assert capsys.readouterr() == ("", "hello\nhello\n")


@given(scenarios())
def test_to_toml_read_back_is_equal(scenario: Scenario) -> None:
    assert read_text(to_toml(scenario), "recorded.toml") == (scenario,)


@given(scenarios())
def test_checked_a_valid_scenario_is_equal(scenario: Scenario) -> None:
    assert checked(scenario) == scenario


def test_checked_lists_and_whole_seconds_become_tuples_and_floats() -> None:
    loose = minimal(phases=[Phase(duration_s=1)], criteria=[parse("lost == 0")], drain_limit_s=3)

    scenario = checked(loose)

    assert scenario == minimal(drain_limit_s=3.0)
    assert isinstance(scenario.phases, tuple)
    assert isinstance(scenario.drain_limit_s, float)
    assert isinstance(scenario.phases[0].duration_s, float)


WRONG_FROM_PYTHON: list[tuple[dict[str, object], str]] = [
    ({"title": 5}, "scenario 'x': title must be text in quotes, got 5"),
    ({"warmup": 1}, "scenario 'x': warmup must be true or false, got 1"),
    ({"population": "many"}, "scenario 'x': population must be a table, got 'many'"),
    ({"guarantee": "once"}, "scenario 'x': guarantee must be one of at-most-once"),
    ({"driver_options": {"a": [1]}}, "scenario 'x': driver_options.a must be text, true, false or a number, got a list"),
    ({"driver_options": {1: "a"}}, "scenario 'x': driver_options must be a table whose keys are text"),
    ({"phases": (Phase(duration_s=1.0, arrival=Fault(kind="x")),)}, "scenario 'x': phases[0].arrival must be a table such as"),  # type: ignore[arg-type]
    ({"target": Population(connections=1)}, "scenario 'x': target must be a Target, got Population("),
    ({"criteria": (Criterion(text="lost == 0", metric="lost", operator="==", limit=5.0),)}, "does not say what its fields hold"),
]


@pytest.mark.parametrize(("changes", "part"), WRONG_FROM_PYTHON, ids=[part for _, part in WRONG_FROM_PYTHON])
def test_checked_a_wrong_type_from_python_is_told_with_its_place(changes: dict[str, object], part: str) -> None:
    scenario = minimal(**changes)

    with pytest.raises(UsageError) as caught:
        checked(scenario)

    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_checked_something_else_is_refused() -> None:
    with pytest.raises(UsageError, match="a Scenario is needed, got int"):
        checked(5)  # type: ignore[arg-type]


def test_example_chat_is_a_scenario_its_driver_and_faults_take() -> None:
    (scenario,) = read_toml(ROOT / "examples/chat.toml")

    assert set(scenario.driver_options) == {"subscribe", "publish", "encoding"}
    assert build_driver(scenario.driver, scenario.driver_options).encoding == "text"
    assert [plan(fault) for fault in scenario.faults]


def test_example_steady_grows_the_payload_alone() -> None:
    found = read_python(ROOT / "examples/steady.py")

    assert [scenario.phases[0].payload_bytes for scenario in found] == [200, 2_000, 20_000]
    assert {scenario.phases[0].arrival for scenario in found} == {Constant(rate_hz=100.0)}


@pytest.mark.parametrize(("file", "text"), [("scenarios.md", reference()), ("criteria.md", metrics.reference())])
def test_docs_hold_exactly_the_tables_written_from_the_code(file: str, text: str) -> None:
    page = (ROOT / "docs" / file).read_text(encoding="utf-8")

    assert page.partition(MARKER)[2] == text, f"docs/{file} is behind the code: run python -m floodmark.model.reference docs"


def test_renew_old_tables_are_replaced_and_the_words_above_kept(tmp_path: Path) -> None:
    for name in ("scenarios.md", "criteria.md"):
        (tmp_path / name).write_text(f"# My words\n\n{MARKER}old\n", encoding="utf-8")

    renew(tmp_path)

    assert (tmp_path / "scenarios.md").read_text(encoding="utf-8") == f"# My words\n\n{MARKER}{reference()}"
    assert (tmp_path / "criteria.md").read_text(encoding="utf-8") == f"# My words\n\n{MARKER}{metrics.reference()}"


def test_renew_a_page_without_marker_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "scenarios.md").write_text("# My words\n", encoding="utf-8")

    with pytest.raises(UsageError, match="is missing; put it where the tables belong"):
        renew(tmp_path)
    assert (tmp_path / "scenarios.md").read_text(encoding="utf-8") == "# My words\n"


def test_reference_names_every_key_and_docs_show_a_scenario_that_reads() -> None:
    page = (ROOT / "docs/scenarios.md").read_text(encoding="utf-8")
    sample = page.split("```toml\n")[1].split("```")[0]

    assert read_text(sample, "docs")[0].id == "hello"
    for struct in (Scenario, Population, Phase, Fault, Target, Ramp, Slow):
        assert all(f"| `{field}` |" in reference() for field in struct.__struct_fields__)


def test_metrics_reference_has_a_row_for_every_metric() -> None:
    rows = [line for line in metrics.reference().splitlines() if line.startswith("| `")]

    assert len(rows) == len(metrics.METRICS)
