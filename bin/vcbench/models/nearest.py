"""Nearest neighbours in encoder space, cosine distance, weights 1 / distance (metrics.md 6.1 `nearest_plm`, 6.4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vcbench.core.errors import ModelError
from vcbench.models.base import Prediction, PredictionRequest, TrainingData
from vcbench.models.baseline import Baseline
from vcbench.models.selection import residue_groups, smallest

#: Distances that differ by less are ties: rounding of a float64 dot product of float32 vectors stays far below.
TIE = 1e-9


class Nearest(Baseline):
    """p_k = sum_j w_j t_j / sum_j w_j over the k nearest training perturbations, w_j = 1 / cosine distance.

    - Ties: every perturbation as near as the k-th neighbour counts, so equal vectors are never told apart by order.
      A constant encoder therefore gives exactly the train mean.
    - Distance 0: if a neighbour has the very same direction, only such neighbours count, equally.
    - A zero vector (DIFF of a variant that changes nothing) has distance 0 to zero vectors and 1 to all others.
    - k: smallest mean squared error over the training perturbations, each predicted without its own residue (genes:
      without itself). The squared error is used because the correlation of deltas is undefined where the prediction
      equals the reference.
    """

    name = "nearest"

    def fit(self, data: TrainingData, seed: int, device: str) -> list[dict[str, object]]:
        """Choose k and store vectors and profiles of the training perturbations."""
        vectors = data.encoded().of(data.train_ids).astype(np.float64)
        profiles = data.profiles.of(data.train_ids)
        if not len(profiles):
            raise ModelError("no training perturbation")
        candidates = sorted(set(self.settings["neighbours"]))
        if not candidates or candidates[0] < 1:
            raise ModelError(f"nearest: neighbours must be positive integers, found {self.settings['neighbours']}")
        distances = cosine_distances(vectors, vectors)
        errors = leave_residue_out_errors(distances, residue_groups(data.train), profiles, candidates)
        chosen = candidates[smallest(errors)]
        self.tensors = {"vectors": vectors, "profiles": profiles}
        self.facts = {"genes": list(data.genes), "neighbours": chosen}
        return [
            {"neighbours": k, "leave_residue_out_mse": error, "chosen": k == chosen}
            for k, error in zip(candidates, errors, strict=True)
        ]

    def predict(self, request: PredictionRequest, seed: int, device: str) -> Prediction:
        """Return the weighted means."""
        vectors = request.encoded().of(request.ids).astype(np.float64)
        if vectors.shape[1] != self.tensors["vectors"].shape[1]:
            raise ModelError(
                f"vectors have {vectors.shape[1]} dimensions, trained on {self.tensors['vectors'].shape[1]}"
            )
        weights = neighbour_weights(cosine_distances(vectors, self.tensors["vectors"]), self.facts["neighbours"])
        return self.profiles(request, weights @ self.tensors["profiles"])


def cosine_distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the (left, right) cosine distances in [0, 2]; zero vectors: see :class:`Nearest`."""
    norms = [np.linalg.norm(matrix, axis=1, keepdims=True) for matrix in (left, right)]
    units = [
        np.divide(matrix, norm, out=np.zeros_like(matrix), where=norm > 0)
        for matrix, norm in zip((left, right), norms, strict=True)
    ]
    distances = np.clip(1.0 - units[0] @ units[1].T, 0.0, 2.0)
    distances[(norms[0] == 0) & (norms[1] == 0).T] = 0.0
    return np.where(distances < TIE, 0.0, distances)


def neighbour_weights(distances: np.ndarray, k: int) -> np.ndarray:
    """Return (rows, columns) weights summing to 1 per row; infinite distances never get weight."""
    available = np.isfinite(distances).sum(axis=1)
    position = np.minimum(k, available) - 1
    farthest = np.take_along_axis(np.sort(distances, axis=1), position[:, None], axis=1)
    neighbours = distances <= farthest + TIE
    exact = distances == 0.0
    inverse = np.divide(1.0, distances, out=np.zeros_like(distances), where=~exact)
    weights = np.where(exact.any(axis=1, keepdims=True), exact.astype(float), inverse) * neighbours
    return weights / weights.sum(axis=1, keepdims=True)


def leave_residue_out_errors(
    distances: np.ndarray, groups: np.ndarray, profiles: np.ndarray, candidates: Sequence[int]
) -> list[float]:
    """Return the mean squared error over perturbations and genes for each k (NaN with a single residue)."""
    if groups.max() == 0:
        return [float("nan")] * len(candidates)
    others = np.where(groups[:, None] == groups, np.inf, distances)
    return [float(np.mean((neighbour_weights(others, k) @ profiles - profiles) ** 2)) for k in candidates]


MODEL = Nearest
