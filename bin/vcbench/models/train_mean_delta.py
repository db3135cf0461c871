"""Train mean of deltas: the control plus the mean difference to each perturbation's own controls (metrics.md 6.1)."""

from __future__ import annotations

import logging

import numpy as np

from vcbench.core.errors import ModelError
from vcbench.models.base import Prediction, PredictionRequest, TrainingData
from vcbench.models.baseline import Baseline
from vcbench.models.profiles import mean_profile

log = logging.getLogger(__name__)


class TrainMeanDelta(Baseline):
    """p_k = c_B + (1/R) sum over training perturbations j of (t_j - c_j).

    c_j is the mean of the batches' control means, weighted by j's cells in each batch, so that an effect of batches is
    no part of the deltas; with one batch this is the train mean. Cells of batches without control cells cannot be
    compared with controls of their own: they are left out, t_j being the mean of the others, and counted in the log; a
    perturbation with such cells only is left out as a whole.
    """

    name = "train_mean_delta"

    def fit(self, data: TrainingData, seed: int, device: str) -> list[dict[str, object]]:
        """Store the profile; the log has one row per training perturbation."""
        controls = data.profiles.rows("control")
        batches = data.batches.astype(str)
        of_batch = {
            batch: mean_profile(data.expression, controls[batches[controls] == batch])
            for batch in sorted(set(batches[controls]))
        }
        deltas, rows = [], []
        for name in data.train_ids:
            cells = data.profiles.rows(name)
            used = cells[np.isin(batches[cells], list(of_batch))]
            rows.append(
                {"perturbation": name, "cells": len(used), "cells_without_batch_control": len(cells) - len(used)}
            )
            if len(used):
                found, counts = np.unique(batches[used], return_counts=True)
                own = np.average([of_batch[batch] for batch in found], axis=0, weights=counts)
                deltas.append(mean_profile(data.expression, used) - own)
        if not deltas:
            raise ModelError("no training perturbation has cells in a batch with control cells")
        if lost := sum(row["cells_without_batch_control"] for row in rows):
            log.warning("train_mean_delta: %d training cells are in batches without control cells", lost)
        self.tensors = {"profile": data.profiles.control + np.mean(deltas, axis=0)}
        self.facts = {"genes": list(data.genes)}
        return rows

    def predict(self, request: PredictionRequest, seed: int, device: str) -> Prediction:
        """Return the profile for every perturbation."""
        return self.profile_of_all(request)


MODEL = TrainMeanDelta
