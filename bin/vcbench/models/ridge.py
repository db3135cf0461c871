"""Ridge regression from encoder vectors to the principal components of the training profiles (metrics.md 6.4)."""

from __future__ import annotations

import numpy as np

from vcbench.models.base import Prediction, PredictionRequest, TrainingData
from vcbench.models.decomposition import Decomposition, decompose
from vcbench.models.tabular import Tabular, choose, folds, targets


class Ridge(Tabular):
    """p(v) = train mean + sum over components c of axes_c (v - mean)' w_c, w_c = argmin |t_c - X w|^2 + lambda |w|^2.

    X (perturbations, D) are the centred training vectors, t_c the training scores of the c-th principal component of
    the profiles. lambda = penalty * mean squared length of the rows of X, so that candidates mean the same for every
    encoder. Components and penalty are chosen together by cross-validation, smallest squared error of the profiles.
    A constant encoder gives the train mean.
    """

    name = "ridge"

    def fit(self, data: TrainingData, seed: int, device: str) -> list[dict[str, object]]:
        """Choose components and penalty, then fit on all training perturbations."""
        self.positive("components", "penalty")
        vectors, profiles = self.inputs(data)
        components = sorted(set(self.settings["components"]))
        penalties = sorted(set(self.settings["penalty"]), reverse=True)
        limit = components[-1]
        errors = np.zeros((len(components), len(penalties)))
        selected = False
        for key, held in folds(data, seed):
            selected = True
            errors += _errors(
                decompose(vectors[~held]), targets(data, profiles[~held], key, limit),
                vectors[held], profiles[held], components, penalties,
            )  # fmt: skip
        grid = [{"components": k, "penalty": penalty} for k in components for penalty in penalties]
        flat = errors.ravel() / profiles.size if selected else np.full(len(grid), np.nan)
        best, rows = choose(grid, flat)
        side, goal = decompose(vectors), targets(data, profiles, "all", limit)
        k = min(grid[best]["components"], len(goal.values))
        weights = _shrunk(side, goal.scores[:, :k], grid[best]["penalty"])
        self.tensors = {
            "mean": goal.mean,
            "gene_axes": goal.axes[:k],
            "weights": side.axes.T @ weights,
            "vector_mean": side.mean,
        }
        self.facts = {"genes": list(data.genes), "width": vectors.shape[1], **grid[best]}
        return rows

    def predict(self, request: PredictionRequest, seed: int, device: str) -> Prediction:
        """Return train mean + (v - mean) W axes."""
        tensors = self.tensors
        scores = (self.vectors(request) - tensors["vector_mean"]) @ tensors["weights"]
        return self.profiles(request, tensors["mean"] + scores @ tensors["gene_axes"])


def _shrunk(side: Decomposition, scores: np.ndarray, penalty: float) -> np.ndarray:
    """Return (r, components) ridge coefficients in the coordinates of the vectors' own components."""
    shrinkage = side.values / (side.values**2 + penalty * side.scale**2)
    return shrinkage[:, None] * (side.left.T @ scores)


def _errors(
    side: Decomposition, goal: Decomposition, vectors: np.ndarray, profiles: np.ndarray, components: list[int],
    penalties: list[float],
) -> np.ndarray:  # fmt: skip
    """Return (components, penalties) summed squared errors of held-out profiles.

    With orthonormal axes |rest - f axes|^2 = |rest|^2 + sum over components of f^2 - 2 f (rest axes'), so all sizes
    come from one cumulative sum.
    """
    rest = profiles - goal.mean
    inside = rest @ goal.axes.T
    errors = np.full((len(components), len(penalties)), np.sum(rest**2))
    for column, penalty in enumerate(penalties):
        fitted = side.project(vectors) @ _shrunk(side, goal.scores, penalty)
        gain = np.concatenate([[0.0], np.cumsum(np.sum(fitted * (fitted - 2 * inside), axis=0))])
        errors[:, column] += gain[np.minimum(components, len(goal.values))]
    return errors


MODEL = Ridge
