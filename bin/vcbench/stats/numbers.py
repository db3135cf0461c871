"""Numbers as the tables print them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def tidy(value: float) -> float:
    """Return a number with 10 significant digits: what readers need, and safe from the last bits of a library."""
    return float(f"{value:.10g}") + 0.0  # no -0


def tidied(columns: Mapping[str, np.ndarray], row: int) -> dict[str, Any]:
    """Return one row of float columns (M,), tidied."""
    return {name: tidy(found[row]) for name, found in columns.items()}


def named(combination: tuple[str, str, str], prefix: str = "") -> dict[str, str]:
    """Return the columns `model`, `encoder` and `strategy` of a combination."""
    return {f"{prefix}{name}": part for name, part in zip(("model", "encoder", "strategy"), combination, strict=True)}


def row_statistic(values: np.ndarray, statistic: Any, at_least: int = 1) -> np.ndarray:
    """Return (M,) a statistic of the known values of each row of (M, K), NaN for fewer than `at_least`."""
    found = np.full(len(values), np.nan)
    known = ~np.isnan(values)
    whole = known.all(1) & (known.sum(1) >= at_least)
    if whole.any():
        found[whole] = statistic(values[whole], axis=1)
    for row in np.flatnonzero(~whole & (known.sum(1) >= at_least)):
        found[row] = statistic(values[row, known[row]], axis=0)
    return found


def standard_deviation(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the sample standard deviation."""
    return np.std(values, axis=axis, ddof=1)
