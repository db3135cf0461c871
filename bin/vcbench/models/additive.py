"""Additive: the changes of the single perturbations add up (metrics.md 6.2)."""

from __future__ import annotations

import numpy as np

from vcbench.models.combination import FromBothSingles


class Additive(FromBothSingles):
    """p_ab = c_B + (t_a - c_B) + (t_b - c_B), only where both singles are training perturbations.

    A single gene is never "predicted" by its own measured profile, which would be a leak.
    """

    name = "additive"

    def combine(self, deltas: np.ndarray) -> np.ndarray:
        """Return the sum of the deltas."""
        return deltas.sum(axis=0)


MODEL = Additive
