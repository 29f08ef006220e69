"""The picture of a scenario: what is drawn, what is left out, and whose colours it has."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree as ET

from floodmark.model.result import FaultResult
from floodmark.report import picture, plots
from floodmark.report.series import Timeline, mark_rows, timeline
from tests.report import made


def sampled() -> Timeline:
    """A whole run over time."""
    rows, marks = made.sampled()
    return timeline([*rows, *mark_rows(marks)])


def words(svg: str) -> list[str]:
    """The texts of a picture."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_draw_names_panels_curves_and_marks() -> None:
    shown = words(plots.draw(sampled(), name="case"))

    assert {"Rate per second", "Latency, log scale", "Resident memory"} <= set(shown)
    assert {"published", "delivered", "response p99", "service p99", "target", "floodmark"} <= set(shown)
    assert {"phase ramp", "phase steady", "fault: stall 1 s", "drain"} <= set(shown)


def test_draw_uses_the_colours_of_the_page_only() -> None:
    svg = plots.draw(sampled(), name="case")

    assert set(re.findall(r"#[0-9a-fA-F]{6}\b", svg)) == set()
    assert {"var(--plot-a)", "var(--plot-b)", "var(--mark)"} <= set(re.findall(r"var\(--[a-z-]+\)", svg))


def test_draw_same_timeline_twice_gives_the_same_picture() -> None:
    assert plots.draw(sampled(), name="case") == plots.draw(sampled(), name="case")


def test_draw_nothing_to_draw_gives_nothing() -> None:
    unseen = timeline([(0.0, "target_fds", 3.0), (0.0, "response_p99_ns", 0.0), (0.0, "published_hz", math.nan)])

    assert plots.draw(timeline([]), name="case") == ""
    assert plots.draw(unseen, name="case") == ""


def test_draw_panel_without_samples_is_left_out() -> None:
    shown = words(plots.draw(timeline([(0.0, "target_rss_bytes", 1e6), (1.0, "target_rss_bytes", 2e6)]), name="case"))

    assert "Resident memory" in shown
    assert "Rate per second" not in shown


def test_draw_single_sample_is_a_dot() -> None:
    svg = plots.draw(timeline([(0.0, "published_hz", 5.0)]), name="case")

    assert "<use" in svg


def test_draw_is_well_formed_whatever_it_is_named() -> None:
    svg = plots.draw(sampled(), name='a "quoted" <name> & more')

    root = ET.fromstring(svg.replace("xlink:href", "href"))

    assert root.tag == "svg"
    assert root.get("role") == "img"


def test_draw_mark_in_letters_the_font_lacks_does_not_warn() -> None:
    seen = timeline([(0.0, "published_hz", 5.0), (4.0, "published_hz", 6.0), (2.0, "mark:相 $x^2$", 1.0)])

    assert "相 $x^2$" in words(plots.draw(seen, name="case"))


def test_draw_fault_repeated_a_thousand_times_keeps_the_first_and_the_last_mark() -> None:
    faults = [(0.01 * number, f"mark:fault {number}", 1.0) for number in range(1_000)]
    seen = timeline([(0.0, "published_hz", 5.0), (11.0, "published_hz", 6.0), *faults, (10.5, "mark:drain", 1.0)])

    svg = plots.draw(seen, name="case")

    assert svg.count("var(--mark)") < 150
    assert {"fault 0", "drain"} <= set(words(svg))


def bars(svg: str) -> int:
    """How many bars stand in the strip: what is filled, opaque and in the colour of marks."""
    return len(re.findall(r'<path d="[^"]*" style="fill: var\(--mark\)"', svg))


def test_draw_faults_are_bars_in_a_strip_and_bands_behind() -> None:
    faults = made.faulted().faults

    plain, svg = plots.draw(sampled(), name="case"), plots.draw(sampled(), name="case", faults=faults)

    assert (bars(plain), bars(svg)) == (0, len(faults))
    assert svg.count("opacity: 0.09") - plain.count("opacity: 0.09") == 2 * 3  # two that were lifted, in three panels
    assert {"disconnect", "wire.latency"} <= set(words(svg)) - set(words(plain))
    assert int(picture.view_height(svg)) > int(picture.view_height(plain))


def test_draw_blow_without_a_length_is_still_seen() -> None:
    blow = FaultResult(kind="drop", index=0, struck_s=5.0, lifted_s=5.0, hits=1)

    svg = plots.draw(sampled(), name="case", faults=(blow,))

    (path,) = re.findall(r'<path d="([^"]*)" style="fill: var\(--mark\)"', svg)
    across = [float(x) for x in re.findall(r"[ML] ([\d.]+) ", path)]
    assert max(across) - min(across) >= 2


def test_draw_faults_without_number_or_outside_the_picture_stay_within_it() -> None:
    many = tuple(FaultResult(kind=f"kind {index}", index=index, struck_s=-90.0, lifted_s=900.0) for index in range(20))
    again = tuple(FaultResult(kind="kind 0", index=0, occasion=number, struck_s=1.0, lifted_s=1.1) for number in range(1, 500))

    svg = plots.draw(sampled(), name="case", faults=(*many, *again))

    assert bars(svg) < 100
    assert len([word for word in words(svg) if word.startswith("kind ")]) == 6
    assert max(float(x) for x in re.findall(r"[ML] ([\d.]+) ", svg)) <= 920
