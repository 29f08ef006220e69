"""Expressions are read once, checked against declared names, and mean the same however the rows are cut into chunks."""

from __future__ import annotations

import datetime
import itertools
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.systems.pipeline.report import Kind, ReportError
from floodmark.systems.pipeline.report.expression import AGGREGATES, SCALARS, formula, row_formula
from floodmark.systems.pipeline.report.kinds import DTYPES
from floodmark.systems.pipeline.report.tally import Tally, result_frame

NAMES = {
    "amount": Kind.MONEY,
    "cost": Kind.MONEY,
    "quantity": Kind.INTEGER,
    "price": Kind.NUMBER,
    "name": Kind.TEXT,
    "customer.name": Kind.TEXT,
    "unit price": Kind.NUMBER,
    "sold_on": Kind.DATE,
    "sold_at": Kind.DATETIME,
    "paid": Kind.BOOLEAN,
    ":since": Kind.DATE,
}
ROW: dict[str, Any] = {
    "amount": Decimal("12.50"),
    "cost": Decimal("5"),
    "quantity": 3,
    "price": 2.5,
    "name": "Ada",
    "customer.name": "Blue Ltd",
    "unit price": 4.0,
    "sold_on": datetime.date(2026, 3, 1),
    "sold_at": datetime.datetime(2026, 3, 1, 12, 30),
    "paid": True,
    ":since": datetime.date(2026, 1, 1),
}


def frame(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={name: DTYPES[kind] for name, kind in NAMES.items()})


def value(text: str, *rows: dict[str, Any]) -> Any:
    """What an expression comes to: per row, or over all of them when it has aggregates."""
    made = formula(text, NAMES)
    if not made.calls:
        return made.evaluate(frame(*(rows or (ROW,))))[0]
    tally = Tally(made.calls)
    tally.add(frame(*rows))
    results = result_frame(made.calls, [tally.values()])
    outside = [name for name in made.inputs if name in NAMES]
    return made.evaluate(results.with_columns(frame(rows[-1]).select(outside)) if outside else results)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("amount * quantity", Decimal("37.5")),
        ("-quantity + 10", 7),
        ("upper(name) || ' / ' || customer.name", "ADA / Blue Ltd"),
        ("CASE WHEN quantity > 2 THEN 'many' ELSE 'few' END", "many"),
        ('"unit price" / 8', 0.5),
        ("CAST(quantity AS double) / 2", 1.5),
        ("CAST(quantity AS varchar(10))", "3"),
        ("extract(year FROM sold_at)", 2026),
        ("strftime(sold_on, '%Y-%m')", "2026-03"),
        ("sold_on > :since AND NOT quantity IN (1, 2)", True),
        ("sold_on = DATE '2026-03-01'", True),
        ("quantity BETWEEN 1 AND 3 AND name LIKE 'A%' AND name IS NOT NULL", True),
        ("coalesce(NULL, name)", "Ada"),
        ("'it''s'", "it's"),
        ("paid", True),
        ("1.5e1", Decimal("15")),
    ],
)
def test_formula_over_one_row_evaluates_as_sql(text: str, expected: Any) -> None:
    assert value(text) == expected


def test_formula_of_aggregates_is_taken_over_all_rows() -> None:
    rows = [ROW | {"amount": Decimal(amount), "quantity": quantity} for amount, quantity in (("1.10", 2), ("2.20", 3), ("3.30", None))]

    assert value("SUM(amount * quantity)", *rows) == Decimal("8.80")
    assert value("SUM(amount) / COUNT(*)", *rows) == Decimal("2.2")
    assert value("COUNT(quantity)", *rows) == 2
    assert value("AVG(quantity)", *rows) == 2.5
    assert value("AVG(amount)", *rows) == Decimal("2.2")
    assert value("MAX(quantity) - MIN(quantity)", *rows) == 1
    assert value("MAX(name)", *rows) == "Ada"
    assert value("name || ': ' || CAST(COUNT(*) AS text)", *rows) == "Ada: 3"


def test_formula_sum_of_whole_numbers_is_exact_beyond_64_bit() -> None:
    rows = [ROW | {"quantity": 2**62} for _ in range(5)]

    assert value("SUM(quantity)", *rows) == 5 * 2**62


def test_formula_of_a_constant_has_a_value_for_each_row() -> None:
    made = row_formula("'x'", NAMES)

    assert made.evaluate(frame(ROW, ROW)).to_list() == ["x", "x"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("amount", Kind.MONEY),
        ("SUM(amount * quantity)", Kind.MONEY),
        ("SUM(amount) / COUNT(*)", Kind.MONEY),
        ("SUM(amount) / SUM(cost)", Kind.DECIMAL),
        ("MIN(sold_at)", Kind.DATETIME),
        ("MAX(name)", Kind.TEXT),
        ("AVG(price)", Kind.NUMBER),
        ("COUNT(*)", Kind.INTEGER),
        ("quantity > 1", Kind.BOOLEAN),
        (":since", Kind.DATE),
    ],
)
def test_formula_knows_the_kind_of_its_result(text: str, kind: Kind) -> None:
    assert formula(text, NAMES).kind is kind


def test_formula_names_what_it_reads() -> None:
    made = formula("sum( amount*quantity )/count(*) + cost", NAMES)

    assert made.text == "SUM(amount * quantity) / COUNT(*) + cost"
    assert made.inputs == ("SUM(amount * quantity)", "COUNT(*)", "cost")
    assert made.fields == ("cost", "amount", "quantity")
    assert [call.argument for call in made.calls] == ["amount * quantity", "*"]
    assert [call.field for call in formula("SUM(amount) + SUM(-amount)", NAMES).calls] == ["amount", None]


MALFORMED = {
    "SUM(amuont)": r"expression 'SUM\(amuont\)': unknown field 'amuont'; did you mean 'amount'\?",
    "SUMM(amount)": "unknown function 'SUMM'; did you mean 'SUM'",
    "SUM(amount": "1 bracket is not closed",
    "((amount)": "1 bracket is not closed",
    "amount)": "the bracket at letter 7 closes nothing",
    "SUM(amount *)": r"a value is missing behind '\*'",
    "* 2": r"a value is missing in front of '\*'",
    "amount *": "a value is missing behind",
    "SUM()": r"SUM\(\) needs a value",
    "COUNT()": r"COUNT\(\*\) counts rows",
    "SUM(*)": "only COUNT takes *",
    "SUM(SUM(amount))": "SUM stands inside of another aggregate",
    "SUM(name)": "SUM needs numbers, and 'name' is text",
    "SUM(amount, cost)": "SUM takes one value, got 2",
    "COUNT(DISTINCT name)": "DISTINCT inside of an aggregate",
    "name * 2": "cannot make sense of",
    "upper(quantity)": "cannot make sense of",
    "quantity = name": "cannot make sense of",
    "amount quantity": "something is missing between 'amount' and 'quantity'",
    "SUM(amount) OVER (PARTITION BY name)": "something is missing between",
    "SUM(amount) FILTER (WHERE paid)": "something is missing between",
    "amount AS total": "unknown field 'total'",
    "amount, cost": "cannot make sense of",
    "coalesce(amount,, 1)": "a value is missing beside the comma at letter 17",
    "coalesce(, 1)": "a value is missing beside the comma",
    "coalesce(amount,)": "a value is missing beside the comma",
    "amount; SELECT 1": "letter 7 is ';'",
    "amount::int": r"write CAST\(value AS type\)",
    "'abc": "no closing quote",
    "": "the expression is empty",
    "  ": "the expression is empty",
    "customer.nme": "did you mean 'customer.name'",
    ":sinse": "unknown parameter ':sinse'; did you mean ':since'",
    "read_csv('/etc/passwd')": "unknown function 'READ_CSV'",
    "__import__('os')": "unknown function",
    "first(amount)": "unknown function 'FIRST'",
    "amount -- x": "unknown field 'x'",
    "CASE": "cannot make sense of",
    "amount BETWEEN": "cannot make sense of",
    "f'{amount}'": "something is missing between 'f'",
}


@pytest.mark.parametrize("text", MALFORMED)
def test_formula_malformed_is_refused_in_plain_words(text: str) -> None:
    with pytest.raises(ReportError, match=MALFORMED[text]):
        formula(text, NAMES)


def test_row_formula_with_an_aggregate_is_refused() -> None:
    with pytest.raises(ReportError, match="SUM is taken over many rows"):
        row_formula("SUM(amount)", NAMES)


ARGUMENTS = {
    **dict.fromkeys(("ABS", "CEIL", "CEILING", "EXP", "FLOOR", "LN", "LOG10", "LOG2", "ROUND", "SIGN", "SQRT"), "price"),
    **dict.fromkeys(("DIV", "MOD", "POW", "POWER", "LOG", "GREATEST", "LEAST", "COALESCE", "IFNULL", "NULLIF"), "price, 2"),
    **dict.fromkeys(("CHAR_LENGTH", "INITCAP", "LENGTH", "LOWER", "LTRIM", "REVERSE", "RTRIM", "TRIM", "UPPER", "CONCAT"), "name"),
    **dict.fromkeys(("LEFT", "RIGHT"), "name, 2"),
    **dict.fromkeys(("ENDS_WITH", "STARTS_WITH", "STRPOS", "REGEXP_LIKE"), "name, 'a'"),
    **dict.fromkeys(("LPAD", "RPAD"), "name, 5, '.'"),
    **dict.fromkeys(("SUBSTR", "SUBSTRING"), "name, 1, 2"),
    **dict.fromkeys(("CAST", "TRY_CAST"), "quantity AS double"),
    "CONCAT_WS": "'-', name, name",
    "REPLACE": "name, 'a', 'b'",
    "SPLIT_PART": "name, 'a', 1",
    "DATE": "'2026-03-01'",
    "DATE_PART": "'month', sold_at",
    "EXTRACT": "day FROM sold_at",
    "STRFTIME": "sold_at, '%d'",
    "STRPTIME": "'2026', '%Y'",
    "IF": "paid, 1, 2",
}


@pytest.mark.parametrize("name", SCALARS)
def test_scalar_function_listed_exists_and_works_on_one_row_alone(name: str) -> None:
    made = row_formula(f"{name}({ARGUMENTS[name]})", NAMES)
    rows = frame(ROW, ROW | {"name": "Grace", "price": 9.0, "quantity": 8, "paid": False}, ROW | {"name": "Alan", "price": 1.0})

    whole = made.evaluate(rows)
    apart = pl.concat([made.evaluate(rows.slice(index, 1)) for index in range(len(rows))])

    assert whole.to_list() == apart.to_list()
    assert whole.null_count() < len(rows)


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "amount": st.none() | st.decimals(min_value=-(10**9), max_value=10**9, places=2),
            "quantity": st.none() | st.integers(min_value=-(2**40), max_value=2**40),
            "price": st.none() | st.floats(min_value=-1e12, max_value=1e12),
        }
    ),
    max_size=30,
)


@given(rows=ROWS, cuts=st.lists(st.integers(min_value=0, max_value=30), max_size=4))
def test_tally_over_any_chunks_equals_a_slow_obvious_model(rows: list[dict[str, Any]], cuts: list[int]) -> None:
    fields = ("amount", "quantity", "price")
    texts = [f"{name}({field})" for name in AGGREGATES for field in fields] + ["COUNT(*)"]
    tally = Tally(call for text in texts for call in formula(text, NAMES).calls)
    whole = frame(*(ROW | row for row in rows))
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]

    for start, end in itertools.pairwise(edges):
        tally.add(whole.slice(start, end - start))
    values = tally.values()

    assert values["COUNT(*)"] == len(rows) == tally.rows_count
    for field in fields:
        held = [row[field] for row in rows if row[field] is not None]
        exact = sum(map(Fraction, held))
        assert values[f"COUNT({field})"] == len(held)
        assert values[f"MIN({field})"] == (min(held) if held else None)
        assert values[f"MAX({field})"] == (max(held) if held else None)
        if not held:
            assert values[f"SUM({field})"] is None
            assert values[f"AVG({field})"] is None
        elif field == "price":
            assert math.isclose(values["SUM(price)"], exact, rel_tol=1e-12, abs_tol=1e-2)
            assert math.isclose(values["AVG(price)"], exact / len(held), rel_tol=1e-12, abs_tol=1e-2)
        else:
            assert Fraction(values[f"SUM({field})"]) == exact
            assert math.isclose(values[f"AVG({field})"], exact / len(held), rel_tol=1e-12, abs_tol=1e-11)


def test_tally_reset_begins_anew() -> None:
    tally = Tally(formula("SUM(quantity) + COUNT(*)", NAMES).calls)
    tally.add(frame(ROW))

    tally.reset()

    assert tally.values() == {"SUM(quantity)": None, "COUNT(*)": 0}
    assert tally.rows_count == 0


def test_tally_of_floats_keeps_what_an_addition_would_round_away() -> None:
    tally = Tally(formula("SUM(price)", NAMES).calls)

    for price in (1e16, 1.0, 1.0, -1e16):
        tally.add(frame(ROW | {"price": price}))

    assert tally.values()["SUM(price)"] == 2.0


@pytest.mark.parametrize(("prices", "total"), [((math.inf, 1.0), math.inf), ((math.inf, -math.inf), math.nan), ((math.nan, 1.0), math.nan)])
def test_tally_of_what_is_not_finite_says_so(prices: tuple[float, ...], total: float) -> None:
    tally = Tally(formula("SUM(price)", NAMES).calls)

    for price in prices:
        tally.add(frame(ROW | {"price": price}))

    assert tally.values()["SUM(price)"] == pytest.approx(total, nan_ok=True)
