"""What every picture of a report has in common: its width, its colours, its labels, and how it becomes part of a page.

Input: an SVG document as matplotlib writes it. Output: an `<svg>` element without script, request or font of its own. The colours are CSS
variables of the page (report.css), so that one picture serves light and dark: matplotlib draws in stand-in colours that are replaced here.
Not here: what is drawn (plots.py, mark_plot.py).
"""

from __future__ import annotations

import re

WIDTH = 920  # units of the viewBox, about pixels
_HEIGHT = 118  # of a document that does not say its own

#: CSS variable of the page, and the colour that stands for it while matplotlib draws; no two alike, none that matplotlib writes by itself.
STAND_INS = {
    "ink": "#010203",
    "muted": "#010204",
    "line": "#010205",
    "plot-a": "#010206",
    "plot-b": "#010207",
    "plot-c": "#010208",
    "mark": "#010209",
    "pass": "#01020a",
    "fail": "#01020b",
}


def tick(value: float, unit: str) -> str:
    """A label of the value axis, as short as it can be.

    >>> tick(1e6, "latency"), tick(25_000, "rate"), tick(50 * 1024**2, "memory"), tick(0, "memory")
    ('1 ms', '25k', '50 MiB', '0')
    """
    steps: tuple[tuple[float, str], ...] = {
        "latency": ((1e9, " s"), (1e6, " ms"), (1e3, " µs"), (1.0, " ns")),
        "rate": ((1e6, "M"), (1e3, "k"), (1.0, "")),
        "memory": ((1024.0**3, " GiB"), (1024.0**2, " MiB"), (1024.0, " KiB"), (1.0, " B")),
    }[unit]
    for factor, name in steps:
        if abs(value) >= factor * 0.999:
            return f"{value / factor:,.4g}{name}"
    return f"{value:g}"


def inline(svg: str, name: str, *, over: str = "time") -> str:
    """Fit matplotlib's document into a page: no prologue, no outside address, the page's colours and letters, ids of its own.

    Args: over: what the picture shows it over, for screen readers.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"font: ([^;\"]*?)(\d[\d.]*)px [^;\"]+", r"font: \1\2px var(--sans)", body)
    body = re.sub(r"font-family: [^;\"]+", "font-family: var(--sans)", body)  # matplotlib 3.11 writes the parts of `font` apart
    for variable, colour in STAND_INS.items():
        body = body.replace(colour, f"var(--{variable})")
    prefix = re.sub(r"[^A-Za-z0-9]+", "-", name)
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", body)
    body = re.sub(r">\s+<", "><", body)
    label = f"{_attribute(name)} over {_attribute(over)}"
    opening = f'<svg class="plot" viewBox="0 0 {WIDTH} {view_height(body)}" role="img" aria-label="{label}">'
    return re.sub(r"<svg[^>]*>", lambda _: opening, body, count=1).strip()


def view_height(body: str) -> str:
    """How high a picture is, in units of its viewBox."""
    match = re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', body)
    return match.group(1) if match else str(_HEIGHT)


def _attribute(text: str) -> str:
    return re.sub(r"[^\w .,:-]", " ", text)
