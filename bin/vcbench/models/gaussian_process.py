"""Gaussian process from encoder vectors to principal components of the profiles, with its own uncertainty (6.4).

Rasmussen and Williams, Gaussian Processes for Machine Learning, chapters 2 and 5: for the training scores y (n,) of a
component, y ~ N(0, v (K + r I)) with K_ij = exp(-d_ij^2 / 2 l^2). For given l and r the best v is
y'(K + r I)^-1 y / n, so that only l and r are searched, on a grid, and the eigenvectors of K serve all r and all
components.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vcbench.models.base import Prediction, PredictionRequest, TrainingData
from vcbench.models.tabular import Tabular, targets

#: A component of less variance than this is a constant.
TINY = 1e-300


@dataclass(frozen=True)
class Fit:
    """Length scale, ratio of noise to signal, signal variance and log marginal likelihood of each component."""

    length: np.ndarray
    noise: np.ndarray
    signal: np.ndarray
    likelihood: np.ndarray


class GaussianProcess(Tabular):
    """One Gaussian process per principal component of the training profiles (at most `components`).

    - d is the Euclidean distance of vectors divided by the median distance of different training vectors, so that
      `length_scale` means the same for every encoder.
    - l and r (`length_scale`, `noise`) maximise the marginal likelihood of the training scores, each component its own.
      Nothing is held out for that; of equal candidates the one with more noise, then the longer length, is taken.
    - The variance of a predicted profile, gene by gene, is that of a measured one: the components' predictive variances
      with noise, through the squared axes, and the training variance outside the components.
    - A constant encoder gives the train mean.
    """

    name = "gaussian_process"

    def fit(self, data: TrainingData, seed: int, device: str) -> list[dict[str, object]]:
        """Fit all components; the log has one row per component."""
        self.positive("components", "length_scale", "noise")
        vectors, profiles = self.inputs(data)
        goal = targets(data, profiles, "all", self.settings["components"])
        squared = squared_distances(vectors, vectors)
        different = squared[np.triu_indices(len(vectors), 1)]
        different = different[different > 0]
        unit = math.sqrt(float(np.median(different))) if len(different) else 1.0
        found = search(
            squared / unit**2, goal.scores, sorted(set(self.settings["length_scale"]), reverse=True),
            sorted(set(self.settings["noise"]), reverse=True),
        )  # fmt: skip
        outside = profiles - goal.mean - goal.scores @ goal.axes
        self.tensors = {
            "mean": goal.mean,
            "gene_axes": goal.axes,
            "scores": goal.scores,
            "vectors": vectors,
            "length": found.length * unit,
            "noise": found.noise,
            "signal": found.signal,
            "outside_variance": np.mean(outside**2, axis=0),
        }
        self.facts = {"genes": list(data.genes), "width": vectors.shape[1]}
        rows = [
            {
                "component": number + 1,
                "share_of_variance": float(goal.values[number] ** 2 / np.sum((profiles - goal.mean) ** 2)),
                "length_scale": float(found.length[number]),
                "noise": float(found.noise[number]),
                "signal_variance": float(found.signal[number]),
                "log_marginal_likelihood": float(found.likelihood[number]),
            }
            for number in range(len(goal.values))
        ]
        return rows or [{"component": 0, "share_of_variance": 0.0, "length_scale": "", "noise": "",
                         "signal_variance": "", "log_marginal_likelihood": ""}]  # fmt: skip

    def predict(self, request: PredictionRequest, seed: int, device: str) -> Prediction:
        """Return the predictive means and variances of measured profiles."""
        tensors = self.tensors
        vectors = self.vectors(request)
        between = squared_distances(vectors, tensors["vectors"])
        within = squared_distances(tensors["vectors"], tensors["vectors"])
        means, variances = np.zeros((2, len(vectors), len(tensors["length"])))
        for number, (length, noise, signal) in enumerate(
            zip(tensors["length"], tensors["noise"], tensors["signal"], strict=True)
        ):
            means[:, number], variances[:, number] = posterior(
                within / length**2, between / length**2, tensors["scores"][:, number], noise, signal
            )
        axes = tensors["gene_axes"]
        prediction = self.profiles(request, tensors["mean"] + means @ axes)
        variance = (variances @ axes**2 + tensors["outside_variance"]).astype(np.float32)
        return Prediction(prediction.values, prediction.labels, prediction.kind, variance=variance)


def squared_distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return (left, right) squared Euclidean distances; equal rows have exactly 0, whatever the rounding."""
    from scipy.spatial.distance import cdist

    return cdist(left, right, "sqeuclidean")


def search(squared: np.ndarray, scores: np.ndarray, lengths: list[float], noises: list[float]) -> Fit:
    """Return the best candidate of each component by profile likelihood; see the module.

    `squared` (n, n) are squared distances, `scores` (n, components) the training scores, of mean 0.
    """
    n, count = scores.shape
    best = Fit(*(np.full(count, start, dtype=np.float64) for start in (lengths[0], noises[0], 0.0, -np.inf)))
    for length in lengths:
        values, axes = np.linalg.eigh(np.exp(-squared / (2 * length**2)))
        energy = (axes.T @ scores) ** 2
        for noise in noises:
            # rounding may leave eigenvalues slightly below 0; the noise keeps the sum positive
            spectrum = np.maximum(values, 0.0)[:, None] + noise
            signal = np.sum(energy / spectrum, axis=0) / n
            likelihood = -0.5 * (n * np.log(2 * np.pi * np.maximum(signal, TINY)) + np.sum(np.log(spectrum)) + n)
            # a gain below rounding is none
            better = likelihood > best.likelihood + 1e-9 * np.abs(np.nan_to_num(best.likelihood, neginf=0.0))
            for kept, new in (
                (best.length, length), (best.noise, noise), (best.signal, signal), (best.likelihood, likelihood)
            ):  # fmt: skip
                kept[better] = new[better] if isinstance(new, np.ndarray) else new
    return best


def posterior(
    within: np.ndarray, between: np.ndarray, scores: np.ndarray, noise: float, signal: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance (of a measurement, noise included) at new points, in units of the length scale."""
    from scipy.linalg import cho_factor, cho_solve

    factor = cho_factor(np.exp(-within / 2) + noise * np.eye(len(within)), lower=True)
    cross = np.exp(-between / 2)
    reduction = np.sum(cross * cho_solve(factor, cross.T).T, axis=1)
    return cross @ cho_solve(factor, scores), signal * np.maximum(1.0 + noise - reduction, noise)


MODEL = GaussianProcess
