"""Cell-weighted train mean: the mean over all cells of the training perturbations (metrics.md 6.1)."""

from __future__ import annotations

import numpy as np

from vcbench.core.errors import ModelError
from vcbench.models.base import Prediction, PredictionRequest, TrainingData
from vcbench.models.baseline import Baseline
from vcbench.models.profiles import mean_profile


class TrainMeanCellWeighted(Baseline):
    """p_k = mean of the cells of all training perturbations: each weighs as its cells (Systema, nonctl-mean)."""

    name = "train_mean_cellw"

    def fit(self, data: TrainingData, seed: int, device: str) -> list[dict[str, object]]:
        """Store the mean."""
        if not data.train:
            raise ModelError("no training perturbation")
        rows = np.sort(np.concatenate([data.profiles.rows(name) for name in data.train_ids]))
        self.tensors = {"profile": mean_profile(data.expression, rows)}
        self.facts = {"genes": list(data.genes)}
        return [{"train_perturbations": len(data.train), "train_cells": len(rows)}]

    def predict(self, request: PredictionRequest, seed: int, device: str) -> Prediction:
        """Return the mean for every perturbation."""
        return self.profile_of_all(request)


MODEL = TrainMeanCellWeighted
