"""Figures a paper could print: plain SVG with labelled axes, and the numbers behind them as TSV.

A figure is drawn in the page and written as ``<id>.svg`` and ``<id>.tsv``. Text takes the colour of its surroundings,
so that it can be read on light and on dark ground; the file is black on white.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcbench.core.tables import write_tsv
from vcbench.report.strip import Scale
from vcbench.report.text import escape, number, shortened

#: Okabe-Ito colours, readable for colour-blind people; the same as in assets/report.css.
COLOURS = {
    "model": "#0072b2", "control": "#cc79a7", "baseline": "#e69f00", "ceiling": "#009e73", "bad": "#d55e00",
    "null": "#999999", "other": "#56b4e9",
}  # fmt: skip
#: Folder of the figures beside the report.
FOLDER = "figures"
#: Width of a character of the 12 px font, a little too large.
_CHARACTER = 6.6
_ROW = 22
_STYLE = "font-family:Helvetica,Arial,sans-serif;font-size:12px;fill:currentColor"


@dataclass(frozen=True)
class Figure:
    """A drawing and the table behind it; `id` is unique in the report, `title` says what is drawn."""

    id: str
    title: str
    svg: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]

    def html(self) -> str:
        """Return the drawing with links to both files; it scrolls where the page is narrow."""
        return (
            f'<div class="vcb-scroll vcb-figure">{self.svg}</div><p class="vcb-files">{self.links()}</p>'
        )  # fmt: skip

    def links(self) -> str:
        """Return the links to both files."""
        return (
            f'<a href="{FOLDER}/{escape(self.id)}.svg">figure (SVG)</a> · '
            f'<a href="{FOLDER}/{escape(self.id)}.tsv">data (TSV)</a>'
        )

    def write(self, folder: Path) -> None:
        """Write both files."""
        folder.mkdir(parents=True, exist_ok=True)
        printed = self.svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" style="color:#111" ', 1)
        head, _, body = printed.partition(">")
        (folder / f"{self.id}.svg").write_text(
            f'{head}><title>{escape(self.title)}</title><rect width="100%" height="100%" fill="#fff"/>{body}\n',
            encoding="utf-8",
        )
        write_tsv(folder / f"{self.id}.tsv", self.rows, self.columns)


@dataclass(frozen=True)
class Mark:
    """One row of a forest plot; NaN = not drawn. `kind` is a colour of `COLOURS`, `second` a hollow companion point."""

    label: str
    value: float
    low: float = math.nan
    high: float = math.nan
    kind: str = "model"
    second: float = math.nan
    hollow: bool = False


def svg(width: float, height: float, parts: Sequence[str], label: str) -> str:
    """Return an SVG that is as wide as its box, up to its own width; `label` is read aloud by screen readers."""
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img" '
        f'aria-label="{escape(label)}">' + "".join(parts) + "</svg>"
    )


def text(x: float, y: float, content: str, anchor: str = "start", more: str = "") -> str:
    """Return a line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="{_STYLE}"{more}>{escape(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str = "currentColor", width: float = 1,
         dash: str = "", opacity: float = 1) -> str:  # fmt: skip
    """Return a straight line."""
    extra = f' stroke-dasharray="{dash}"' if dash else ""
    extra += f' stroke-opacity="{opacity}"' if opacity < 1 else ""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"{extra}/>'


def point(x: float, y: float, colour: str, hollow: bool = False, radius: float = 4, tooltip: str = "") -> str:
    """Return a point, hollow or filled."""
    inside = f"<title>{escape(tooltip)}</title>" if tooltip else ""
    fill = "none" if hollow else colour
    where = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius}"'
    return f'<circle {where} fill="{fill}" stroke="{colour}" stroke-width="1.5">{inside}</circle>'


def covering(values: Sequence[float], zero: bool = True) -> Scale:
    """Return a scale that shows all finite values (and zero) with a margin."""
    if zero:
        return Scale.covering(values)
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    margin = 0.05 * ((max(finite) - min(finite)) or 1.0)
    return Scale(min(finite) - margin, max(finite) + margin)


def tick_labels(scale: Scale) -> list[tuple[float, str]]:
    """Return the round values of a scale with their text."""
    ticks = scale.ticks()
    places = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9)) if len(ticks) > 1 else 2
    return [(tick, number(tick, places)) for tick in ticks]


def _lanes(bars: Sequence[tuple[int, int]]) -> list[int]:
    """Return the column of each bar: the first in which it touches no earlier one."""
    ends: list[int] = []
    found = []
    for first, last in bars:
        lane = next((place for place, end in enumerate(ends) if end < first), len(ends))
        ends[lane : lane + 1] = [last]
        found.append(lane)
    return found


def forest(
    id_: str, title: str, marks: Sequence[Mark], axis: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]],
    lines: Mapping[str, tuple[float, str]] | None = None, groups: Sequence[tuple[int, int]] = (), zero: bool = True,
) -> Figure:  # fmt: skip
    """Return rows of points with intervals along one axis.

    Parameters
    ----------
    axis
        What is measured, with its unit.
    columns, rows
        The table behind the drawing.
    lines
        Vertical lines: name -> (value, colour of `COLOURS`); a legend below names them.
    groups
        Bars at the right that join rows (first, last), for groups that were not told apart.
    zero
        Whether the axis must show zero.
    """
    lines = {name: found for name, found in (lines or {}).items() if math.isfinite(found[0])}
    labels = [shortened(mark.label, 58) for mark in marks]
    left = min(400.0, max((len(label) for label in labels), default=0) * _CHARACTER) + 12
    lanes = _lanes(groups)
    right = 16.0 + 9 * (max(lanes, default=-1) + 1)
    width = max(720.0, left + 320 + right)
    scale = covering(
        [value for mark in marks for value in (mark.value, mark.low, mark.high, mark.second)]
        + [value for value, _ in lines.values()], zero,
    )  # fmt: skip
    top, bottom = 6.0, 6.0 + _ROW * len(marks)

    def at(value: float) -> float:
        return left + (value - scale.low) / (scale.high - scale.low) * (width - left - right)

    parts = [line(at(tick), top, at(tick), bottom, opacity=0.12) for tick, _ in tick_labels(scale)]
    for value, colour in lines.values():
        parts.append(line(at(value), top, at(value), bottom, COLOURS[colour], 1.5, "5 3"))
    for place, (mark, label) in enumerate(zip(marks, labels, strict=True)):
        y, colour = top + _ROW * (place + 0.5), COLOURS[mark.kind]
        parts.append(text(left - 10, y + 4, label, "end"))
        if math.isfinite(mark.low) and math.isfinite(mark.high):
            parts.append(line(at(mark.low), y, at(mark.high), y, colour, 2))
        if math.isfinite(mark.second):
            parts.append(point(at(mark.second), y, colour, hollow=True))
        if math.isfinite(mark.value):
            tip = f"{mark.label}: {mark.value:.4g} ({mark.low:.4g} to {mark.high:.4g})"
            parts.append(point(at(mark.value), y, colour, mark.hollow, tooltip=tip))
    for lane, (first, last) in zip(lanes, groups, strict=True):
        x = width - right + 12 + 9 * lane
        parts.append(line(x, top + _ROW * first + 4, x, top + _ROW * (last + 1) - 4, "currentColor", 3))
    parts.append(line(left, bottom, width - right, bottom))
    for tick, label in tick_labels(scale):
        parts += [line(at(tick), bottom, at(tick), bottom + 4), text(at(tick), bottom + 17, label, "middle")]
    parts.append(text((left + width - right) / 2, bottom + 36, axis, "middle"))
    x = left
    for name, (_, colour) in lines.items():
        parts += [line(x, bottom + 52, x + 22, bottom + 52, COLOURS[colour], 1.5, "5 3"),
                  text(x + 28, bottom + 56, name)]  # fmt: skip
        x += 44 + len(name) * _CHARACTER
    height = bottom + (64 if lines else 44)
    return Figure(id_, title, svg(width, height, parts, title), tuple(columns), tuple(rows))


def matrix(
    id_: str, title: str, values: Sequence[Sequence[float]], across: Sequence[str], down: Sequence[str], axis: str,
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], low: float, high: float, places: int = 2,
) -> Figure:  # fmt: skip
    """Return a heat map with its numbers printed; NaN cells stay empty.

    `low` and `high` are the ends of the blues; values on the far side of `low` are orange.
    """
    cell = max(46.0, 10 + _CHARACTER * (places + 4))
    left = min(380.0, max(map(len, down), default=0) * _CHARACTER) + 10
    # Names across stand at an angle.
    top = 14 + 0.72 * min(220.0, max(map(len, across), default=0) * _CHARACTER)
    parts = []
    for j, name in enumerate(across):
        x, y = left + (j + 0.5) * cell, top - 6
        parts.append(text(x, y, shortened(name, 34), more=f' transform="rotate(-45 {x:.1f} {y:.1f})"'))
    for i, name in enumerate(down):
        y = top + (i + 0.5) * _ROW
        parts.append(text(left - 8, y + 4, shortened(name, 58), "end"))
        for j, value in enumerate(values[i]):
            if math.isfinite(value):
                share = min(1.0, max(-1.0, (value - low) / ((high - low) or 1.0)))
                colour = COLOURS["model" if share >= 0 else "bad"]
                where = f'x="{left + j * cell:.1f}" y="{top + i * _ROW:.1f}" width="{cell - 1:.1f}" height="{_ROW - 1}"'
                parts.append(f'<rect {where} fill="{colour}" fill-opacity="{0.06 + 0.6 * abs(share):.3f}"/>')
                parts.append(text(left + (j + 0.5) * cell, y + 4, number(value, places), "middle"))
    bottom = top + len(down) * _ROW
    parts.append(text(left, bottom + 20, axis))
    width = max(
        left + len(across) * cell + 0.72 * max(map(len, across), default=0) * _CHARACTER, len(axis) * 6.2 + left
    )
    return Figure(id_, title, svg(width, bottom + 30, parts, title), tuple(columns), tuple(rows))


@dataclass(frozen=True)
class Line:
    """A series of an x-y plot: points (x, y, low, high), joined or not."""

    name: str
    points: tuple[tuple[float, float, float, float], ...]
    kind: str = "model"
    joined: bool = True


def curves(
    id_: str, title: str, lines: Sequence[Line], x_axis: str, y_axis: str, columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]], levels: Mapping[str, tuple[float, str]] | None = None,
    x_ticks: Sequence[tuple[float, str]] | None = None,
) -> Figure:  # fmt: skip
    """Return curves or points over two axes, with intervals.

    `levels` are horizontal lines: name -> (value, colour); `x_ticks` (position, text) replace round numbers below.
    """
    levels = {name: found for name, found in (levels or {}).items() if math.isfinite(found[0])}
    xs = [p[0] for series in lines for p in series.points]
    ys = [value for series in lines for p in series.points for value in p[1:]] + [v for v, _ in levels.values()]
    across, up = covering(xs, zero=False), covering(ys)
    width, height, left, right, top, bottom = 720.0, 420.0, 64.0, 16.0, 10.0, 340.0

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - across.low) / (across.high - across.low) * (width - left - right),
            bottom - (y - up.low) / (up.high - up.low) * (bottom - top),
        )

    parts = [line(left, bottom, width - right, bottom), line(left, top, left, bottom)]
    for tick, label in x_ticks if x_ticks is not None else tick_labels(across):
        x = at(tick, up.low)[0]
        parts += [line(x, bottom, x, bottom + 4), text(x, bottom + 17, label, "middle")]
    for tick, label in tick_labels(up):
        y = at(across.low, tick)[1]
        parts += [line(left, y, width - right, y, opacity=0.12), text(left - 6, y + 4, label, "end")]
    for value, colour in levels.values():
        y = at(across.low, value)[1]
        parts.append(line(left, y, width - right, y, COLOURS[colour], 1.5, "5 3"))
    for series in lines:
        colour = COLOURS[series.kind]
        known = [p for p in series.points if math.isfinite(p[0]) and math.isfinite(p[1])]
        if series.joined and len(known) > 1:
            path = " ".join("{:.1f},{:.1f}".format(*at(p[0], p[1])) for p in known)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        for x, y, low, high in known:
            if math.isfinite(low) and math.isfinite(high):
                parts.append(line(*at(x, low), *at(x, high), colour, 1.5))
            parts.append(point(*at(x, y), colour, tooltip=f"{series.name}: {x:.4g}, {y:.4g}"))
    parts.append(text((left + width - right) / 2, bottom + 36, x_axis, "middle"))
    parts.append(
        text(14, (top + bottom) / 2, y_axis, "middle", f' transform="rotate(-90 14 {(top + bottom) / 2:.1f})"')
    )
    x = left
    legend = [(series.name, series.kind, "") for series in lines if series.name]
    for name, kind, dash in legend + [(name, colour, "5 3") for name, (_, colour) in levels.items()]:
        parts += [line(x, bottom + 58, x + 22, bottom + 58, COLOURS[kind], 2, dash), text(x + 28, bottom + 62, name)]
        x += 44 + len(name) * _CHARACTER
    return Figure(id_, title, svg(max(width, x), height, parts, title), tuple(columns), tuple(rows))
