"""Largest effect: every gene follows the component that changes it more (metrics.md 6.2)."""

from __future__ import annotations

import numpy as np

from vcbench.models.combination import FromBothSingles


class MaxEffect(FromBothSingles):
    """p_ab = c_B + the single delta of larger absolute value, gene by gene; of equal ones the first gene's.

    Only where both singles are training perturbations.
    """

    name = "max_effect"

    def combine(self, deltas: np.ndarray) -> np.ndarray:
        """Return the delta of largest absolute value of each gene."""
        return np.take_along_axis(deltas, np.abs(deltas).argmax(axis=0)[None], axis=0)[0]


MODEL = MaxEffect
