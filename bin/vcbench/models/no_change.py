"""No change: every perturbation looks like the control cells the model may see (metrics.md 6.1)."""

from __future__ import annotations

from vcbench.models.base import Prediction, PredictionRequest, TrainingData
from vcbench.models.baseline import Baseline


class NoChange(Baseline):
    """p_k = c_B, the float64 mean of the training half of the controls."""

    name = "no_change"

    def fit(self, data: TrainingData, seed: int, device: str) -> list[dict[str, object]]:
        """Store the control mean."""
        self.tensors = {"profile": data.profiles.control}
        self.facts = {"genes": list(data.genes)}
        return [{"control_cells": len(data.profiles.rows("control"))}]

    def predict(self, request: PredictionRequest, seed: int, device: str) -> Prediction:
        """Return the control mean for every perturbation."""
        return self.profile_of_all(request)


MODEL = NoChange
