"""docs/drivers.md against the code: the tables are those of the drivers, and its recipes are options that the drivers take."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from floodmark.core.errors import UsageError
from floodmark.drivers import DRIVERS, build
from floodmark.drivers.reference import MARKER, TABLES, reference, renew

PAGE = Path(__file__).parents[2] / "docs" / "drivers.md"
RECIPES = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_page_holds_the_tables_of_the_code() -> None:
    assert PAGE.read_text(encoding="utf-8").partition(MARKER)[2] == reference()


def test_tables_name_every_option_of_every_driver_with_a_meaning() -> None:
    assert set(TABLES) == set(DRIVERS)
    for defaults, meanings in TABLES.values():
        assert list(defaults) == list(meanings)


def test_renew_page_without_the_marker_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "drivers.md").write_text("# Drivers\n")

    with pytest.raises(UsageError, match="is missing"):
        renew(tmp_path)


def test_renew_writes_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "drivers.md").write_text("above\n" + MARKER + "old")

    renew(tmp_path)

    assert (tmp_path / "drivers.md").read_text() == "above\n" + MARKER + reference()


def test_page_has_its_recipes() -> None:
    assert len(RECIPES) == 9


@pytest.mark.parametrize("recipe", RECIPES, ids=range(len(RECIPES)))
def test_recipe_is_taken_by_its_driver(recipe: str) -> None:
    table = tomllib.loads(recipe)

    build(table.get("driver", "graphql-ws"), table["driver_options"])
