"""The page of the fleet holds what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from floodmark.core.errors import UsageError
from floodmark.systems.fleet.leader import Lifecycle
from floodmark.systems.fleet.metrics import Metric
from floodmark.systems.fleet.profiles import PROFILES
from floodmark.systems.fleet.reference import MARKER, MEANINGS, PAGE, reference, renew
from floodmark.systems.fleet.settings import Settings
from floodmark.systems.fleet.states import WorkerState

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / PAGE).read_text(encoding="utf-8")


def test_page_holds_exactly_what_is_written_from_the_code() -> None:
    assert TEXT.partition(MARKER)[2] == reference(), "run python -m floodmark.systems.fleet.reference docs"


def test_meanings_name_every_setting_and_no_other() -> None:
    assert list(MEANINGS) == list(Settings.__struct_fields__)


def test_reference_names_every_profile_state_and_metric() -> None:
    written = reference()

    for name in (*PROFILES, *(state.value for state in WorkerState), *(metric.value for metric in Metric)):
        assert f"`{name}`" in written


def test_page_names_only_settings_and_lifecycles_that_exist() -> None:
    above = TEXT.partition(MARKER)[0]

    named = set(re.findall(r"`([a-z_]+_(?:s|count|ratio|bucket))`", above))
    assert named
    assert named <= set(Settings.__struct_fields__)
    assert all(f"`{lifecycle}`" in above for lifecycle in Lifecycle)


def test_renew_writes_the_tables_anew_and_leaves_the_rest(tmp_path: Path) -> None:
    (tmp_path / PAGE).parent.mkdir()
    (tmp_path / PAGE).write_text(f"above\n{MARKER}old", encoding="utf-8")

    renew(tmp_path)

    assert (tmp_path / PAGE).read_text(encoding="utf-8") == f"above\n{MARKER}{reference()}"


def test_renew_of_a_page_without_the_marker_is_refused(tmp_path: Path) -> None:
    (tmp_path / PAGE).parent.mkdir()
    (tmp_path / PAGE).write_text("nothing", encoding="utf-8")

    with pytest.raises(UsageError, match="put it where the tables belong"):
        renew(tmp_path)
