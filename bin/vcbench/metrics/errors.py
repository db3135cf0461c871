"""Errors of profiles and of deltas (metrics.md 2.4, 2.15)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from vcbench.metrics import contract
from vcbench.metrics.comparison import Comparison, Outcome, flags, reasons
from vcbench.metrics.pairwise import compare, no_reference, split_controls

#: How errors are compared: gene by gene, defined for constant profiles too.
_PLAIN = {"minimum": 1, "flat_prediction": False, "flat_truth": False, "one_by_one": True}


def _rows(of: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a kernel that averages a function of the differences."""

    def kernel(delta_p: np.ndarray, delta_t: np.ndarray) -> np.ndarray:
        return of(delta_p[..., :, None, :] - delta_t[..., None, :, :]).mean(axis=-1)

    return kernel


def mse(comparison: Comparison, gene_set: str) -> Outcome:
    """Mean over genes of (p - t)^2."""
    return compare(comparison, gene_set, _rows(np.square), no_reference, **_PLAIN)


def gw_mse(comparison: Comparison, gene_set: str) -> Outcome:
    """Mean over eligible genes of (p - t)^2; its mean over perturbations is the mean over genes of their errors."""
    return mse(comparison, gene_set)


def rmse(comparison: Comparison, gene_set: str) -> Outcome:
    """Square root of :func:`mse`."""
    outcome = mse(comparison, gene_set)
    return replace(outcome, values=np.sqrt(outcome.values))


def mae(comparison: Comparison, gene_set: str) -> Outcome:
    """Mean over genes of |p - t|."""
    return compare(comparison, gene_set, _rows(np.abs), no_reference, **_PLAIN)


def mse_delta(comparison: Comparison, gene_set: str) -> Outcome:
    """Mean over genes of ((p - c_B) - (t - c_A))^2."""
    return compare(comparison, gene_set, _rows(np.square), split_controls, **_PLAIN)


def mae_delta(comparison: Comparison, gene_set: str) -> Outcome:
    """Mean over genes of |(p - c_B) - (t - c_A)|."""
    return compare(comparison, gene_set, _rows(np.abs), split_controls, **_PLAIN)


def wmse(comparison: Comparison, gene_set: str) -> Outcome:
    """sum w (p - t)^2 / sum w with the weights of the perturbation (metrics.md 2.10), t from cells without weights."""
    truth = comparison.truth
    genes = truth.gene_set(gene_set)
    n = len(truth.ids)
    values = np.full((n, n), np.nan)
    for row, index in enumerate(genes.index):
        weights = truth.weights[row, index]
        if weights.sum() > 0:
            needed = np.flatnonzero((comparison.pairs == row).any(axis=1))
            error = (comparison.predicted.mean[np.ix_(needed, index)] - truth.weight_profile[row, index]) ** 2
            values[needed, row] = error @ weights / weights.sum()
    weighted = np.array([truth.weights[row, index].sum() > 0 for row, index in enumerate(genes.index)], dtype=bool)
    return Outcome(
        comparison.take(values),
        genes.size,
        reasons(truth, (truth.n_cells < contract.MIN_CELLS_PROFILE, "few_cells"), (~weighted, "const_true")),
        np.zeros(n, dtype=bool),
        flags(truth.weights_shared, "weights_shared"),
    )
