"""What a reader must see: flags of `encoder_quality.tsv`, raised by numbers alone.

The report says whether a flag is a fault or, for a control, on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

#: Vectors whose spread is below this share of their size are nearly the same vector for a model without scaling.
NEARLY_CONSTANT = 0.01
#: Fewer independent directions than this; vectors that cannot have as many (width, number of rows) are not flagged.
LOW_RANK = 3
#: Fewer variants say nothing about the nearest neighbours.
FEWEST_NEIGHBOURS = 10

Facts = Mapping[str, Any]


def _low_rank(row: Facts) -> bool:
    return row["effective_rank_max"] >= LOW_RANK and 0 < row["effective_rank"] < LOW_RANK


#: Flag: when it is raised.
RULES: dict[str, Callable[[Facts], bool]] = {
    "not_finite": lambda row: row["n_nonfinite"] > 0,
    "zero_vectors": lambda row: row["n_zero"] > 0,
    "synonymous_diff_not_zero": lambda row: row["synonymous_diff_zero"] is False,
    "constant": lambda row: row["n"] > 1 and row["n_duplicates"] == row["n"] - 1,
    "nearly_constant": lambda row: row["n_duplicates"] < row["n"] - 1 and row["relative_spread"] < NEARLY_CONSTANT,
    "duplicates": lambda row: 0 < row["n_duplicates"] < row["n"] - 1,
    "low_rank": _low_rank,
    "always_own_reference": lambda row: row["own_reference_n"] >= FEWEST_NEIGHBOURS and row["not_own_reference"] == 0,
    "not_published_size": lambda row: row["official_size"] is False,
}


def flags(row: Facts) -> str:
    """Return the flags of a row of the quality table, joined by `;`; a number that is NaN raises none."""
    return ";".join(name for name, rule in RULES.items() if rule(row))


def undefined(row: Facts, reasons: Mapping[str, str]) -> str:
    """Return ``column: reason; ...`` of the columns that have no value."""
    return "; ".join(f"{name}: {text}" for name, text in reasons.items() if _missing(row.get(name)))


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
