"""Bilinear ridge of Ahlmann-Eltze, Huber and Anders (2025) on encoder vectors, exactly as in metrics.md 6.3.

With Y (genes x train columns) = profiles - c, b = row means of Y, G (genes x k) the gene scores of a PCA of the train
profiles and P (k x train columns) the encoder vectors reduced by PCA,

    W = (G'G + lambda I)^-1 G' (Y - b) P' (P P' + lambda I)^-1,    prediction = G W p_new + b + c.

The train columns are the training perturbations and the control (profile c, delta 0, embedding 0), so b is shrunk
slightly towards 0: a constant encoder gives c + n / (n + 1) * (train mean - c).
PCA scores have orthogonal columns, so both ridges are divisions by s^2 + lambda and the whole grid costs one singular
value decomposition of each side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vcbench.core.errors import ModelError
from vcbench.models.base import Prediction, PredictionRequest, TrainingData
from vcbench.models.baseline import Baseline
from vcbench.models.decomposition import NEGLIGIBLE, Decomposition, decompose
from vcbench.models.selection import inner_folds, smallest


@dataclass(frozen=True)
class GeneSide:
    """Singular value decomposition of the column-centred profiles, and the response in its coordinates.

    `left` (genes, r) and `values` (r,) give the PCA scores G = left * values; `response` (r, train perturbations) is
    left' (Y - b) without the control column (its embedding is 0, so it adds nothing to (Y - b) P').
    """

    left: np.ndarray
    values: np.ndarray
    response: np.ndarray
    offset: np.ndarray  # (genes,) b + c


def gene_side(profiles: np.ndarray, control: np.ndarray) -> GeneSide:
    """Decompose (perturbations, genes) profiles and the (genes,) control mean c."""
    from scipy.linalg import svd

    columns = np.vstack([profiles, control]).T
    deltas = columns - control[:, None]
    centre = deltas.mean(axis=1)
    left, values, _ = svd(columns - columns.mean(axis=0), full_matrices=False, check_finite=False)
    kept = values > NEGLIGIBLE * np.linalg.norm(columns)
    left, values = left[:, kept], values[kept]
    return GeneSide(left, values, left.T @ (deltas[:, :-1] - centre[:, None]), centre + control)


def coefficients(genes: GeneSide, encoder: Decomposition, components: int, ridge: float) -> np.ndarray:
    """Return the (k_genes, k_encoder) matrix A with prediction = left A (axes (v - mean)) + offset.

    `encoder` decomposes the training vectors (perturbations, D), so P = (left * values)'.
    """
    k, m = min(components, len(genes.values)), min(components, len(encoder.values))
    gene_shrinkage = genes.values[:k] ** 2 / (genes.values[:k] ** 2 + ridge)
    encoder_weight = encoder.values[:m] / (encoder.values[:m] ** 2 + ridge)
    return gene_shrinkage[:, None] * (genes.response[:k] @ encoder.left[:, :m]) * encoder_weight


class Linear(Baseline):
    """The bilinear ridge with its grid chosen by 5-fold cross-validation over the training residues.

    The score of a candidate is the squared error of the held-out profiles, mean over genes and perturbations. Of equal
    candidates the one with fewer components, then with the stronger penalty, is taken.
    """

    name = "linear"

    def fit(self, data: TrainingData, seed: int, device: str) -> list[dict[str, object]]:
        """Choose components and penalty, then fit on all training perturbations."""
        vectors = data.encoded().of(data.train_ids).astype(np.float64)
        profiles, control = data.profiles.of(data.train_ids), data.profiles.control
        if not len(profiles):
            raise ModelError("no training perturbation")
        grid = [(k, r) for k in sorted(self.settings["components"]) for r in sorted(self.settings["ridge"])[::-1]]
        if not grid or grid[0][0] < 1 or min(r for _, r in grid) <= 0:
            raise ModelError(f"linear: components and ridge must be positive, found {self.settings}")
        errors = self._errors(data, vectors, profiles, control, grid, seed)
        best = smallest(errors)
        components, ridge = grid[best]
        genes = self._gene_side(data, profiles, control, "all")
        encoder = decompose(vectors)
        matrix = coefficients(genes, encoder, components, ridge)
        self.tensors = {
            "gene_axes": genes.left[:, : matrix.shape[0]],
            "coefficients": matrix,
            "encoder_axes": encoder.axes[: matrix.shape[1]],
            "encoder_mean": encoder.mean,
            "offset": genes.offset,
        }
        self.facts = {"genes": list(data.genes), "components": components, "ridge": ridge}
        return [
            {"components": k, "ridge": r, "cross_validation_mse": error, "chosen": index == best}
            for index, ((k, r), error) in enumerate(zip(grid, errors, strict=True))
        ]

    def predict(self, request: PredictionRequest, seed: int, device: str) -> Prediction:
        """Return left A (axes (v - mean)) + b + c."""
        vectors = request.encoded().of(request.ids).astype(np.float64)
        tensors = self.tensors
        if vectors.shape[1] != len(tensors["encoder_mean"]):
            raise ModelError(f"vectors have {vectors.shape[1]} dimensions, trained on {len(tensors['encoder_mean'])}")
        reduced = (vectors - tensors["encoder_mean"]) @ tensors["encoder_axes"].T
        return self.profiles(request, reduced @ tensors["coefficients"].T @ tensors["gene_axes"].T + tensors["offset"])

    def _errors(
        self,
        data: TrainingData,
        vectors: np.ndarray,
        profiles: np.ndarray,
        control: np.ndarray,
        grid: Sequence[tuple[int, float]],
        seed: int,
    ) -> np.ndarray:
        """Return the cross-validated mean squared error of each candidate (NaN with fewer than two residues)."""
        folds = inner_folds(data.train, seed)
        if folds.max() == 0:
            return np.full(len(grid), np.nan)
        totals = np.zeros(len(grid))
        for fold in np.unique(folds):
            held = folds == fold
            genes = self._gene_side(data, profiles[~held], control, (seed, int(fold)))
            encoder = decompose(vectors[~held])
            rest = (profiles[held] - genes.offset).T
            inside = genes.left.T @ rest
            reduced = encoder.project(vectors[held]).T
            for index, (components, ridge) in enumerate(grid):
                matrix = coefficients(genes, encoder, components, ridge)
                fitted = matrix @ reduced[: matrix.shape[1]]
                # |rest - left fitted|^2 with orthonormal left, without forming a (genes, perturbations) matrix
                totals[index] += np.sum(fitted * (fitted - 2 * inside[: len(fitted)]))
            totals += np.sum(rest**2)
        return totals / profiles.size

    @staticmethod
    def _gene_side(data: TrainingData, profiles: np.ndarray, control: np.ndarray, part: object) -> GeneSide:
        """The gene side does not depend on the encoder: units of a task share it."""
        key = ("linear", part)
        if key not in data.cache:
            data.cache[key] = gene_side(profiles, control)
        return data.cache[key]


MODEL = Linear
