"""Random genes: each gene of a prediction comes from a training perturbation drawn by lot (negative control, 6.6)."""

from __future__ import annotations

import numpy as np

from vcbench.core.errors import ModelError
from vcbench.core.seeds import stream
from vcbench.models.base import Prediction, PredictionRequest, TrainingData
from vcbench.models.baseline import Baseline


class SampleGeneRandom(Baseline):
    """p_k[g] = t_j[g] with j drawn uniformly from the training perturbations, for every gene g and perturbation k anew.

    Right distribution of each gene, no dependence between genes, no knowledge of the perturbation: a lower floor.
    """

    name = "sample_gene_random"

    def fit(self, data: TrainingData, seed: int, device: str) -> list[dict[str, object]]:
        """Store the profiles of the training perturbations."""
        if not data.train:
            raise ModelError("no training perturbation")
        self.tensors = {"profiles": data.profiles.of(data.train_ids)}
        self.facts = {"genes": list(data.genes)}
        return [{"train_perturbations": len(data.train)}]

    def predict(self, request: PredictionRequest, seed: int, device: str) -> Prediction:
        """Return the drawn values; the draw depends on the seed and the perturbation's id only."""
        profiles = self.tensors["profiles"]
        genes = np.arange(profiles.shape[1])
        drawn = [stream(seed, "random genes", name).integers(len(profiles), size=len(genes)) for name in request.ids]
        return self.profiles(request, profiles[np.array(drawn).reshape(-1, len(genes)), genes])


MODEL = SampleGeneRandom
