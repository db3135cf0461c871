"""Interval strips: one inline SVG per row, stretched by percentages, so that text stays readable at any width."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from vcbench.report.text import escape, number


@dataclass(frozen=True)
class Scale:
    """Maps values of one panel to per cent of the strip's width."""

    low: float
    high: float

    @classmethod
    def covering(cls, values: Iterable[float]) -> Scale:
        """Return a scale that shows all finite values and zero, with 3 % of margin."""
        finite = [value for value in values if math.isfinite(value)] + [0.0]
        low, high = min(finite), max(finite)
        margin = 0.03 * ((high - low) or 1.0)
        return cls(low - margin, high + margin)

    def at(self, value: float) -> str:
        """Return the position of a value, e.g. ``41.27%``."""
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}%"

    def ticks(self) -> list[float]:
        """Return three to seven round values inside the scale."""
        raw = (self.high - self.low) / 6
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * factor for factor in (1, 2, 5, 10) if raw <= power * factor)
        first = math.ceil(self.low / step)
        return [place * step for place in range(first, math.floor(self.high / step) + 1)]


@dataclass(frozen=True)
class Marks:
    """What one strip shows; NaN = not drawn. `kind` colours the point: model, baseline or control.

    A `hollow` point is a number in which undefined predictions count as no skill.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    null_low: float = math.nan
    null_high: float = math.nan
    baseline: float = math.nan
    ceiling: float = math.nan
    kind: str = "model"
    tooltip: str = ""
    hollow: bool = False


def strip(scale: Scale, marks: Marks) -> str:
    """Return the SVG of one row: null band, baseline and ceiling lines, interval and point."""
    parts = [f"<title>{escape(marks.tooltip)}</title>"] if marks.tooltip else []
    if math.isfinite(marks.null_low) and math.isfinite(marks.null_high):
        width = 100 * (marks.null_high - marks.null_low) / (scale.high - scale.low)
        parts.append(
            f'<rect class="vcb-null" x="{scale.at(marks.null_low)}" width="{max(width, 0.3):.2f}%" '
            'y="0" height="100%"/>'
        )
    for value, css in ((marks.baseline, "vcb-baseline-line"), (marks.ceiling, "vcb-ceiling-line")):
        if math.isfinite(value):
            parts.append(f'<line class="{css}" x1="{scale.at(value)}" x2="{scale.at(value)}" y1="0" y2="100%"/>')
    if math.isfinite(marks.low) and math.isfinite(marks.high):
        parts.append(
            f'<line class="vcb-whisker vcb-{marks.kind}" x1="{scale.at(marks.low)}" x2="{scale.at(marks.high)}" '
            'y1="50%" y2="50%"/>'
        )
    if math.isfinite(marks.value):
        css = f"vcb-point vcb-{marks.kind}{' vcb-hollow' if marks.hollow else ''}"
        parts.append(f'<circle class="{css}" cx="{scale.at(marks.value)}" cy="50%" r="5"/>')
    return f'<svg class="vcb-strip" role="img" aria-label="{escape(marks.tooltip)}">{"".join(parts)}</svg>'


def axis(scale: Scale) -> str:
    """Return the SVG of the axis above the strips."""
    ticks = scale.ticks()
    places = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9)) if len(ticks) > 1 else 2
    labels = "".join(
        f'<text x="{scale.at(tick)}" y="12" text-anchor="middle">{number(tick, places)}</text>' for tick in ticks
    )
    lines = "".join(f'<line x1="{scale.at(tick)}" x2="{scale.at(tick)}" y1="15" y2="20"/>' for tick in ticks)
    return f'<svg class="vcb-axis" aria-hidden="true">{labels}{lines}</svg>'
