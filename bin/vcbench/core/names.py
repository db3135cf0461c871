"""Names: suggestions for misspelt ones, and the one sanitiser for file names from user strings."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

#: Datasets, models, encoders, strategies and splits; no dot, because dots separate the parts of a unit id.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def closest(name: str, known: Iterable[str]) -> str:
    """Return ``"did you mean 'x'?"`` for the nearest known name, else the list of known names (the first 20)."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"did you mean '{near[0]}'?"
    more = f" and {len(known) - 20} more" if len(known) > 20 else ""
    return f"known: {', '.join(known[:20])}{more}"
