"""Reports: declared in Python, checked when declared, fed chunk by chunk, rendered by `render/`."""

from __future__ import annotations

from floodmark.systems.pipeline.errors import ReportError
from floodmark.systems.pipeline.report.bands import Aggregate, Align, Band, BandKind, Direction, Expression, Field, Label, Line, Scope
from floodmark.systems.pipeline.report.formats import CurrencyStyle, Format, FormatType, format_all, format_named, formatter
from floodmark.systems.pipeline.report.kinds import Kind
from floodmark.systems.pipeline.report.model import Group, Report, Reset, Sort, Variable, VariableType
from floodmark.systems.pipeline.report.parameters import Parameter

__all__ = [
    "Aggregate",
    "Align",
    "Band",
    "BandKind",
    "CurrencyStyle",
    "Direction",
    "Expression",
    "Field",
    "Format",
    "FormatType",
    "Group",
    "Kind",
    "Label",
    "Line",
    "Parameter",
    "Report",
    "ReportError",
    "Reset",
    "Scope",
    "Sort",
    "Variable",
    "VariableType",
    "format_all",
    "format_named",
    "formatter",
]
