"""The consumer's settings: the defaults, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from floodmark.systems.fleet.consumer import ConsumerSettings
from floodmark.systems.fleet.errors import InvalidSettingsError


def test_consumer_settings_as_they_come_are_those_of_the_requirements() -> None:
    settings = ConsumerSettings(stream="S")

    assert (settings.ack_wait_s, settings.max_deliver_count, settings.inactive_s) == (30, 3, 24 * 3600)
    assert (settings.batch_count, settings.max_waiting_count, settings.fetch_s) == (1, 512, 5)
    assert (settings.retries_count, settings.backoff_s, settings.control_retries_count) == (3, 0.1, 6)
    assert (settings.jitter_s, settings.jitter_factor, settings.jitter_cap_s) == (0.2, 1.6, 5)
    assert (settings.max_subjects_count, settings.warn_subjects_ratio, settings.health_count) == (500, 0.9, 3)
    assert (settings.escalation_count, settings.escalation_window_s, settings.old_durable_s) == (3, 60, 2)
    assert not settings.allow_worker_id_change
    assert not settings.manual_ack


@pytest.mark.parametrize(
    "wrong",
    [
        {"stream": ""},
        {"stream": "a.b"},
        {"prefix": "a b"},
        {"subject_template": "in.x"},
        {"subject_template": "{subject}.{subject}"},
        {"ack_wait_s": 0},
        {"fetch_s": float("nan")},
        {"batch_count": 0},
        {"batch_count": 11, "max_ack_pending_count": 10},
        {"max_deliver_count": 0},
        {"jitter_factor": 0.9},
        {"jitter_cap_s": 0.1},
        {"warn_subjects_ratio": 1.1},
        {"retries_count": -1},
        {"old_durable_s": -1},
    ],
    ids=str,
)
def test_consumer_settings_that_make_no_sense_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettingsError, match=next(iter(wrong))):
        ConsumerSettings(**({"stream": "S"} | wrong))
