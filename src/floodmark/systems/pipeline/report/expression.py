"""Expressions of a report: read once, held against the declared names and kinds, evaluated by polars over whole chunks.

`formula("SUM(amount * quantity) / COUNT(*)", names)` gives a `Formula`. Its aggregates are taken out as `Call`s, which fold chunk by chunk
(`tally.py`); what is left is a plain expression over their results. Nothing is ever evaluated as Python, and only the functions listed here
exist, each of which works on one row alone, so that cutting the rows into chunks cannot change a result.

Types are polars' own: an expression is tried on one empty row of the declared types, so `name * 2` fails when the report is declared.

Limits: whole numbers within a row are 64 bit (their sums are exact beyond). COUNT(DISTINCT x) is refused: it would have to remember all
values.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import msgspec
import polars as pl

from floodmark.systems.pipeline.report.errors import PlacedError, unknown
from floodmark.systems.pipeline.report.kinds import DTYPES, Kind, kind_of_dtype
from floodmark.systems.pipeline.report.words import CASTS, Sort, Word, quoted, split, written

AGGREGATES = ("SUM", "COUNT", "AVG", "MIN", "MAX")

SCALARS = (
    *("ABS", "CEIL", "CEILING", "DIV", "EXP", "FLOOR", "GREATEST", "LEAST", "LN", "LOG", "LOG10", "LOG2", "MOD", "POW", "POWER", "ROUND"),
    *("SIGN", "SQRT"),
    *("CHAR_LENGTH", "CONCAT", "CONCAT_WS", "ENDS_WITH", "INITCAP", "LEFT", "LENGTH", "LOWER", "LPAD", "LTRIM", "REGEXP_LIKE", "REPLACE"),
    *("REVERSE", "RIGHT", "RPAD", "RTRIM", "SPLIT_PART", "STARTS_WITH", "STRPOS", "SUBSTR", "SUBSTRING", "TRIM", "UPPER"),
    *("DATE", "DATE_PART", "EXTRACT", "STRFTIME", "STRPTIME"),
    *("CAST", "TRY_CAST", "COALESCE", "IF", "IFNULL", "NULLIF"),
)

AVG_DTYPE = pl.Decimal(38, 12)  # of decimals; of other numbers a float

Names = Mapping[str, Kind]  # what an expression may name, and what that holds; parameters with their colon


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One aggregate of an expression. `text` is its regular form and the name of its result; equal texts are the same aggregate."""

    function: str  # sum, count, avg, min, max
    text: str  # SUM(amount * quantity)
    argument: str  # amount * quantity; "*" of COUNT(*)
    source: pl.Expr | None  # what it is taken of, over a chunk; None of COUNT(*)
    inputs: tuple[str, ...]  # the columns `source` reads
    dtype: pl.DataType  # of its result
    kind: Kind
    field: str | None = None  # the field it is taken of as it stands; None where a value has to be computed first, and of COUNT(*)


class Formula(msgspec.Struct, frozen=True, kw_only=True):
    """An expression, checked. Without calls it is evaluated per row; with calls over their results."""

    text: str  # in its regular form
    residual: pl.Expr  # over `inputs`
    inputs: tuple[str, ...]  # columns it reads: names, parameters (":since"), and the texts of its calls
    calls: tuple[Call, ...]
    kind: Kind
    direct: str | None  # the one column it is, when it is nothing more

    @property
    def fields(self) -> tuple[str, ...]:
        """Return every name that is read, inside of aggregates or outside, once."""
        texts = {call.text for call in self.calls}
        outside = [name for name in self.inputs if name not in texts]
        return tuple(dict.fromkeys([*outside, *(name for call in self.calls for name in call.inputs)]))

    def evaluate(self, frame: pl.DataFrame) -> pl.Series:
        """Return its value for each row of a frame that has all of `inputs` as columns."""
        if self.direct is not None:
            return frame[self.direct]
        values = frame.select(self.residual.alias("value"))["value"]
        return values if len(values) == len(frame) else pl.Series("value", [values[0]] * len(frame), dtype=values.dtype)


def formula(text: str, names: Names, *, aggregates: bool = True) -> Formula:
    """Read an expression.

    Args:
        text: SQL over the names.
        names: what may be named, with what it holds.
        aggregates: whether SUM and its like may stand in it; False for what is taken of one row.
    Raises: PlacedError that says what is wrong and, for a name, what is nearest.
    """
    return _formula(text, tuple(names.items()), aggregates)


@functools.lru_cache(maxsize=2048)
def _formula(text: str, declared: tuple[tuple[str, Kind], ...], aggregates: bool) -> Formula:
    """Read an expression once: a report's elements are read when it is declared, planned and rendered."""
    names = dict(declared)
    words = split(text)
    _check_functions(text, words, aggregates=aggregates)
    calls: dict[str, Call] = {}
    rest: list[Word] = []
    index = 0
    while index < len(words):
        word = words[index]
        if word.sort is Sort.FUNCTION and word.text in AGGREGATES:
            end = _closing(words, index + 1)
            call = _call(text, word, words[index + 2 : end], names)
            calls[call.text] = call
            rest.append(Word(Sort.NAME, call.text, word.at))
            index = end + 1
        else:
            rest.append(word)
            index += 1
    known: dict[str, pl.DataType] = {name: DTYPES[kind] for name, kind in names.items()} | {
        call.text: call.dtype for call in calls.values()
    }
    residual, inputs, dtype = _parsed(text, rest, known)
    direct = inputs[0] if len(rest) == 1 and rest[0].sort in (Sort.NAME, Sort.PARAMETER) else None
    money = [name for name in inputs if (calls[name].kind if name in calls else names[name]) is Kind.MONEY]
    kind = _kind(dtype, money)
    if direct is not None and direct not in calls:
        kind = names[direct]
    return Formula(text=written(words), residual=residual, inputs=inputs, calls=tuple(calls.values()), kind=kind, direct=direct)


def row_formula(text: str, names: Names) -> Formula:
    """Read an expression over a single row: no aggregates."""
    return formula(text, names, aggregates=False)


def _call(text: str, function: Word, inner: Sequence[Word], names: Names) -> Call:
    """Read one aggregate, given what stands between its brackets."""
    name = function.text.lower()
    regular = written((function, Word(Sort.OPEN, "(", 0), *inner, Word(Sort.CLOSE, ")", 0)))
    if not inner:
        raise PlacedError(f"{text!r}: {function.text}() needs a value{'; COUNT(*) counts rows' if name == 'count' else ''}")
    if any(word.sort is Sort.KEYWORD and word.text == "DISTINCT" for word in inner):
        raise PlacedError(
            f"{text!r}: DISTINCT inside of an aggregate would have to remember every value; aggregate a group of its own instead"
        )
    if _is_star(inner):
        if name != "count":
            raise PlacedError(f"{text!r}: only COUNT takes *; {function.text} needs a field or an expression", "", "COUNT(*)")
        return Call(function=name, text=regular, argument="*", source=None, inputs=(), dtype=pl.Int64(), kind=Kind.INTEGER)
    if _top_commas(inner):
        raise PlacedError(f"{text!r}: {function.text} takes one value, got {_top_commas(inner) + 1}")
    known = {name: DTYPES[kind] for name, kind in names.items()}
    source, inputs, dtype = _parsed(text, inner, known)
    if name in ("sum", "avg") and not dtype.is_numeric():
        raise PlacedError(f"{text!r}: {function.text} needs numbers, and {written(tuple(inner))!r} is {kind_of_dtype(dtype)}")
    money = [entry for entry in inputs if names[entry] is Kind.MONEY]
    result = _result_dtype(name, dtype)
    kind = _kind(result, money)
    field = inputs[0] if len(inner) == 1 and inputs else None
    if field is not None and name in ("min", "max"):
        kind = names[field]
    argument = written(tuple(inner))
    return Call(function=name, text=regular, argument=argument, source=source, inputs=inputs, dtype=result, kind=kind, field=field)


def _result_dtype(function: str, dtype: pl.DataType) -> pl.DataType:
    """Return the type of an aggregate's result; sums of whole numbers are wider than their values, so that they stay exact."""
    if function == "count":
        return pl.Int64()
    if function == "avg":
        return AVG_DTYPE if isinstance(dtype, pl.Decimal) else pl.Float64()
    if function == "sum":
        return pl.Int128() if dtype.is_integer() else dtype
    return dtype


def _kind(dtype: pl.DataType, money: Sequence[str]) -> Kind:
    """Return what a result holds; a decimal that one amount of money went into is money, of two (a ratio, say) it is a number."""
    kind = kind_of_dtype(dtype)
    return Kind.MONEY if kind is Kind.DECIMAL and len(money) == 1 else kind


def _parsed(text: str, words: Sequence[Word], known: Mapping[str, pl.DataType]) -> tuple[pl.Expr, tuple[str, ...], pl.DataType]:
    """Turn words into a polars expression over columns of these very names, and try it on one empty row."""
    _check_names(text, words, known)
    inputs = tuple(dict.fromkeys(word.text for word in words if word.sort in (Sort.NAME, Sort.PARAMETER) and not _is_type(words, word)))
    sql = " ".join(quoted(word.text) if word.text in inputs and word.sort in (Sort.NAME, Sort.PARAMETER) else word.text for word in words)
    schema = {name: known[name] for name in inputs}
    row = pl.DataFrame({name: [None] for name in schema} or {"": [None]}, schema=schema or {"": pl.Null()})
    try:
        expression = pl.sql_expr(sql)
        dtype = row.select(expression.alias("value")).schema["value"]
    except pl.exceptions.PolarsError as exc:
        reason = str(exc).splitlines()[0].replace('"', "'")
        raise PlacedError(f"cannot make sense of {text!r}: {reason}") from exc
    return expression, inputs, dtype


def _check_names(text: str, words: Sequence[Word], known: Mapping[str, pl.DataType]) -> None:
    for word in words:
        if word.sort is Sort.PARAMETER and word.text not in known:
            raise unknown("parameter", word.text, [name for name in known if name.startswith(":")], where=f"expression {text!r}")
        if word.sort is Sort.NAME and word.text not in known and not _is_type(words, word):
            raise unknown("field", word.text, [name for name in known if not name.startswith(":")], where=f"expression {text!r}")


def _check_functions(text: str, words: Sequence[Word], *, aggregates: bool) -> None:
    inside_until = -1  # the closing bracket of the aggregate we are in
    for index, word in enumerate(words):
        if word.sort is not Sort.FUNCTION or _is_type(words, word):
            continue
        if word.text in AGGREGATES:
            if not aggregates:
                raise PlacedError(f"{text!r}: {word.text} is taken over many rows; here an expression over one row is wanted")
            if index < inside_until:
                raise PlacedError(f"{text!r}: {word.text} stands inside of another aggregate")
            inside_until = _closing(words, index + 1)
        elif word.text not in SCALARS:
            raise unknown("function", word.text, [*AGGREGATES, *SCALARS] if aggregates else SCALARS, where=f"expression {text!r}")


def _is_type(words: Sequence[Word], word: Word) -> bool:
    """Whether a name is the type of a CAST or the part of an EXTRACT, and so no field."""
    index = next(at for at, entry in enumerate(words) if entry is word)
    if index + 1 < len(words) and words[index + 1].sort is Sort.KEYWORD and words[index + 1].text == "FROM":
        return index >= 2 and words[index - 2].text == "EXTRACT"
    depth = 0
    for entry in reversed(words[:index]):
        depth += (entry.sort is Sort.CLOSE) - (entry.sort is Sort.OPEN)
        if depth < 0:
            return False
        if depth == 0 and entry.sort is Sort.KEYWORD and entry.text == "AS":
            return any(cast.text in CASTS for cast in words[:index])
    return False


def _closing(words: Sequence[Word], opening: int) -> int:
    """Return where the bracket that opens at `opening` is closed; `split` has made sure that it is."""
    depth = 0
    for index in range(opening, len(words)):
        depth += (words[index].sort is Sort.OPEN) - (words[index].sort is Sort.CLOSE)
        if depth == 0:
            return index
    raise AssertionError("INVARIANT: split() lets no open bracket through")


def _is_star(words: Sequence[Word]) -> bool:
    return len(words) == 1 and words[0].text == "*"


def _top_commas(words: Sequence[Word]) -> int:
    depth = commas = 0
    for word in words:
        depth += (word.sort is Sort.OPEN) - (word.sort is Sort.CLOSE)
        commas += word.sort is Sort.COMMA and depth == 0
    return commas
