"""Position mean: the mean of the training variants at the same residue, else the train mean (metrics.md 6.1)."""

from __future__ import annotations

import logging

import numpy as np

from vcbench.models.base import Prediction, PredictionRequest, TrainingData
from vcbench.models.baseline import Baseline

log = logging.getLogger(__name__)


class PositionMean(Baseline):
    """p_k = mean of t_j over training variants j of the same gene that share a residue position with k.

    Each variant has weight 1; without such a variant p_k is the train mean. `Prediction.basis` says which it was.
    """

    name = "position_mean"

    def fit(self, data: TrainingData, seed: int, device: str) -> list[dict[str, object]]:
        """Store the profiles and sites of the training variants."""
        self.tensors = {
            "profiles": data.profiles.of(data.train_ids),
            "train_mean": data.profiles.train_mean(data.train_ids),
        }
        self.facts = {"genes": list(data.genes), "sites": [sorted(map(list, item.sites)) for item in data.train]}
        return [
            {
                "perturbation": item.id,
                "sites": ";".join(f"{gene}:{position}" for gene, position in sorted(item.sites)),
            }
            for item in data.train
        ]

    def predict(self, request: PredictionRequest, seed: int, device: str) -> Prediction:
        """Return the position means, or the train mean where no training variant shares a residue."""
        trained = [{(gene, position) for gene, position in sites} for sites in self.facts["sites"]]
        values = np.tile(self.tensors["train_mean"], (len(request.ids), 1))
        basis = ["train_mean"] * len(request.ids)
        for row, item in enumerate(request.perturbations):
            sharing = [index for index, sites in enumerate(trained) if sites & item.sites]
            if sharing:
                values[row] = self.tensors["profiles"][sharing].mean(axis=0)
                basis[row] = "position"
        log.info("position_mean: %d of %d perturbations share a residue", basis.count("position"), len(basis))
        return self.profiles(request, values, basis)


MODEL = PositionMean
