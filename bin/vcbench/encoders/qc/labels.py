"""Labels by which neighbours are compared: severity in classes, domain, position."""

from __future__ import annotations

import math
from collections.abc import Sequence

#: More different numbers than this are cut into terciles.
MOST_CLASSES = 7
TERCILES = ("low", "middle", "high")


def classes(values: Sequence[str]) -> list[str]:
    """Return a class per value, empty where the value is; many different numbers become terciles by rank.

    Equal numbers share a class: that of the middle of their ranks.
    """
    known = sorted({value for value in values if value})
    if len(known) <= MOST_CLASSES or not all(_is_number(value) for value in known):
        return list(values)
    ranked = sorted(float(value) for value in values if value)
    middle = {
        number: (ranked.index(number) + len(ranked) - 1 - ranked[::-1].index(number)) / 2 for number in set(ranked)
    }
    return [TERCILES[int(3 * middle[float(value)] / len(ranked))] if value else "" for value in values]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
