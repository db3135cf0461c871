"""What a metric gets and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench.metrics import contract
from vcbench.metrics.bundle import FoldTruth
from vcbench.metrics.extras import Counts


@dataclass(frozen=True)
class PredictedCells:
    """Predicted cells of one fold, aligned to its truth.

    Attributes
    ----------
    usable, testable
        (K,) whether there are cells that differ, enough of them for distances and for tests.
    n_cells
        (K,) predicted cells.
    variance
        (K, G) variance between cells.
    coordinates
        Per perturbation (n, D) cells in the space of the truth; empty without it.
    p_adj, log2fc, stat
        (K, G) against the training controls, NaN where not tested.
    log_of_mean
        (K, G) log of the mean profile.
    listed
        Per perturbation the significant genes of the challenge in their order; None when not asked for.
    counts
        Zeros, mean and variance of linear values; None when not asked for.
    """

    usable: np.ndarray
    testable: np.ndarray
    n_cells: np.ndarray
    variance: np.ndarray
    coordinates: tuple[np.ndarray, ...]
    p_adj: np.ndarray
    log2fc: np.ndarray
    stat: np.ndarray
    log_of_mean: np.ndarray
    listed: tuple[np.ndarray, ...] | None
    counts: Counts | None = None


@dataclass(frozen=True)
class Predicted:
    """Predicted profiles of one fold, aligned to its truth.

    Attributes
    ----------
    mean
        (K, G) float64; NaN rows for missing predictions.
    variance
        (K, G) sampling variance of the mean when the prediction is a finite sample of cells, else 0.
    n_cells
        (K,) predicted cells; 1 for a profile, 0 for a missing prediction.
    cells
        The cells themselves, where metrics of cells were asked for.
    predictive
        (K, G) the model's own variance of a measured profile, NaN rows for missing predictions; None without one.
    """

    mean: np.ndarray
    variance: np.ndarray
    n_cells: np.ndarray
    cells: PredictedCells | None = None
    predictive: np.ndarray | None = None


@dataclass(frozen=True)
class Comparison:
    """One fold of predictions against its truth.

    `pairs` is (K, R) of truth rows: prediction k is compared with truth ``pairs[k, r]``. Column 0 is k itself, the
    other columns are label permutations, so that a score and its null come from the same code.
    """

    truth: FoldTruth
    predicted: Predicted
    pairs: np.ndarray
    _made: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return ``make()``, computed once for this comparison: what several metrics start from."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def take(self, matrix: np.ndarray) -> np.ndarray:
        """Return (K, R) entries of a (K predictions, K truths) matrix."""
        return np.take_along_axis(matrix, self.pairs, axis=1)


@dataclass(frozen=True)
class Outcome:
    """Values of one metric on one gene set.

    Attributes
    ----------
    values
        (K, R) by `Comparison.pairs`; NaN where undefined.
    n_genes
        (K,) size of the gene set.
    truth_reason
        (K,) why the truth makes the metric undefined, empty where it does not.
    constant_prediction
        (K,) whether the prediction makes it undefined by being constant.
    flag
        (K,) status that flags a value and keeps it, or empty.
    prediction_reason
        (K,) other reasons of the prediction that leave the metric undefined, or empty; None for none at all.
    """

    values: np.ndarray
    n_genes: np.ndarray
    truth_reason: np.ndarray
    constant_prediction: np.ndarray
    flag: np.ndarray
    prediction_reason: np.ndarray | None = None


def reasons(truth: FoldTruth, *conditions: tuple[np.ndarray | bool, str]) -> np.ndarray:
    """Return (K,) the first reason whose condition holds, empty where none does."""
    found = np.full(len(truth.ids), "", dtype=object)
    for condition, reason in reversed(conditions):
        found[np.broadcast_to(condition, found.shape)] = reason
    return found


def no_de_test(truth: FoldTruth) -> tuple[tuple[np.ndarray | bool, str], ...]:
    """Return the conditions, for :func:`reasons`, under which nothing measured could be tested for differences."""
    return (
        (truth.n_cells < contract.MIN_CELLS_DE, "few_cells"),
        (bool(np.isnan(truth.control_a).any()), "no_control"),
    )


def flags(condition: np.ndarray, name: str) -> np.ndarray:
    """Return (K,) `name` where the condition holds, else empty."""
    return np.where(condition, name, "").astype(object)
