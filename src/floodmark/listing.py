"""What `floodmark list` shows, straight from the registries, and the scenario file that `floodmark init` writes."""

from __future__ import annotations

from floodmark import suites
from floodmark.core.units import UNITS
from floodmark.drivers import DRIVERS
from floodmark.faults import FAULTS
from floodmark.model.metrics import METRICS

STARTER = """\
# A floodmark scenario. Every key is described in docs/scenarios.md; `floodmark list metrics` shows what criteria can name.
id = "chat.steady"
title = "200 subscribers on 10 channels, 1,000 messages a second for ten seconds"

# The embedded hub to begin with. Your own service: a URL ("ws://127.0.0.1:4000/graphql"), or a command line to start.
target = { system = "hub", args = ["--no-rate-limits"] }
driver = "graphql-ws"

criteria = [
    "success_ratio == 100%",
    "latency_p99 < 500ms",
    "lost == 0",
]

[population]
connections = 200
channels = 10
publishers = 2

[[phases]]
name = "steady"
arrival = { kind = "constant", rate_hz = "1000/s" }
payload_bytes = "200B"
duration_s = "10s"
"""


def table(what: str) -> str:
    """One line per entry: its name and what it is."""
    match what:
        case "suites":
            rows = [(name, f"{len(entries)} scenarios") for name, entries in suites.SUITES.items()]
        case "scenarios":
            rows = [(entry.id, f"{entry.plan + ': ' if entry.plan else ''}{entry.text}") for entry in suites.entries().values()]
        case "drivers":
            rows = [(name, text) for name, (_, text) in DRIVERS.items()]
        case "faults":
            rows = [(name, text) for name, (_, text) in FAULTS.items()]
        case _:
            rows = [
                (metric.name, f"{metric.text} [{', '.join(unit for unit in UNITS[metric.dimension] if unit) or 'no unit'}]")
                for metric in METRICS.values()
            ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)
