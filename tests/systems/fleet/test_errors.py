"""Every error says what it is about, and survives the way to another process."""

from __future__ import annotations

import pickle

import pytest

from floodmark.systems.fleet import errors

ERRORS = [
    errors.AlreadyStartedError(),
    errors.NotStartedError("stop"),
    errors.NotLeaderError("worker-1"),
    errors.IdClaimError("worker-0", "worker-9", 10),
    errors.IdLostError("worker-1"),
    errors.RenewalError("the id worker-1"),
    errors.ElectionError("worker-1", "why"),
    errors.ConnectivityError("get", "why"),
    errors.DegradedError("warn", 120.0, True),
    errors.AssignmentTimeoutError("worker-1", 30.0),
    errors.StateTimeoutError("Stable", "Scaling", 3.0),
    errors.PublishError(7, "why"),
    errors.DeleteError("leader", "why"),
    errors.WatcherError("leader", "why"),
    errors.ConsumerUpdateError(7, "why"),
    errors.HookError("on_state", "why"),
    errors.StopTimeoutError("worker-1", 10.0),
    errors.InvalidSettingsError("why"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_error_pickled_says_the_same(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))

    assert str(again) == str(error) != ""
    assert again.__dict__ == error.__dict__


def test_list_of_this_test_names_every_error() -> None:
    made = {type(error).__name__ for error in ERRORS}

    assert made == {name for name in vars(errors) if name.endswith("Error")} - {"FleetError", "FloodmarkError", "UsageError"}
