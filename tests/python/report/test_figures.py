"""Figures: what is drawn stands where its numbers say, and the data behind it are written."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pandas as pd
import pytest

from vcbench.report import figure

HOSTILE = "<b>&\"'"


def circles(drawing, kind):
    colour = figure.COLOURS[kind]
    pattern = rf'<circle cx="([\d.-]+)" cy="([\d.-]+)" r="4" fill="[^"]*" stroke="{colour}"'
    return [(float(x), float(y)) for x, y in re.findall(pattern, drawing.svg)]


def ticks(svg):
    """(position, value) of the labels below the axis of a forest plot."""
    found = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="middle"[^>]*>(−?[\d.]+)</text>', svg)
    return [(float(x), float(value.replace("−", "-"))) for x, _, value in found]


def test_forest_places_points_on_its_axis():
    marks = [figure.Mark("a", 0.1, 0.0, 0.2), figure.Mark("b", 0.7, 0.5, 0.9), figure.Mark(HOSTILE, math.nan)]
    drawing = figure.forest("f", "A title", marks, "Score (no unit)", ("n",), [{"n": 1}], {"ceiling": (0.8, "ceiling")},
                            [(0, 1)])  # fmt: skip
    (x0, v0), *_, (x1, v1) = ticks(drawing.svg)
    points = circles(drawing, "model")
    assert len(points) == 2
    for (x, _), mark in zip(points, marks, strict=False):
        assert v0 + (x - x0) * (v1 - v0) / (x1 - x0) == pytest.approx(mark.value, abs=0.002)
    assert points[0][1] < points[1][1]
    assert "Score (no unit)" in drawing.svg
    ElementTree.fromstring(drawing.svg)
    assert HOSTILE not in drawing.svg


def test_files_are_whole_documents_with_their_data(tmp_path):
    rows = [{"name": "x", "value": 0.123456789, "gone": math.nan}]
    drawing = figure.matrix("m", f"T {HOSTILE}", [[0.5, math.nan]], ["p", "q"], ["r"], "Share (1)",
                            ("name", "value", "gone"), rows, 0, 1)  # fmt: skip
    drawing.write(tmp_path / "figures")
    root = ElementTree.parse(tmp_path / "figures/m.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root[0].text == f"T {HOSTILE}"
    printed = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "0.50" in printed
    assert "Share (1)" in printed
    table = pd.read_csv(tmp_path / "figures/m.tsv", sep="\t")
    assert table["value"][0] == 0.123456789
    assert table["gone"].isna().all()
    assert 'href="figures/m.svg"' in drawing.html()
    assert 'href="figures/m.tsv"' in drawing.html()


def test_curves_rise_upwards():
    series = figure.Line("model", ((10, 0.1, 0.0, 0.2), (20, 0.4, 0.3, 0.5), (40, math.nan, math.nan, math.nan)))
    drawing = figure.curves("c", "t", [series], "Training variants", "Score", (), [], {"ceiling": (0.9, "ceiling")})
    (x0, y0), (x1, y1) = circles(drawing, "model")
    assert x1 > x0
    assert y1 < y0
    ElementTree.fromstring(drawing.svg)


def test_nothing_to_draw_is_still_a_drawing():
    for drawing in (figure.forest("f", "t", [], "x", (), []), figure.matrix("m", "t", [], [], [], "x", (), [], 0, 1),
                    figure.curves("c", "t", [], "x", "y", (), [])):  # fmt: skip
        ElementTree.fromstring(drawing.svg)
