"""What the supervised tabular baselines share: encoder vectors in, mean profiles out, settings chosen within training.

Targets are the profiles minus the train mean. The train mean of the deltas is the same subtraction, so a model of
profiles and a model of deltas are one and the same here (metrics.md 6.4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vcbench.core.errors import ModelError
from vcbench.models.baseline import Baseline
from vcbench.models.decomposition import Decomposition, decompose
from vcbench.models.selection import inner_folds, smallest

if TYPE_CHECKING:
    from vcbench.models.base import PredictionRequest, TrainingData


class Tabular(Baseline):
    """Base class: reading vectors and profiles, inner folds, the width of vectors at prediction."""

    def inputs(self, data: TrainingData) -> tuple[np.ndarray, np.ndarray]:
        """Return vectors (perturbations, D) and profiles (perturbations, genes) of the training perturbations."""
        vectors = data.encoded().of(data.train_ids).astype(np.float64)
        if not len(vectors):
            raise ModelError("no training perturbation")
        return vectors, data.profiles.of(data.train_ids)

    def vectors(self, request: PredictionRequest) -> np.ndarray:
        """Return (perturbations, D) float64; raises :class:`ModelError` for another width than in training."""
        vectors = request.encoded().of(request.ids).astype(np.float64)
        if vectors.shape[1] != self.facts["width"]:
            raise ModelError(f"vectors have {vectors.shape[1]} dimensions, trained on {self.facts['width']}")
        return vectors

    def positive(self, *names: str) -> None:
        """Raise :class:`ModelError` unless these settings are positive numbers or non-empty lists of them."""
        for name in names:
            values = self.settings[name] if isinstance(self.settings[name], list) else [self.settings[name]]
            if not values or min(values) <= 0:
                raise ModelError(f"{self.name}: {name} must be positive, found {self.settings[name]}")


def folds(data: TrainingData, seed: int) -> Iterator[tuple[object, np.ndarray]]:
    """Yield (key, mask of the held-out perturbations) of the inner folds; nothing with a single residue."""
    fold_of = inner_folds(data.train, seed)
    if fold_of.max() > 0:
        for fold in range(fold_of.max() + 1):
            yield (seed, fold), fold_of == fold


def targets(data: TrainingData, profiles: np.ndarray, part: object, limit: int) -> Decomposition:
    """Return the principal components of profiles, at most `limit`; units of a task share them by `part`.

    They do not depend on the encoder. `part` must name the rows: "all", or the inner fold left out.
    """
    key = ("targets", limit, part)
    if key not in data.cache:
        data.cache[key] = decompose(profiles, limit)
    return data.cache[key]


def choose(grid: Sequence[dict[str, object]], errors: np.ndarray) -> tuple[int, list[dict[str, object]]]:
    """Return the chosen candidate (see :func:`selection.smallest`) and the log, one row per candidate."""
    best = smallest(errors)
    rows = [
        {**candidate, "cross_validation_mse": float(error), "chosen": index == best}
        for index, (candidate, error) in enumerate(zip(grid, errors, strict=True))
    ]
    return best, rows
