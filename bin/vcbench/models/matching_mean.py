"""Matching mean: the mean of the components' profiles (Systema; metrics.md 6.2)."""

from __future__ import annotations

import logging

import numpy as np

from vcbench.models.base import Prediction, PredictionRequest
from vcbench.models.combination import Combination

log = logging.getLogger(__name__)


class MatchingMean(Combination):
    """p_ab = (t_a + t_b) / 2; a component that is no training perturbation is replaced by the train mean.

    A held-out single is therefore predicted by the train mean. `Prediction.basis` says how many components were seen.
    """

    name = "matching_mean"

    def predict(self, request: PredictionRequest, seed: int, device: str) -> Prediction:
        """Return the mean over the components of each perturbation."""
        values, basis, unseen = [], [], 0
        for item in request.perturbations:
            parts = [self.single(gene) for gene in item.genes]
            seen = sum(part is not None for part in parts)
            unseen += seen < len(parts)
            values.append(np.mean([self.tensors["train_mean"] if part is None else part for part in parts], axis=0))
            basis.append(f"{seen} of {len(parts)} components seen")
        log.info("matching_mean: %d of %d perturbations with a component unseen in training", unseen, len(basis))
        return self.profiles(request, np.array(values), basis)


MODEL = MatchingMean
