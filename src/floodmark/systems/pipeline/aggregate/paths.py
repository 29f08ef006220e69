"""Where a field's name leads in a frame: a column, a field of a related record, the first element of a list of them.

`resolve("customer.name", schema)` gives an expression, and the type of what it yields, or None where the frame has no such field: a
field that is missing is not an error here, its values count as None. A column whose own name has dots in it goes before the path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from polars._typing import PolarsDataType


def root(path: str, columns: Mapping[str, pl.DataType]) -> str:
    """Give the name of the column that a path starts from.

    >>> root("customer.name", {"customer": pl.Struct([])}), root("a.b", {"a.b": pl.Int64()})
    ('customer', 'a.b')
    """
    return path if path in columns else path.split(".", 1)[0]


def resolve(path: str, columns: Mapping[str, pl.DataType], *, first: bool = True) -> tuple[pl.Expr, pl.DataType] | None:
    """Give the expression that a path stands for and its type; None when the frame has no such field.

    Args:
        path: "amount", or "customer.address.city"; lists on the way give their first element.
        columns: types by column name, as in `frame.schema`.
        first: whether a list at the end gives its first element as well, or stays a list.
    """
    name = root(path, columns)
    if name not in columns:
        return None
    expression, kind = pl.col(name), columns[name]
    for step in path[len(name) + 1 :].split(".") if path != name else ():
        expression, kind = _first(expression, kind)
        inner = {field.name: field.dtype for field in kind.fields} if isinstance(kind, pl.Struct) else {}
        if step not in inner:
            return None
        expression, kind = expression.struct.field(step), _made(inner[step])
    return _first(expression, kind) if first else (expression, kind)


def _first(expression: pl.Expr, kind: pl.DataType) -> tuple[pl.Expr, pl.DataType]:
    """Replace a list by its first element, however deep the lists are nested."""
    while isinstance(kind, pl.List | pl.Array):
        expression = expression.list.first() if isinstance(kind, pl.List) else expression.arr.first()
        kind = _made(kind.inner)
    return expression, kind


def _made(kind: PolarsDataType) -> pl.DataType:
    """Make an instance of a type that polars gives as a class."""
    return kind if isinstance(kind, pl.DataType) else kind()
