"""Wrong scenario files: each ends in one sentence with the file, the place, what was wrong and what is allowed; never in a traceback."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from floodmark.core.errors import UsageError
from floodmark.model.read import read_python, read_text, read_toml

GOOD = """id = "x"
criteria = ["lost == 0"]
population = { connections = 10 }
phases = [{ duration_s = 1 }]
"""
ARRIVAL = "phases = [{ duration_s = 10, arrival = %s }]"
POPULATION = "population = { connections = 10, %s }"

# (the line put in place of the good one with the same key, or added; what the sentence must hold)
WRONG: list[tuple[str, tuple[str, ...]]] = [
    ("tittle = 'x'", ("unknown key 'tittle'", "did you mean 'title'?")),
    ("zzz = 1", ("unknown key 'zzz'", "known: id, title")),
    (
        "phases = [{ duration_s = 1 }, { name = 'b', durations = '10s' }]",
        ("phases[1]: unknown key 'durations'", "did you mean 'duration_s'?"),
    ),
    ("phases = [{ duration_s = 1, payload_bytes = '10s' }]", ("phases[0].payload_bytes: '10s' has the unit 's', but a size takes", "KiB")),
    ("phases = [{ duration_s = '10' }]", ("phases[0].duration_s: '10' has the unit 'none', but a duration takes", "ms")),
    ("phases = [{ duration_s = 'soon' }]", ("phases[0].duration_s: 'soon' is not a duration", "min")),
    ("phases = [{ duration_s = true }]", ("phases[0].duration_s must be a duration", "got true")),
    ("phases = [{ duration_s = nan }]", ("phases[0].duration_s must be a duration", "finite", "nan")),
    ("phases = [{ duration_s = inf }]", ("phases[0].duration_s must be a duration", "finite")),
    ("phases = [{ duration_s = 0 }]", ("phases[0].duration_s must be finite and greater than 0, got 0",)),
    ("phases = [{ duration_s = '-1s' }]", ("phases[0].duration_s must be finite and greater than 0, got -1",)),
    ("phases = [{ duration_s = 1, payload_bytes = 0 }]", ("phases[0].payload_bytes must be a whole number of at least 1, got 0",)),
    ("phases = [{ duration_s = 1, payload_bytes = 1.5 }]", ("phases[0].payload_bytes must be a whole number, got 1.5",)),
    ("phases = [{ duration_s = 1, payload_bytes = '1.5B' }]", ("phases[0].payload_bytes must be a whole number, got '1.5B'",)),
    ("phases = [{ messages = false }]", ("phases[0].messages must be a count", "got false")),
    ("phases = [{ name = 'a' }]", ("phases[0]: phase 'a' has neither duration_s nor messages", "give one of them")),
    ("phases = [{ duration_s = 1, name = 7 }]", ("phases[0].name must be text in quotes, got 7",)),
    ("phases = [{ duration_s = 1, name = ' ' }]", ("phases[0].name must be text that is not empty",)),
    ("phases = [{ duration_s = 1 }, { duration_s = 2 }]", ("phase names must differ", "steady")),
    ("phases = []", ("has no phases", "add at least one")),
    ("phases = { duration_s = 1 }", ("phases must be a list of tables ([[phases]]), got a table",)),
    ("phases = [1]", ("phases[0] must be a table, got 1",)),
    (
        "phases = [{ messages = 9, arrival = { kind = 'ramp', from_hz = 1, to_hz = 2 } }]",
        ("phases[0]: phase 'steady' is a ramp", "duration_s"),
    ),
    (ARRIVAL % "'fast'", ('phases[0].arrival must be a table such as { kind = "constant" }', "poisson", "got 'fast'")),
    (ARRIVAL % "{ rate_hz = 5 }", ("phases[0].arrival: the key 'kind' is missing", "constant, ramp")),
    (ARRIVAL % "{ kind = 'rampp', from_hz = 1, to_hz = 2 }", ("phases[0].arrival.kind is 'rampp'", "did you mean 'ramp'?", "flood")),
    (ARRIVAL % "{ kind = 3 }", ("phases[0].arrival.kind is 3", "constant")),
    (ARRIVAL % "{ kind = 'constant', rate_hz = '5MB' }", ("phases[0].arrival.rate_hz: '5MB' has the unit 'MB', but a rate takes", "/s")),
    (ARRIVAL % "{ kind = 'constant' }", ("phases[0].arrival: the key 'rate_hz' is missing", "a constant needs it")),
    (ARRIVAL % "{ kind = 'constant', rate = 5 }", ("phases[0].arrival: unknown key 'rate'", "did you mean 'rate_hz'?")),
    (ARRIVAL % "{ kind = 'burst', count = 2.5, every_s = 1 }", ("phases[0].arrival.count must be a whole number, got 2.5",)),
    (
        ARRIVAL % "{ kind = 'wave', rate_hz = 5, amplitude_hz = 6, period_s = 1 }",
        ("phases[0].arrival.amplitude_hz must not exceed rate_hz (5)",),
    ),
    (ARRIVAL % "{ kind = 'spike', rate_hz = 5, peak_hz = 6, at_s = 20, for_s = 1 }", ("spike at 20 s would never come", "lower at_s")),
    (ARRIVAL % "{ kind = 'flood', in_flight = 0 }", ("phases[0].arrival.in_flight must be a whole number of at least 1, got 0",)),
    ("population = {}", ("population: the key 'connections' is missing",)),
    ("population = 5", ("population must be a table, got 5",)),
    ("population = { connections = 0 }", ("population.connections must be a whole number of at least 1, got 0",)),
    (POPULATION % "channels = 11", ("population.channels is 11, but only 10 subscriptions would listen", "raise connections")),
    (POPULATION % "consumer_ratio = '120%'", ("population.consumer_ratio must be above 0 and at most 1", "1.2")),
    (POPULATION % "consumer = 'slow'", ('population.consumer must be a table such as { profile = "fast" }', "stuck")),
    (
        POPULATION % "consumer = { profile = 'slow', rate_bytes_per_s = '1s' }",
        ("population.consumer.rate_bytes_per_s", "but a size takes", "MB"),
    ),
    ("criteria = []", ("has no criteria",)),
    ("criteria = 'lost == 0'", ("criteria must be a list, got 'lost == 0'",)),
    ("criteria = [5]", ("criteria[0] must be text in quotes", "latency_p99 < 100ms")),
    (
        "criteria = ['lost == 0', 'latency_p98 < 1s']",
        ("criteria[1]: criterion 'latency_p98 < 1s'", "unknown metric 'latency_p98'", "did you mean"),
    ),
    ("criteria = ['lost is 0']", ("criteria[0]: criterion 'lost is 0' is not METRIC OPERATOR VALUE", "<=")),
    ("criteria = ['latency_p99 < 100']", ("criteria[0]: criterion 'latency_p99 < 100'", "a duration takes one of", "ms")),
    ("criteria = ['lost @ strom == 0']", ("names the phase 'strom', but the phases are: 'steady'",)),
    ("faults = [{ kind = 'disconnect', ratio = 2 }]", ("faults[0].ratio must be from 0 to 1", "got 2")),
    ("faults = [{ at_s = 1 }]", ("faults[0]: the key 'kind' is missing",)),
    ("faults = [{ kind = 'x', options = { a = [1] } }]", ("faults[0].options.a must be text, true, false or a number, got a list",)),
    ("faults = [{ kind = 'x', options = { a = nan } }]", ("faults[0].options.a", "finite", "nan")),
    ("driver_options = { 'a b' = [] }", ("driver_options.'a b' must be text, true, false or a number, got a list",)),
    ('driver_options = { "a\\nb" = [] }', ("driver_options.'a\\nb' must be text",)),
    ("driver_options = 'x'", ("driver_options must be a table, got 'x'",)),
    ("target = { system = 'hub', url = 'ws://h' }", ("target: an embedded system picks its own port; leave url out",)),
    ("target = {}", ("target: give one of system, url or command",)),
    ("target = ''", ("target must not be empty", "a URL or a command line")),
    ("target = 5", ("target must be a table, got 5",)),
    ("target = { command = 'a b', ready_pattern = '(' }", ("target.ready_pattern must be a regular expression with a group",)),
    ("target = { command = 'a b' }", ("target: a command needs url", "ready_pattern")),
    ("guarantee = 'once'", ("guarantee must be one of at-most-once, at-least-once, exactly-once, got 'once'",)),
    ("order = 1", ("order must be one of per-publisher, none, got 1",)),
    ("warmup = 'yes'", ("warmup must be true or false, got 'yes'",)),
    ("scale = '50%'", ("scale: '50%' has the unit '%', but a multiple takes one of: x",)),
    ("drain_limit_s = 1979-05-27", ("drain_limit_s must be a duration", "datetime.date")),
    (f"drain_limit_s = 1{'0' * 400}", ("drain_limit_s must be a finite number",)),
    ("id = ''", ("id must be text that is not empty",)),
    ("scenario = 1", ("scenario must be written as [[scenario]] tables",)),
    ("[[scenario]]\nid = 'y'", ("the key 'id' stands beside [[scenario]]",)),
]
SYNTAX: list[tuple[str, tuple[str, ...]]] = [
    ("id = \n", ("x.toml:1:6: not valid TOML: Invalid value",)),
    ('id = "x"\nid = "y"\n', ("x.toml:2:9: not valid TOML: Cannot overwrite a value",)),
    ('id = "x', ("x.toml:1:", "not valid TOML")),
    ("a = 1\nb = 'x\n", ("x.toml:3:1:", "not valid TOML")),
    ("id = x\n", ("x.toml:1:6: not valid TOML",)),
    ("a = " + "9" * 5000, ("x.toml", "not valid TOML")),
    ("a = " + "[" * 100_000, ("x.toml: the file is nested too deeply",)),
    ("", ("x.toml: the file is empty", "[[scenario]]")),
    ("# nothing\n", ("x.toml: the file is empty",)),
]


def assert_one_sentence(error: UsageError, *parts: str) -> None:
    """One line, no full stop inside or at the end, no Python in it, and every part that is expected."""
    text = str(error)
    for part in parts:
        assert part in text
    assert "\n" not in text
    assert not re.search(r"[.?!] [A-Z]|\.$", text), text
    assert "Traceback" not in text
    assert 'File "' not in text
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


def with_line(line: str) -> str:
    """The good file with one line changed."""
    key = line.partition("=")[0].strip()
    kept = [good for good in GOOD.splitlines() if good.partition("=")[0].strip() != key]
    return "\n".join([*kept, line])


def test_read_text_the_good_file_is_good() -> None:
    (scenario,) = read_text(GOOD, "x.toml")

    assert (scenario.id, scenario.population.connections) == ("x", 10)


@pytest.mark.parametrize(("line", "parts"), WRONG, ids=[line.replace("\n", " ")[:70] for line, _ in WRONG])
def test_read_text_a_wrong_line_is_one_sentence_with_its_place(line: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        read_text(with_line(line), "x.toml")

    assert_one_sentence(caught.value, "x.toml: ", *parts)


@pytest.mark.parametrize(("text", "parts"), SYNTAX, ids=[text[:20] for text, _ in SYNTAX])
def test_read_text_what_is_not_toml_is_one_sentence_with_line_and_column(text: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        read_text(text, "x.toml")

    assert_one_sentence(caught.value, *parts)


def test_read_text_a_wrong_key_in_the_second_scenario_names_it() -> None:
    table = "[[scenario]]\nid = '{}'\ncriteria = ['lost == 0']\npopulation = {{ connections = 1 }}\nphases = [{{ messages = {} }}]\n"

    with pytest.raises(UsageError) as caught:
        read_text(table.format("a", 1) + table.format("b", 0), "x.toml")

    assert_one_sentence(caught.value, "x.toml: scenario[1].phases[0].messages must be a whole number of at least 1, got 0")


def test_read_text_two_scenarios_of_one_id_are_refused() -> None:
    table = "[[scenario]]\n" + GOOD

    with pytest.raises(UsageError) as caught:
        read_text(table + table, "x.toml")

    assert_one_sentence(caught.value, "x.toml: 2 scenarios have the id 'x'")


@pytest.mark.parametrize("read", [read_toml, read_python])
def test_read_a_path_that_is_no_readable_text_is_one_sentence(read: object, tmp_path: Path) -> None:
    assert callable(read)
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"# fine\nid = 'caf\xe9'\n")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    for path, part in [
        (tmp_path / "no", "there is no such file"),
        (tmp_path, "this is not a file"),
        (pipe, "this is not a file"),
        (latin, "UTF-8"),
    ]:
        with pytest.raises(UsageError) as caught:
            read(path)
        assert_one_sentence(caught.value, str(path), part)
    assert f"{latin}:2: " in str(caught.value)


@pytest.mark.parametrize("read", [read_toml, read_python])
def test_read_a_file_that_may_not_be_read_is_one_sentence(read: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(read)
    path = tmp_path / "x.toml"
    path.write_text(GOOD, encoding="utf-8")

    def refuse(_: Path) -> bytes:  # the tests may run as root, who may read everything
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)

    with pytest.raises(UsageError) as caught:
        read(path)
    assert_one_sentence(caught.value, f"{path}: the file cannot be read (Permission denied)", "permissions")


PYTHON: list[tuple[str, tuple[str, ...]]] = [
    ("x = 1\n1 / 0\n", ("x.py:2: ZeroDivisionError: division by zero",)),
    ("def f():\n    raise ValueError('first\\n  second')\n\nf()\n", ("x.py:2: ValueError: first second",)),
    ("raise KeyError\n", ("x.py:1: the file raised KeyError",)),
    ("a = 1\nif a\n    pass\n", ("x.py:2: SyntaxError: expected ':'",)),
    ("import nowhere_to_be_found\n", ("x.py:1: ModuleNotFoundError", "nowhere_to_be_found")),
    ("import json\n\njson.loads('{')\n", ("x.py:3: JSONDecodeError",)),
    ("import sys\nsys.exit(3)\n", ("x.py:2: SystemExit: 3",)),
    (
        "from floodmark.model.scenario import Population\n\nPopulation(connections=0)\n",
        ("x.py:3: population.connections must be a whole number",),
    ),
    ("a = 1\n", ("x.py: the file assigns neither of scenario and scenarios",)),
    ("scenario = scenarios = None\n", ("x.py: the file assigns both of scenario and scenarios",)),
    ("scenario = 5\n", ("x.py: scenario must be a Scenario, got 5",)),
    ("scenarios = []\n", ("x.py: scenarios must be a list or tuple with at least one Scenario, got []",)),
    ("scenarios = [1]\n", ("x.py: scenarios must be a Scenario in each place, got 1",)),
]


@pytest.mark.parametrize(("text", "parts"), PYTHON, ids=[text[:30] for text, _ in PYTHON])
def test_read_python_a_wrong_file_is_one_sentence_with_its_line(text: str, parts: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(UsageError) as caught:
        read_python(path)

    assert_one_sentence(caught.value, str(tmp_path), *parts)


def test_read_python_an_interrupt_is_not_swallowed(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("raise KeyboardInterrupt\n", encoding="utf-8")

    with pytest.raises(KeyboardInterrupt):
        read_python(path)
