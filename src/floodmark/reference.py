"""The reference page, written from the registries, the command line and the structs of a result, so that it cannot fall behind.

Output: Markdown. `docs/reference.md` holds exactly this text, and a test compares them. After a change:
`python -m floodmark.reference docs`.
Not here: the keys of a scenario file and the metrics of a criterion, which `floodmark.model.reference` writes.
"""

from __future__ import annotations

import enum
import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import typer
from msgspec import inspect as shapes

from floodmark import suites
from floodmark.cli import app
from floodmark.core.errors import HarnessBugError, UsageError
from floodmark.drivers import DRIVERS
from floodmark.faults import FAULTS
from floodmark.model.metrics import METRICS
from floodmark.model.trial import Trial
from floodmark.model.verdict import Verdict
from floodmark.report import APART, FORMATS
from floodmark.report.document import RunDocument
from floodmark.runner.embedded import SYSTEMS

PAGE = "reference.md"
HEAD = """\
<!-- Written from the code by `python -m floodmark.reference docs`; edits are lost. -->

# Reference

Commands, exit codes, registries and the fields of `run.json`, each taken from the code itself. The keys of a scenario file stand in
[scenario files](scenarios.md), what a criterion may name in [criteria](criteria.md), the files of a run folder in [reports](reports.md).
"""
EXIT_CODES: tuple[tuple[int, str], ...] = (
    (Verdict.PASS.exit_code, "PASS: every criterion holds"),
    (Verdict.FAIL.exit_code, "FAIL: at least one criterion is broken"),
    (Verdict.UNKNOWN.exit_code, "UNKNOWN: nothing is broken, and not everything is proven"),
    (UsageError.exit_code, "usage: a wrong option, file or name; one sentence on stderr says which, and nothing was run"),
    (HarnessBugError.exit_code, "a bug in floodmark; there is no verdict"),
    (130, "interrupted; what was measured until then is in the run folder"),
)


def reference() -> str:
    """Write the whole page."""
    return "\n".join([HEAD, *_commands(), *_exit_codes(), *_registries(), *_run_json()])


def renew(folder: Path) -> None:
    """Write the page anew into a folder."""
    (folder / PAGE).write_text(reference(), encoding="utf-8")


# -- the command line --------------------------------------------------------------------------------------------------------------


def _commands() -> list[str]:
    parts = ["## Commands\n"]
    for words, command in sorted(_leaves(typer.main.get_command(app), ("floodmark",)), key=lambda leaf: leaf[0]):
        hints = typing.get_type_hints(command.callback)
        takes = [_parameter(parameter, hints[parameter.name]) for parameter in command.params]
        rows = [[f"`{shown}`", kind, _default(default), text] for shown, kind, default, text in takes]
        # The first paragraph of a docstring is the command's help; what follows is for whoever reads the code.
        summary = (inspect.getdoc(command.callback) or "").split("\n\n")[0].replace("\n", " ")
        parts += [f"### `{' '.join(words)}`\n", f"{summary}\n", *_table(["parameter", "takes", "default", "what it does"], rows)]
    return parts


def _leaves(command: Any, words: tuple[str, ...]) -> Iterable[tuple[tuple[str, ...], Any]]:
    """Every command with its full name, as typer made it."""
    if not hasattr(command, "list_commands"):
        yield words, command
        return
    context = typer.Context(command)
    for name in command.list_commands(context):
        yield from _leaves(command.get_command(context, name), (*words, name))


def _parameter(parameter: Any, hint: object) -> tuple[str, str, object, str]:
    options = [name for name in parameter.opts if name.startswith("-")]
    shown = max(options, key=len) if options else (parameter.metavar or parameter.name).upper()
    default = None if callable(parameter.default) else parameter.default
    is_flag = bool(options) and bool(getattr(parameter, "is_flag", False))
    return shown, "nothing: a switch" if is_flag else _kind(hint), None if is_flag else default, parameter.help or ""


def _kind(hint: object) -> str:
    """What a parameter takes, in words."""
    arguments = [argument for argument in typing.get_args(hint) if argument is not types.NoneType]
    if typing.get_origin(hint) in (list, tuple):
        return f"{_kind(arguments[0])}, any number of times"
    if arguments:
        return _kind(arguments[0])
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return "one of " + ", ".join(f"`{member.value}`" for member in hint)
    words = {str: "text", int: "a whole number", float: "a number", bool: "nothing: a switch", Path: "a path"}
    return words[typing.cast("type", hint)]


def _default(value: object) -> str:
    if value is None or value == () or value == []:
        return "not set"
    return f"`{value.value if isinstance(value, enum.Enum) else value}`"


# -- exit codes and registries -----------------------------------------------------------------------------------------------------


def _exit_codes() -> list[str]:
    return [
        "## Exit codes\n",
        "The same for every command that judges; [verdicts](verdicts.md) says how a verdict comes about.\n",
        *_table(["code", "meaning"], [[f"{code}", text] for code, text in EXIT_CODES]),
    ]


def _registries() -> list[str]:
    parts = ["## Suites and scenarios\n", "Quick is the scale of the quick tier; a dash leaves the scenario out of it.\n"]
    for suite, entries in suites.SUITES.items():
        rows = []
        for entry in entries:
            built = entry.build(1.0)
            criteria = built.caught if isinstance(built, Trial) else built.criteria
            quick = "–" if entry.quick_scale is None else f"{entry.quick_scale:g}"
            held = "<br>".join(f"`{criterion.text}`" for criterion in criteria)
            rows.append([f"`{entry.id}`", entry.plan or "–", entry.text, held, quick])
        trial = isinstance(entries[0].build(1.0), Trial)
        criterion = "caught when, beside FAIL" if trial else "criteria at full size"
        parts += [f"### `{suite}`\n", *_table(["scenario", "plan", "what it does", criterion, "quick"], rows)]
    started = [[f"`{name}`", f"`python {' '.join(command)}`"] for name, (command, _) in SYSTEMS.items()]
    parts += ["## Embedded systems\n", *_table(["name", "started as"], started)]
    parts += ["## Drivers\n", *_table(["driver", "speaks to"], [[f"`{name}`", text] for name, (_, text) in DRIVERS.items()])]
    parts.append("A class of your own is a driver too: `--driver file.py:Class` or `--driver package.module:Class`.\n")
    for name, (factory, _) in DRIVERS.items():
        parts += [f"### Options of `{name}`\n", *_table(["option", "default"], _option_rows(_driver_options(factory)))]
    parts += ["## Faults\n", *_table(["fault", "what it does"], [[f"`{name}`", text] for name, (_, text) in FAULTS.items()])]
    for name, (fault, _) in FAULTS.items():
        options = {field.name: field.default for field in msgspec.structs.fields(fault)}
        parts += [f"### Options of `{name}`\n", f"{inspect.getdoc(fault)}\n", *_table(["option", "default"], _option_rows(options))]
    parts += ["## Metrics\n", f"{len(METRICS)} metrics, each with its unit in [criteria](criteria.md):\n"]
    parts.append(", ".join(f"`{name}`" for name in METRICS) + ".\n")
    parts += ["## Report formats\n", ", ".join(f"`{name}`" for name in (*FORMATS, *APART)) + "; see [reports](reports.md).\n"]
    return parts


def _driver_options(factory: Callable[..., object]) -> Mapping[str, object]:
    """The options of a driver: a class attribute of its own, or its module's, by the name every driver uses."""
    options: Mapping[str, object] = getattr(factory, "DEFAULTS", None) or getattr(sys.modules[factory.__module__], "DEFAULTS", {})
    return options


def _option_rows(options: Mapping[str, object]) -> list[list[str]]:
    return [[f"`{name}`", "required" if value is msgspec.NODEFAULT else _written(value)] for name, value in options.items()]


def _written(value: object) -> str:
    """A default as one writes it; one that only code can tell is told in the text above."""
    if isinstance(value, float) and not math.isfinite(value):
        return "none"
    return f"`{msgspec.json.encode(value).decode()}`"


# -- run.json ----------------------------------------------------------------------------------------------------------------------


def _run_json() -> list[str]:
    parts = ["## run.json\n", "What `--json` prints is the same without the last fields, from `started` on.\n"]
    seen: set[type] = set()
    waiting: list[type] = [RunDocument]
    while waiting:
        cls = waiting.pop(0)
        if cls in seen:
            continue
        seen.add(cls)
        rows = []
        for field in typing.cast("shapes.StructType", shapes.type_info(cls)).fields:
            words, inner = _shape(field.type)
            waiting += inner
            rows.append([f"`{field.encode_name}`", words])
        parts += [f"### {_title(cls)}\n", f"{inspect.getdoc(cls)}\n", *_table(["field", "holds"], rows)]
    return parts


def _title(cls: type) -> str:
    return "The document" if cls is RunDocument else f"`{cls.__name__}`"


def _shape(shape: shapes.Type) -> tuple[str, list[type]]:
    """What a field holds, in words, and the structs that need a section of their own."""
    match shape:
        case shapes.StructType(cls=cls):
            return f"a `{cls.__name__}`", [cls]
        case shapes.VarTupleType(item_type=item) | shapes.ListType(item_type=item):
            words, inner = _shape(item)
            return f"a list, each entry {words}", inner
        case shapes.DictType(value_type=value):
            words, inner = _shape(value)
            return f"an object, each value {words}", inner
        case shapes.EnumType(cls=cls):
            return "one of " + ", ".join(f"`{member.value}`" for member in cls), []
        case shapes.UnionType(types=parts):
            found = [_shape(part) for part in parts]
            return " or ".join(words for words, _ in found), [cls for _, inner in found for cls in inner]
    plain: dict[type[shapes.Type], str] = {
        shapes.StrType: "text",
        shapes.IntType: "a whole number",
        shapes.FloatType: "a number",
        shapes.BoolType: "`true` or `false`",
        shapes.NoneType: "`null`",
        shapes.AnyType: "any JSON",
    }
    return plain[type(shape)], []


def _table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    lines = [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows]
    if not lines:
        return ["Takes nothing.\n"]
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines, ""]


if __name__ == "__main__":
    renew(Path(sys.argv[1]))
