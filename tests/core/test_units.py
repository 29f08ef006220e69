"""Quantities: what people type becomes base units exactly, what is shown can be read, and a wrong unit says which are right."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.core.errors import UsageError
from floodmark.core.units import UNITS, Dimension, parse, show


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("250ms", Dimension.TIME, 0.25),
        ("1_000 us", Dimension.TIME, 0.001),
        ("1.5h", Dimension.TIME, 5400.0),
        ("100KB", Dimension.BYTES, 100_000.0),
        ("2GiB", Dimension.BYTES, 2 * 1024.0**3),
        ("10k/s", Dimension.RATE, 10_000.0),
        ("600/min", Dimension.RATE, 10.0),
        ("99.9%", Dimension.RATIO, 0.999),
        ("0.5", Dimension.RATIO, 0.5),
        ("3M", Dimension.COUNT, 3e6),
        ("1.5x", Dimension.FACTOR, 1.5),
        ("-1MB", Dimension.BYTES, -1e6),
        ("1e3B", Dimension.BYTES, 1000.0),
        ("1e-99999999999999999999s", Dimension.TIME, 0.0),
    ],
)
def test_parse_a_quantity_gives_its_base_unit(text: str, dimension: Dimension, value: float) -> None:
    assert parse(text, dimension) == value


@given(st.integers(0, 10_000))
def test_parse_a_share_equals_the_quotient_of_counts(hundredths: int) -> None:
    assert parse(f"{hundredths / 100:.2f}%", Dimension.RATIO) == hundredths / 10_000


@given(st.sampled_from([(dimension, unit) for dimension, units in UNITS.items() for unit in units]), st.integers(1, 10**9))
def test_parse_every_unit_is_within_a_bit_of_the_product(pair: tuple[Dimension, str], number: int) -> None:
    dimension, unit = pair

    assert parse(f"{number}{unit}", dimension) == pytest.approx(number * UNITS[dimension][unit], rel=1e-15)


@pytest.mark.parametrize(
    ("text", "dimension", "parts"),
    [
        ("10s", Dimension.BYTES, ("'10s' has the unit 's', but a size takes one of: B, KB",)),
        ("10", Dimension.TIME, ("has the unit 'none', but a duration takes", "ms")),
        ("5GB", Dimension.COUNT, ("has the unit 'GB', but a count takes one of: no unit, k, M",)),
        ("fast", Dimension.RATE, ("'fast' is not a rate", "/s")),
        ("", Dimension.RATIO, ("'' is not a share",)),
        ("nan", Dimension.TIME, ("'nan' is not a duration",)),
        ("1e999s", Dimension.TIME, ("'1e999s' is not finite",)),
        ("1e99999999999999999999s", Dimension.TIME, ("is not finite",)),
        ("1e308h", Dimension.TIME, ("is not finite",)),
    ],
)
def test_parse_a_wrong_quantity_is_one_sentence_with_the_units(text: str, dimension: Dimension, parts: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text, dimension, where="payload_bytes")

    assert str(caught.value).startswith("payload_bytes: ")
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in parts)


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (0.0, Dimension.TIME, "0 s"),
        (0.9996, Dimension.TIME, "1 s"),
        (0.0123456, Dimension.TIME, "12.3 ms"),
        (5e-9, Dimension.TIME, "0.005 µs"),
        (-2000.0, Dimension.TIME, "-2000 s"),
        (999.6, Dimension.BYTES, "1000 B"),
        (1024.0, Dimension.BYTES, "1 KiB"),
        (1000.0, Dimension.BYTES, "1000 B"),
        (0.0, Dimension.BYTES, "0 B"),
        (-3 * 1024.0**2, Dimension.BYTES, "-3 MiB"),
        (12_345.6, Dimension.RATE, "12,346 /s"),
        (0.995, Dimension.RATIO, "99.5 %"),
        (1.0, Dimension.RATIO, "100 %"),
        (1234.5, Dimension.FACTOR, "1234x"),
        (1e6, Dimension.COUNT, "1,000,000"),
        (0.5, Dimension.COUNT, "0.5"),
        (math.inf, Dimension.COUNT, "inf"),
        (math.nan, Dimension.BYTES, "nan"),
    ],
)
def test_show_a_value_reads_like_a_person_wrote_it(value: float, dimension: Dimension, text: str) -> None:
    assert show(value, dimension) == text


def test_show_a_ratio_just_below_one_is_not_rounded_to_all() -> None:
    assert show(1 - 1e-9, Dimension.RATIO) != show(1.0, Dimension.RATIO)


@given(st.floats(allow_nan=True, allow_infinity=True), st.sampled_from(list(Dimension)))
def test_show_any_float_gives_one_line(value: float, dimension: Dimension) -> None:
    assert show(value, dimension)
    assert "\n" not in show(value, dimension)


@given(st.floats(1e-3, 1e12), st.sampled_from([Dimension.TIME, Dimension.BYTES, Dimension.FACTOR]))
def test_show_is_never_further_off_than_three_digits(value: float, dimension: Dimension) -> None:
    shown = show(value, dimension)

    assert "e" not in shown
    assert parse(shown, dimension) == pytest.approx(value, rel=0.0051, abs=1e-9 if dimension is Dimension.TIME else 1e-2)
