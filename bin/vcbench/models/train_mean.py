"""Train mean: the mean of the training perturbations' mean profiles (metrics.md 6.1, `train_mean`)."""

from __future__ import annotations

from vcbench.models.base import Prediction, PredictionRequest, TrainingData
from vcbench.models.baseline import Baseline


class TrainMean(Baseline):
    """p_k = (1/R) sum of t_j over the R training perturbations, each with weight 1; no control, no validation."""

    name = "train_mean"

    def fit(self, data: TrainingData, seed: int, device: str) -> list[dict[str, object]]:
        """Store the mean."""
        self.tensors = {"profile": data.profiles.train_mean(data.train_ids)}
        self.facts = {"genes": list(data.genes)}
        return [{"train_perturbations": len(data.train)}]

    def predict(self, request: PredictionRequest, seed: int, device: str) -> Prediction:
        """Return the train mean for every perturbation."""
        return self.profile_of_all(request)


MODEL = TrainMean
