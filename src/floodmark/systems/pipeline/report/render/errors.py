"""What can go wrong while a report is set: the typesetter's complaints, each with its kind.

`kind` is the short word for a log or an event. All but the usage errors mean that this report cannot be rendered as it stands; none of
them leaves a half-written file behind.
"""

from __future__ import annotations

from floodmark.core.errors import UsageError
from floodmark.systems.pipeline.errors import PipelineError


class RenderError(PipelineError):
    """A report could not be rendered."""

    kind = "render_failed"


class CompilationError(RenderError):
    """The typesetter refused the document; `hints` and `trace` are its own."""

    kind = "compilation_error"

    def __init__(self, message: str, hints: tuple[str, ...] = (), trace: tuple[str, ...] = ()) -> None:
        super().__init__(message, hints, trace)
        self.message, self.hints, self.trace = message, tuple(hints), tuple(trace)

    def __str__(self) -> str:
        return "; ".join([self.message, *(f"hint: {hint}" for hint in self.hints)])


class TemplateSyntaxError(CompilationError):
    """The template is not the typesetter's language."""

    kind = "syntax_error"


class TemplateFileError(CompilationError):
    """The template asks for a file that is not there."""

    kind = "file_not_found"


class FontError(CompilationError):
    """A font that the template asks for is not installed."""

    kind = "font_error"


class EmptyTemplateError(RenderError, UsageError):
    """There is nothing to compile."""

    kind = "empty_template"

    def __init__(self) -> None:
        super().__init__()

    def __str__(self) -> str:
        return "the template is empty"


class TemplateTooLargeError(RenderError, UsageError):
    """A document that would take the typesetter gigabytes; a report is set in sections instead."""

    kind = "template_too_large"

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(size_bytes, limit_bytes)
        self.size_bytes, self.limit_bytes = size_bytes, limit_bytes

    def __str__(self) -> str:
        return f"the template and its data are {self.size_bytes:,} bytes, more than the {self.limit_bytes:,} that are set at once"


class InvalidFormatError(RenderError, UsageError):
    """No such output."""

    kind = "invalid_format"

    def __init__(self, wanted: str, known: tuple[str, ...]) -> None:
        super().__init__(wanted, known)
        self.wanted, self.known = wanted, tuple(known)

    def __str__(self) -> str:
        return f"there is no output format {self.wanted!r} here; there are: {', '.join(self.known)}"


class TypesetTimeoutError(RenderError):
    """The typesetter took too long for one section."""

    kind = "timeout"

    def __init__(self, limit_s: float) -> None:
        super().__init__(limit_s)
        self.limit_s = limit_s

    def __str__(self) -> str:
        return f"the typesetter took longer than {self.limit_s:g} s; take smaller sections (section_rows), or raise timeout_s"


class TypesetterDiedError(RenderError):
    """The typesetter's process ended in the middle of its work, as it does when there is no memory left."""

    kind = "typesetter_died"

    def __init__(self, exit_code: int | None, said: str) -> None:
        super().__init__(exit_code, said)
        self.ended_with, self.said = exit_code, said

    def __str__(self) -> str:
        return f"the typesetter's process ended early ({self.said or f'exit code {self.ended_with}'})"


_SYNTAX = ("expected ", "unclosed ", "unexpected ", "unterminated ", "the character `", "the path must", "keyword `", "cannot be used as")
_FILE = ("file not found", "failed to load file", "file is not valid", "package not found", "failed to download package")
_FONT = ("unknown font family", "font not found", "no font")


def compilation_error(message: str, hints: tuple[str, ...] = (), trace: tuple[str, ...] = ()) -> CompilationError:
    """Return the typed error for what the typesetter said.

    >>> compilation_error("unclosed delimiter").kind, compilation_error("file not found (searched at x.typ)").kind
    ('syntax_error', 'file_not_found')
    """
    said = message.lower()
    if said.startswith(_FILE):
        return TemplateFileError(message, hints, trace)
    if said.startswith(_FONT):
        return FontError(message, hints, trace)
    # What is wrong with a value is told as "expected length, found string": only a token has not been understood is it the syntax.
    if said.startswith(_SYNTAX) and ", found " not in said:
        return TemplateSyntaxError(message, hints, trace)
    return CompilationError(message, hints, trace)
