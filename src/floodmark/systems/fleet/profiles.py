"""Settings by name: for development, for production, for a fleet that changes all the time, and with short times for tests.

What is chosen is laid over the profile, and then the times are made to fit one another: the planned window is at least the cooldown, the
cold start at least the planned window, and the grace a quarter of a heartbeat away from the heartbeat and from its TTL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from floodmark.systems.fleet.errors import InvalidSettingsError
from floodmark.systems.fleet.settings import CLAMP_HEARTBEATS, DEGRADED_PRESETS, GRACE_HEARTBEATS, Settings

PROFILES: Final[Mapping[str, Mapping[str, Any]]] = {
    "default": {},
    "development": {
        "id_max": 2,
        "id_ttl_s": 10.0,
        "heartbeat_s": 1.0,
        "heartbeat_ttl_s": 3.0,
        "cold_start_s": 5.0,
        "planned_scale_s": 2.0,
        "emergency_grace_s": 1.0,
        "rebalance_threshold_ratio": 0.1,
        "rebalance_interval_s": 2.0,
    },
    "staging": {
        "id_max": 31,
        "cold_start_s": 20.0,
        "planned_scale_s": 8.0,
        "emergency_grace_s": 1.5,
        "startup_limit_s": 25.0,
        "rebalance_interval_s": 8.0,
    },
    "production": {"id_max": 199, "emergency_grace_s": 1.5},
    "high-churn": {
        "id_max": 499,
        "id_ttl_s": 20.0,
        "heartbeat_s": 1.0,
        "heartbeat_ttl_s": 4.0,
        "cold_start_s": 20.0,
        "planned_scale_s": 5.0,
        "emergency_grace_s": 1.5,
        "rebalance_threshold_ratio": 0.2,
        "rebalance_interval_s": 5.0,
    },
    "test": {
        "id_max": 100,
        "id_ttl_s": 5.0,
        "heartbeat_s": 0.5,
        "heartbeat_ttl_s": 1.5,
        "cold_start_s": 1.0,
        "planned_scale_s": 0.5,
        "rebalance_interval_s": 0.1,
    },
    "fast": {
        "heartbeat_s": 0.3,
        "heartbeat_ttl_s": 1.0,
        "emergency_grace_s": 0.6,
        "cold_start_s": 0.5,
        "planned_scale_s": 0.3,
        "rebalance_interval_s": 0.3,
        "election_timeout_s": 1.0,
        "startup_limit_s": 5.0,
        "shutdown_limit_s": 2.0,
    },
    "baseline": {
        "heartbeat_s": 0.5,
        "heartbeat_ttl_s": 2.0,
        "cold_start_s": 3.0,
        "planned_scale_s": 2.0,
        "rebalance_interval_s": 2.0,
        "election_timeout_s": 2.0,
        "id_ttl_s": 5.0,
        "startup_limit_s": 10.0,
        "shutdown_limit_s": 3.0,
    },
    "emergency-fast": {
        "heartbeat_s": 0.3,
        "heartbeat_ttl_s": 0.9,
        "emergency_grace_s": 0.54,
        "cold_start_s": 1.2,
        "planned_scale_s": 0.8,
        "rebalance_interval_s": 0.4,
        "election_timeout_s": 1.0,
        "id_ttl_s": 20.0,
        "startup_limit_s": 5.0,
        "shutdown_limit_s": 2.0,
    },
}


def profile(name: str = "default", /, *, degraded: str = "balanced", **chosen: Any) -> Settings:
    """Give the settings of a profile, with a preset of degraded mode and with what was chosen laid over both.

    Args:
        name: one of PROFILES.
        degraded: one of DEGRADED_PRESETS.
        chosen: settings by name; texts are read as what the setting wants, so that a command line can pass on what it was given.
    Raises: InvalidSettingsError for a name that does not exist, a value that does not fit, or settings that cannot work together.
    """
    for kind, wanted, known in (("profile", name, PROFILES), ("degraded preset", degraded, DEGRADED_PRESETS)):
        if wanted not in known:
            raise InvalidSettingsError(f"no {kind} {wanted!r}; there are: {', '.join(known)}")
    unknown = sorted(chosen.keys() - set(Settings.__struct_fields__))
    if unknown:
        raise InvalidSettingsError(f"no setting {', '.join(unknown)}; there are: {', '.join(Settings.__struct_fields__)}")
    fields = msgspec.structs.fields(Settings)
    merged = {field.name: field.default for field in fields} | dict(PROFILES[name]) | dict(DEGRADED_PRESETS[degraded]) | chosen
    values = {field.name: _read(field.name, merged[field.name], field.type) for field in fields}
    return Settings(**_clamped(values, chosen))


def _read(name: str, value: Any, wanted: Any) -> Any:
    try:
        return msgspec.convert(value, wanted, strict=False)
    except msgspec.ValidationError as exc:
        raise InvalidSettingsError(f"{name} = {value!r} does not fit: {exc}") from exc


def _clamped(values: dict[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Make the times fit one another; what was chosen is never moved, so that a contradiction among choices is told."""
    heartbeat_s, ttl_s = values["heartbeat_s"], values["heartbeat_ttl_s"]
    grace_s = values["emergency_grace_s"] or GRACE_HEARTBEATS * heartbeat_s
    away_s = CLAMP_HEARTBEATS * heartbeat_s
    planned_s = max(values["planned_scale_s"], values["rebalance_interval_s"])
    fitted = {
        "planned_scale_s": planned_s,
        "cold_start_s": max(values["cold_start_s"], values["planned_scale_s"] if "planned_scale_s" in chosen else planned_s),
        "emergency_grace_s": min(max(grace_s, heartbeat_s + away_s), ttl_s - away_s),
    }
    return values | {name: value for name, value in fitted.items() if name not in chosen}
