"""Mean of group means with the control as one of the groups: the "cell mean" of the Virtual Cell Challenge (6.1)."""

from __future__ import annotations

from vcbench.core.errors import ModelError
from vcbench.models.base import Prediction, PredictionRequest, TrainingData
from vcbench.models.baseline import Baseline


class ControlAndTrainMean(Baseline):
    """p_k = (c_B + sum of t_j) / (R + 1): the train mean, shrunk towards the control by 1 / (R + 1)."""

    name = "ce_mean"

    def fit(self, data: TrainingData, seed: int, device: str) -> list[dict[str, object]]:
        """Store the mean."""
        if not data.train:
            raise ModelError("no training perturbation")
        self.tensors = {"profile": data.profiles.train_mean([*data.train_ids, "control"])}
        self.facts = {"genes": list(data.genes)}
        return [{"train_perturbations": len(data.train), "groups": len(data.train) + 1}]

    def predict(self, request: PredictionRequest, seed: int, device: str) -> Prediction:
        """Return the mean for every perturbation."""
        return self.profile_of_all(request)


MODEL = ControlAndTrainMean
