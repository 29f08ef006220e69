"""What a run asked for, in words: the load of a scenario and its faults, from the configuration that run.json keeps.

Input: a run document. Output: text without markup. A configuration that this version cannot read (another version wrote it) is left out;
reports then say that the load is not known.
"""

from __future__ import annotations

import math
from contextlib import suppress

import msgspec

from floodmark.core.errors import UsageError
from floodmark.model.scenario import Fast, Fault, Phase, Population, Scenario
from floodmark.report import figures
from floodmark.report.document import RunDocument


def asked(document: RunDocument) -> dict[str, Scenario]:
    """The scenarios as they were run, by id."""
    found: dict[str, Scenario] = {}
    for plain in document.configuration:
        with suppress(msgspec.ValidationError, UsageError):
            scenario = msgspec.convert(plain, Scenario)
            found[scenario.id] = scenario
    return found


def load(scenario: Scenario) -> str:
    """Who was on the target and what was sent.

    >>> from floodmark.model.criterion import parse
    >>> load(Scenario(id="a", population=Population(connections=1000), phases=(Phase(duration_s=5),), criteria=(parse("lost == 0"),)))
    '1,000 connections on 1 channel, 1 publisher; steady: constant at 100 /s for 5.00 s, 200 B each'
    """
    return "; ".join([population(scenario.population), *map(phase, scenario.phases)])


def population(people: Population) -> str:
    """The connections and what they listen to."""
    each = people.subscriptions_per_connection
    listening = f" with {each:,} subscriptions each" if each > 1 else ""
    slow = ""
    if not isinstance(people.consumer, Fast):
        slow = f", {people.consumer_ratio:.3g} of them {type(people.consumer).__name__.lower()}"
    waves = f", in {people.waves} waves" if people.waves > 1 else ""
    connections = f"{_several(people.connections, 'connection')}{listening}{slow}{waves}"
    return f"{connections} on {_several(people.channels, 'channel')}, {_several(people.publishers, 'publisher')}"


def phase(stretch: Phase) -> str:
    """One stretch of load."""
    arrival = msgspec.to_builtins(stretch.arrival)
    kind = str(arrival.pop("kind"))
    settings = " ".join(_setting(name, value) for name, value in arrival.items())
    until = [figures.time_s(stretch.duration_s)] if stretch.duration_s is not None else []
    until += [f"{stretch.messages:,} messages"] if stretch.messages is not None else []
    return f"{stretch.name}: {kind} {settings} for {' or '.join(until)}, {figures.size(stretch.payload_bytes)} each"


def fault(slot: Fault) -> str:
    """What a fault slot asked for.

    >>> fault(Fault(kind="drop", at_s=1.0, ratio=0.2, options={"during": "publish"}))
    'drop (during = publish), share 20 %, at 1.00 s'
    """
    options = ", ".join(f"{name} = {_plain(value)}" for name, value in slot.options.items())
    parts = [f"{slot.kind} ({options})" if options else slot.kind, f"share {slot.ratio * 100:.4g} %"]
    parts.append("from before the first connection to the end" if slot.from_connect else f"at {figures.time_s(slot.at_s)}")
    if slot.for_s:
        parts.append(f"for {figures.time_s(slot.for_s)}")
    if slot.repeat > 1:
        parts.append(f"{slot.repeat:,} times, {figures.time_s(slot.every_s)} apart")
    return ", ".join(parts)


def _setting(name: str, value: object) -> str:
    """One setting of an arrival: its unit stands at the end of its name.

    >>> _setting("rate_hz", 500.0), _setting("from_hz", 10.0), _setting("every_s", 0.5), _setting("in_flight", 1000)
    ('at 500 /s', 'from 10.0 /s', 'every 500 ms', 'in flight 1,000')
    """
    word, _, unit = name.rpartition("_")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if unit == "hz":
            return f"{'at' if word == 'rate' else word} {figures.rate(value)}"
        if unit == "s":
            return f"{word} {figures.time_s(value)}"
        return f"{name.replace('_', ' ')} {value:,}"
    return f"{name} {value}"


def _plain(value: float | int | str | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) else str(value)
    return str(value)


def _several(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
