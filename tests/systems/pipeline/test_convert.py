"""Conversion of frames: known values, and any frame against a converter that goes value by value."""

from __future__ import annotations

import datetime
import uuid
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.convert import Conversion, convert, records

AT = datetime.datetime(2026, 1, 2, 3, 4, 5)


def converted(values: list[Any], kind: Any = None, **options: Any) -> list[Any]:
    """Convert one column."""
    return convert(pl.DataFrame({"x": pl.Series(values, dtype=kind)}), Conversion(**options)).get_column("x").to_list()


def test_pc_01_typed_records_become_ready_to_print() -> None:
    frame = pl.DataFrame(
        {
            "id": pl.Series([uuid.UUID(int=1)], dtype=pl.Object),
            "at": [AT],
            "amount": [Decimal("12.345")],
            "price": [{"amount": Decimal("0.5"), "currency": "EUR"}],
            "note": pl.Series([None], dtype=pl.String),
            "quantity": [3],
            "customer": [{"name": "Ada", "city": {"name": "London"}}],
        }
    )

    assert convert(frame, Conversion()).to_dicts() == [
        {
            "id": "00000000-0000-0000-0000-000000000001",
            "at": "2026-01-02T03:04:05",
            "amount": 12.35,
            "price": "€0.50",
            "note": "",
            "quantity": 3,
            "customer_name": "Ada",
            "customer_city_name": "London",
        }
    ]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (AT, "2026-01-02T03:04:05"),
        (AT.replace(microsecond=250_000), "2026-01-02T03:04:05.250"),
        (AT.replace(tzinfo=datetime.UTC), "2026-01-02T03:04:05+00:00"),
        (AT.date(), "2026-01-02"),
        (AT.time(), "03:04:05"),
    ],
)
def test_times_become_iso_8601_that_reads_back_as_the_same(value: Any, wanted: str) -> None:
    assert converted([value]) == [wanted]
    assert type(value).fromisoformat(wanted) == value


def test_times_with_patterns_follow_them() -> None:
    frame = pl.DataFrame({"at": [AT], "day": [AT.date()], "time": [AT.time()]})

    found = convert(frame, Conversion(datetime_pattern="%d.%m.%Y %H:%M", date_pattern="%d/%m/%y", time_pattern="%Hh%M"))

    assert found.row(0) == ("02.01.2026 03:04", "02/01/26", "03h04")


@pytest.mark.parametrize(("places", "wanted"), [(2, [1.01, -2.68, 0.0]), (0, [1.0, -3.0, 0.0])])
def test_decimals_become_floats_rounded_half_away_from_zero_before_they_are_floats(places: int, wanted: list[float]) -> None:
    assert converted([Decimal("1.005"), Decimal("-2.675"), Decimal("0.000")], decimal_places=places) == wanted


def test_decimals_as_text_keep_all_digits_and_kept_they_stay_decimals() -> None:
    values = [Decimal("12345678901234567890.005"), None]

    assert converted(values, decimals="text") == ["12345678901234567890.005", ""]
    assert converted(values, decimals="keep") == values


@pytest.mark.parametrize(
    ("style", "wanted"),
    [
        ("symbol", ["€1234.57", "-$0.50", "XXX 3.00", "7.00", ""]),
        ("code", ["1234.57 EUR", "-0.50 USD", "3.00 XXX", "7.00", ""]),
        ("none", ["1234.57", "-0.50", "3.00", "7.00", ""]),
    ],
)
@pytest.mark.parametrize("kind", [pl.Decimal(38, 3), pl.Float64()])
def test_money_is_written_with_symbol_code_or_neither(style: Any, wanted: list[str], kind: Any) -> None:
    money = pl.Struct({"amount": kind, "currency": pl.String()})
    amounts = [("1234.567", "EUR"), ("-0.5", "USD"), ("3", "XXX"), ("7", None)]
    number = float if kind == pl.Float64 else Decimal
    values = [{"amount": number(amount), "currency": code} for amount, code in amounts]

    assert converted([*values, None], money, money=style) == wanted


def test_money_in_integers_and_kept_money() -> None:
    values = [{"amount": 5, "currency": "GBP"}]

    assert converted(values) == ["£5.00"]
    assert convert(pl.DataFrame({"x": values}), Conversion(money="keep")).to_dicts() == [{"x_amount": 5, "x_currency": "GBP"}]


def test_uuids_in_named_binary_columns_become_text_and_other_bytes_stay() -> None:
    key = uuid.UUID("12345678-1234-5678-1234-567812345678")
    frame = pl.DataFrame({"id": [key.bytes, None], "raw": [key.bytes, None]})

    assert convert(frame, Conversion(uuids=("id",))).to_dicts() == [{"id": str(key), "raw": key.bytes}, {"id": "", "raw": None}]


def test_categories_become_text() -> None:
    assert converted(["a", None], pl.Categorical()) == ["a", ""]
    assert converted(["b"], pl.Enum(["a", "b"])) == ["b"]


def test_none_in_text_becomes_the_text_asked_for_and_numbers_stay_missing() -> None:
    assert converted(["a", None]) == ["a", ""]
    assert converted(["a", None], none_text="-") == ["a", "-"]
    assert converted(["a", None], none_text=None) == ["a", None]
    assert converted([1, None]) == [1, None]
    assert converted([AT, None], none_text=None)[1] is None


def test_records_have_text_for_everything_that_is_missing() -> None:
    frame = pl.DataFrame({"n": [None, 1], "list": [[{"a": None}], None], "at": [None, AT]})

    assert records(frame, Conversion()) == [{"n": "", "list": [{"a": ""}], "at": ""}, {"n": 1, "list": "", "at": "2026-01-02T03:04:05"}]
    assert records(frame, Conversion(none_text=None))[0] == {"n": None, "list": [{"a": None}], "at": None}


@pytest.mark.parametrize(
    ("depth", "names"),
    [(3, ["a_x", "a_b_x", "a_b_c_x", "a_b_c_d"]), (1, ["a_x", "a_b"]), (0, ["a"]), (9, ["a_x", "a_b_x", "a_b_c_x", "a_b_c_d_x"])],
)
def test_related_records_are_laid_flat_down_to_the_depth(depth: int, names: list[str]) -> None:
    frame = pl.DataFrame({"a": [{"x": 1, "b": {"x": 2, "c": {"x": 3, "d": {"x": AT}}}}]})

    found = convert(frame, Conversion(max_depth=depth))

    assert found.columns == names
    assert "2026-01-02T03:04:05" in str(found.to_dicts())  # converted wherever it stands


def test_related_records_whose_flat_name_is_taken_get_another_and_nothing_is_lost() -> None:
    frame = pl.DataFrame({"a": [{"b": 1}], "a_b": [2], "a_b_": [3]})

    assert convert(frame, Conversion()).to_dicts() == [{"a_b__": 1, "a_b": 2, "a_b_": 3}]


def test_lists_of_related_records_stay_lists_of_converted_records() -> None:
    frame = pl.DataFrame({"items": [[{"price": Decimal("1.005"), "at": AT}, {"price": None, "at": None}], [], None]})

    found = convert(frame, Conversion()).get_column("items").to_list()

    assert found == [[{"price": 1.01, "at": "2026-01-02T03:04:05"}, {"price": None, "at": ""}], [], None]


@pytest.mark.parametrize("frame", [pl.DataFrame(), pl.DataFrame(schema={"x": pl.Datetime("us"), "y": pl.Struct({"z": pl.Decimal(9, 2)})})])
def test_frames_without_rows_are_converted_like_others(frame: pl.DataFrame) -> None:
    found = convert(frame, Conversion())

    assert found.height == 0
    assert found.schema == ({"x": pl.String, "y_z": pl.Float64} if frame.width else {})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"datetime_pattern": "%Q"}, "datetime_pattern must be a pattern"),
        ({"date_pattern": "%H"}, "date_pattern must be a pattern"),
        ({"decimals": "round"}, "decimals is one of"),
        ({"money": "words"}, "money one of"),
        ({"decimal_places": -1}, "decimal_places"),
        ({"max_depth": -1}, "max_depth"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors_that_say_why(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Conversion(**wrong)


KINDS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (pl.Int64(), st.integers(-(2**63), 2**63 - 1)),
    (pl.Float64(), st.floats(allow_nan=False)),
    (pl.Boolean(), st.booleans()),
    (pl.String(), st.text(max_size=5)),
    (pl.Date(), st.dates()),
    (pl.Datetime("us"), st.datetimes(min_value=datetime.datetime(1700, 1, 1), max_value=datetime.datetime(2200, 1, 1))),
    (pl.Decimal(38, 5), st.decimals(-(10**9), 10**9, places=5)),
]


def kinds_of(depth: int) -> st.SearchStrategy[tuple[Any, st.SearchStrategy[Any]]]:
    """A type, and values of it: plain, related records, lists of them."""
    plain = st.sampled_from(KINDS)
    if not depth:
        return plain
    fields = st.dictionaries(st.sampled_from(["p", "q"]), kinds_of(depth - 1), min_size=1)
    record = fields.map(
        lambda them: (
            pl.Struct({name: kind for name, (kind, _) in them.items()}),
            st.fixed_dictionaries({name: st.none() | values for name, (_, values) in them.items()}),
        )
    )
    many = record.map(lambda one: (pl.List(one[0]), st.lists(st.none() | one[1], max_size=3)))
    return st.one_of(plain, record, many)


def model_value(value: Any, kind: Any, options: Conversion) -> Any:
    """Convert one value, slowly."""
    if isinstance(kind, pl.List):
        return None if value is None else [model_value(inner, kind.inner, options) for inner in value]
    if isinstance(kind, pl.Struct):
        return None if value is None else {field.name: model_value(value[field.name], field.dtype, options) for field in kind.fields}
    if isinstance(kind, pl.Decimal):
        return None if value is None else float(value.quantize(Decimal(1).scaleb(-options.decimal_places), ROUND_HALF_UP))
    if isinstance(kind, pl.String | pl.Date | pl.Datetime):
        if isinstance(value, datetime.datetime):
            return iso(value)
        return value or "" if isinstance(value, str | None) else value.isoformat()
    return value


def iso(value: datetime.datetime) -> str:
    """ISO 8601, with as many thousandths as there are."""
    text = value.isoformat()
    return text.removesuffix("000") if value.microsecond else text


def model_record(name: str, value: Any, kind: Any, options: Conversion, depth: int) -> dict[str, Any]:
    """Convert and flatten one field."""
    if not isinstance(kind, pl.Struct) or not depth:
        return {name: model_value(value, kind, options)}
    found: dict[str, Any] = {}
    for field in kind.fields:
        found |= model_record(f"{name}_{field.name}", None if value is None else value[field.name], field.dtype, options, depth - 1)
    return found


@given(data=st.data(), depth=st.integers(0, 4))
def test_any_frame_agrees_with_the_model(data: st.DataObject, depth: int) -> None:
    shape = data.draw(st.dictionaries(st.sampled_from("abc"), kinds_of(2), min_size=1))
    height = data.draw(st.integers(0, 4))
    values = {name: data.draw(st.lists(st.none() | of, min_size=height, max_size=height)) for name, (_, of) in shape.items()}
    frame = pl.DataFrame(values, schema={name: kind for name, (kind, _) in shape.items()})
    options = Conversion(max_depth=depth)

    found = convert(frame, options).to_dicts()

    wanted = []
    for row in frame.to_dicts():
        record: dict[str, Any] = {}
        for name, (kind, _) in shape.items():
            record |= model_record(name, row[name], kind, options, depth)
        wanted.append(record)
    assert found == wanted
