"""What the rules for combinations share: the profiles of the training singles and who is a component of what (6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from vcbench.core.errors import ModelError
from vcbench.models.base import PROFILE, Perturbation, Prediction, PredictionRequest, TrainingData
from vcbench.models.baseline import Baseline


class Combination(Baseline):
    """Base class: keeps the mean profiles of training perturbations of a single gene, the control and the train mean.

    The component of a combination `A+B` is the training perturbation of gene A alone (with `A+ctrl` the label is `A`
    already; the control is never a component), and never anything measured in validation or test perturbations.
    """

    name: ClassVar[str]

    def fit(self, data: TrainingData, seed: int, device: str) -> list[dict[str, object]]:
        """Store the profiles of the training singles; the log has one row per training perturbation."""
        if not data.train:
            raise ModelError("no training perturbation")
        singles = [item for item in data.train if len(item.genes) == 1]
        self.tensors = {
            "singles": data.profiles.of([item.id for item in singles]),
            "control": data.profiles.control,
            "train_mean": data.profiles.train_mean(data.train_ids),
        }
        self.facts = {"genes": list(data.genes), "single_genes": [item.genes[0] for item in singles]}
        return [{"perturbation": item.id, "single": len(item.genes) == 1} for item in data.train]

    def single(self, gene: str) -> np.ndarray | None:
        """Return the (genes,) float64 mean profile of a gene's own perturbation, None when it is not in training."""
        known = self.facts["single_genes"]
        return self.tensors["singles"][known.index(gene)] if gene in known else None


class FromBothSingles(Combination):
    """Base class of rules that need every component; other perturbations have no prediction, with the reason why."""

    def predict(self, request: PredictionRequest, seed: int, device: str) -> Prediction:
        """Return one row for each combination of training singles, and a reason for each other perturbation."""
        found, absent = {}, {}
        for item in request.perturbations:
            if reason := self._obstacle(item):
                absent[item.id] = reason
            else:
                deltas = np.array([self.single(gene) for gene in item.genes]) - self.tensors["control"]
                found[item.id] = self.tensors["control"] + self.combine(deltas)
        values = np.array(list(found.values()), np.float32).reshape(len(found), len(self.tensors["control"]))
        self.check_genes(request)
        return Prediction(values, np.array(list(found), dtype=object), PROFILE, absent=absent)

    def combine(self, deltas: np.ndarray) -> np.ndarray:
        """Return the (genes,) delta of a combination from the (components, genes) deltas of its singles."""
        raise NotImplementedError

    def _obstacle(self, item: Perturbation) -> str:
        if len(item.genes) < 2:
            return "not a combination"
        missing: Sequence[str] = [gene for gene in item.genes if self.single(gene) is None]
        return f"single {' and '.join(missing)} not in training" if missing else ""
