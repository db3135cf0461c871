"""Encoders that look a residue up in a table: the reference residue gives REF, the mutant residue gives ALT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vcbench.core.errors import InputError
from vcbench.encoders.requests import Request
from vcbench.variants.alphabet import STANDARD


def look_up(requests: Sequence[Request], table: Mapping[str, np.ndarray], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (REF, ALT), each (requests, width) float32: the mean of the table's rows over the mutated positions.

    Gene perturbations and wild type have no residue: their rows are zero. Raises :class:`InputError` for a residue
    outside the 20 standard ones.
    """
    ref, alt = np.zeros((len(requests), width), np.float32), np.zeros((len(requests), width), np.float32)
    for row, request in enumerate(requests):
        for change in request.substitutions:
            for residue in (change.ref, change.alt):
                if residue not in table:
                    raise InputError(
                        "not one of the 20 standard residues", where=request.key, found=residue, expected=STANDARD
                    )
        if request.substitutions:
            ref[row] = np.mean([table[change.ref] for change in request.substitutions], axis=0, dtype=np.float64)
            alt[row] = np.mean([table[change.alt] for change in request.substitutions], axis=0, dtype=np.float64)
    return ref, alt
