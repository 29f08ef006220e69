"""Every default, every contradiction with what to do about it, every doubt, and the profiles."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from floodmark.systems.fleet.errors import InvalidSettingsError
from floodmark.systems.fleet.profiles import PROFILES, profile
from floodmark.systems.fleet.settings import DEGRADED_PRESETS, CutOff, Handover, Settings

REQUIRED_DEFAULTS = {
    "worker_prefix": "worker",
    "id_min": 0,
    "id_max": 99,
    "id_ttl_s": 30.0,
    "heartbeat_s": 2.0,
    "heartbeat_ttl_s": 6.0,
    "cold_start_s": 30.0,
    "planned_scale_s": 10.0,
    "emergency_grace_s": 3.0,
    "restart_ratio": 0.5,
    "restart_from_count": 10,
    "restart_below_count": 5,
    "operation_limit_s": 10.0,
    "election_timeout_s": 5.0,
    "startup_limit_s": 30.0,
    "shutdown_limit_s": 10.0,
    "rebalance_threshold_ratio": 0.15,
    "rebalance_interval_s": 10.0,
    "watch_debounce_s": 0.1,
    "id_bucket": "parti-stableid",
    "election_bucket": "parti-election",
    "heartbeat_bucket": "parti-heartbeat",
    "assignment_bucket": "parti-assignment",
    "assignment_ttl_s": 0.0,
    "degraded_enter_s": 10.0,
    "degraded_exit_s": 5.0,
    "degraded_errors_count": 5,
    "degraded_window_s": 30.0,
    "recovery_grace_s": 15.0,
    "alert_info_s": 30.0,
    "alert_warn_s": 120.0,
    "alert_error_s": 300.0,
    "alert_critical_s": 600.0,
    "alert_repeat_s": 60.0,
    "connection_check_s": 1.0,
}


@pytest.mark.parametrize(("name", "value"), REQUIRED_DEFAULTS.items())
def test_settings_unsaid_have_the_required_default(name: str, value: object) -> None:
    assert getattr(Settings(), name) == value


def test_settings_of_ours_default_to_the_plain_and_the_safe() -> None:
    settings = Settings()

    assert settings.handover is Handover.DIRECT
    assert settings.when_cut_off is CutOff.STOP


def test_defaults_have_no_doubt_but_the_required_limit_of_the_start() -> None:
    (warning,) = Settings().warnings()

    assert warning.startswith("startup_limit_s = 30 is not more than cold_start_s + emergency_grace_s = 33: ")
    assert Settings(startup_limit_s=33.001).warnings() == ()


def test_grace_unsaid_follows_the_heartbeat() -> None:
    assert Settings(heartbeat_s=1.0).emergency_grace_s == 1.5


CONTRADICTIONS: list[tuple[dict[str, Any], str, str]] = [
    ({"heartbeat_ttl_s": 3.9}, "heartbeat_ttl_s = 3.9 is less than 2 heartbeats", "raise it to 4 s"),
    ({"heartbeat_s": 5.0, "heartbeat_ttl_s": 12.0, "id_ttl_s": 14.0}, "id_ttl_s = 14 is less than 3 heartbeats", "raise it to 15 s"),
    ({"id_ttl_s": 6.0, "heartbeat_ttl_s": 6.1}, "id_ttl_s = 6 is less than heartbeat_ttl_s = 6.1", "raise it to 6.1 s"),
    ({"rebalance_interval_s": 10.1}, "rebalance_interval_s = 10.1 is longer than a window", "lower it to 10 s"),
    ({"rebalance_interval_s": 31.0, "planned_scale_s": 30.0}, "rebalance_interval_s = 31 is longer than a window", "lower it to 30 s"),
    ({"cold_start_s": 11.0, "planned_scale_s": 12.0}, "cold_start_s = 11 is less than planned_scale_s = 12", "raise it"),
    ({"emergency_grace_s": 6.1}, "emergency_grace_s = 6.1 is more than heartbeat_ttl_s = 6", "lower it to 6 s"),
    ({"emergency_grace_s": 2.0}, "emergency_grace_s = 2 is not more than one heartbeat of 2 s", "raise it above 2 s"),
    ({"alert_warn_s": 30.0}, "alerts must come later the graver they are", "30, 30, 300, 600"),
    ({"alert_error_s": 700.0}, "alerts must come later the graver they are", "30, 120, 700, 600"),
    ({"id_min": 5, "id_max": 4}, "id_max = 4 is below id_min = 5", "raise id_max"),
    ({"worker_prefix": "a.b"}, "worker_prefix = 'a.b'", "use letters, digits"),
    ({"id_bucket": "parti-election"}, "the four buckets must be four", "keys and TTLs would mix"),
]


@pytest.mark.parametrize(("chosen", "what", "remedy"), CONTRADICTIONS)
def test_settings_that_contradict_each_other_are_refused_with_a_remedy(chosen: dict[str, Any], what: str, remedy: str) -> None:
    with pytest.raises(InvalidSettingsError) as raised:
        Settings(**chosen)

    assert what in str(raised.value)
    assert remedy in str(raised.value)


EDGES: list[dict[str, Any]] = [
    {"heartbeat_ttl_s": 4.0},
    {"heartbeat_s": 5.0, "heartbeat_ttl_s": 12.0, "id_ttl_s": 15.0},
    {"heartbeat_s": 0.1, "heartbeat_ttl_s": 0.2, "id_ttl_s": 0.3},  # three times 0.1 is a little more than 0.3
    {"id_ttl_s": 6.0},
    {"rebalance_interval_s": 10.0},
    {"cold_start_s": 10.0},
    {"emergency_grace_s": 6.0},
    {"emergency_grace_s": 2.001},
    {"id_min": 4, "id_max": 4},
]


@pytest.mark.parametrize("chosen", EDGES)
def test_settings_at_the_very_edge_are_taken(chosen: dict[str, Any]) -> None:
    assert Settings(**chosen) == msgspec.structs.replace(Settings(**chosen))


@pytest.mark.parametrize("bucket", ["a.b", "a b", "a*", "früh"])
def test_a_bucket_that_no_stream_can_be_named_after_is_refused(bucket: str) -> None:
    with pytest.raises(InvalidSettingsError, match="becomes the name of a stream"):
        Settings(election_bucket=bucket)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["heartbeat_s", "rebalance_interval_s", "id_ttl_s", "startup_limit_s", "alert_repeat_s", "restart_ratio"])
def test_a_value_that_is_no_time_or_ratio_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InvalidSettingsError, match=name):
        Settings(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value"), [("restart_ratio", 1.1), ("degraded_errors_count", 1.5), ("worker_prefix", ""), ("id_max", -1)])
def test_a_value_out_of_its_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidSettingsError, match=name):
        Settings(**{name: value})


DOUBTS: list[tuple[dict[str, Any], str, str]] = [
    ({"id_ttl_s": 11.9}, "id_ttl_s = 11.9 is less than twice", "12 s or more is better"),
    ({"rebalance_interval_s": 4.9}, "rebalance_interval_s = 4.9 is less than 5 s", "cause a round each"),
    ({"degraded_exit_s": 10.1}, "degraded_exit_s = 10.1 is more than degraded_enter_s = 10", "stays degraded for longer"),
    ({"recovery_grace_s": 4.9}, "recovery_grace_s = 4.9 is less than 5 s", "given up"),
    ({"startup_limit_s": 33.0}, "startup_limit_s = 33 is not more than cold_start_s + emergency_grace_s = 33", "give up before the window"),
    ({"startup_limit_s": 34.0, "emergency_grace_s": 5.0}, "= 34 is not more than cold_start_s + emergency_grace_s = 35", "more than 35 s"),
]


@pytest.mark.parametrize(("chosen", "what", "consequence"), DOUBTS)
def test_settings_that_work_badly_warn_of_the_consequence(chosen: dict[str, Any], what: str, consequence: str) -> None:
    (warning,) = Settings(**{"startup_limit_s": 60.0, **chosen}).warnings()

    assert what in warning
    assert consequence in warning


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_is_valid(name: str) -> None:
    settings = profile(name)

    assert settings.heartbeat_s < settings.emergency_grace_s < settings.heartbeat_ttl_s
    assert settings.rebalance_interval_s <= settings.planned_scale_s <= settings.cold_start_s


DOCUMENTED: dict[str, dict[str, float]] = {
    "development": {"id_max": 2, "id_ttl_s": 10, "heartbeat_s": 1, "heartbeat_ttl_s": 3, "cold_start_s": 5, "planned_scale_s": 2}
    | {"rebalance_threshold_ratio": 0.1, "rebalance_interval_s": 2},
    "staging": {"id_max": 31, "cold_start_s": 20, "planned_scale_s": 8, "startup_limit_s": 25, "rebalance_interval_s": 8},
    "production": {"id_max": 199, "cold_start_s": 30},
    "high-churn": {"id_max": 499, "id_ttl_s": 20, "heartbeat_s": 1, "heartbeat_ttl_s": 4, "cold_start_s": 20, "planned_scale_s": 5}
    | {"rebalance_threshold_ratio": 0.2, "rebalance_interval_s": 5, "emergency_grace_s": 1.5},
    "test": {"id_max": 100, "id_ttl_s": 5, "heartbeat_s": 0.5, "heartbeat_ttl_s": 1.5, "cold_start_s": 1, "planned_scale_s": 0.5}
    | {"rebalance_interval_s": 0.1},
    "fast": {"heartbeat_s": 0.3, "heartbeat_ttl_s": 1, "emergency_grace_s": 0.6, "cold_start_s": 0.5, "planned_scale_s": 0.3}
    | {"rebalance_interval_s": 0.3, "election_timeout_s": 1, "id_ttl_s": 30, "startup_limit_s": 5, "shutdown_limit_s": 2},
    "baseline": {"heartbeat_s": 0.5, "heartbeat_ttl_s": 2, "emergency_grace_s": 0.75, "cold_start_s": 3, "planned_scale_s": 2}
    | {"rebalance_interval_s": 2, "election_timeout_s": 2, "id_ttl_s": 5, "startup_limit_s": 10, "shutdown_limit_s": 3},
    "emergency-fast": {"heartbeat_s": 0.3, "heartbeat_ttl_s": 0.9, "emergency_grace_s": 0.54, "cold_start_s": 1.2}
    | {"planned_scale_s": 0.8, "rebalance_interval_s": 0.4, "election_timeout_s": 1, "id_ttl_s": 20, "startup_limit_s": 5}
    | {"shutdown_limit_s": 2},
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_profile_has_the_documented_times(name: str) -> None:
    settings = profile(name)

    assert {key: getattr(settings, key) for key in DOCUMENTED[name]} == DOCUMENTED[name]


@pytest.mark.parametrize(("name", "grace_s"), [("production", 2.5), ("staging", 2.5), ("development", 1.25)])
def test_profile_with_a_grace_below_a_heartbeat_is_lifted_a_quarter_above_it(name: str, grace_s: float) -> None:
    assert profile(name).emergency_grace_s == grace_s


def test_profile_whose_heartbeat_is_slowed_fits_its_times_to_it() -> None:
    settings = profile("fast", heartbeat_s=0.45)

    assert settings.emergency_grace_s == pytest.approx(0.6)
    assert profile("fast", heartbeat_s=0.5).emergency_grace_s == pytest.approx(0.625)


def test_profile_with_a_longer_cooldown_lengthens_the_windows() -> None:
    settings = profile("fast", rebalance_interval_s=0.8)

    assert (settings.planned_scale_s, settings.cold_start_s) == (0.8, 0.8)


def test_profile_never_moves_what_was_chosen() -> None:
    with pytest.raises(InvalidSettingsError, match=r"rebalance_interval_s = 0\.8 is longer"):
        profile("fast", rebalance_interval_s=0.8, planned_scale_s=0.5)


def test_profile_reads_texts_as_a_command_line_gives_them() -> None:
    settings = profile("fast", id_max="7", heartbeat_s="0.25", handover="confirmed", when_cut_off="go_on")

    assert (settings.id_max, settings.heartbeat_s) == (7, 0.25)
    assert settings.handover is Handover.CONFIRMED
    assert settings.when_cut_off is CutOff.GO_ON


@pytest.mark.parametrize(
    ("name", "chosen", "told"),
    [
        ("slow", {}, "no profile 'slow'; there are: default, development"),
        ("fast", {"degraded": "wild"}, "no degraded preset 'wild'; there are: conservative, balanced, aggressive"),
        ("fast", {"heartbeat": 1}, "no setting heartbeat; there are: worker_prefix"),
        ("fast", {"heartbeat_s": "often"}, "heartbeat_s = 'often' does not fit"),
        ("fast", {"handover": "twice"}, "handover = 'twice' does not fit"),
    ],
)
def test_profile_of_what_does_not_exist_is_refused_with_what_does(name: str, chosen: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidSettingsError) as raised:
        profile(name, **chosen)

    assert str(raised.value).startswith(told)


@pytest.mark.parametrize(
    ("preset", "times"),
    [("conservative", (30, 10, 10, 30, 20)), ("balanced", (10, 5, 5, 30, 15)), ("aggressive", (5, 3, 3, 15, 10))],
)
def test_degraded_preset_has_the_documented_times(preset: str, times: tuple[int, ...]) -> None:
    s = profile("default", degraded=preset)

    found = (s.degraded_enter_s, s.degraded_exit_s, s.degraded_errors_count, s.degraded_window_s, s.recovery_grace_s)
    assert found == times
    assert preset in DEGRADED_PRESETS
