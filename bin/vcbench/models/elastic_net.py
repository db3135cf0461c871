"""Elastic net from principal components of the encoder vectors to every gene, solved exactly (metrics.md 6.4).

For scores Z (n, r) of a principal component analysis of the training vectors, Z'Z / n is diagonal (s^2), and the
minimum of |y - Z b|^2 / 2n + alpha l |b|_1 + alpha (1 - l) |b|^2 / 2 has the closed form

    b_j = S(z_j'y / n, alpha l) / (s_j^2 + alpha (1 - l)),    S(x, a) = sign(x) max(|x| - a, 0).

So no iteration, no convergence to watch, and the whole grid costs a few matrix products.
"""

from __future__ import annotations

import numpy as np

from vcbench.models.base import Prediction, PredictionRequest, TrainingData
from vcbench.models.decomposition import Decomposition, decompose
from vcbench.models.tabular import Tabular, choose, folds


class ElasticNet(Tabular):
    """One elastic net per gene with a shared alpha and l1_ratio, chosen by cross-validation (smallest squared error).

    Targets are profiles minus the train mean (deltas). Inputs are the first `vector_components` principal components of
    the training vectors, all divided by one number, so that the mean squared length of the training inputs is 1 and
    alpha means the same for every encoder. A constant encoder gives the train mean.
    """

    name = "elastic_net"

    def fit(self, data: TrainingData, seed: int, device: str) -> list[dict[str, object]]:
        """Choose alpha and l1_ratio, then fit on all training perturbations."""
        self.positive("alpha", "l1_ratio", "vector_components")
        vectors, profiles = self.inputs(data)
        grid = [
            {"alpha": alpha, "l1_ratio": ratio}
            for alpha in sorted(set(self.settings["alpha"]), reverse=True)
            for ratio in sorted(set(self.settings["l1_ratio"]), reverse=True)
        ]
        limit = self.settings["vector_components"]
        errors = np.full(len(grid), np.nan)
        for _, held in folds(data, seed):
            errors = np.nan_to_num(errors)
            side, mean = decompose(vectors[~held], limit), profiles[~held].mean(axis=0)
            products = _products(side, profiles[~held] - mean)
            scores, rest = side.project(vectors[held]) / side.scale, profiles[held] - mean
            for index, candidate in enumerate(grid):
                errors[index] += np.sum((rest - scores @ _coefficients(side, products, **candidate)) ** 2)
        best, rows = choose(grid, errors / profiles.size)
        side, mean = decompose(vectors, limit), profiles.mean(axis=0)
        self.tensors = {
            "mean": mean,
            "coefficients": _coefficients(side, _products(side, profiles - mean), **grid[best]),
            "vector_axes": side.axes / side.scale,
            "vector_mean": side.mean,
        }
        self.facts = {"genes": list(data.genes), "width": vectors.shape[1], **grid[best]}
        return rows

    def predict(self, request: PredictionRequest, seed: int, device: str) -> Prediction:
        """Return train mean + z B."""
        tensors = self.tensors
        scores = (self.vectors(request) - tensors["vector_mean"]) @ tensors["vector_axes"].T
        return self.profiles(request, tensors["mean"] + scores @ tensors["coefficients"])


def _products(side: Decomposition, rest: np.ndarray) -> np.ndarray:
    """Return Z'Y / n, (r, genes)."""
    return (side.scores / side.scale).T @ rest / len(rest)


def _coefficients(side: Decomposition, products: np.ndarray, alpha: float, l1_ratio: float) -> np.ndarray:
    """Return the (r, genes) coefficients of the closed form."""
    variances = (side.values / side.scale) ** 2 / len(side.left)
    soft = np.sign(products) * np.maximum(np.abs(products) - alpha * l1_ratio, 0.0)
    return soft / (variances + alpha * (1.0 - l1_ratio))[:, None]


MODEL = ElasticNet
