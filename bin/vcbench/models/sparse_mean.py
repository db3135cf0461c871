"""Sparse mean: as noisy as a measurement of half the cells, without any knowledge of the perturbation (6.1)."""

from __future__ import annotations

import numpy as np

from vcbench.core.errors import ModelError
from vcbench.core.seeds import stream
from vcbench.models.base import Prediction, PredictionRequest, TrainingData
from vcbench.models.baseline import Baseline
from vcbench.models.profiles import mean_profile


class SparseMean(Baseline):
    """p_k = mean of n_k / 2 random cells of the training perturbations (Miller et al.), n_k = cells asked for of k.

    The draws come, without replacement and anew for each perturbation, from a pool of training cells that is drawn once
    and kept with the model (setting `pool`), each cell equally likely. n_k / 2 is rounded down, at least 1. Asking for
    more than the pool holds is an error, because the noise would no longer match.
    """

    name = "sparse_mean"

    def fit(self, data: TrainingData, seed: int, device: str) -> list[dict[str, object]]:
        """Draw the pool."""
        if not data.train:
            raise ModelError("no training perturbation")
        cells = np.sort(np.concatenate([data.profiles.rows(name) for name in data.train_ids]))
        size = min(self.settings["pool"], len(cells))
        rows = np.sort(stream(seed, "sparse mean pool").choice(cells, size, replace=False))
        pool = data.expression[rows]
        self.tensors = {
            "data": pool.data.astype(np.float32),
            "indices": pool.indices.astype(np.int32),
            "indptr": pool.indptr.astype(np.int64),
        }
        self.facts = {"genes": list(data.genes)}
        return [{"train_cells": len(cells), "pool": size}]

    def predict(self, request: PredictionRequest, seed: int, device: str) -> Prediction:
        """Return the mean of each perturbation's own draw."""
        import scipy.sparse as sp

        parts = tuple(self.tensors[name] for name in ("data", "indices", "indptr"))
        pool = sp.csr_matrix(parts, shape=(len(parts[2]) - 1, len(self.facts["genes"])))
        values = np.empty((len(request.ids), pool.shape[1]))
        for row, (name, n_cells) in enumerate(zip(request.ids, request.n_cells, strict=True)):
            size = max(1, n_cells // 2)
            if size > pool.shape[0]:
                raise ModelError(
                    f"sparse_mean: half of the {n_cells} cells of {name} is more than the pool's {pool.shape[0]}; "
                    "set a larger pool"
                )
            drawn = stream(seed, "sparse mean", name).choice(pool.shape[0], size, replace=False)
            values[row] = mean_profile(pool, np.sort(drawn))
        return self.profiles(request, values)


MODEL = SparseMean
