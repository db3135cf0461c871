"""Text of the report: escaping, numbers, p values; the only place where values become characters."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable

#: Shown for a value that does not exist; the reason stands beside it.
NO_VALUE = "–"


def escape(text: object) -> str:
    """Return user text safe inside HTML text and attributes."""
    return html.escape(str(text), quote=True)


def parse(text: str | None) -> float:
    """Return the number of a table cell; an empty cell is NaN."""
    return float(text) if text not in (None, "") else math.nan


def decimals(values: Iterable[float]) -> int:
    """Return how many decimals show a column whose largest value has at least three digits (3 for scores up to 1)."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    exponent = math.floor(math.log10(largest)) if largest > 0 else 0
    return 1 if exponent >= 2 else 2 if exponent == 1 else 3 if exponent >= -1 else min(6, 2 - exponent)


def number(value: float, places: int = 3, signed: bool = False) -> str:
    """Return a number with a real minus sign; NaN becomes a dash."""
    if not math.isfinite(value):
        return NO_VALUE
    text = f"{value:+,.{places}f}" if signed else f"{value:,.{places}f}"
    if float(text.replace(",", "")) == 0:  # no "-0.000"
        text = text.lstrip("+-")
    return text.replace("-", "−")


def interval(low: float, high: float, places: int = 3, signed: bool = False) -> str:
    """Return ``low to high`` (no-break spaces), or a dash when either end does not exist."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return NO_VALUE
    return f"{number(low, places, signed)}\u00a0to\u00a0{number(high, places, signed)}"


def p_value(p: float) -> str:
    """Return ``p = 0.012``, ``p < 0.001`` (held together by no-break spaces) or a dash."""
    if not math.isfinite(p):
        return NO_VALUE
    return "p\u00a0<\u00a00.001" if p < 0.001 else f"p\u00a0=\u00a0{p:.3f}"


def count(n: float, noun: str, plural: str = "") -> str:
    """Return ``1 variant``, ``12 variants``, ``1,234 cells``."""
    return f"{n:,.0f} {noun if n == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """Return a duration in the unit a person would say."""
    if not math.isfinite(seconds):
        return NO_VALUE
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def shortened(text: str, limit: int = 110) -> str:
    """Return the beginning of a long text; the whole stands elsewhere in the report."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def listing(items: Iterable[str], limit: int = 0) -> str:
    """Return ``a, b and c``; beyond ``limit`` items (0 = none) the rest is counted."""
    items = list(items)
    if limit and len(items) > limit:
        items = [*items[:limit], f"{len(items) - limit} more"]
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else "none"
