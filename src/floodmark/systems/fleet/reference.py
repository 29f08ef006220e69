"""The tables of a fleet's settings, profiles, states and metrics, written from the code, so that the page cannot fall behind.

Output: Markdown. `docs/systems/fleet.md` holds exactly this text below its marker, and a test compares them. After a change:
`python -m floodmark.systems.fleet.reference docs`.
"""

from __future__ import annotations

import enum
import sys
from pathlib import Path
from typing import Final

from floodmark.core.errors import UsageError
from floodmark.systems.fleet.metrics import TABLE
from floodmark.systems.fleet.profiles import PROFILES, profile
from floodmark.systems.fleet.settings import DEGRADED_PRESETS, Settings
from floodmark.systems.fleet.states import WORKER_STEPS, WorkerState

PAGE: Final = "systems/fleet.md"
MARKER: Final = "<!-- Below this line: written from the code by `python -m floodmark.systems.fleet.reference docs`; edits are lost. -->\n\n"
MEANINGS: Final = {
    "worker_prefix": "how the workers are called: `worker-0` and so on",
    "id_min": "the least number a worker may have",
    "id_max": "the greatest; there can be no more workers than numbers",
    "id_ttl_s": "an id that was not renewed for this long is free",
    "heartbeat_s": "the period of the heartbeats",
    "heartbeat_ttl_s": "a worker that was not heard for this long is missed; it has stopped working by then",
    "when_cut_off": "`stop`: whose heartbeat lease has lapsed stops working. `go_on`: it goes on while the store does not answer",
    "election_timeout_s": "a leader that did not renew its lease for this long leads no more; renewed three times as often",
    "cold_start_s": "window for workers to come when there were none; the first round comes at once all the same",
    "planned_scale_s": "window for workers to come when there are some",
    "emergency_grace_s": "how long a missed worker may come back before its partitions are given away",
    "restart_ratio": "a fleet of which less than this is left may have restarted",
    "restart_from_count": "only a fleet that had so many can restart",
    "restart_below_count": "and only if fewer than these are left",
    "rebalance_threshold_ratio": "a window that ends with the same workers moves nothing if no load is further from the mean than this",
    "rebalance_interval_s": "cooldown between planned rounds; a loss does not wait for it",
    "watch_debounce_s": "changes that come within this are looked at together",
    "handover": "`direct`: old and new worker change in one round. `confirmed`: the new one waits for the old one's word",
    "handover_limit_s": "how long it waits",
    "operation_limit_s": "for one operation of the store, one update of the consumer, one call of `on_assignment`",
    "startup_limit_s": "until the first assignment; better more than `cold_start_s` + `emergency_grace_s`: some wait for the window",
    "shutdown_limit_s": "for an orderly stop",
    "degraded_enter_s": "without an answer of the store for this long a worker is degraded",
    "degraded_exit_s": "after this long without a failure it no longer is",
    "degraded_errors_count": "so many failures",
    "degraded_window_s": "within this are as bad as silence; those within one heartbeat count as one",
    "recovery_grace_s": "for this long after a degraded time the leader declares nobody lost",
    "alert_info_s": "degraded for this long: the first alert",
    "alert_warn_s": "the second",
    "alert_error_s": "the third",
    "alert_critical_s": "the last",
    "alert_repeat_s": "each is repeated after this until the next is due",
    "connection_check_s": "how often the connection and the alerts are looked at",
    "id_bucket": "bucket of the ids; its TTL is `id_ttl_s`",
    "election_bucket": "of the leader; TTL `election_timeout_s`",
    "heartbeat_bucket": "of the heartbeats; TTL `heartbeat_ttl_s`",
    "assignment_bucket": "of the records, one per worker",
    "assignment_ttl_s": "TTL of the records; 0: they stay",
    "assignment_history_count": "versions of each record that are kept",
}
_SHOWN_IN_PROFILES: Final = (
    *("id_max", "id_ttl_s", "heartbeat_s", "heartbeat_ttl_s", "emergency_grace_s", "cold_start_s", "planned_scale_s"),
    *("rebalance_interval_s", "rebalance_threshold_ratio", "election_timeout_s", "startup_limit_s", "shutdown_limit_s"),
)


def reference() -> str:
    """Write all tables."""
    return "\n".join([*_settings(), *_profiles(), *_states(), *_metrics()])


def renew(folder: Path) -> None:
    """Write the tables anew into the page, below the marker. Raises: UsageError when the page has no marker."""
    page = folder / PAGE
    above, marker, _ = page.read_text(encoding="utf-8").partition(MARKER)
    if not marker:
        raise UsageError(f"{page}: the line {MARKER.strip()!r} is missing; put it where the tables belong")
    page.write_text(above + marker + reference(), encoding="utf-8")


def _settings() -> list[str]:
    settings = Settings()
    rows = [f"| `{name}` | {_shown(getattr(settings, name))} | {MEANINGS[name]} |" for name in Settings.__struct_fields__]
    return ["## Settings", "", "Names end in their unit.", "", "| setting | default | meaning |", "|---|---|---|", *rows, ""]


def _profiles() -> list[str]:
    names = list(PROFILES)
    made = [profile(name) for name in names]
    head = ["| setting | " + " | ".join(f"`{name}`" for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    rows = [f"| `{field}` | " + " | ".join(f"{getattr(settings, field):g}" for settings in made) + " |" for field in _SHOWN_IN_PROFILES]
    presets = {name: profile("default", degraded=name) for name in DEGRADED_PRESETS}
    fields = ("degraded_enter_s", "degraded_exit_s", "degraded_errors_count", "degraded_window_s", "recovery_grace_s")
    return [
        *(
            "### Profiles",
            "",
            "`profile(NAME, degraded=PRESET, setting=value, ...)` lays what is chosen over a profile.",
            "",
            *head,
            *rows,
            "",
        ),
        *("| preset of degraded mode | " + " | ".join(f"`{field}`" for field in fields) + " |", "|---" * (len(fields) + 1) + "|"),
        *(f"| `{name}` | " + " | ".join(f"{getattr(made, field):g}" for field in fields) + " |" for name, made in presets.items()),
        "",
    ]


def _states() -> list[str]:
    rows = []
    for state in WorkerState:
        steps = ", ".join(f"`{step.value}`" for step in WorkerState if WORKER_STEPS.allows(state, step))
        rows.append(f"| `{state.value}` | {steps or 'nothing: it is final'} |")
    return ["## States of a worker", "", "| from | to |", "|---|---|", *rows, ""]


def _metrics() -> list[str]:
    rows = [f"| `{metric.value}` | {row.kind.value} | {row.label} | {row.text} |" for metric, row in TABLE.items()]
    return ["## Metrics", "", "| metric | kind | label | meaning |", "|---|---|---|---|", *rows, ""]


def _shown(value: object) -> str:
    if isinstance(value, enum.Enum):
        return f"`{value.value}`"
    return f"{value:g}" if isinstance(value, (int, float)) else f"`{value}`"


if __name__ == "__main__":
    renew(Path(sys.argv[1]))
